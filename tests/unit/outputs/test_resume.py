from __future__ import annotations

import pytest

from tasks_bridge.outputs.resume import Held, Part, StartOver, range_headers, read_part, strong_validator

TAG = '"abc"'
HELD = Held(100, TAG, 1000)


def answered(content_range: str = "bytes 100-999/1000", tag: str | None = TAG) -> dict[str, str]:
    return {"content-range": content_range, **({"etag": tag} if tag is not None else {})}


@pytest.mark.parametrize(
    ("held", "headers"),
    [
        (Held(), {}),
        (Held(0, TAG, 1000), {}),
        (Held(100, None, 1000), {}),
        (HELD, {"Range": "bytes=100-", "If-Range": TAG}),
    ],
)
def test_the_rest_is_asked_for_only_of_the_same_file(held: Held, headers: dict[str, str]) -> None:
    assert range_headers(held) == headers


@pytest.mark.parametrize(("held", "total"), [(HELD, 1000), (Held(100, TAG, None), 1000)])
def test_the_rest_continues_what_is_there(held: Held, total: int) -> None:
    assert read_part(206, answered(), held) == Part(100, total, TAG)


def test_the_length_may_be_left_out_of_a_range() -> None:
    assert read_part(206, answered("bytes 100-999/*"), HELD) == Part(100, 1000, TAG)


@pytest.mark.parametrize(
    ("status", "headers", "held"),
    [
        (416, {"content-range": "bytes */50"}, HELD),
        (206, answered(tag='"other"'), HELD),
        (206, answered(tag=None), HELD),
        (206, answered(tag='W/"abc"'), HELD),
        (206, answered("bytes 99-999/1000"), HELD),
        (206, answered("bytes 101-999/1000"), HELD),
        (206, answered("bytes 100-998/1000"), HELD),  # not all of the rest
        (206, answered("bytes 100-1999/2000"), HELD),
        (206, answered("bytes 100-50/1000"), HELD),
        (206, answered(""), HELD),
        (206, answered("items 100-999/1000"), HELD),
        (206, {"content-type": "multipart/byteranges; boundary=x", "etag": TAG}, HELD),
        (206, answered("bytes 0-999/1000"), Held()),  # that nobody asked for
    ],
)
def test_what_does_not_fit_is_started_over(status: int, headers: dict[str, str], held: Held) -> None:
    with pytest.raises(StartOver):
        read_part(status, headers, held)


@pytest.mark.parametrize(
    ("headers", "total"),
    [
        ({"content-length": "1000"}, 1000),
        ({}, None),
        ({"content-length": "1000", "transfer-encoding": "chunked"}, None),
        ({"content-length": "-1"}, None),
        ({"content-length": "1_000"}, None),
        ({"content-length": "9" * 5000}, None),
        ({"content-length": "1000, 1000"}, None),
    ],
)
def test_a_whole_answer_starts_at_the_start(headers: dict[str, str], total: int | None) -> None:
    assert read_part(200, {**headers, "etag": TAG}, HELD) == Part(0, total, TAG)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"etag": TAG}, TAG),
        ({"etag": 'W/"abc"'}, None),
        ({"etag": "abc"}, None),
        ({"etag": '"a"\r\nx: "b"'}, None),
        ({}, None),
        ({"last-modified": "Wed, 25 Nov 2026 10:00:00 GMT"}, None),
        ({"last-modified": "Wed, 25 Nov 2026 10:00:00 GMT", "date": "Wed, 25 Nov 2026 10:00:00 GMT"}, None),
        (
            {"last-modified": "Wed, 25 Nov 2026 10:00:00 GMT", "date": "Wed, 25 Nov 2026 10:00:01 GMT"},
            "Wed, 25 Nov 2026 10:00:00 GMT",
        ),
        (
            {
                "etag": 'W/"a"',
                "last-modified": "Wed, 25 Nov 2026 10:00:00 GMT",
                "date": "Wed, 25 Nov 2026 11:00:00 GMT",
            },
            None,
        ),
        ({"last-modified": "soon", "date": "now"}, None),
        ({"last-modified": "Wed, 25 Nov 2026 10:00:00", "date": "Wed, 25 Nov 2026 10:00:01 GMT"}, None),
    ],
)  # fmt: skip
def test_only_what_tells_versions_apart_byte_by_byte_validates(headers: dict[str, str], expected: str | None) -> None:
    assert strong_validator(headers) == expected


@pytest.mark.parametrize(
    ("held", "expected"),
    [(Held(10, None, 10), True), (Held(9, None, 10), False), (Held(10), False), (Held(0, None, 0), False)],
)
def test_a_file_is_whole_when_the_told_length_is_there(held: Held, expected: bool) -> None:
    assert held.is_whole is expected
