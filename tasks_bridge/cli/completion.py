"""What the shell completes, fast and in silence: nobody waits for it, and nothing that goes wrong is told."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST: Final = 50
PATIENCE_S: Final = 0.5


def complete(app: str | None, incomplete: str) -> list[str]:
    """Up to `MOST` ids of open jobs that begin with *incomplete*."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        return list(islice(_ids(app, incomplete), MOST))
    except Exception:  # noqa: BLE001 - a shell's prompt is no place for errors
        return []
    finally:
        logging.disable(before)


def _ids(app: str | None, start: str) -> Iterator[str]:
    from tasks_bridge.settings import Settings
    from tasks_bridge.store.redis import RedisStore, connect

    if app:
        from tasks_bridge.cli.base import bridge_for

        return bridge_for(app).store.open_ids(start)
    settings = Settings()
    client = connect(settings.redis_url, patience_s=PATIENCE_S)
    return RedisStore(client, namespace=settings.namespace).open_ids(start)
