"""An application that is traced: each process of its worker sends its spans to a list in Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from celery import shared_task
from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased

from tasks_bridge import RemoteTask, Settings
from tests.smoke import smoke_app

SPANS = "traced:spans"
HEADERS = "traced:headers"


class ToRedis(SpanExporter):
    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._client.rpush(SPANS, *[span.to_json(indent=None) for span in spans])
        return SpanExportResult.SUCCESS


def provider_to(client: redis.Redis) -> TracerProvider:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_ON))
    provider.add_span_processor(SimpleSpanProcessor(ToRedis(client)))
    return provider


@worker_process_init.connect
def trace_this_process(**_: Any) -> None:
    trace.set_tracer_provider(provider_to(redis.Redis.from_url(Settings().redis_url.get_secret_value())))


@shared_task(bind=True, pydantic=True)
def publish(self: Any, video: RemoteTask) -> None:
    """A callback: what a tracing of Celery's tasks would continue from."""
    client = redis.Redis.from_url(Settings().redis_url.get_secret_value())
    client.hset(HEADERS, str(video.out_task_id), str(getattr(self.request, "traceparent", "")))


app = smoke_app.make_app()
