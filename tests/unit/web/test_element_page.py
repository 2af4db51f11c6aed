"""What the page about the element says is what the element has."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files
from pathlib import Path

PAGE = (Path(__file__).parents[3] / "docs" / "live.md").read_text()
SOURCE = (files("tasks_bridge.web") / "bytespike-job.js").read_text(encoding="utf-8")
TEXTS = dict(re.findall(r'^      (\w+): "(.*)",$', SOURCE, re.MULTILINE))
MADE_PARTS = {"image", "video", "audio"}
"""Named in the code by what an output is."""


def table(header: str) -> dict[str, str]:
    found = re.search(rf"^\| {header} \|.*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, f"expected a table of each {header}"
    return dict(re.findall(r"^\| `([^`]+)` \| ?(.*?) ?\|$", found[1], re.MULTILINE))


def test_every_text_is_on_the_page() -> None:
    assert len(TEXTS) > 15
    assert table("Text") == TEXTS


def test_every_custom_property_and_event_is_on_the_page() -> None:
    told = re.findall(r'#tell\("([a-z]+)"\)', SOURCE)

    assert set(table("Custom property")) == set(re.findall(r"var\((--bytespike-[a-z]+)", SOURCE))
    assert set(table("Event")) == {f"bytespike-{name}" for name in told}


def test_every_attribute_and_part_is_on_the_page() -> None:
    observed = re.search(r"observedAttributes = \[(.*)\]", SOURCE)
    assert observed
    assert list(table("Attribute")) == re.findall(r'"(\w+)"', observed[1])
    assert set(table("Part")) == set(re.findall(r'make\("\w+", "(\w+)"', SOURCE)) | MADE_PARTS


def test_its_size_is_what_the_page_says() -> None:
    said = re.search(r"of (\d+) KB, (\d+) KB as it is sent", PAGE)
    assert said
    sizes = len(SOURCE.encode()), len(gzip.compress(SOURCE.encode(), mtime=0))
    assert [int(size) for size in said.groups()] == [round(size / 1000) for size in sizes]
