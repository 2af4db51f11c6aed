"""
What is shipped and committed: complete, and free of what only one machine knows.
"""

import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import tasks_bridge

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = ("constraints.txt", "constraints-oldest.txt")

# Spelled in pieces, or this file would be the first to be found.
FOREIGN = {
    "the host of a package index": "|".join(
        re.escape(host)
        for host in (
            "pypi" + ".org",
            "python" + "hosted.org",
            "npm" + "js.org",
            "npm" + "js.com",
            "deb." + "debian.org",
        )
    ),
    "a path of one machine": r"(?<![\w.}])/(?:"
    + "|".join(("wo" + "rk", "ro" + "ot", "ho" + "me/[a-z]+", "tmp/" + "lab"))
    + r")(?=/|\b)",
}


def committed_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not applicable: this is no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # a picture or a clip


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_committed_file_holds(kind):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in committed_files()
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if re.search(FOREIGN[kind], line)
    ]

    assert not found, f"expected no committed file to hold {kind}:\n" + "\n".join(found)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_are_versions_and_nothing_else(name):
    requirement = re.compile(r"[a-z0-9-]+==[A-Za-z0-9.]+(?: ; [a-zA-Z0-9_.<>!=' ()*]+)?")
    lines = (ROOT / name).read_text().splitlines()

    assert lines, f"expected {name} to hold versions"
    assert [line for line in lines if not requirement.fullmatch(line)] == []


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_every_direct_dependency_is_constrained(name):
    constrained = {line.partition("==")[0] for line in (ROOT / name).read_text().splitlines()}
    wanted = [
        *PROJECT["dependencies"],
        *(name for extra in PROJECT["optional-dependencies"].values() for name in extra),
    ]
    names = {re.match(r"[A-Za-z0-9-]+", requirement)[0].lower() for requirement in wanted} - {PROJECT["name"]}  # type: ignore[index]

    assert names - constrained == set()


def test_the_version_is_written_once():
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    assert re.fullmatch(r"\d+\.\d+\.\d+", tasks_bridge.__version__)
    assert tasks_bridge.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_the_wheel_is_the_library_with_its_data_and_nothing_else(tmp_path):
    [built] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        shipped = set(wheel.namelist())
    library = {str(path.relative_to(ROOT)) for path in committed_files() if path.is_relative_to(ROOT / "tasks_bridge")}

    assert "tasks_bridge/py.typed" in shipped
    assert library - shipped == set()
    assert {name.partition("/")[0] for name in shipped} == {
        "tasks_bridge",
        f"tasks_bridge-{tasks_bridge.__version__}.dist-info",
    }
