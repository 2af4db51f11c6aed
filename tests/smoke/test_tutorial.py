"""The tutorial, as somebody follows it who has nothing yet: a sandbox, a worker, and two programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tasks_bridge.sandbox import SandboxServer
from tests.smoke.processes import LocalProcess, eventually, pythons

ROOT = Path(__file__).parents[2]

_FILES = re.compile(r"^```python file=(?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def terminal(tmp_path: Path, redis_url: str, namespace: str) -> Iterator[Callable[..., LocalProcess]]:
    """Run Python in the folder with the page's files, with what the page says is in its environment."""
    for match in _FILES.finditer((ROOT / "docs/tutorial.md").read_text()):
        (tmp_path / match["path"]).write_text(match["text"])
    database = redis_url.rpartition("/")[0] + "/13"  # the messages of no other test
    with SandboxServer(speed=20) as sandbox:
        environment = {
            "BYTESPIKE_API_KEY": "sk-byts-any",
            "BYTESPIKE_BASE_URL": sandbox.url,
            "REDIS_URL": database,
            "TASKS_BRIDGE_NAMESPACE": namespace,
            "TASKS_BRIDGE_POLL_MIN_S": "0.2",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        with pythons(tmp_path, environment, stop_s=10) as start:
            yield start
    with redis.Redis.from_url(database) as client:
        client.flushdb()


def test_whoever_follows_it_has_a_picture_and_a_refusal(terminal: Callable[..., LocalProcess]) -> None:
    worker = terminal("-m", "celery", "-A", "shop", "worker", "-E", "-c", "1")
    started = terminal("start.py")

    assert started.wait(60) == 0, started.tail() + worker.tail()
    assert re.search(r"^started [\w-]+\n\w+ .*\nCOMPLETED \['http.+'\]$", started.logs(), re.MULTILINE)
    eventually(
        lambda: re.search(r"ada: http\S+, for [\d.]+ credits", worker.logs()),
        expected="the completion callback",
        show=worker.tail,
    )

    refused = terminal("refused.py")
    assert refused.wait(60) == 0, refused.tail() + worker.tail()
    assert "refused: content_policy_violation" in refused.logs()
    eventually(lambda: "brought nothing" in worker.logs(), expected="the failure callback", show=worker.tail)
