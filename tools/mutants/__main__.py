"""
Mutation testing: break the code on purpose, one small thing at a time, and see whether the tests notice.

A mutant that no test notices survives and is printed; what is known to survive, and why, stands in docs/mutants.md.

A tool of our own, because half of the store is Lua, which mutmut and cosmic-ray cannot change, and because they start
pytest anew for each mutant, which takes many times as long.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.metadata
import importlib.util
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tools.mutants.mutant import Verdict
from tools.mutants.of_lua import mutants_of_lua
from tools.mutants.of_python import mutants_of_python
from tools.mutants.trial import Trials

EXPLAINED: Final = "docs/mutants.md"

_STORE: Final = ("tests/contract/test_store.py", "tests/contract/test_store_versions.py")
_TWINS: Final = "tests/contract/test_store_stateful.py"
# Redis from the package only: what the system's makes of the scripts is the contract suite's business.
_IN_REDIS: Final = ("-k", "not installed and not memory", "tests/unit/test_redis_store.py", *_STORE, _TWINS)
_IN_MEMORY: Final = ("-k", "not installed and not packaged", *_STORE, _TWINS)

TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "tasks_bridge/cadence.py": ("tests/unit/test_cadence.py", "tests/unit/test_steps.py"),
    "tasks_bridge/models.py": ("tests/unit/test_models.py", "tests/unit/test_wire.py"),
    "tasks_bridge/record.py": ("tests/unit/test_record.py", "tests/unit/test_steps.py", "tests/unit/test_budget.py"),
    "tasks_bridge/settings.py": (
        "tests/unit/test_settings.py",
        "tests/unit/test_fuzz.py::test_any_environment_is_a_configuration_or_an_error_that_names_a_variable_and_shows_no_value",
        "tests/unit/test_secrets.py::test_no_error_of_the_settings_leads_to_a_secret",
        "tests/unit/test_docs.py::test_every_setting_is_on_its_page_with_its_default_and_no_other_is",
    ),
    "tasks_bridge/sse.py": ("tests/unit/test_sse.py", "tests/unit/test_fuzz.py"),
    "tasks_bridge/steps.py": ("tests/unit/test_steps.py", "tests/unit/test_budget.py"),
    "tasks_bridge/tokens.py": ("tests/unit/test_tokens.py",),
    "tasks_bridge/wire.py": ("tests/unit/test_wire.py", "tests/unit/test_fuzz.py"),
    "tasks_bridge/store/memory.py": _IN_MEMORY,
    "tasks_bridge/store/redis.py": _IN_REDIS,
    **{
        f"tasks_bridge/store/lua/{name}.lua": _IN_REDIS
        for name in "announce begin cancel claim common count end get register release renew survey touch write".split()  # noqa: SIM905
    },
}
"""Each file with the arguments for pytest that run its tests, those that notice most first."""

_PRELOADED: Final = (
    "pytest",
    "hypothesis.stateful",
    "pydantic",
    "pydantic_settings",
    "redis",
    "celery",
    "kombu",
    "httpx",
)


def _preload() -> None:
    """Import whatever the tests need but what is mutated: once, not in each process."""
    for module in _PRELOADED:
        importlib.import_module(module)
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        if not plugin.module.startswith("tasks_bridge."):  # which may be what is mutated
            plugin.load()


def main() -> int:
    """Mutate what the command line names; the exit status is 1 if there are new survivors, or explanations of none."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("targets", nargs="*", help="parts of paths; default: all")
    parser.add_argument(
        "--part", type=part_of, default=(1, 1), metavar="K/N", help="deal the mutants out to N parts, and take the K-th"
    )
    parser.add_argument("--only", action="append", metavar="TEXT", help="take only mutants whose change contains it")
    parser.add_argument("--tests", metavar="ARGS", help="arguments for pytest; the targets are then any files")
    parser.add_argument(
        "--slack", type=float, default=15.0, metavar="S", help="seconds that tests always have (%(default)s)"
    )
    chosen = parser.parse_args()
    if chosen.tests:
        targets = dict.fromkeys(chosen.targets, tuple(chosen.tests.split()))
        unknown = [target for target in targets if not Path(target).is_file()]
    else:
        wanted = chosen.targets or [""]
        targets = {target: tests for target, tests in TARGETS.items() if any(part in target for part in wanted)}
        unknown = [part for part in wanted if not any(part in target for target in targets)]
    if unknown:
        parser.error(f"no such file: {', '.join(unknown)}; those with tests are\n  " + "\n  ".join(TARGETS))
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # or the copy would stay behind
    _preload()
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory).resolve() / "tree"
        shutil.copytree(Path.cwd(), tree, ignore=shutil.ignore_patterns("__pycache__", ".*", "dist", "build"))
        compileall.compile_dir(tree, quiet=2)
        rows = [_examine(tree, target, tests, chosen) for target, tests in targets.items()]
    print("\n| File | Mutants | Killed | of these by timeout | Explained | Unexplained |\n|---|---|---|---|---|---|")
    for target, row in zip(targets, rows, strict=True):
        print(f"| `{target}` | " + " | ".join(map(str, row)) + " |")
    print("| all | " + " | ".join(str(sum(column)) for column in zip(*rows, strict=True)) + " |")
    return 1 if any(row[-1] for row in rows) else 0


