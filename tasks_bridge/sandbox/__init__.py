"""
A ByteSpike dispatcher for development: true to the documented contract, scriptable per submit, with faults.

It shares no code with the rest of the package, so that both cannot be wrong together.
"""

from __future__ import annotations

from tasks_bridge.sandbox.refusal import Refusal
from tasks_bridge.sandbox.run import serve
from tasks_bridge.sandbox.sandbox import Sandbox
from tasks_bridge.sandbox.thread import SandboxServer

__all__ = ["Refusal", "Sandbox", "SandboxServer", "serve"]
