"""
Save the outputs of one job, one try: what is saved already is left alone, the rest is fetched, checked and published.

A process that dies on the way: what it had published is noted or, if not, published again with the same content under
the same name; what it had downloaded of the next file is still there for whoever comes to the same disk.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks_bridge.errors import (
    ApiError,
    BridgeError,
    OutputGone,
    OutputNotStored,
    OutputRejected,
    OutputTooLarge,
    OutputUnreachable,
    SettingsError,
)
from tasks_bridge.media import HEAD_BYTES, Content, Unfit, check_content
from tasks_bridge.models import RemoteTask, SavedOutput
from tasks_bridge.naming import Target, file_name
from tasks_bridge.outbound import RequestRefused
from tasks_bridge.outputs.destination import Destination, Whole
from tasks_bridge.outputs.download import Gone, Limits, TooLarge, Unreachable, download, open_client
from tasks_bridge.outputs.notes import Notes, note_key
from tasks_bridge.outputs.partial import Busy, Partial, sweep, working_folder
from tasks_bridge.outputs.source import Source, without_media

if TYPE_CHECKING:
    import httpx

    from tasks_bridge.outputs.job import JobFacts
    from tasks_bridge.settings import Settings

log = logging.getLogger("tasks_bridge.outputs")

__all__ = ["Busy", "Saving"]


@dataclass(frozen=True, slots=True)
class Saving:
    """
    What it takes to save outputs.

    Attributes:
        settings: With timeouts and where the API is.
        facts: The job.
        target: Where to.
        destination: The same, opened.
        limits: What an output may be and take.
        notes: What is saved already.
    """

    settings: Settings
    facts: JobFacts
    target: Target
    destination: Destination
    limits: Limits
    notes: Notes

    def save(self, remote: RemoteTask) -> dict[str, Any]:
        """
        Save all outputs of *remote*.

        Returns:
            The remote task as JSON, each output with ``saved``, and without bytes that were in it.

        Raises:
            Busy: Another worker is at one of them.
            OutputUnreachable, OutputNotStored: For now.
            OutputError: For good.
            SettingsError: Something is missing here.
        """
        folder = self.destination.working_folder or working_folder(self.settings.save_folder)
        sweep(folder)
        found: list[SavedOutput | None] = []
        is_fresh = False
        with open_client(self.settings) as client:
            while len(found) < max(1, len(remote.output or ())):
                index = len(found)
                try:
                    found.append(self._save_one(client, remote, index, folder))
                except Gone as gone:
                    if is_fresh:
                        raise self._gone(index, gone.status) from None
                    remote, is_fresh = self._fresh(remote, index, gone.status), True
        document = remote.to_json()
        document["output"] = [
            element if saved is None else {**without_media(element), "saved": saved.model_dump()}
            for element, saved in zip(remote.output or (), found, strict=True)
        ]
        return document

    def _save_one(self, client: httpx.Client, remote: RemoteTask, index: int, folder: Any) -> SavedOutput | None:
        elements = remote.output or []
        if index >= len(elements):
            raise Gone(0)  # of a task that has no output at all, or fewer now than before
        source = Source.of(elements[index])
        if source is None:
            return None
        key = note_key(remote.task_id, index, str(self.target))
        try:
            with Partial(folder, key) as partial:
                noted = self.notes.find(key)
                if noted is not None and self.destination.size(noted.path) == noted.bytes:
                    log.info("job %s: output %d is saved already", self._job_id, index)
                    partial.discard()
                    return noted
                started_at = time.monotonic()
                content = self._fill(client, source, partial)
                saved = self._publish(partial, index, content)
        except Unfit as error:
            raise OutputRejected(self._job_id, index, str(error)) from None
        except TooLarge as error:
            raise OutputTooLarge(self._job_id, index, self.limits.max_bytes, error.size) from None
        except Unreachable as error:
            raise OutputUnreachable(self._job_id, index, error.why, error.retry_after_s) from None
        except (Busy, Gone, BridgeError, RequestRefused):
            raise
        except Exception as error:  # of whichever kind: the destination is the application's, or a package's
            log.warning("job %s: output %d could not be stored", self._job_id, index, exc_info=True)
            raise OutputNotStored(self._job_id, index, _words(error)) from error
        self.notes.write(key, saved)
        seconds = time.monotonic() - started_at
        log.info("job %s: output %d saved: %d bytes in %.1f s", self._job_id, index, saved.bytes, seconds)
        return saved

    def _fill(self, client: httpx.Client, source: Source, partial: Partial) -> Content:
        if source.url is not None:
            return download(client, source.url, partial, self.limits, kind=source.kind)
        if source.encoded_size - 2 > self.limits.max_bytes:
            raise TooLarge(source.encoded_size)
        data, label = source.decode()
        if len(data) > self.limits.max_bytes:
            raise TooLarge(len(data))
        content = check_content(data[:HEAD_BYTES], label=label, kind=source.kind, allowed=self.limits.content_types)
        partial.begin(None, len(data))
        partial.append(data)
        return content

    def _publish(self, partial: Partial, index: int, content: Content) -> SavedOutput:
        sha256 = partial.finish()
        whole = Whole(partial.path, partial.size, sha256, content.content_type)
        name = file_name(self.target, job_id=self._job_id, index=index, ext=content.ext, model=self._model)
        path = self.destination.publish(whole, name)
        partial.discard()
        return SavedOutput(path=path, bytes=whole.size, sha256=sha256, content_type=whole.content_type)

    def _fresh(self, remote: RemoteTask, index: int, status: int) -> RemoteTask:
        """Ask ByteSpike what the URLs are now."""
        try:
            fresh = self.facts.ask(remote.task_id)
        except SettingsError:
            raise
        except ApiError as error:
            log.warning("job %s: can't be asked for fresh URLs: %s", self._job_id, error)
            why = "its URL is served no more, and ByteSpike can't be asked for another for now"
            raise OutputUnreachable(self._job_id, index, why, getattr(error, "retry_after_s", None)) from None
        if fresh is None or index >= len(fresh.output or ()):
            raise self._gone(index, status)
        log.info("job %s: fresh URLs, as output %d was not to be had (HTTP %d)", self._job_id, index, status)
        return fresh

    def _gone(self, index: int, status: int) -> OutputGone:
        return OutputGone(self._job_id, index, status or None)

    @property
    def _job_id(self) -> str:
        return self.facts.job_id

    @property
    def _model(self) -> str:
        return self.facts.model if "{model}" in self.target.pattern else ""


def _words(error: Exception) -> str:
    """Which error it was; not in its own words, which may hold what is secret at the destination."""
    name = type(error).__name__
    return f"{name}, {error.strerror}" if isinstance(error, OSError) and error.strerror else name
