import itertools
import random
import struct
import zlib

import pytest

from tasks_bridge.sandbox.files import File
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


@pytest.mark.parametrize(("media", "content_type"), [(b"\x89PNG" * 7, "image/png"), (clip(16, 9), "video/mp4")])
@pytest.mark.parametrize("more", [0, 1, 8, 200_000])
def test_a_file_is_as_long_as_it_is_to_be_and_begins_with_the_media(media: bytes, content_type: str, more: int) -> None:
    file = File("a", media, content_type, len(media) + more)
    whole = file.read(0, file.size)

    assert (len(whole), file.size) == (len(media) + more,) * 2
    assert whole.startswith(media)
    assert file.read(0, file.size + 1) == whole


def test_a_file_is_no_shorter_than_its_media() -> None:
    assert File("a", b"media", "image/png", 3).read(0, 9) == b"media"


def test_parts_of_a_file_make_up_the_whole_in_the_right_order_only() -> None:
    file = File("a", b"media", "image/png", 300_000)
    cuts = [0, 1, 70_000, 131_077, 200_000, 300_000]
    parts = [file.read(start, stop) for start, stop in itertools.pairwise(cuts)]

    assert b"".join(parts) == file.read(0, file.size)
    assert file.read(65_541, 131_077) != file.read(131_077, 196_613), "no two blocks are the same"


def test_the_filling_of_a_clip_is_a_part_of_the_clip() -> None:
    media = clip(16, 9)
    data = File("a", media, "video/mp4", len(media) + 100_000)
    length, kind = struct.unpack(">I4s", data.read(len(media), len(media) + 8))

    assert (length, kind) == (100_000, b"free")


def test_files_have_tags_of_their_own_for_each_name_and_length() -> None:
    assert len({File(name, b"m", "image/png", size).etag for name in "ab" for size in (10, 20)}) == 4
