"""
A chord whose body was about to be started by a worker that died.

Celery (5.7) lets only one worker start the body: the one that counted the last part claims the chord, for many seconds.
If it dies before it has published the body, the part's next finish finds the claim, leaves the body to its owner, and
takes the job off the schedule: nobody would start it.
"""

from __future__ import annotations

from typing import Any, Final

from celery.backends.redis import RedisBackend

_LUA: Final = """
local claim = redis.call('GET', KEYS[1])
if claim and claim ~= 'done' then redis.call('DEL', KEYS[1]) end
"""


def release_claim(backend: Any, group_id: str) -> None:
    """
    Give up the claim on starting a chord's body, before one of the chord's parts is counted.

    A part that is counted for the first time finds no claim, for that is taken when the last one has been counted. So
    whoever holds one here was about to do again what is being done now. If it is alive after all, the body may be
    published twice, under the same id.

    Raises:
        redis.RedisError: The backend can't be reached.
    """
    if isinstance(backend, RedisBackend):
        options: Any = backend
        # Celery's key for it (celery.backends.redis, on_chord_part_return); other versions have none
        options.client.register_script(_LUA)(keys=[options.get_key_for_group(group_id, ".c")])
