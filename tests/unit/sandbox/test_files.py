import random
import struct
import zlib

import pytest

from tasks_bridge.sandbox.media import clip, picture
from tasks_bridge.sandbox.ranges import UnsatisfiableRange, parse_range
from tasks_bridge.sandbox.ulid import new_task_id


def chunks(png: bytes) -> dict[bytes, bytes]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    found, at = {}, 8
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", png[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(name + data), f"checksum of {name!r}"
        found[name] = data
        at += 12 + length
    return found


@pytest.mark.parametrize(("width", "height"), [(1, 1), (64, 48), (1024, 1024), (300, 7)])
def test_a_picture_is_a_png_of_the_size_asked_for(width: int, height: int) -> None:
    found = chunks(picture("task_1.png", width, height))
    rows = zlib.decompress(found[b"IDAT"])

    assert list(found) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", found[b"IHDR"]) == (width, height, 8, 3, 0, 0, 0)
    assert len(found[b"PLTE"]) == 3 * 256
    assert len(rows) == (width + 1) * height
    assert set(rows[:: width + 1]) == {0}, "every row has filter 0"


def test_a_picture_is_the_same_for_the_same_task_only() -> None:
    assert picture("task_1.png", 32, 32) == picture("task_1.png", 32, 32)
    assert picture("task_1.png", 32, 32) != picture("task_2.png", 32, 32)


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1080, 1920), (1080, 1080)])
def test_a_clip_is_an_mp4_that_starts_without_its_end(width: int, height: int) -> None:
    data, boxes, at = clip(width, height), [], 0
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        boxes.append(name)
        at += length

    assert at == len(data)
    assert boxes[0] == b"ftyp"
    assert boxes.index(b"moov") < boxes.index(b"mdat"), "fast start"
    assert b"avc1" in data


def test_clips_differ_by_shape() -> None:
    assert len({clip(16, 9), clip(9, 16), clip(5, 5)}) == 3


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-9", (0, 10)),
        ("bytes=10-", (10, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=0-0,5-6", None),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("items=0-1", None),
        ("nonsense", None),
    ],
)
def test_a_range_is_read_as_the_standard_says(header: str | None, part: object) -> None:
    assert parse_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=500-600", "bytes=-0"])
def test_a_range_outside_the_file_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(UnsatisfiableRange):
        parse_range(header, 100)


def test_task_ids_are_ulids_that_sort_by_time() -> None:
    rng = random.Random(1)
    ids = [new_task_id(now_s, rng) for now_s in (1.0, 2.0, 1.7e9, 1.8e9)]

    assert ids == sorted(ids)
    assert {len(task_id) for task_id in ids} == {len("task_01HQX9F2P6Y8VEX3CRZ8GXJVD9")}
    assert new_task_id(0, random.Random(1)).startswith("task_0000000000")
