from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tasks_bridge.reactor import Reactor

ENOUGH_S = 30.0
"""Never reached: what is waited for happens."""


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.stop()


class Answer:
    """Work in the reactor that ends when told."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._came = asyncio.Event()

    async def work(self) -> None:
        await self._came.wait()

    def come(self) -> None:
        async def tell() -> None:
            self._came.set()

        self._reactor.run(tell())


def test_work_is_admitted_at_once_while_there_is_room(reactor: Reactor) -> None:
    first, second = Answer(reactor), Answer(reactor)

    reactor.admit(first.work(), 50, most=100, wait_s=ENOUGH_S)
    reactor.admit(second.work(), 50, most=100, wait_s=ENOUGH_S)

    for answer in (first, second):
        answer.come()


def test_the_caller_is_held_back_until_there_is_room_again(reactor: Reactor) -> None:
    first, second = Answer(reactor), Answer(reactor)
    reactor.admit(first.work(), 100, most=100, wait_s=ENOUGH_S)
    caller = threading.Thread(target=reactor.admit, args=(second.work(), 1), kwargs={"most": 100, "wait_s": ENOUGH_S})
    caller.start()

    caller.join(0.05)
    assert caller.is_alive(), "a hundred and one at once should be one too many"

    first.come()
    caller.join(ENOUGH_S)
    assert not caller.is_alive(), "the place that came free should let the caller go"
    second.come()


def test_the_caller_is_held_back_no_longer_than_it_said(reactor: Reactor) -> None:
    hanging = Answer(reactor)

    reactor.admit(hanging.work(), 200, most=100, wait_s=0.01)

    hanging.come()


def test_work_that_breaks_gives_its_place_back_and_is_logged(
    reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    reactor.admit(broken(), 200, most=100, wait_s=ENOUGH_S)

    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


def test_draining_waits_for_everything_admitted(reactor: Reactor) -> None:
    last = Answer(reactor)
    done = threading.Event()

    async def work() -> None:
        await last.work()
        done.set()

    reactor.admit(work(), 1, most=100, wait_s=ENOUGH_S)
    reactor.drain(0.01)
    assert not done.is_set(), "what is not over should not hold up the end of the process"

    threading.Timer(0.05, last.come).start()
    reactor.drain(ENOUGH_S)
    assert done.is_set()


def test_what_is_in_flight_when_it_stops_is_cancelled_and_not_forgotten() -> None:
    reactor, ends = Reactor(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    async def nothing() -> None:
        pass

    reactor.start(work())
    reactor.run(nothing())

    reactor.stop()

    assert ends == ["cancelled"]
