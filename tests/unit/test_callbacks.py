"""Whatever is sent to where callbacks arrive, only what we signed for that makes a worker look, at that job only."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from celery import Celery
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks_bridge.bridge import Bridge, register_bridge
from tasks_bridge.callbacks import receive
from tasks_bridge.errors import InvalidToken
from tasks_bridge.record import JobRecord
from tasks_bridge.settings import Settings
from tasks_bridge.store.memory import MemoryStore
from tasks_bridge.tokens import TokenPurpose, sign

KEY, OLD_KEY, OTHER_KEY = (SecretStr(name * 32) for name in ("k", "o", "x"))
JOBS = ("job-1", "job-2")
GOOD = {sign(key, TokenPurpose.CALLBACK, job): job for key in (KEY, OLD_KEY) for job in (*JOBS, "forgotten")}
BAD = [
    *(sign(OTHER_KEY, TokenPurpose.CALLBACK, job) for job in JOBS),
    *(sign(KEY, purpose, job) for purpose in (TokenPurpose.STATUS, TokenPurpose.CONTROL) for job in JOBS),
    *(sign(KEY, TokenPurpose.CALLBACK, job, expires_at=1) for job in JOBS),
    *JOBS,
    "",
]
ALPHABET = string.ascii_letters + string.digits + "._~-"


class Store(MemoryStore):
    """Notes which jobs are to be looked at."""

    announced: list[str]

    def announce(self, job_id: str, gap_s: float) -> bool:
        self.announced.append(job_id)
        return super().announce(job_id, gap_s)


@pytest.fixture(scope="module")
def store() -> Store:
    store = Store()
    for job in JOBS:
        record = JobRecord(version=1, model="m", key="default", digest="d", created_at=1.0)
        store.register(job, record, b"body", delay_s=600, published=False)
    return store


@pytest.fixture(scope="module")
def app(store: Store) -> Celery:
    app = Celery(set_as_current=False)
    bridge = Bridge(app, Settings(secret_key=KEY, secret_key_fallbacks=[OLD_KEY]))
    bridge.store = store  # type: ignore[assignment]
    register_bridge(bridge)
    return app


def damages(data: st.DataObject) -> list[Callable[[str], str]]:
    """Ways to damage a token."""
    place = data.draw(st.integers(0, 130), label="place")
    other = data.draw(st.sampled_from([*GOOD, *BAD]), label="other")
    text = data.draw(st.text(ALPHABET, max_size=5) | st.text(st.characters(), max_size=5), label="text")
    return [
        lambda token: token,
        lambda token: token[:place],
        lambda token: token[place:],
        lambda token: token[:place] + text + token[place:],
        lambda token: token[:place] + text + token[place + len(text) :],
        lambda token: token[:place] + other[place:],
        lambda token: token.rpartition("~")[0] + "~" + other.rpartition("~")[2],
        lambda token: token.swapcase(),
        lambda token: token * (1 + place),
        lambda _: text,
    ]


@settings(max_examples=300)
@given(st.sampled_from([*GOOD, *BAD]), st.integers(0, 9), st.data())
def test_only_a_token_that_we_signed_for_callbacks_makes_a_worker_look_at_its_job(
    app: Celery, store: Store, token: str, which: int, data: st.DataObject
) -> None:
    store.announced = []
    sent = damages(data)[which](token)

    if sent in GOOD:
        assert receive(sent, app=app) is (GOOD[sent] in JOBS)
        assert store.announced == [GOOD[sent]]
    else:
        with pytest.raises(InvalidToken) as caught:
            receive(sent, app=app)
        assert store.announced == []
        assert str(caught.value) == str(InvalidToken()), "a refusal should not tell what it refuses, nor why"
