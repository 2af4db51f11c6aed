"""
Mutation testing: break the code on purpose, one small thing at a time, and see whether the tests notice.

``python tools/mutants.py [target …]``; the targets and their tests are in `TARGETS`. A mutant that no test notices
survives and is printed as a diff's two lines; what is known to survive, and why, stands in ``docs/mutants.md``.

A tool of our own, because half of the store is Lua, which mutmut and cosmic-ray cannot change, and because a process
that has imported everything else and forks for each mutant takes a tenth of their time. The mutants of Python are made
from its syntax tree, those of Lua line by line.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import difflib
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
STORE_TESTS: Final = ("tests/contract/test_store.py", "tests/contract/test_store_versions.py")
TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "tasks_bridge/cadence.py": ("tests/unit/test_cadence.py", "tests/unit/test_steps.py"),
    "tasks_bridge/models.py": ("tests/unit/test_models.py", "tests/unit/test_wire.py"),
    "tasks_bridge/tokens.py": ("tests/unit/test_tokens.py",),
    "tasks_bridge/wire.py": ("tests/unit/test_wire.py", "tests/unit/test_client.py", "tests/unit/test_fuzz.py"),
    "tasks_bridge/store/memory.py": (*STORE_TESTS, "tests/contract/test_store_stateful.py"),
    **{
        f"tasks_bridge/store/lua/{name}.lua": (*STORE_TESTS, "tests/contract/test_store_stateful.py")
        for name in "announce begin cancel claim common end get register release renew touch write".split()  # noqa: SIM905
    },
}
PRELOADED: Final = ("pytest", "hypothesis", "hypothesis.stateful", "pydantic", "redis", "celery", "kombu", "httpx")
TIMEOUT_S: Final = 90

SWAPS: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}

LUA: Final = (
    (r"==", "~="),
    (r"~=", "=="),
    (r"<=", "<"),
    (r"(?<![<=~-])>(?!=)", ">="),
    (r"\band\b", "or"),
    (r"\bor\b", "and"),
    (r"\bnot ", ""),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r"\bmin\b", "max"),
    (r"\bmax\b", "min"),
    (r"(?<![\[\w.%])\d+(?![\]\w.])", "7"),
    (r"\b(WAITING|CLAIMED|LEASED)\b", "ENDED"),
    (r"^( *)(?:redis\.call|schedule|leave_to_newer)\(.*\)$", r"\1local _ = 0"),
    (r"^( *)if .* then (?:redis\.call|schedule)\(.*\) end$", r"\1local _ = 0"),
)


def mutants_of_python(source: str) -> Iterator[str]:
    """The module with one node of its syntax tree changed, for each that can be."""
    tree = ast.parse(source)
    for number, node in enumerate(ast.walk(tree)):
        for kind in _kinds(node):
            mutated = copy.deepcopy(tree)
            target = next(found for at, found in enumerate(ast.walk(mutated)) if at == number)
            _mutate(target, kind)
            yield ast.unparse(mutated)


def _kinds(node: ast.AST) -> Iterator[int]:
    match node:
        case ast.Compare(ops=ops):
            yield from range(len(ops))
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield 0
        case ast.UnaryOp(op=ast.Not()):
            yield 0
        case ast.Constant(value=bool() | int() | float()):
            yield 0
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield 0
        case ast.Name(id=name) if name in NAMES:
            yield 0
        case ast.If() | ast.IfExp():
            yield from (0, 1)
        case ast.Continue():
            yield 0


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _mutate(found: ast.AST, kind: int) -> None:
    node: Any = found
    match found:
        case ast.Compare():
            node.ops[kind] = SWAPS[type(node.ops[kind])]()
        case ast.BinOp() | ast.BoolOp():
            node.op = SWAPS[type(node.op)]()
        case ast.UnaryOp():
            node.op = ast.UAdd()
            node.operand = ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])
        case ast.Constant(value=bool()):
            node.value = not node.value
        case ast.Constant(value=int() | float()):
            node.value += 1
        case ast.Return():
            node.value = ast.Constant(None)
        case ast.Name():
            node.id = NAMES[node.id]
        case ast.If() | ast.IfExp():
            node.test = ast.Constant(bool(kind))
        case ast.Continue():
            node.__class__ = ast.Pass


def mutants_of_lua(source: str) -> Iterator[str]:
    """The script with one line changed, for each way in `LUA`."""
    lines = source.splitlines(keepends=True)
    for at, line in enumerate(lines):
        if line.lstrip().startswith("--"):
            continue
        for pattern, replacement in LUA:
            for match in re.finditer(pattern, line.rstrip("\n")):
                changed = line[: match.start()] + match.expand(replacement) + line[match.end() :]
                if changed != line:
                    yield "".join([*lines[:at], changed, *lines[at + 1 :]])


def killed(tree: Path, tests: tuple[str, ...]) -> bool:
    """Run *tests* in a fork of this process, on the copy in *tree*; whether one failed, or they hung."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        status = 2
        with contextlib.suppress(BaseException):
            status = _run(tree, tests)
        os._exit(status)
    give_up_at = time.monotonic() + TIMEOUT_S
    try:
        while time.monotonic() < give_up_at:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) != 0
            time.sleep(0.02)
        return True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _run(tree: Path, tests: tuple[str, ...]) -> int:
    import pytest  # noqa: PLC0415 - imported before, and in no process that only prints its options

    sys.path.insert(0, str(tree))
    os.chdir(tree)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    # the same chances for every mutant
    options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--no-summary", "--assert=plain"]
    return int(pytest.main([*options, *tests]))


