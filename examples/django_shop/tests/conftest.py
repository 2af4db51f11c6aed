"""What the tests share. `bytespike` is the library's: see docs/testing.md."""

import pytest
from posters.models import Poster


@pytest.fixture(autouse=True)
def files(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def order(db, client, django_capture_on_commit_callbacks):
    """Order a poster as a visitor does; returns its row."""

    def place(prompt="a fox", kind="still", visitor=client):
        with django_capture_on_commit_callbacks(execute=True):
            visitor.post("/", {"prompt": prompt, "kind": kind})
        return Poster.objects.first()

    return place
