"""One question to ByteSpike about one leased job, by whichever identifier it is known; errors are answers as well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tasks_bridge import measures, tracing
from tasks_bridge.errors import ApiStatusError, BridgeError, NotFound
from tasks_bridge.models import RemoteTask
from tasks_bridge.steps import Action

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tasks_bridge.bridge import Bridge
    from tasks_bridge.store import Lease


async def ask(bridge: Bridge, lease: Lease, action: Action) -> RemoteTask | BridgeError:
    """Do what *action* says; a cancel that is refused is followed by a query."""
    begun = time.perf_counter()
    with tracing.asking(lease, action) as answered:
        answer = await _asked(bridge, lease, action)
        answered(answer)
    if bridge.counts.is_on:
        bridge.counts.add(measures.of_request(action, answer, time.perf_counter() - begun))
    return answer


async def _asked(bridge: Bridge, lease: Lease, action: Action) -> RemoteTask | BridgeError:
    remote_id = lease.record.remote_id
    out_task_id = lease.job_id if remote_id is None else None
    try:
        client = bridge.client(lease.record.key)
        match action:
            case Action.SUBMIT:
                return await client.submit_bytes(lease.body or b"")
            case Action.CANCEL:
                answer = await _caught(client.cancel(remote_id, out_task_id=out_task_id))
                if isinstance(answer, ApiStatusError) and not isinstance(answer, NotFound):
                    # perhaps it can't be cancelled because it is over
                    state = await _caught(client.query(remote_id, out_task_id=out_task_id))
                    if isinstance(state, RemoteTask) and state.is_terminal:
                        return state
                return answer
            case _:
                return await client.query(remote_id, out_task_id=out_task_id)
    except BridgeError as error:
        return error


async def _caught(call: Awaitable[RemoteTask]) -> RemoteTask | BridgeError:
    try:
        return await call
    except BridgeError as error:
        return error
