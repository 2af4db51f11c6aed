"""
A remote API that does nothing but answer: submit, query and cancel from memory, after a set delay.

Hand-written on asyncio's protocols, because whatever the stub spends is taken from the workers on the same machine.
Control: ``POST /bench/delay`` (seconds as text), ``GET /bench/counts`` (answers so far), ``GET /bench/ends`` (per job
its end and when an answer first told of it, seconds since the epoch), ``GET /bench/asked`` (per job when it was last
asked for).

    python -m benchmarks.stub PORT
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.ids import job_id_of, remote_id


@dataclass
class Stub:
    """What all connections share."""

    delay_s: float = 0.0
    counts: dict[str, int] = field(default_factory=lambda: {"submit": 0, "query": 0, "cancel": 0})
    ends_at: dict[str, float] = field(default_factory=dict)
    """By job id; jobs that are not here never end."""
    told_at: dict[str, float] = field(default_factory=dict)
    asked_at: dict[str, float] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)

    def answer(self, path: str, body: bytes) -> Any:
        """The JSON answer to a request."""
        match path:
            case "/bench/delay":
                self.delay_s = float(body)
                return {}
            case "/bench/counts":
                return self.counts
            case "/bench/ends":
                return {job_id: [self.ends_at[job_id], told_at] for job_id, told_at in self.told_at.items()}
            case "/bench/asked":
                return self.asked_at
            case _:
                return self._task(path.split("/")[3], path, json.loads(body) if body else {})

    def _task(self, action: str, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.counts[action] += 1
        task_id = asked.get("task_id") or path.rsplit("/", 1)[1]
        job_id = asked.get("out_task_id") or job_id_of(task_id)
        if action == "submit" and "bench_s" in asked["params"]:
            self.ends_at.setdefault(job_id, time.time() + asked["params"]["bench_s"])
        self.asked_at[job_id] = time.time()
        if action == "cancel":
            self.cancelled.add(job_id)
        status = "cancelled" if job_id in self.cancelled else "running"
        ends_at = self.ends_at.get(job_id)
        if ends_at is not None and ends_at <= time.time():
            status = "completed"
            self.told_at.setdefault(job_id, time.time())
        return {
            "task_id": asked.get("task_id") or remote_id(job_id),
            "out_task_id": job_id,
            "status": status,
            "estimated_credits": 12.5,
            "estimated_seconds": 6,
            **({"output": [{"type": "image", "url": f"https://cdn/{job_id}.png"}]} if status == "completed" else {}),
        }


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection, one request at a time."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's hook."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Asyncio's hook: answer once a request is complete."""
        self._buffer += data
        head, blank, rest = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        lines = head.decode("latin-1").split("\r\n")
        length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
        if len(rest) < length:
            return
        self._buffer = b""
        path = lines[0].split(" ")[1]
        content = json.dumps(self._stub.answer(path, rest), separators=(",", ":")).encode()
        answer = (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content) + content
        )
        if self._stub.delay_s and not path.startswith("/bench/"):
            asyncio.get_running_loop().call_later(self._stub.delay_s, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def serve(port: int) -> None:
    """Answer on the loopback until killed."""
    stub = Stub()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(stub), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
