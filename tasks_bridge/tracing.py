"""
One trace of each job: its start, its requests to ByteSpike, and its end, under which its callbacks are published.

The context of the call is in the job's record, among the headers of its messages, as W3C Trace Context has it
(``traceparent``, ``tracestate``); that is also where opentelemetry-instrumentation-celery looks. So whoever works on
the job later, in whichever process, adds to the same trace, if the caller's is sampled: jobs that are not have no spans
made, thousands of polls or not.

Without opentelemetry-api (the extra ``tracing``), or where the application has set no provider, nothing of this
happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar, Token
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celery.signals import before_task_publish

from tasks_bridge.events import GENERATE
from tasks_bridge.models import RemoteTask

try:
    from opentelemetry import context, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:  # tested in a process of its own
    IS_AVAILABLE = False
else:
    IS_AVAILABLE = True

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from tasks_bridge.errors import BridgeError
    from tasks_bridge.record import JobRecord
    from tasks_bridge.steps import Action
    from tasks_bridge.store import Lease

_HEADERS: Final = ("traceparent", "tracestate")
_SAMPLED: Final = 1

_finishing: Final[ContextVar[Any]] = ContextVar("tasks_bridge_finishing", default=None)
"""The span of the end that goes on in this thread."""


@contextmanager
def starting(jobs: str = "1") -> Iterator[None]:
    """The span of a call that starts jobs; what `carried` returns within is of it."""
    if not IS_AVAILABLE:
        yield
        return
    attributes = {"messaging.system": "celery", "celery.task_name": GENERATE, "tasks_bridge.jobs": jobs}
    with _tracer().start_as_current_span(f"{GENERATE} start", kind=SpanKind.PRODUCER, attributes=attributes):
        yield


def note_job(job_id: str, model: str) -> None:
    """Tell the span of `starting` which job it is."""
    if IS_AVAILABLE:
        trace.get_current_span().set_attributes({"tasks_bridge.job_id": job_id, "tasks_bridge.model": model})


def with_context(options: Mapping[str, Any]) -> dict[str, Any]:
    """*options* of Celery's with the present context among its headers, unless the caller has put one there."""
    carrier: dict[str, str] = {}
    if IS_AVAILABLE:
        TraceContextTextMapPropagator().inject(carrier)
    if not carrier:
        return dict(options)
    return {**options, "headers": {**carrier, **(options.get("headers") or {})}}


@contextmanager
def within(record: JobRecord) -> Iterator[None]:
    """Be in the trace of a job, without a span: for what publishes its message anew."""
    parent = _parent(record)
    if parent is None:
        yield
        return
    token = context.attach(parent)
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def asking(lease: Lease, action: Action) -> Iterator[Callable[[RemoteTask | BridgeError], None]]:
    """The span of one request to ByteSpike about a job; to be called with what came of it."""
    parent = _parent(lease.record)
    if parent is None:
        yield _untold
        return
    name = action.name.lower()
    attributes = _attributes(lease) | {"tasks_bridge.operation": name, "tasks_bridge.attempt": lease.token}
    with _tracer().start_as_current_span(f"ByteSpike {name}", parent, SpanKind.CLIENT, attributes) as span:
        yield partial(_answered, span)


def _untold(_: object) -> None:
    """No span wants to know."""


def _answered(span: Span, answer: RemoteTask | BridgeError) -> None:
    if isinstance(answer, RemoteTask):
        span.set_attributes({"tasks_bridge.remote_id": answer.task_id, "tasks_bridge.status": answer.status})
    else:
        # the class, and not its text, which may quote a request
        span.set_attribute("error.type", type(answer).__name__)
        span.set_status(Status(StatusCode.ERROR))


def finishing(lease: Lease) -> ExitStack:
    """
    The span of a job's end, begun: what Celery publishes until the result is closed is in it, the job's callbacks.

    To be closed in the same thread.
    """
    stack = ExitStack()
    parent = _parent(lease.record)
    if parent is not None:
        attributes = _attributes(lease) | {"tasks_bridge.state": lease.state.value}
        span = _tracer().start_span(f"{GENERATE} end", parent, SpanKind.CONSUMER, attributes)
        stack.enter_context(trace.use_span(span, end_on_exit=True))
        token = _finishing.set(span)
        stack.callback(_leave, token)
    return stack


def _leave(token: Token[Any]) -> None:
    with suppress(ValueError):  # in another thread, whose context never had it
        _finishing.reset(token)


def set_up() -> None:
    """Have the messages of callbacks carry the trace."""
    if IS_AVAILABLE:
        before_task_publish.connect(_carry, dispatch_uid="tasks-bridge-tracing")


def _carry(sender: Any = None, headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
    """Celery's hook: the instrumentation's for Celery, if it is there, has its own say."""
    span = _finishing.get()
    if span is None or headers is None:
        return
    span.add_event("callback published", {"celery.task_name": str(sender), "celery.task_id": str(headers.get("id"))})
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    for name, value in carrier.items():
        headers.setdefault(name, value)


def _tracer() -> Any:
    return trace.get_tracer("tasks_bridge")


def _attributes(lease: Lease) -> dict[str, Any]:
    known = {"tasks_bridge.job_id": lease.job_id, "tasks_bridge.model": lease.record.model}
    return known if lease.record.remote_id is None else known | {"tasks_bridge.remote_id": lease.record.remote_id}


def _parent(record: JobRecord) -> Context | None:
    """The context in a job's record; None if there is none, or its trace is not sampled."""
    headers = record.options.get("headers") if IS_AVAILABLE else None
    if not isinstance(headers, dict) or "traceparent" not in headers:
        return None
    found = TraceContextTextMapPropagator().extract({name: str(headers[name]) for name in _HEADERS if name in headers})
    span_context = trace.get_current_span(found).get_span_context()
    return found if span_context.is_valid and span_context.trace_flags & _SAMPLED else None
