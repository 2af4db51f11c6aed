"""
Streams without a thread each, under ASGI.

Django gives every request a thread for whatever is synchronous in it, most middleware and views, and keeps the thread
until the response has ended. A stream ends minutes later and needs none; so it gives it back when it begins.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import close_old_connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def unpinned(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """*chunks*, read without a thread of the request's, nor a database connection that one may have left open."""
    async with aclosing(chunks) as opened:  # type: ignore[type-var]  # a generator
        await _release_thread()
        async for chunk in opened:
            yield chunk


async def _release_thread() -> None:
    """
    End the request's thread. Whatever needs one later, such as the end of the response, makes a new one.

    Source: asgiref.sync, `ThreadSensitiveContext` and `SyncToAsync.__call__`, which looks its executor up each time.
    """
    asgiref: Any = SyncToAsync
    context = asgiref.thread_sensitive_context.get(None)
    if context is None:
        return  # no ASGI handler: a test's client
    await sync_to_async(close_old_connections)()
    executor = asgiref.context_to_thread_executor.pop(context, None)
    if executor is not None:
        executor.shutdown(wait=False)