def _examine(tree: Path, target: str, tests: tuple[str, ...], chosen: argparse.Namespace) -> tuple[int, ...]:
    file, known = tree / target, _explained(target)
    source = file.read_text()
    part, parts = chosen.part
    made = list((mutants_of_python if target.endswith(".py") else mutants_of_lua)(source))[part - 1 :: parts]
    made = [mutant for mutant in made if not chosen.only or any(text in mutant.label for text in chosen.only)]
    # it would be taken for that of a mutant of the same size and second
    Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
    print(f"{target}: {len(made)} mutants", flush=True)
    began, trials = time.monotonic(), Trials(tree, target, tests, chosen.slack)
    in_functions = [mutant for mutant in made if mutant.is_in_function]
    quick = dict(zip(in_functions, trials.quick(in_functions), strict=True))
    file.write_text(source)
    count: Counter[Verdict] = Counter()
    survivors = []
    for mutant in made:
        verdict = quick.get(mutant, Verdict.SURVIVED)
        if verdict is Verdict.SURVIVED and target.endswith(".py"):
            verdict = trials.slow(mutant)
        if verdict is Verdict.SURVIVED:
            survivors.append(mutant.label)
            is_known = mutant.label in known
            print(f"  {'explained' if is_known else 'SURVIVED'}: line {mutant.line}: {mutant.label}", flush=True)
        elif verdict is Verdict.TIMEOUT:  # on a busy machine, worth another try with more slack
            print(f"  timeout: line {mutant.line}: {mutant.label}", flush=True)
        count[verdict] += 1
    file.write_text(source)
    stale = sorted(known - set(survivors)) if parts == 1 and not chosen.only else []
    for text in stale:
        print(f"  EXPLAINED, BUT NO SURVIVOR: {text}")
    explained = sum(text in known for text in survivors)
    unexplained = len(survivors) - explained
    killed = count[Verdict.KILLED] + count[Verdict.TIMEOUT]
    print(f"{target}: {unexplained} unexplained, {time.monotonic() - began:.0f} s", flush=True)
    return len(made), killed, count[Verdict.TIMEOUT], explained, unexplained + len(stale)


def part_of(text: str) -> tuple[int, int]:
    """Which part of how many, as in ``2/5``."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"not K/N with K from 1 to N, such as 2/5: {text!r}")
    return int(part), int(parts)


def _explained(target: str) -> set[str]:
    """The survivors of *target* that the page explains, as they are printed."""
    page = Path(EXPLAINED)
    text = page.read_text() if page.exists() else ""
    section = text.partition(f"## `{target}`\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^- (.+?`)\. ", section, re.MULTILINE))


if __name__ == "__main__":
    raise SystemExit(main())
