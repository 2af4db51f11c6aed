"""Options that many calls have in common, beside those of one call."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery import Celery, chain, group, signature

from tasks_bridge import InvalidRequest, Settings, generate, install
from tasks_bridge.publish import SharedOptions, freeze

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


@pytest.fixture
def app() -> Celery:
    app = Celery("test", backend="cache+memory://", set_as_current=False)
    install(app, Settings())
    return app


def callback(name: str = "publish", **options: Any) -> Any:
    return signature(name, kwargs={"user_id": 7}, options=options)


def ids(frozen: Any) -> list[str]:
    return UUID.findall(repr(frozen))


def nameless(frozen: Any) -> str:
    return UUID.sub("id", repr(frozen))


OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no callback": {"priority": 3, "queue": "urgent"},
    "a callback": {"link": callback(), "priority": 3},
    "several": {"link": [callback(), callback("count")], "link_error": callback("apologise", queue="urgent")},
    "one with an id": {"link": [callback(task_id="mine"), callback()]},
    "one as JSON": {"link": dict(callback())},
    "one that has its own": {"link": callback(link=callback("count"))},
    "a chain": {"link": chain(callback(), callback("count"))},
    "a group": {"link_error": group(callback("apologise"), callback("count"))},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_shared_options_are_those_of_one_call_but_for_the_ids_of_callbacks(app, options):
    shared = SharedOptions(app)
    alone = [freeze(app, options) for _ in range(3)]
    together = [shared.freeze(options) for _ in range(3)]

    assert [nameless(frozen) for frozen in together] == [nameless(frozen) for frozen in alone]
    own = {len(set(ids(frozen)) - {app.thread_oid}) for frozen in [*alone, *together]}
    assert len(own) == 1, "each call should give as many ids"
    given = [one for frozen in together for one in set(ids(frozen)) - {app.thread_oid}]
    assert len(given) == len(set(given)), "no two calls should share one"


def test_a_wrong_option_is_refused_for_each_call(app):
    shared = SharedOptions(app)
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=r"generate\.si"):
            shared.freeze({"link": generate.s("sora-2", {})})
