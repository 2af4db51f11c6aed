"""What the demo says while it runs: a sentence or two for each thing worth seeing, with the time."""

from __future__ import annotations

import textwrap
import time

from rich.console import Console
from rich.text import Text

_WIDTH = 80
_INDENT = 9


class Story:
    """Tells the story on *console*; its clock starts at 0 when it is made, and again by `start_clock`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.start_clock()

    def start_clock(self) -> None:
        """This is the moment that the times count from."""
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the clock was started."""
        return time.monotonic() - self._began

    def stamp(self) -> str:
        """The time, as it stands before each line."""
        return f"{self.elapsed_s:5.1f} s  "

    def title(self) -> None:
        """Say what this is."""
        self._console.print(Text.assemble(("tasks-bridge demo", "bold"), ": ByteSpike jobs as Celery tasks"))
        self.gap()

    def gap(self) -> None:
        """An empty line."""
        self._console.print()

    def part(self, name: str, what: str) -> None:
        """One thing that the demo runs on."""
        self._console.print(Text.assemble((f"  {name:<11}", "cyan"), what), soft_wrap=True)

    def tell(self, text: str, style: str = "") -> None:
        """Something happened."""
        first, *more = textwrap.wrap(text, _WIDTH - _INDENT, break_on_hyphens=False)
        lines = [Text.assemble((self.stamp(), "dim"), (first, style))]
        lines += [Text(" " * _INDENT + line, style=style) for line in more]
        for line in lines:
            self._console.print(line, soft_wrap=True)
