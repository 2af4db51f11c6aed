from __future__ import annotations

import pytest

from tasks_bridge.media import HEAD_BYTES, Unfit, check_content, is_allowed, is_media_type, recognise
from tasks_bridge.sandbox.media import clip, picture

MEDIA = ("image/*", "video/*", "audio/*")

EBML = b"\x1a\x45\xdf\xa3\xa3B\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x88"

HEADS = [
    (b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg", "jpg"),
    (b"GIF89a", "image/gif", "gif"),
    (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp", "webp"),
    (b"\x00\x00\x00\x20ftypavif", "image/avif", "avif"),
    (b"\x00\x00\x00\x20ftypheic", "image/heic", "heic"),
    (b"\x00\x00\x00\x20ftypisom", "video/mp4", "mp4"),
    (b"\x00\x00\x00\x20ftypiso5", "video/mp4", "mp4"),
    (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime", "mov"),
    (b"\x00\x00\x00\x14ftypM4A ", "audio/mp4", "m4a"),
    (b"\x00\x00\x00\x14moov", "video/quicktime", "mov"),
    (EBML + b"webm", "video/webm", "webm"),
    (EBML + b"matroska", "video/x-matroska", "mkv"),
    (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav", "wav"),
    (b"ID3\x04\x00", "audio/mpeg", "mp3"),
    (b"\xff\xfb\x90\x00", "audio/mpeg", "mp3"),
    (b"fLaC\x00", "audio/flac", "flac"),
    (b"OggS\x00", "audio/ogg", "ogg"),
]  # fmt: skip


@pytest.mark.parametrize(("head", "content_type", "ext"), HEADS)
def test_a_file_is_recognised_by_its_first_bytes(head: bytes, content_type: str, ext: str) -> None:
    found = recognise(head)

    assert found is not None
    assert (found.content_type, found.ext) == (content_type, ext)


@pytest.mark.parametrize(
    "head",
    [b"", b"\x89PN", b"<html><body>", b'{"error": 1}', b"<svg xmlns=", b"%PDF-1.7", b"MZ\x90", b"\x7fELF", bytes(64),
     b"XXXX\x00\x00\x00\x00WEBP", b"PK\x03\x04"],
)  # fmt: skip
def test_what_is_no_media_is_not_recognised(head: bytes) -> None:
    assert recognise(head) is None


def test_what_the_sandbox_makes_is_what_it_says() -> None:
    made = (recognise(clip(16, 9)[:HEAD_BYTES]), recognise(picture("a", 8, 8)[:HEAD_BYTES]))

    assert [found.content_type for found in made if found] == ["video/mp4", "image/png"]


@pytest.mark.parametrize("label", [None, "", "application/octet-stream", "binary/octet-stream", "Video/MP4; codecs=x"])
@pytest.mark.parametrize("kind", [None, "video", "hologram"])
def test_a_file_that_is_what_it_is_called_passes(label: str | None, kind: str | None) -> None:
    assert check_content(clip(16, 9)[:64], label=label, kind=kind, allowed=MEDIA).content_type == "video/mp4"


@pytest.mark.parametrize(
    ("head", "label", "kind", "said"),
    [
        (clip(16, 9), "text/html", "video", "labelled text/html"),
        (clip(16, 9), "image/png", None, "labelled image/png, and is video/mp4"),
        (clip(16, 9), None, "image", "ByteSpike calls it image"),
        (b"<html>", "video/mp4", "video", "labelled video/mp4"),
        (b"<html>", None, "video", "without a label"),
        (b"", "video/mp4", "video", "no picture, video or sound"),
    ],
)
def test_a_file_that_is_something_else_is_refused(head: bytes, label: str | None, kind: str | None, said: str) -> None:
    with pytest.raises(Unfit, match=said):
        check_content(head[:64], label=label, kind=kind, allowed=MEDIA)


def test_a_label_within_the_same_family_is_believed_less_than_the_bytes() -> None:
    found = check_content(HEADS[3][0], label="image/jpeg", kind="image", allowed=MEDIA)

    assert found.content_type == "image/webp"


def test_sound_alone_may_come_in_a_container_for_video() -> None:
    assert check_content(HEADS[6][0], label="audio/mp4", kind="audio", allowed=MEDIA).ext == "mp4"


def test_only_what_is_allowed_passes() -> None:
    assert check_content(clip(16, 9)[:64], label=None, kind=None, allowed=("video/mp4",)).ext == "mp4"
    with pytest.raises(Unfit, match="allowed are image/"):
        check_content(clip(16, 9)[:64], label=None, kind=None, allowed=("image/*",))


@pytest.mark.parametrize(
    ("label", "content_type", "ext"),
    [("application/pdf", "application/pdf", "pdf"), (None, "application/octet-stream", "bin"), ("x/y", "x/y", "bin")],
)
def test_where_anything_is_allowed_what_is_unknown_passes_as_it_is_labelled(
    label: str | None, content_type: str, ext: str
) -> None:
    found = check_content(b"%PDF-1.7", label=label, kind="video", allowed=("*/*",))

    assert (found.content_type, found.ext) == (content_type, ext)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("image/*", True), ("image/png", True), ("image/svg+xml", True), ("*/*", True), ("image", False), ("*", False),
     ("image/", False), ("*/png", False), (7, False), ("image/png\n", False), ("IMAGE/png", False)],
)  # fmt: skip
def test_a_media_type_looks_like_one(text: object, expected: bool) -> None:
    assert is_media_type(text) is expected


def test_a_family_covers_its_members_only() -> None:
    assert is_allowed("image/png", ["image/*"])
    assert not is_allowed("imagex/png", ["image/*"])
