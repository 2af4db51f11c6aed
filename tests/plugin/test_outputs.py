"""Outputs are saved in a test as in production, on the test's clock and from this machine only."""

from collections.abc import Callable

import pytest

Project = Callable[..., pytest.RunResult]

SHOP = {
    "shop.py": """
from celery import Celery, chain, shared_task
from tasks_bridge import RemoteTask, generate, install, save_output

app = Celery("shop", broker="redis://localhost:1/0", backend="redis://localhost:1/0")
install(app)
published = []


@shared_task(pydantic=True)
def publish(video: RemoteTask) -> None:
    published.append(video.saved[0])


def start(folder, **script):
    steps = chain(generate.s("seedream-v4", {"sandbox": script}), save_output.s(str(folder)), publish.s())
    return steps.delay().parent
""",
    "test_shop.py": """
from pathlib import Path

import pytest
import shop
from tasks_bridge import OutputGone, save_output
from tasks_bridge.outbound import RequestRefused


@pytest.fixture(autouse=True)
def nothing_published():
    shop.published.clear()


def test_a_picture_is_saved_and_published(bytespike, tmp_path):
    shop.start(tmp_path)
    bytespike.complete()

    (saved,) = shop.published
    assert Path(saved.path).stat().st_size == saved.bytes


def test_a_retry_waits_for_the_clock(bytespike, fast_clock, tmp_path):
    saving = shop.start(tmp_path, faults=[{"on": "files", "kind": "status", "status": 503}])
    bytespike.complete()
    assert (saving.state, shop.published) == ("RETRY", [])

    fast_clock.advance(1)
    assert len(shop.published) == 1


def test_a_fresh_url_is_asked_for(bytespike, tmp_path):
    shop.start(tmp_path, faults=[{"on": "files", "kind": "status", "status": 403}])
    bytespike.complete()

    assert len(shop.published) == 1
    assert bytespike.sandbox.stats()["keys_sent_to_files"] == 0


def test_what_is_gone_is_told(bytespike, tmp_path):
    saving = shop.start(tmp_path, faults=[{"on": "files", "kind": "status", "status": 404, "times": None}])
    bytespike.complete()

    assert isinstance(saving.result, OutputGone)


def test_callbacks_that_come_again_fetch_nothing_again(bytespike, tmp_path):
    job = shop.start(tmp_path).parent
    bytespike.complete()
    bytespike.redeliver(job)
    bytespike.work()

    (task,) = bytespike.sandbox.tasks()
    assert (len(shop.published), len(task["downloads"])) == (2, 1)


def test_no_other_machine_is_reached(bytespike, tmp_path):
    shop.start(tmp_path)
    with pytest.raises(RequestRefused, match="cdn.bytespike.ai"):
        bytespike.complete(urls=["https://cdn.bytespike.ai/fox.png"])
""",
}


def test_outputs_are_saved_in_a_test_on_its_clock(project: Project) -> None:
    project(SHOP).assert_outcomes(passed=SHOP["test_shop.py"].count("\ndef test_"))