def explained(target: str) -> set[str]:
    """The survivors of *target* that docs/mutants.md explains: the changed lines, as they are printed."""
    page = ROOT / "docs/mutants.md"
    text = page.read_text() if page.exists() else ""
    section = text.partition(f"## `{target}`\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^- `(.+)`:", section, re.MULTILINE))


def main() -> int:
    """Mutate what the command line names; the exit status is 1 if there are new survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="parts of paths; default: all")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take only each N-th mutant")
    chosen = parser.parse_args()
    sys.dont_write_bytecode = True
    for module in PRELOADED:
        importlib.import_module(module)
    new = 0
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        ignored = shutil.ignore_patterns("__pycache__", ".*", "dist", "build")
        shutil.copytree(ROOT, tree, ignore=ignored)
        for target, tests in TARGETS.items():
            if not chosen.targets or any(part in target for part in chosen.targets):
                new += _examine(tree, target, tests, chosen.every)
    return 1 if new else 0


def _examine(tree: Path, target: str, tests: tuple[str, ...], every: int) -> int:
    file, known = tree / target, explained(target)
    source = file.read_text()
    is_python = target.endswith(".py")
    # compared with the original in the same form
    before = ast.unparse(ast.parse(source)) if is_python else source
    made = list(mutants_of_python(source) if is_python else mutants_of_lua(source))[::every]
    if killed(tree, tests):
        raise SystemExit(f"{target}: its tests fail without any mutation")
    began, survivors = time.monotonic(), 0
    print(f"{target}: {len(made)} mutants", flush=True)
    for mutant in made:
        file.write_text(mutant)
        if not killed(tree, tests):
            change = [
                line
                for line in difflib.unified_diff(before.splitlines(), mutant.splitlines(), n=0, lineterm="")
                if line[:1] in "-+" and line[:3] not in ("---", "+++")
            ]
            is_known = any(line[1:].strip() in known for line in change if line[0] == "+")
            survivors += not is_known
            print("  explained:" if is_known else "  SURVIVED:", *change, sep="\n    ", flush=True)
    file.write_text(source)
    print(f"{target}: {survivors} unexplained, {time.monotonic() - began:.0f} s", flush=True)
    return survivors


if __name__ == "__main__":
    raise SystemExit(main())
