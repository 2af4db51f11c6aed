from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engine import Engine, EngineUnusable, find_engine, provide_images

ROOM_BYTES = 4 << 30


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    # not pytest's own directory: an engine's files want short paths, and to be removed. In memory where there is room,
    # for making images is mostly waiting for small files to be on the disk
    directory = Path(tempfile.mkdtemp(prefix="engine-", dir=_memory()))
    engine = None
    try:
        engine = find_engine(directory)
        provide_images(engine, directory)
        yield engine
    except EngineUnusable as error:
        pytest.skip(str(error))
    finally:
        if engine is not None:
            engine.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _memory() -> str | None:
    path = "/dev/shm"
    try:
        return path if shutil.disk_usage(path).free > ROOM_BYTES else None
    except OSError:
        return None
