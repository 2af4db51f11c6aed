"""
Run jobs of every kind while everything fails, then check the books.

    python -m soak [--jobs 2000] [--seed 7] [--minutes 5] [--spend-limit CREDITS] [--json FILE]

The exit status is 0 only if all books balance. What is wrong is named with its whole history, and the logs are kept.
"""

# ruff: noqa: T201 - it prints its report

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from soak.report import as_json, table
from soak.run import Options, soak


def main() -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=2000, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of the jobs and of what goes wrong (%(default)s)")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long things go wrong (%(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="of two pool processes each (%(default)s)")
    parser.add_argument("--spend-limit", type=float, help="credits for all jobs together; default: none is refused")
    parser.add_argument("--settle", type=float, default=180.0, help="seconds to end in after that (%(default)s)")
    parser.add_argument("--logs", type=Path, help="directory for logs and evidence, which stay there")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    options = Options(
        jobs=given.jobs,
        seed=given.seed,
        minutes=given.minutes,
        workers=given.workers,
        spend_limit=given.spend_limit,
        settle_s=given.settle,
        directory=given.logs,
        command=" ".join(["python -m soak", *sys.argv[1:]]),
    )
    result = soak(options, lambda line: print(line, flush=True))
    facts = as_json(result.figures, result.verdict)
    if given.json:
        given.json.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"\n`{options.command}`\n\n{table(facts)}\n")
    if result.verdict.is_good:
        print("All books balance.")
        return 0
    for subject, problems in result.verdict.problems.items():
        for problem in problems:
            print(f"{subject or 'all jobs'}: {problem}")
    for subject, history in result.histories.items():
        print(f"\n---- {subject} ----\n{history}")
    print(f"\nThe books do not balance: {len(result.verdict.problems)} problems. Logs: {result.directory}")
    return 1


if __name__ == "__main__":
    warnings.simplefilter("ignore", ResourceWarning)
    sys.exit(main())
