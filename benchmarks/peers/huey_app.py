"""
The polls as tasks of huey: each schedules itself again for a second later.

    python -m benchmarks.peers.huey_app COUNT
"""

from __future__ import annotations

import sys

from huey import RedisHuey

from benchmarks.peers import look

huey = RedisHuey("bench", url=look.REDIS_URL, results=False)
http = look.open_http()


@huey.task()
def poll(name: str) -> None:
    """Poll once, and come back."""
    answer = http.post("/v1/tasks/query", json={"task_id": name})
    key, value = look.entry(answer)
    huey.storage.conn.set(key, value, ex=86400)
    poll.schedule((name,), delay=look.COUNTDOWN_S)


@huey.on_startup()
def ready() -> None:
    """Huey's hook, in each of its threads."""
    huey.storage.conn.incr(look.READY)


if __name__ == "__main__":
    # not the one above: its name would be that of this script
    from benchmarks.peers.huey_app import poll as registered

    for each in look.names(int(sys.argv[1])):
        registered(each)
