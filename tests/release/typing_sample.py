"""
What an application writes, as type checkers see it: pyright, and mypy with all other tests.

It is never run.
"""

from collections.abc import Mapping
from typing import Any, assert_type

from celery import Celery, chain

from tasks_bridge import (
    AsyncClient,
    Bridge,
    Client,
    Job,
    JobFailed,
    JobState,
    RemoteTask,
    SavedOutput,
    Settings,
    Spending,
    generate,
    install,
    once,
    save_output,
    spending,
    statuses,
)

app = Celery("shop")
bridge = install(app, Settings(namespace="shop", poll_max_s=60))
assert_type(bridge, Bridge)
assert_type(bridge.settings.poll_queue, str)


@once
def publish(video: RemoteTask, order: int) -> str:
    """A callback's function keeps its own signature."""
    assert_type(video.task_id, str)
    assert_type(video.saved, list[SavedOutput])
    return f"{order}: {video.task_id}"


assert_type(publish(RemoteTask(task_id="t", status="completed"), 3), str)


def follow(job_id: str) -> str:
    """A handle's attributes and errors are known."""
    job = Job(job_id)
    assert_type(job.status, JobState)
    assert_type(job.progress, float)
    assert_type(job.cancel("no longer wanted"), bool)
    try:
        return job.result().task_id
    except JobFailed as error:
        return error.job_id


def page(job_ids: list[str]) -> None:
    """What is read in one go."""
    assert_type(statuses(job_ids), dict[str, JobState | None])
    assert_type(spending(label="team-a"), Spending)


def start(params: Mapping[str, Any]) -> str:
    """A job is a Celery task like any other."""
    job = chain(generate.s("sora-2-pro", dict(params)), save_output.s("/srv/videos/{id}.{ext}")).apply_async()
    return str(job.id)


def ask(task_id: str) -> RemoteTask:
    """The client alone."""
    with Client("sk-byts-any") as client:
        return client.query(task_id)


async def ask_async(task_id: str) -> RemoteTask:
    """The client alone, with ``await``."""
    async with AsyncClient("sk-byts-any") as client:
        return await client.query(task_id)
