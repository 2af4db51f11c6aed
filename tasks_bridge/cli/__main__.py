"""``python -m tasks_bridge.cli``."""

from __future__ import annotations

from tasks_bridge.cli import main

main()
