"""Who sees what."""

import pytest
from django.core.management import call_command
from django.test import Client
from posters.models import Poster
from posters.views import PER_PAGE

pytestmark = pytest.mark.django_db


def test_nobody_sees_the_posters_of_somebody_else(bytespike, client, order):
    poster = order("a secret fox")
    bytespike.complete(poster)

    assert client.get(poster.get_absolute_url()).status_code == 200
    other = Client()
    order("another", visitor=other)
    for page in ("/", "/gallery"):
        assert "a secret fox" not in other.get(page).content.decode()
    assert other.get(poster.get_absolute_url()).status_code == 404


def test_a_visitor_stays_the_same_when_they_log_in(bytespike, client, order, admin_user):
    order("a fox")

    client.force_login(admin_user)

    assert "a fox" in client.get("/").content.decode()


def test_the_gallery_has_pages(client, order, bytespike):
    visitor = order("the first").visitor
    bytespike.complete()
    for number in range(PER_PAGE):
        Poster.objects.create(visitor=visitor, prompt=f"number {number}", job_state="COMPLETED")

    first, last = (client.get(f"/gallery?page={page}").content.decode() for page in (1, 2))

    assert ("the first" in first, "the first" in last) == (False, True)
    assert "Page 1 of 2" in first
    assert client.get("/gallery?page=nonsense").status_code == 200


def test_the_owner_sees_all_posters(bytespike, order, admin_client):
    order("a fox")
    bytespike.complete()

    shown = admin_client.get("/admin/posters/poster/").content.decode()

    assert "a fox" in shown
    assert "bytespike-completed" in shown


def test_the_migrations_are_complete():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0, skip_checks=True)
