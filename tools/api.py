"""
The public interface, a line for each name and signature: ``python -m tools.api`` writes it down.

A test compares it with what was written down, so that nothing that others rely on changes by accident.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import tasks_bridge

WRITTEN = Path(__file__).parents[1] / "tests/release/api.txt"

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def lines() -> Iterator[str]:
    """Every exported name, with the signatures of what can be called and the members of classes."""
    for name in sorted(tasks_bridge.__all__):
        yield from _of(name, getattr(tasks_bridge, name))


def _of(name: str, value: object) -> Iterator[str]:
    if not inspect.isclass(value):
        run = getattr(value, "run", value)  # a Celery task's arguments are those of its function
        yield f"{name}{_signature(run)}"
        return
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    yield f"class {name}({bases})"
    for member, defined in sorted(vars(value).items()):
        if member.startswith("_") and member != "__init__":
            continue
        if isinstance(defined, property):
            yield f"  {name}.{member}"
        elif callable(defined) or isinstance(defined, classmethod | staticmethod):
            yield f"  {name}.{member}{_signature(getattr(value, member))}"
    for field in sorted(getattr(value, "__annotations__", {})):
        if not field.startswith("_"):
            yield f"  {name}.{field}"


def _signature(function: object) -> str:
    try:
        told = inspect.signature(function)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"
    # what annotations look like depends on Python's version; checkers see to them
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in told.parameters.values()]
    return _ADDRESS.sub("", str(told.replace(parameters=bare, return_annotation=inspect.Signature.empty)))


if __name__ == "__main__":
    WRITTEN.write_text("".join(f"{line}\n" for line in lines()))
