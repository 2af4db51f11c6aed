"""
Run tests on mutants, each in a process of its own.

Two ways. In the quick one a process imports and collects the tests once and forks for each mutant; the fork puts the
mutant's code into the functions that are there already, or, for a script that is read at run time, into its file. So a
mutant costs only the tests up to the first that fails, and whichever failed lately are run first. It can't show what
a change does to an import; what is left over of a module goes the slow way, in which a fork starts from nothing.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import mmap
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import IO, TYPE_CHECKING, Final, NoReturn

from tools.mutants.mutant import Mutant, Verdict

if TYPE_CHECKING:
    import pytest

_MEMORY_BYTES: Final = 4 * 1024**3
"""What a mutant that collects things without end may take."""

_PATIENCE: Final = 5
"""How many times as long as without a mutation the tests may take."""

_IMPORTS_S: Final = 15.0
"""What a fork that starts from nothing may take besides."""


class Trials:
    """
    The tests of one file, on a copy of the project.

    Args:
        tree: The copy. The file in it changes all the time.
        target: The file, relative to it.
        tests: Arguments for pytest.
        slack_s: What tests may take besides, for a busy machine.

    Raises:
        SystemExit: The tests fail without any mutation.
    """

    def __init__(self, tree: Path, target: str, tests: Sequence[str], slack_s: float) -> None:
        self._tree, self._file, self._tests, self._slack_s = tree, tree / target, tests, slack_s
        self._took_s = 0.0

    def quick(self, mutants: Sequence[Mutant]) -> Iterator[Verdict]:
        """The verdict on each of *mutants*, in order; SURVIVED means no more than that this way shows nothing."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            out = os.fdopen(writer, "w", buffering=1)
            _exit_with(lambda: self._pytest(_Loop(self._file, mutants, out, self._slack_s)))
        os.close(writer)
        with os.fdopen(reader) as lines:
            first = lines.readline()
            if first:
                self._took_s = json.loads(first)
                yield from (Verdict(json.loads(line)) for line in lines)
        os.waitpid(pid, 0)
        if not first:
            raise SystemExit(f"{self._file.name}: its tests fail without any mutation, or don't import it")

    def slow(self, mutant: Mutant) -> Verdict:
        """The verdict on *mutant*."""
        self._file.write_text(mutant.source)
        return _verdict(self._pytest, self._slack_s + _IMPORTS_S + _PATIENCE * self._took_s)

    def _pytest(self, *plugins: object) -> int:
        import pytest  # noqa: PLC0415 - imported before, and not by a process that only prints its options

        os.chdir(self._tree)
        sys.path.insert(0, str(self._tree))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        _make_hypothesis_repeatable()
        # in this process alone, which is the one with the mutant
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-summary", "--assert=plain", "--numprocesses=0"]
        options.append(f"--basetemp={self._tree.parent / 'pytest'}")
        return int(pytest.main([*options, *self._tests], plugins=list(plugins)))


class _Loop:
    """Takes the place of pytest's loop over the tests: once for each mutant, in a fork."""

    def __init__(self, file: Path, mutants: Sequence[Mutant], out: IO[str], slack_s: float) -> None:
        self._file, self._mutants, self._out, self._slack_s = file, mutants, out, slack_s

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        apply = self._into_functions() if self._file.suffix == ".py" else self._into_file
        tests = list(session.items)
        # shared with the forks: the number of the test that is running
        running = mmap.mmap(-1, 4)
        began = time.monotonic()
        if _verdict(lambda: _attempt(session, tests, running), 600) is not Verdict.SURVIVED:
            return True
        took_s = time.monotonic() - began
        timeout_s = self._slack_s + _PATIENCE * took_s
        print(json.dumps(took_s), file=self._out)
        for mutant in self._mutants:

            def attempt(mutant: Mutant = mutant) -> int:
                apply(mutant)
                return _attempt(session, tests, running)

            verdict = _verdict(attempt, timeout_s)
            if verdict is not Verdict.SURVIVED:
                tests.insert(0, tests.pop(int.from_bytes(running[:4], "big")))
            print(json.dumps(verdict.value), file=self._out)
        return True

    def _into_file(self, mutant: Mutant) -> None:
        self._file.write_text(mutant.source)

    def _into_functions(self) -> Callable[[Mutant], None]:
        path = str(self._file)
        functions = [
            found
            for found in gc.get_objects()
            # by type: lazy objects, such as Django's, wake up when they are asked for their class
            if type(found) is FunctionType and found.__code__.co_filename == path and "<" not in found.__qualname__
        ]
        assert functions, "the tests should import it"  # noqa: S101 - reported by `quick`

        def apply(mutant: Mutant) -> None:
            codes = {code.co_qualname: code for code in _codes(compile(mutant.source, path, "exec"))}
            for function in functions:
                function.__code__ = codes[function.__code__.co_qualname]

        return apply


def _attempt(session: pytest.Session, tests: Sequence[pytest.Item], running: mmap.mmap) -> int:
    for number, (test, following) in enumerate(itertools.zip_longest(tests, tests[1:])):
        running[:4] = number.to_bytes(4, "big")
        test.config.hook.pytest_runtest_protocol(item=test, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def _codes(code: CodeType) -> Iterator[CodeType]:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield part
            yield from _codes(part)


def _verdict(attempt: Callable[[], int], timeout_s: float) -> Verdict:
    """Call *attempt* in a fork, of which nothing is left afterwards; it returns 0 for a survivor."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
        _exit_with(attempt)
    give_up_at = time.monotonic() + timeout_s
    verdict = Verdict.TIMEOUT
    try:
        while time.monotonic() < give_up_at:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                verdict = Verdict.KILLED if os.waitstatus_to_exitcode(status) else Verdict.SURVIVED
                break
            time.sleep(0.005)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return verdict


def _exit_with(work: Callable[[], int]) -> NoReturn:
    """End this process, a fork, whatever happens in *work*: it must not go on as its parent."""
    status = 2
    with contextlib.suppress(BaseException):
        status = work()
    os._exit(status)


def _make_hypothesis_repeatable() -> None:
    from hypothesis import HealthCheck, Phase, settings  # noqa: PLC0415 - as pytest

    settings.register_profile(
        "mutants",
        database=None,
        deadline=None,
        derandomize=True,
        # that something fails is enough: no smaller example is looked for
        phases=(Phase.explicit, Phase.generate),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutants")
