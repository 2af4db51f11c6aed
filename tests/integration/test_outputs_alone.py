"""`save_output` with workers of a test's own: other settings, other keys, one slot."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import chain

from tasks_bridge import OutputGone, generate, save_output
from tasks_bridge.sandbox import SandboxServer
from tests.integration.lab import Lab, eventually
from tests.integration.test_outputs import QUICK, completed, files, get


@pytest.fixture
def to(tmp_path: Path) -> str:
    return f"{tmp_path}/{{id}}.{{ext}}"


def test_without_a_destination_in_the_call_the_setting_says_where(
    redis_url: str, sandbox: SandboxServer, tmp_path: Path
) -> None:
    lab = Lab(redis_url, sandbox, save_to=str(tmp_path))
    with lab.current(), lab.worker():
        document = get(chain(lab.signature(), save_output.s()).apply_async())

    assert files(tmp_path) == [f"{document['out_task_id']}.png"]


def test_between_two_tries_no_worker_waits(redis_url: str, sandbox: SandboxServer, to: str) -> None:
    """One slot, one output that can't be had for now: the other is saved meanwhile."""
    lab = Lab(redis_url, sandbox, retry_min_s=2.0, save_retry_max_s=4.0, retry_max_s=4.0)
    with lab.current(), lab.worker(pool="solo", concurrency=1):
        one, other = completed(lab, faults=[{"on": "files", "kind": "status", "status": 503}]), completed(lab)
        late = save_output.delay(one, to)
        eventually(lambda: late.state == "RETRY", "the first try to fail")
        get(save_output.delay(other, to))

        assert late.state == "RETRY"
        assert "HTTP 503" in str(late.info)
        get(late)


def test_the_key_that_made_the_job_asks_for_the_fresh_url(redis_url: str, to: str) -> None:
    keys = {"default": "sk-byts-one", "studio": "sk-byts-two"}
    with SandboxServer(keys=keys.values()) as server:
        changes = {**QUICK, "api_key": keys["default"], "api_keys": {"studio": keys["studio"]}}
        lab = Lab(redis_url, server, **changes)
        with lab.current(), lab.worker():
            gone = {"faults": [{"on": "files", "kind": "status", "status": 403, "times": 2}]}
            document = get(generate.apply_async(("seedream-v4", lab.params(gone)), {"key": "studio"}))
            with pytest.raises(OutputGone):
                get(save_output.delay(document, to))
            lab.ended(document["out_task_id"])
            lab.bridge.store.client.delete(lab.bridge.store.key("job", document["out_task_id"]))

            assert get(save_output.delay(document["out_task_id"], to)), "forgotten: each key is tried in turn"
            assert server.stats()["keys_sent_to_files"] == 0
