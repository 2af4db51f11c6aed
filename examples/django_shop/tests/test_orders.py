"""From an order to the gallery."""

import pytest
from django.test import Client
from posters.forms import MOST_AT_ONCE
from posters.models import Poster

from tasks_bridge.testing import assert_job_cancelled, assert_job_failed, assert_job_submitted, assert_no_jobs

pytestmark = pytest.mark.django_db


def test_an_order_becomes_a_poster_with_a_file_of_ours(bytespike, client, order):
    poster = order("a fox")
    assert_job_submitted(poster, model="seedream-v4", params={"prompt": "a fox", "size": "768x1024"})
    assert "<bytespike-job" in client.get("/").content.decode()

    bytespike.complete(poster)

    poster.refresh_from_db()
    with poster.file as file:
        assert file.read().startswith(b"\x89PNG")
    for page in ("/", "/gallery", poster.get_absolute_url()):
        shown = client.get(page).content.decode()
        assert poster.file.url in shown
        assert "<bytespike-job" not in shown


def test_a_moving_poster_is_a_clip(bytespike, client, order):
    poster = order(kind="moving")
    assert_job_submitted(poster, model="seedance-fast", params={"aspect_ratio": "9:16"})

    bytespike.complete(poster)

    poster.refresh_from_db()
    assert poster.file.name.endswith(".mp4")
    assert "<video" in client.get("/gallery").content.decode()


def test_a_refused_order_can_be_ordered_again_in_other_words(bytespike, client, order):
    poster = order("a secret & more")

    bytespike.fail(poster, code="content_policy_violation")

    assert_job_failed(poster, code="content_policy_violation")
    shown = client.get("/").content.decode()
    assert "our rules forbid us to print this one" in shown
    assert "?kind=still&amp;prompt=a%20secret%20%26%20more" in shown
    assert "No finished posters yet" in client.get("/gallery").content.decode()


def test_a_cancelled_order_is_cancelled_at_bytespike(bytespike, order):
    poster = order()
    bytespike.start(poster)

    poster.job.cancel()

    assert_job_cancelled(poster)


def test_a_visitor_has_a_budget(bytespike, order):
    bytespike.configure(spend_limit_per_label=0.03)
    first = order()
    bytespike.complete(first)
    second = order()

    assert_job_failed(second, code="SpendLimitReached")
    other = order(visitor=Client())
    bytespike.complete(other)


@pytest.mark.parametrize("wrong", [{"prompt": "  "}, {"prompt": "x" * 301}, {"kind": "huge"}, {"kind": ""}])
def test_a_wrong_order_is_sent_back_and_costs_nothing(bytespike, client, wrong):
    answer = client.post("/", {"prompt": "a fox", "kind": "still"} | wrong)

    assert answer.context["form"].errors
    assert not Poster.objects.exists()
    assert_no_jobs()


def test_nobody_has_more_than_a_few_in_the_making(bytespike, client, order):
    posters = [order() for _ in range(MOST_AT_ONCE)]

    answer = client.post("/", {"prompt": "one more", "kind": "still"})
    assert f"You have {MOST_AT_ONCE} posters in the making" in answer.content.decode()

    bytespike.complete(posters[0])
    assert order("one more").prompt == "one more"


def test_an_order_without_a_csrf_token_is_none(bytespike):
    answer = Client(enforce_csrf_checks=True).post("/", {"prompt": "a fox", "kind": "still"})

    assert answer.status_code == 403
    assert_no_jobs()
