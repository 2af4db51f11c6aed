"""The jobs of the demo: what each asks for, how it must end, and how the application starts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from celery import chain, chord
from celery.canvas import Signature

from tasks_bridge.demo import app
from tasks_bridge.record import JobState
from tasks_bridge.tasks import generate

SPEED: Final = 10.0
"""How much faster than life the sandbox is: a two-minute video takes twelve seconds."""

FIRST_END_S: Final = 6.0
"""No job ends sooner after its submit: there is time to kill a worker while all of them wait."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One job."""

    name: str
    model: str
    params: dict[str, Any] = field(compare=False)
    ends: JobState = JobState.COMPLETED

    @property
    def callback(self) -> str:
        """The one callback that must run, once."""
        return app.COMPLETION if self.ends is JobState.COMPLETED else app.FAILURE

    def signature(self, run: str) -> Signature:
        """The job's `generate`, under an id that says what it is."""
        return generate.s(self.model, self.params).set(
            task_id=self.job_id(run), link_error=app.regretted.s(name=self.name)
        )

    def job_id(self, run: str) -> str:
        """The job's id in the run of that name."""
        return f"demo-{run}-{self.name}"


def _scene(
    name: str, model: str, prompt: str, takes_s: float, ends: JobState = JobState.COMPLETED, **script: Any
) -> Scene:
    """*takes_s*: seconds in the demo, whatever its speed. The rest of the script is the sandbox's."""
    timing = {"duration_s": takes_s * SPEED, "estimate_s": 0.8 * takes_s * SPEED, "pending_s": 1.0 * SPEED}
    return Scene(name, model, {"prompt": prompt, "sandbox": {**timing, **script}}, ends)


FOX = _scene("fox", "seedream-v4.5", "a red fox in fresh snow", FIRST_END_S)
TEAPOT = _scene("teapot", "nano-banana-pro", "a teapot of blue glass", 7)
SKYLINE = _scene("skyline", "sora-2-pro", "city skyline at dusk, slow pan", 12)
REFUSED = _scene("refused", "gpt-image-2", "something forbidden", FIRST_END_S, JobState.FAILED)
CHANGED_MIND = _scene("changed-mind", "veo-3.1", "waves on a pebble beach", 15, JobState.CANCELLED, cancel="billed")
LOST_ANSWER = _scene(
    "lost-answer", "seedream-v4", "a lighthouse in fog", 7, faults=[{"on": "submit", "kind": "lost_response"}]
)
CUT_OFF = _scene(
    "cut-off",
    "seedance-2.0",
    "a paper boat in the rain",
    9,
    # ByteSpike has begun, and the worker that waits for the answer will not live to read it
    faults=[{"on": "submit", "kind": "hang", "work_done": True}],
)
CHAINED = _scene("chain", "seedream-v4", "a gallery wall, empty frame", 8)
CHORD = tuple(_scene(f"chord-{n}", "seedream-v5lite", f"page {n} of an album", 6 + n) for n in (1, 2, 3))

SINGLE: Final = (FOX, TEAPOT, SKYLINE, REFUSED, CHANGED_MIND, LOST_ANSWER, CUT_OFF)
ALL: Final = (*SINGLE, CHAINED, *CHORD)


def start(scene: Scene, run: str) -> None:
    """Start a single job, with a callback for either end."""
    scene.signature(run).apply_async(link=app.delivered.s(name=scene.name))


def start_chain(run: str) -> None:
    """A job in the middle of Celery's own canvas: two tasks follow it."""
    chain(
        CHAINED.signature(run),
        app.framed.s(name=CHAINED.name),
        app.hung.s(name=CHAINED.name),
    ).delay()


def start_chord(run: str) -> None:
    """Three jobs that end at different times, and one body after the last."""
    header = [scene.signature(run).set(link=app.delivered.s(name=scene.name)) for scene in CHORD]
    chord(header, app.bound.s(name=app.CHORD_BODY)).delay()
