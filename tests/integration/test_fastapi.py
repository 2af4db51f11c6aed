"""The recipe for FastAPI, as somebody has it who copied it: a real ASGI server, and a browser that streams."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.smoke.processes import LocalProcess, Reaper, eventually

ROOT = Path(__file__).parents[2]

_RECIPE = re.compile(r"^```python file=main.py\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=["", "/outer"], ids=["at the root", "behind a prefix"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, redis_url: str, namespace: str
) -> Iterator[tuple[LocalProcess, str]]:
    """The recipe's application, and its address as a browser sees it."""
    prefix = request.param
    recipe = _RECIPE.search((ROOT / "docs/live.md").read_text())
    assert recipe is not None
    # a database of its own: the messages are for a worker that never comes
    url = redis_url.rpartition("/")[0] + "/13"
    (tmp_path / "main.py").write_text(recipe["text"].replace("redis://localhost:6379/0", url))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "BYTESPIKE_API_KEY": "sk-byts-recipe",
        "TASKS_BRIDGE_SECRET_KEY": "s" * 40,
        "TASKS_BRIDGE_NAMESPACE": namespace,
    }
    reaper = Reaper()
    arguments = [sys.executable, "-W", "error", "-m", "uvicorn", "main:app", "--port", "0", "--root-path", prefix]
    process = LocalProcess(
        "uvicorn", arguments, env=environment, cwd=tmp_path, log=tmp_path / "uvicorn.log", reaper=reaper
    )
    process.start()
    try:
        found: Any = eventually(
            lambda: re.search(r"running on (http://\S+)", process.logs()),
            expected="the server to start",
            show=process.tail,
        )
        yield process, found[1]
    finally:
        process.stop(timeout_s=10)
        reaper.close()
        with redis.Redis.from_url(url) as client:
            client.flushdb()


def test_a_job_is_started_followed_live_and_seen_to_be_cancelled(
    server: tuple[LocalProcess, str], request: pytest.FixtureRequest
) -> None:
    process, address = server
    prefix = "/outer" if "prefix" in request.node.name else ""

    with httpx.Client(base_url=address, timeout=20) as browser:
        started = browser.post("/renders", params={"prompt": "a fox"})
        assert started.status_code == 202, process.tail()
        job = started.json()
        assert job["status_url"].startswith(f"{prefix}/bytespike/jobs/1~")
        # a proxy takes its prefix off
        source = job["status_url"].removeprefix(prefix)
        document = browser.get(source).json()
        assert (document["id"], document["state"]) == (job["id"], "QUEUED")
        with browser.stream("GET", httpx.URL(source).join(document["events_url"])) as events:
            data = next(line for line in events.iter_lines() if line.startswith("data: "))
            assert json.loads(data.removeprefix("data: "))["id"] == job["id"]
        assert browser.get(source.replace("1~", "2~")).status_code == 404
        assert browser.post(f"{source}/cancel").status_code == 403
        assert browser.get("/bytespike/bytespike-job.js").status_code == 200
        assert browser.post("/renders").status_code == 422
