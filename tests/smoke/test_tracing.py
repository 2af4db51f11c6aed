"""One trace of each job, over a real worker's processes; and nothing of it where nobody traces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from pydantic import SecretStr
from redis import Redis

from tasks_bridge import Settings
from tasks_bridge.bridge import bridge_of
from tasks_bridge.embedded import EmbeddedRedis
from tasks_bridge.events import GENERATE
from tasks_bridge.sandbox import SandboxServer
from tests.celery_state import forget_results
from tests.smoke import smoke_app
from tests.smoke.nodes import ROOT
from tests.smoke.processes import LocalProcess, Reaper, eventually

MODEL = "seedream-v4"
API_KEY = "sk-byts-tracing-test-0123456789"
PROMPT = "prompt-never-in-a-span"


class Traced:
    """A worker whose processes are traced, and a caller."""

    def __init__(self, server: EmbeddedRedis, sandbox: SandboxServer, directory: Path, reaper: Reaper) -> None:
        settings = Settings(redis_url=SecretStr(server.url), api_key=SecretStr(API_KEY), base_url=sandbox.url)
        self.redis = Redis.from_url(server.url)
        self.app = smoke_app.make_app(settings)
        self.worker = LocalProcess(
            "worker",
            [*(sys.executable, "-m", "celery", "-A", "tests.smoke.traced_app", "worker"), "--concurrency=2"],
            env={
                **os.environ,
                "TASKS_BRIDGE_REDIS_URL": server.url,
                "TASKS_BRIDGE_POLL_MIN_S": "0.2",
                "TASKS_BRIDGE_POLL_MAX_S": "0.3",
                "BYTESPIKE_BASE_URL": sandbox.url,
                "BYTESPIKE_API_KEY": API_KEY,
            },
            cwd=ROOT,
            log=directory / "worker.log",
            reaper=reaper,
        )

    def start(self, **script: Any) -> Any:
        params = {"prompt": PROMPT, "sandbox": {"duration_s": 0.6, "estimate_s": 1, **script}}
        link = self.app.signature("tests.smoke.traced_app.publish")
        return self.app.tasks[GENERATE].apply_async((MODEL, params), link=link)

    def spans(self, job_id: str) -> list[dict[str, Any]]:
        """Those that name the job, by their beginnings."""
        found = [json.loads(line) for line in self.redis.lrange("traced:spans", 0, -1)]
        mine = [span for span in found if span["attributes"].get("tasks_bridge.job_id") == job_id]
        return sorted(mine, key=lambda span: span["start_time"])

    def context_at_the_callback(self, job_id: str) -> str | None:
        known: Any = self.redis.hget("traced:headers", job_id)
        return None if known is None else known.decode()


@pytest.fixture(scope="module")
def traced(bare_environment: None, tmp_path_factory: pytest.TempPathFactory, reaper: Reaper) -> Iterator[Traced]:
    with EmbeddedRedis() as server, SandboxServer() as sandbox:
        traced = Traced(server, sandbox, tmp_path_factory.mktemp("traced"), reaper)
        traced.worker.start()
        try:
            yield traced
        finally:
            traced.worker.stop(20)
            forget_results()
            bridge_of(traced.app).close(1)
            traced.app.close()
            traced.redis.close()


def set_provider(monkeypatch: pytest.MonkeyPatch, provider: TracerProvider) -> None:
    """Of this process, which is only one of the tests' own: so not for good."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)


def test_a_job_is_one_trace_from_its_call_through_its_requests_to_its_callback(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.smoke.traced_app import provider_to

    set_provider(monkeypatch, provider_to(traced.redis))
    with trace.get_tracer("shop").start_as_current_span("a request to the shop") as outer:
        job = traced.start()

    context = eventually(
        lambda: traced.context_at_the_callback(job.id), expected="the callback", show=traced.worker.tail
    )
    assert context
    spans = traced.spans(job.id)
    ids = {span["context"]["trace_id"] for span in spans}
    assert ids == {f"0x{outer.get_span_context().trace_id:032x}"}
    names = [span["name"] for span in spans]
    assert names[:2] == ["tasks_bridge.generate start", "ByteSpike submit"]
    assert set(names[2:-1]) == {"ByteSpike query"}
    assert names[-1] == "tasks_bridge.generate end"
    start, submit, *_, last_query, end = spans
    assert start["parent_id"] == f"0x{outer.get_span_context().span_id:016x}"
    assert {span["parent_id"] for span in spans[1:]} == {start["context"]["span_id"]}
    assert submit["attributes"]["tasks_bridge.attempt"] == 1
    assert last_query["attributes"]["tasks_bridge.status"] == "completed"
    assert end["attributes"]["tasks_bridge.state"] == "COMPLETED"

    (event,) = end["events"]
    assert event["attributes"]["celery.task_name"] == "tests.smoke.traced_app.publish"
    _, trace_id, span_id, flags = context.split("-")
    assert (f"0x{trace_id}", f"0x{span_id}") == (*ids, end["context"]["span_id"])
    assert int(flags, 16) & 1, "sampled"
    assert PROMPT not in json.dumps(spans)


def test_a_failed_job_ends_its_trace_too(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.smoke.traced_app import provider_to

    set_provider(monkeypatch, provider_to(traced.redis))
    job = traced.start(outcome="failed", error_code="internal_error", error_message=PROMPT)
    job.get(timeout=60, propagate=False)

    eventually(
        lambda: [span["attributes"].get("tasks_bridge.state") for span in traced.spans(job.id)][-1] == "FAILED",
        expected="the end",
        show=traced.worker.tail,
    )
    assert PROMPT not in json.dumps(traced.spans(job.id))


def test_a_call_that_is_not_sampled_makes_no_spans_in_the_worker(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_provider(monkeypatch, TracerProvider(sampler=ALWAYS_OFF))
    job = traced.start()

    context = eventually(
        lambda: traced.context_at_the_callback(job.id) is not None, expected="the callback", show=traced.worker.tail
    )
    assert context
    assert traced.spans(job.id) == []


def test_without_a_provider_nothing_is_carried(traced: Traced) -> None:
    job = traced.start()
    job.get(timeout=60)

    entry = bridge_of(traced.app).store.get([job.id])[0]
    assert entry is not None
    assert "headers" not in entry.record.options
    eventually(lambda: traced.context_at_the_callback(job.id) == "", expected="the callback", show=traced.worker.tail)
    assert traced.spans(job.id) == []


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from celery import Celery
from tasks_bridge import Settings, generate, install
from tasks_bridge import tracing
app = Celery("shop", broker="memory://", backend="cache+memory://")
install(app, Settings())
with tracing.starting():
    tracing.note_job("a", "m")
    print(tracing.IS_AVAILABLE, tracing.with_context({"queue": "q"}))
"""


def test_it_works_without_opentelemetry() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "False {'queue': 'q'}", done.stderr
