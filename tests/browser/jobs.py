"""Jobs that are where a test wants them, without a worker: real entries in the store, real files in the sandbox."""

from __future__ import annotations

from typing import Any

from tasks_bridge import Client, JobState
from tests.integration.lab import API_KEY, Lab, eventually


class Jobs:
    """Puts jobs of *lab* where they are wanted."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def waiting(self) -> str:
        """A job that nobody has submitted yet."""
        return self.lab.started()

    def at(self, state: JobState, **told: Any) -> str:
        """A job in *state*; *told* is as for `Lab.move`."""
        job_id = self.lab.started()
        self.lab.move(job_id, state, **told)
        return job_id

    def running(self, since_s: float = 25, estimated_s: float = 61) -> str:
        """A job that was submitted *since_s* seconds ago and is expected to take *estimated_s*."""
        return self.at(JobState.RUNNING, since_s=since_s, estimated_s=estimated_s)

    def cancelling(self) -> str:
        """A job whose cancellation was asked for."""
        job_id = self.running()
        self.lab.bridge.store.request_cancel(job_id, "cancelled by a test")
        return job_id

    def outputs(self, model: str, **script: Any) -> list[dict[str, Any]]:
        """What *model* would make: the files are there."""
        with Client(API_KEY, self.lab.sandbox.url) as client:
            task = client.submit(model, {"prompt": "a fox", "sandbox": {"duration_s": 0.01, **script}})
            eventually(lambda: client.query(task.task_id).is_terminal, "the remote task to end")
            return [dict(output) for output in client.query(task.task_id).output or ()]
