from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_bridge.sse import EventDecoder, EventTooLarge, ServerSentEvent


def decode(*chunks: bytes, limit: int = 1000) -> list[ServerSentEvent]:
    decoder = EventDecoder(limit=limit)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [ServerSentEvent("message", "a")]),
        (b"data:a\n\n", [ServerSentEvent("message", "a")]),
        (b"data:  a\n\n", [ServerSentEvent("message", " a")]),
        (b"data: a\ndata: b\n\n", [ServerSentEvent("message", "a\nb")]),
        (b"data\n\ndata\ndata\n\n", [ServerSentEvent("message", ""), ServerSentEvent("message", "\n")]),
        (b"event: state\ndata: a\n\n", [ServerSentEvent("state", "a")]),
        (b"event: state\n\ndata: a\n\n", [ServerSentEvent("message", "a")]),
        (b": heartbeat\n\n:\n\ndata: a\n\n", [ServerSentEvent("message", "a")]),
        (
            b"id: 1\ndata: a\n\ndata: b\n\n",
            [ServerSentEvent("message", "a", "1"), ServerSentEvent("message", "b", "1")],
        ),
        (b"id: 1\0\ndata: a\n\n", [ServerSentEvent("message", "a")]),
        (b"retry: 3000\ndata: a\n\n", [ServerSentEvent("message", "a", "", 3000)]),
        (b"retry: soon\nretry: -1\nretry: \xc2\xb2\ndata: a\n\n", [ServerSentEvent("message", "a")]),
        (b"unknown: field\nDATA: x\ndata: a\n\n", [ServerSentEvent("message", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [ServerSentEvent("message", "a")]),
        (b"data: a\r\n\r\ndata: b\r\rdata: c\n\n", [ServerSentEvent("message", text) for text in "abc"]),
        (b"data: a\x85b\x0bc\xe2\x80\xa8d\n\n", [ServerSentEvent("message", "a\ufffdb\x0bc\u2028d")]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"", []),
    ],
)
def test_a_stream_is_read_as_the_standard_says(stream: bytes, expected: list[ServerSentEvent]) -> None:
    assert decode(stream) == expected


@given(
    st.lists(
        st.sampled_from(
            [b"data: a", b"data: \xc3\xa9", b"event: e", b": c", b"", b"\r", b"\n", b"\r\n", b"\xef\xbb\xbf"]
        )
    ),
    st.data(),
)
def test_where_chunks_are_cut_makes_no_difference(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert decode(*chunks) == decode(stream)


def test_an_event_is_dispatched_without_waiting_for_the_second_half_of_a_line_end() -> None:
    assert decode(b"data: a\r\n\r") == [ServerSentEvent("message", "a")]
    assert decode(b"data: a\r\n\r", b"\ndata: b\r\n\r") == [
        ServerSentEvent("message", "a"),
        ServerSentEvent("message", "b"),
    ]


def test_a_byte_order_mark_is_one_at_the_very_start_only_and_wherever_it_is_cut() -> None:
    marked = b"\xef\xbb\xbfdata: a\n\n"

    assert decode(*[bytes([byte]) for byte in marked]) == [ServerSentEvent("message", "a")]
    assert decode(b"data: a\n\n", marked, b"data: b\n\n") == [
        ServerSentEvent("message", "a"),
        ServerSentEvent("message", "b"),
    ]


def test_a_reconnection_time_of_any_length_is_a_number_that_fits_everywhere() -> None:
    [event] = decode(b"retry: " + b"9" * 5000 + b"\ndata: a\n\n", limit=6000)

    assert event.retry is not None
    assert event.retry < 2**63


@pytest.mark.parametrize("piece", [b"data: aaaaaaaaa\n", b"aaaaaaaaaaaaaaa", b": comment\n"])
def test_an_event_without_end_is_given_up(piece: bytes) -> None:
    with pytest.raises(EventTooLarge, match="larger than 1000 bytes"):
        decode(*[piece] * 200)


def test_the_limit_is_for_one_event_not_for_the_stream() -> None:
    assert len(decode(*[b"data: aaaaaaaaa\n\n"] * 200)) == 200


@pytest.mark.parametrize("stream", [b"id: 12\ndata: a\n", b"data: aaa\ndata: a", b"data: aaaaaaaaaa"], ids=repr)
def test_an_event_may_have_exactly_as_many_bytes_as_the_limit_says(stream: bytes) -> None:
    for before in (b"", b"data: a\n\n"):
        decode(before, stream, limit=len(stream))
        with pytest.raises(EventTooLarge):
            decode(before, stream, limit=len(stream) - 1)


def test_an_event_that_comes_whole_may_be_no_larger_than_one_that_comes_in_pieces() -> None:
    with pytest.raises(EventTooLarge):
        decode(b"data: " + b"a" * 1000 + b"\n\n")


@given(
    st.lists(st.binary(max_size=30) | st.sampled_from([b"data: aaaa\n", b"\n", b"\r", b": c\n"])), st.integers(1, 40)
)
def test_whatever_comes_no_event_is_larger_than_the_limit_and_no_more_than_that_is_kept(
    chunks: list[bytes], limit: int
) -> None:
    decoder = EventDecoder(limit=limit)
    try:
        for chunk in chunks:
            for event in decoder.feed(chunk):
                assert len(event.data) <= limit
            assert len(decoder._buffer) + sum(map(len, decoder._data)) <= limit
    except EventTooLarge:
        assert sum(map(len, chunks)) >= limit, "no less than the limit should be too large"
