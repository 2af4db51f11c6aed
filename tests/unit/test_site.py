"""The documentation's site can be built, and says where a page belongs that nobody would find."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

import tasks_bridge

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # some 15 s, on a machine of its own


def build(source: Path, into: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as ``make docs`` does, with our configuration."""
    options = ["--quiet", "--fail-on-warning", "--keep-going", "-c", ROOT / "docs", "-d", into / "doctrees"]
    command = [sys.executable, "-m", "sphinx", *map(str, options), str(source), str(into)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own."""
    into = tmp_path_factory.mktemp("site")
    ran = build(ROOT, into)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return into


def test_it_has_every_page_and_the_signature_of_every_public_name(site: Path) -> None:
    for page in ("README", "SECURITY", "docs/index", "docs/decisions/0001-durable-countdown", "examples/README"):
        assert (site / f"{page}.html").is_file(), f"expected the page {page}"
    signatures = (site / "docs/api.html").read_text()

    described = set(re.findall(r'<dt class="sig[^>]* id="tasks_bridge\.(?:errors\.)?(\w+)"', signatures))
    assert set(tasks_bridge.__all__) - described == set()


def test_its_first_page_leads_on(site: Path) -> None:
    found = re.search(r'href="([^"]+)"', (site / "index.html").read_text())

    assert found is not None
    assert (site / found[1]).is_file()


def test_the_states_are_drawn(site: Path) -> None:
    page = (site / "docs/states.html").read_text()
    drawn = re.search(r'<svg class="states"[^>]* aria-label="([^"]+)"', page)
    assert drawn is not None
    arrows = re.findall(r"^    (\w+) --> (\w+)$", (ROOT / "docs/states.md").read_text(), re.MULTILINE)

    assert re.findall(r"(\w+) to (\w+)", unescape(drawn[1])) == arrows
    assert page.count('class="arrow"') == len(arrows)
    assert "stateDiagram" not in page


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r'<(?:script|link|img|iframe)[^>]* (?:src|href)="(?:https?:)?//')

    assert [path.name for path in site.rglob("*.html") if loaded.search(path.read_text())] == []


def test_a_page_that_nobody_finds_and_a_link_that_leads_nowhere_are_errors(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    (pages / "docs").mkdir(parents=True)
    (pages / "docs/index.md").write_text("# Begin\n\n```{toctree}\nfound\n```\n")
    (pages / "docs/found.md").write_text("# Found\n\nSee [what is not there](nowhere.md).\n")
    (pages / "docs/lost.md").write_text("# Lost\n")

    ran = build(pages, tmp_path / "site")

    assert ran.returncode == 1
    assert "docs/lost.md is a page that nobody finds" in ran.stderr
    assert "in docs/index.md" in ran.stderr
    assert "nowhere.md" in ran.stderr
