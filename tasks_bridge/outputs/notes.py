"""What has been saved already: so that a second delivery, or a retry for another output, downloads nothing again."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Final

import redis
from pydantic import ValidationError

from tasks_bridge.models import SavedOutput

if TYPE_CHECKING:
    from tasks_bridge.deliveries import Deliveries

log = logging.getLogger("tasks_bridge.outputs")

_KIND: Final = "save_output"


def note_key(task_id: str, index: int, target: str) -> str:
    """What tells one output at one destination; by ByteSpike's id, because ours can be given again one day."""
    return hashlib.sha256(f"{task_id}\n{index}\n{target}".encode()).hexdigest()[:32]


class Notes:
    """
    What is known of outputs by their keys, for as long as a finished job is remembered.

    It may be lost at any time, and Redis may be away: then they are downloaded again, to the same place.

    Args:
        deliveries: Where; None, for a job that runs inline: nowhere.
        ttl_s: For how long.
    """

    def __init__(self, deliveries: Deliveries | None, ttl_s: float) -> None:
        self._deliveries = deliveries
        self._ttl_s = ttl_s

    def find(self, key: str) -> SavedOutput | None:
        """What was noted under *key*."""
        if self._deliveries is None:
            return None
        try:
            found = self._deliveries.returned(f"{_KIND}:{key}")
            return None if found is None else SavedOutput.model_validate_json(found)
        except (redis.RedisError, ValidationError) as error:
            log.warning("whether an output is saved already can't be told: %s", type(error).__name__)
            return None

    def write(self, key: str, saved: SavedOutput) -> None:
        """Note it."""
        if self._deliveries is None:
            return
        try:
            self._deliveries.done(f"{_KIND}:{key}", saved.model_dump_json(), self._ttl_s)
        except redis.RedisError as error:
            log.warning("that an output is saved can't be noted: %s", type(error).__name__)
