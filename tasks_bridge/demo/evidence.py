"""Collects what happened, from those who know: the store, the callbacks and ByteSpike's side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks_bridge.demo import app
from tasks_bridge.demo.app import Call
from tasks_bridge.demo.scenes import Scene
from tasks_bridge.demo.verdict import Outcome
from tasks_bridge.store import Entry

_CALLBACKS = (app.COMPLETION, app.FAILURE)


def outcome(scene: Scene, entry: Entry | None, calls: Sequence[Call], remote: Sequence[dict[str, Any]]) -> Outcome:
    """
    How the job of *scene* went.

    Args:
        scene: What was asked for.
        entry: The job in the store.
        calls: All runs of callbacks, of whichever job.
        remote: The tasks that the sandbox has under the job's id, as `SandboxServer.tasks` tells of them.
    """
    own = [call for call in calls if call.name == scene.name and call.kind in _CALLBACKS]
    called_at = min((call.at for call in own), default=None)
    ended_at = remote[0]["ended_s"] if remote else None
    task = entry.record.remote_task if entry else None
    return Outcome(
        name=scene.name,
        expected=scene.ends,
        state=entry.state if entry else None,
        expected_callback=scene.callback,
        callbacks=[call.kind for call in own],
        remote_tasks=len(remote),
        polls=entry.record.polls if entry else 0,
        took_s=called_at - entry.record.created_at if entry and called_at else None,
        credits=task.credits_used if task else None,
        lag_s=called_at - ended_at if called_at and ended_at else None,
    )


def count(kind: str, calls: Sequence[Call]) -> int:
    """How often callbacks of *kind* ran."""
    return sum(call.kind == kind for call in calls)
