"""
Task ids: ``task_`` and a ULID.
"""

from __future__ import annotations

import random
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RANDOM_BITS: Final = 80
_LENGTH: Final = 26


def new_task_id(now_s: float, rng: random.Random) -> str:
    """
    Return a task id that sorts by time.

    Source: API, /tasks/query page, ``task_id``; the ULID specification (Crockford's base 32).
    """
    value = (int(now_s * 1000) << _RANDOM_BITS) | rng.getrandbits(_RANDOM_BITS)
    return "task_" + "".join(_ALPHABET[value >> shift & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))
