"""The changelog is made of fragments, which each change brings along."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAGMENTS = ROOT / "changelog.d"
KINDS = ("removed", "changed", "added", "fixed", "security")


def draft(project: Path) -> str:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9", "--date", "2030-01-02"]
    made = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


def test_each_fragment_says_what_kind_of_change_it_is() -> None:
    for path in FRAGMENTS.iterdir():
        if path.name != "README.md":
            assert re.fullmatch(rf"\+?[a-z0-9-]+\.({'|'.join(KINDS)})\.md", path.name), (
                f"see docs/releasing.md: {path.name}"
            )
            assert path.read_text().strip(), f"expected words in {path.name}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_fragment_is_told_under_its_kind(kind: str, tmp_path: Path) -> None:
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "towncrier.toml").write_text((ROOT / "towncrier.toml").read_text())
    (tmp_path / f"changelog.d/+quicker.{kind}.md").write_text("Polls are quicker.\n")

    said = draft(tmp_path)

    assert "## [9.9.9]: 2030-01-02" in said
    assert re.search(rf"### {kind.title()}\s+- Polls are quicker\.", said), said


def test_the_next_release_goes_where_the_changelog_expects_it() -> None:
    assert (ROOT / "CHANGELOG.md").read_text().count("<!-- releases -->\n") == 1
    draft(ROOT)
