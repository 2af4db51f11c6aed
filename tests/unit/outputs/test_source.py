from __future__ import annotations

import base64
from typing import Any

import pytest

from tasks_bridge.media import Unfit
from tasks_bridge.outputs.source import Source, without_media

DATA = b"\x89PNG\r\n\x1a\n and so on"
BASE64 = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    ("element", "source"),
    [
        ({"type": "video", "url": "https://cdn/a.mp4"}, Source("https://cdn/a.mp4", None, "video")),
        ({"url": "https://cdn/a.mp4", "b64_json": BASE64}, Source("https://cdn/a.mp4", None, None)),
        ({"type": "IMAGE", "b64_json": BASE64}, Source(None, BASE64, "image")),
        ({"type": "image", "url": f"data:image/png;base64,{BASE64}"},
         Source(None, f"data:image/png;base64,{BASE64}", "image")),
        ({"type": "text", "value": "a poem"}, None),
        ({"url": None}, None),
        ({"url": 7, "b64_json": ""}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_bytes_are_behind_a_url_or_inline_or_nowhere(element: dict[str, Any], source: Source | None) -> None:
    assert Source.of(element) == source


@pytest.mark.parametrize(
    ("inline", "label"),
    [
        (BASE64, None),
        (f"data:image/png;base64,{BASE64}", "image/png"),
        (f"DATA:image/png;charset=x;base64,{BASE64}", "image/png"),
        (f"data:;base64,{BASE64}", None),
        ("data:image/png," + "".join(f"%{byte:02x}" for byte in DATA), "image/png"),
    ],
)
def test_what_is_inline_is_decoded(inline: str, label: str | None) -> None:
    assert Source(None, inline, None).decode() == (DATA, label)


@pytest.mark.parametrize("inline", ["a b", "abc", "data:image/png;base64", "data:image/png;base64,?"])
def test_what_can_not_be_decoded_is_refused(inline: str) -> None:
    with pytest.raises(Unfit):
        Source(None, inline, None).decode()


def test_the_size_is_known_before_anything_is_decoded() -> None:
    assert 0 <= Source(None, BASE64, None).encoded_size - len(DATA) <= 2


@pytest.mark.parametrize(
    ("element", "left"),
    [
        ({"type": "image", "b64_json": BASE64, "width": 8}, {"type": "image", "width": 8}),
        ({"type": "image", "url": f"data:image/png;base64,{BASE64}"}, {"type": "image"}),
        ({"url": "https://cdn/a.mp4", "b64_json": BASE64}, {"url": "https://cdn/a.mp4"}),
    ],
)
def test_no_bytes_are_left_in_the_result(element: dict[str, Any], left: dict[str, Any]) -> None:
    before = dict(element)

    assert without_media(element) == left
    assert element == before
