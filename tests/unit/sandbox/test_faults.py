from tasks_bridge.sandbox.faults import FaultBook
from tasks_bridge.sandbox.script import Fault


def kinds(book: FaultBook, place: str, now_s: float, requests: int) -> list[str | None]:
    taken = [book.take(place, now_s) for _ in range(requests)]
    return [fault.kind if fault is not None else None for fault in taken]


def test_a_fault_strikes_as_often_as_it_says_after_as_many_as_it_says() -> None:
    book = FaultBook([Fault("query", "hang", times=2, after=1)])

    assert kinds(book, "query", 0, 5) == [None, "hang", "hang", None, None]
    assert not book


def test_other_requests_neither_meet_nor_count_for_a_fault() -> None:
    book = FaultBook([Fault("query", "hang", after=1)])

    assert kinds(book, "cancel", 0, 3) == [None, None, None]
    assert kinds(book, "query", 0, 3) == [None, "hang", None]


def test_faults_strike_in_the_order_given() -> None:
    book = FaultBook([Fault("query", "hang"), Fault("query", "garbage", times=2)])

    assert kinds(book, "query", 0, 4) == ["hang", "garbage", "garbage", None]


def test_requests_spoilt_by_an_earlier_fault_count_for_the_later_one() -> None:
    book = FaultBook([Fault("query", "hang", times=2), Fault("query", "garbage", after=3)])

    assert kinds(book, "query", 0, 5) == ["hang", "hang", None, "garbage", None]


def test_a_fault_on_anything_meets_every_request() -> None:
    book = FaultBook([Fault("any", "hang", times=None)])

    assert kinds(book, "query", 0, 1) + kinds(book, "models", 0, 1) == ["hang", "hang"]


def test_a_fault_ends_with_its_time() -> None:
    book = FaultBook([Fault("query", "hang", times=None, for_s=5)], now_s=100)

    assert kinds(book, "query", 104.9, 2) == ["hang", "hang"]
    assert kinds(book, "query", 105, 1) == [None]


def test_a_cleared_book_is_empty() -> None:
    book = FaultBook()
    book.add(Fault("query", "hang"), 0)
    assert book

    book.clear()
    assert kinds(book, "query", 0, 1) == [None]
