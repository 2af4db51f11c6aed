"""The mutants of a Lua script, made line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tools.mutants.mutant import Mutant, label

_CHANGES: Final = (
    (r"==", "~="),
    (r"~=", "=="),
    (r"<=", "<"),
    (r"(?<![<=~-])>(?!=)", ">="),
    (r"\band\b", "or"),
    (r"\bor\b", "and"),
    (r"\bnot ", ""),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \* ", " / "),
    (r"\bmin\b", "max"),
    (r"\bmax\b", "min"),
    (r"(?<![\[\w.%])\d+(?![\]\w.])", "7"),
    (r"'(\w+)'", r"'x\1'"),
    (r"\b(WAITING|CLAIMED|LEASED|ENDED)\b", "'x'"),
    (r"\bif (.*?) then\b", "if true then"),
    (r"\bif (.*?) then\b", "if false then"),
    # a call or an assignment to a field, left out
    (r"^( *)[\w.]+\(.*\)$", r"\1local _ = 0"),
    (r"^( *)\w+\.[\w., ]+ = .*$", r"\1local _ = 0"),
)


def mutants_of_lua(source: str) -> Iterator[Mutant]:
    """Each way in which one line of the script can be changed."""
    lines = source.splitlines(keepends=True)
    for at, line in enumerate(lines):
        if line.lstrip().startswith("--"):
            continue
        for pattern, replacement in _CHANGES:
            for match in re.finditer(pattern, line.rstrip("\n")):
                changed = line[: match.start()] + match.expand(replacement) + line[match.end() :]
                if changed != line:
                    text = "".join([*lines[:at], changed, *lines[at + 1 :]])
                    yield Mutant(text, at + 1, label(None, line, changed), is_in_function=True)
