"""A Flask application as a user of the library has it; where things are, the environment says."""

from __future__ import annotations

import os
import signal as signals
from collections.abc import Mapping
from typing import Any

from celery import shared_task
from flask import Flask, current_app, g, render_template_string, request

from tasks_bridge import generate
from tasks_bridge.contrib.flask import (
    NotYet,
    TasksBridge,
    job_cancelled,
    job_changed,
    job_completed,
    job_events_response,
    job_failed,
    job_response,
    job_url,
)

MODEL = "seedream-v4"
PREFIX = "/shop/bytespike"

bridge = TasksBridge(url_prefix=PREFIX)


def create_app(environment: Mapping[str, str] = os.environ, **changes: Any) -> Flask:
    app = Flask("shop")
    app.config.from_mapping(
        SECRET_KEY="flask signs with these characters, and so do links",
        TASKS_BRIDGE={
            "API_KEY": environment["TESTS_API_KEY"],
            "BASE_URL": environment["TESTS_SANDBOX"],
            "REDIS_URL": environment["TESTS_REDIS"],
            "NAMESPACE": "tests-flask",
            "CALLBACK_BASE_URL": f"http://127.0.0.1:9{PREFIX}/callback",
            "CALLBACK_POLL_FACTOR": 1,
            "TICK_S": 0.05,
            "LEASE_S": 1.5,
            "POLL_MIN_S": 0.15,
            "POLL_MAX_S": 0.5,
            "RETRY_MIN_S": 0.1,
            "RETRY_MAX_S": 0.5,
        },
        CELERY={"task_default_queue": "tests-flask", "broker_connection_retry_on_startup": True},
    )
    app.config.update(changes)
    bridge.init_app(app)
    app.add_url_rule("/renders", view_func=create, methods=["POST"])
    app.add_url_rule("/renders/<job_id>", view_func=show)
    app.add_url_rule("/renders/<job_id>/status", view_func=status)
    app.add_url_rule("/renders/<job_id>/events", view_func=events)
    return app


def params(**script: Any) -> dict[str, Any]:
    """A request whose remote task follows *script*."""
    return {"prompt": "a fox", "sandbox": {"duration_s": 0.3, "estimate_s": 1, **script}}


# -- views ------------------------------------------------------------------------------------------------------------


def create() -> Any:
    job = generate.apply_async((MODEL, params(**request.json)), {}, countdown=600)
    return {"id": job.id, "status_url": job_url(job.id, may_cancel=True)}, 202


def show(job_id: str) -> str:
    template = '{{ bytespike_job(job_id, may_cancel=True, class="wide") }}{{ bytespike_script() }}'
    return render_template_string(template, job_id=job_id)


def status(job_id: str) -> Any:
    return job_response(job_id, events_url="events")


def events(job_id: str) -> Any:
    return job_events_response(job_id)


# -- what the workers do ----------------------------------------------------------------------------------------------


def note(job_id: str, text: str) -> None:
    """Write down what was heard of a job, and in which context."""
    g.notes = [*g.get("notes", []), text]
    whose = "" if current_app.name == "shop" else f" in {current_app.name}"
    mixed = "" if g.notes == [text] else " in the context of another"
    store = current_app.extensions["tasks-bridge"].bridge.store
    store.client.rpush(store.key("heard", job_id), f"{text}{whose}{mixed}")


def fault(job_id: str, step: str) -> str | None:
    """What is to go wrong in *step*; once."""
    store = current_app.extensions["tasks-bridge"].bridge.store
    found = store.client.getdel(store.key("fault", f"{job_id}:{step}"))
    return None if found is None else str(found.decode())


@shared_task
def publish(video: dict[str, Any]) -> None:
    note(video["out_task_id"], "callback")


@shared_task
def apologise(request: Any, exc: BaseException, traceback: Any) -> None:
    """An errback that Celery calls within the failed task."""
    note(request.id, f"errback {type(exc).__name__}")


@shared_task(bind=True)
def apologise_later(self: Any, job_id: str) -> None:
    """An errback that is a task of its own."""
    note(job_id, f"errback by id, task {bool(self.request.id)}")


@job_changed.connect
def hear_change(app: Flask, job_id: str, state: Any, **_: Any) -> None:
    note(job_id, f"-> {state}")
    match fault(job_id, state):
        case "bug":
            raise ValueError("a bug in the application")
        case "away":
            raise NotYet("the database is away")
        case "killed":
            os.kill(os.getpid(), signals.SIGKILL)


@job_completed.connect
def hear_outputs(app: Flask, job_id: str, remote: Any, error: Any, **_: Any) -> None:
    note(job_id, f"completed with {len(remote.urls)} output, {error}")


@job_failed.connect
def hear_failure(app: Flask, job_id: str, error: Any, **_: Any) -> None:
    note(job_id, f"failed: {getattr(error, 'code', type(error).__name__)}")


@job_cancelled.connect
def hear_cancel(app: Flask, job_id: str, error: Any, **_: Any) -> None:
    note(job_id, f"cancelled: {type(error).__name__}")
