"""The demo's course: starts the jobs, strikes at the right moments, and watches until all is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from tasks_bridge.demo import app, duty, evidence, scenes
from tasks_bridge.demo.app import Call
from tasks_bridge.demo.scenes import Scene
from tasks_bridge.demo.stage import Stage
from tasks_bridge.demo.story import Story
from tasks_bridge.demo.verdict import Outcome
from tasks_bridge.jobs import Job
from tasks_bridge.live import LiveView, line_of
from tasks_bridge.record import JobState
from tasks_bridge.store import Entry

CUT_OFF_AT_S: Final = 2.5
"""When the job starts whose worker is killed: the others are under way by then, and none has ended."""
CANCEL_AT_S: Final = 7.5
SAFE_S: Final = 0.4
"""
The kill keeps this far from the end of any job. A callback that the killed worker had already fetched would come back
only after the broker's visibility timeout, an hour by default: what Celery makes of its own messages is not shown here.
"""
GIVE_UP_S: Final = 75.0
SETTLE_S: Final = 8.0
"""How long after the last job's end to wait for a callback that is missing."""

_LOOK_S: Final = 0.12


class Show:
    """One performance on *stage*."""

    def __init__(self, stage: Stage, story: Story, view: LiveView) -> None:
        self._stage = stage
        self._story = story
        self._view = view
        self._entries: dict[str, Entry] = {}
        self._remote: dict[str, list[dict[str, Any]]] = {}
        self._calls: list[Call] = []
        # each is tried at every look until it returns True
        self._beats: list[Callable[[], bool]] = [
            self._repeat_lost,
            self._start_cut_off,
            self._kill_worker,
            self._repeat_cut_off,
            self._see_refused,
            self._change_mind,
            self._see_chain,
            self._see_chord,
        ]
        self._settled_at: float | None = None
        self.troubles: list[str] = []
        """What went wrong on the way, one sentence each."""

    def play(self) -> None:
        """Run until every job is over, or it takes too long."""
        self._start_jobs()
        while not self._is_over():
            if self._story.elapsed_s > GIVE_UP_S:
                self.troubles.append(f"it was not over after {GIVE_UP_S:g} s")
                return
            for worker in self._stage.workers:
                if not worker.is_alive():
                    self.troubles.append(f"worker {worker.name} ended by itself: {worker.last_words()}")
                    return
            time.sleep(_LOOK_S)
            self._look()
            self._beats = [beat for beat in self._beats if not beat()]

    def evidence(self) -> tuple[list[Outcome], dict[str, int], int]:
        """What `verdict.problems` asks for, as of now."""
        self._look()
        outcomes = [
            evidence.outcome(scene, self._entries.get(scene.name), self._calls, self._remote.get(scene.name, []))
            for scene in scenes.ALL
        ]
        once = {
            "the task at the end of the chain": evidence.count(app.CHAIN_END, self._calls),
            "the body of the chord": evidence.count(app.CHORD_BODY, self._calls),
        }
        return outcomes, once, len(self._stage.sandbox.tasks())

    def _start_jobs(self) -> None:
        self._story.start_clock()
        for scene in scenes.SINGLE:
            if scene is not scenes.CUT_OFF:
                scenes.start(scene, self._stage.run)
        scenes.start_chain(self._stage.run)
        scenes.start_chord(self._stage.run)
        took_ms = 1000 * self._story.elapsed_s
        self._story.tell(
            f"{len(scenes.ALL) - 1} jobs are started, in {took_ms:.0f} ms. No worker sits and waits for them: "
            "the countdown to a job's next poll is an entry in Redis."
        )

    def _look(self) -> None:
        self._calls = app.calls(self._stage.bridge)
        names = {scene.job_id(self._stage.run): scene.name for scene in scenes.ALL}
        entries = self._stage.bridge.store.get(list(names))
        self._entries = {names[entry.job_id]: entry for entry in entries if entry is not None}
        self._remote = {}
        for task in self._stage.sandbox.tasks():
            self._remote.setdefault(names.get(task["out_task_id"], ""), []).append(task)
        self._view.show([line_of(entry, name) for name, entry in self._entries.items()])

    def _is_over(self) -> bool:
        # off the schedule: nothing about it will be published again
        over = [entry for entry in self._entries.values() if entry.state.is_terminal and entry.due_at is None]
        if len(over) < len(scenes.ALL):
            return False
        if self._settled_at is None:
            self._settled_at = self._story.elapsed_s
        ran = {(call.name, call.kind) for call in self._calls}
        wanted = {(scene.name, scene.callback) for scene in scenes.ALL}
        wanted |= {(scenes.CHAINED.name, app.CHAIN_END), (app.CHORD_BODY, app.CHORD_BODY)}
        is_complete = wanted <= ran and not self._beats
        return is_complete or self._story.elapsed_s > self._settled_at + SETTLE_S

    def _repeat_lost(self) -> bool:
        if self._submits(scenes.LOST_ANSWER) < 2:  # noqa: PLR2004 - the second one
            return False
        self._story.tell(
            f"{scenes.LOST_ANSWER.name}: ByteSpike accepted it, but the answer got lost. "
            "The same request went out again under the same id, and found the same task."
        )
        return True

    def _start_cut_off(self) -> bool:
        if self._story.elapsed_s < CUT_OFF_AT_S:
            return False
        scenes.start(scenes.CUT_OFF, self._stage.run)
        return True

    def _kill_worker(self) -> bool:
        if not self._submits(scenes.CUT_OFF) or self._has_callbacks_on_the_way():
            return False
        hostname = duty.at_work(self._stage.bridge, scenes.CUT_OFF.job_id(self._stage.run))
        victim = next((worker for worker in self._stage.workers if worker.hostname == hostname), None)
        if victim is None:
            return False
        victim.kill()
        self._stage.workers.remove(victim)
        waiting = sum(not entry.state.is_terminal for entry in self._entries.values()) - 1
        [survivor] = self._stage.workers
        self._story.tell(
            f"Worker {victim.name} is killed (SIGKILL) with {waiting} jobs waiting, and one half submitted: ByteSpike "
            f"has begun with {scenes.CUT_OFF.name}, and nobody here knows. Worker {survivor.name} takes over.",
            style="bold red",
        )
        return True

    def _repeat_cut_off(self) -> bool:
        entry = self._entries.get(scenes.CUT_OFF.name)
        if entry is None or entry.state is JobState.QUEUED:
            return False
        self._story.tell(
            f"{scenes.CUT_OFF.name}: the dead worker's lease ran out. The same request, the same id: "
            "ByteSpike has the one task that it had begun."
        )
        return True

    def _change_mind(self) -> bool:
        entry = self._entries.get(scenes.CHANGED_MIND.name)
        if self._story.elapsed_s < CANCEL_AT_S or entry is None or entry.state is not JobState.RUNNING:
            return False
        Job(entry.job_id, app=self._stage.app).cancel()
        self._story.tell(f"{scenes.CHANGED_MIND.name}: job.cancel() halfway; ByteSpike stops, too.")
        return True

    def _see_refused(self) -> bool:
        return self._see(
            app.FAILURE,
            scenes.REFUSED.name,
            f"{scenes.REFUSED.name}: ByteSpike refused the prompt; the failure callback ran, not the other.",
        )

    def _see_chain(self) -> bool:
        return self._see(app.CHAIN_END, scenes.CHAINED.name, "chain: the two tasks behind the job ran in turn.")

    def _see_chord(self) -> bool:
        text = "chord: its last job is done, and its body ran once, with all three results."
        return self._see(app.CHORD_BODY, app.CHORD_BODY, text)

    def _see(self, kind: str, name: str, text: str) -> bool:
        """Tell *text* once that callback has run."""
        if not any(call.kind == kind and call.name == name for call in self._calls):
            return False
        self._story.tell(text)
        return True

    def _submits(self, scene: Scene) -> int:
        return sum(task["submits"] for task in self._remote.get(scene.name, []))

    def _has_callbacks_on_the_way(self) -> bool:
        soon = time.time() + SAFE_S
        ending = {
            name for name, tasks in self._remote.items() if any((task["ended_s"] or soon) < soon for task in tasks)
        }
        return not ending <= {call.name for call in self._calls}
