"""No test spends money, no test sees a real key, and whoever uses nothing of the plugin pays nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Project = Callable[..., pytest.RunResult]

REAL = "sk-byts-real-0123456789"


def test_a_request_to_the_real_api_is_refused_at_once(project: Project) -> None:
    ran = project(
        {
            "test_it.py": """
import asyncio

import pytest
from celery import Celery
from tasks_bridge import AsyncClient, Client, generate, install
from tasks_bridge.outbound import RequestRefused


def test_a_client():
    with Client("sk-byts-real") as client, pytest.raises(RequestRefused, match="llm.bytespike.ai: it would be paid"):
        client.submit("sora-2", {"prompt": "a fox"})


def test_a_proxy_of_it():
    with Client("sk-byts-real", "https://bytespike.corp.internal/v1") as client, pytest.raises(RequestRefused):
        next(client.stream("task_1"))


def test_an_async_client():
    async def ask():
        async with AsyncClient("sk-byts-real") as client:
            await client.query("task_1")

    with pytest.raises(RequestRefused):
        asyncio.run(ask())


def test_an_eager_job():
    app = Celery("shop", set_as_current=True)
    app.conf.task_always_eager = True
    install(app)
    with pytest.raises(RequestRefused):
        generate.delay("sora-2", {"prompt": "a fox"}).get()


def test_this_machine():
    with Client("sk-byts-any", "http://127.0.0.1:1") as client, pytest.raises(Exception, match="could not be reached"):
        client.query("task_1")
"""
        }
    )

    ran.assert_outcomes(passed=5)


def test_keys_are_replaced_before_anybody_reads_them(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTESPIKE_API_KEY", REAL)
    monkeypatch.setenv("BYTESPIKE_API_KEYS", f'{{"studio": "{REAL}"}}')

    ran = project(
        {
            "pytest.ini": "[pytest]\nDJANGO_SETTINGS_MODULE = conf\npythonpath = .\n",
            "conf.py": "import os\nKEY = os.environ['BYTESPIKE_API_KEY']\nSECRET_KEY = 'x'\n",
            "test_it.py": """
import os
import json
from django.conf import settings
from tasks_bridge import Settings


def test_keys():
    assert settings.KEY == os.environ["BYTESPIKE_API_KEY"] == "sk-byts-test"
    assert json.loads(os.environ["BYTESPIKE_API_KEYS"]) == {"studio": "sk-byts-test-studio"}
    assert Settings().key("studio").get_secret_value() == "sk-byts-test-studio"
""",
        },
        installed=True,
    )

    ran.assert_outcomes(passed=1)


def test_a_host_that_is_named_may_be_reached_with_the_real_key(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYTESPIKE_API_KEY", REAL)

    ran = project(
        {
            "pytest.ini": "[pytest]\nbytespike_allow_hosts = sandbox.internal\n",
            "test_it.py": f"""
import os
import pytest
from tasks_bridge import ApiConnectionError, Client
from tasks_bridge.outbound import RequestRefused


def test_named():
    assert os.environ["BYTESPIKE_API_KEY"] == "{REAL}"
    with Client("k", "http://sandbox.internal:1") as client, pytest.raises(ApiConnectionError):
        client.query("task_1")
    with Client("k") as client, pytest.raises(RequestRefused):
        client.query("task_1")
""",
        }
    )

    ran.assert_outcomes(passed=1)


def test_after_the_run_everything_is_as_before(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks_bridge import outbound
    from tasks_bridge.testing import plugin

    monkeypatch.setenv("BYTESPIKE_API_KEY", REAL)
    monkeypatch.delenv("BYTESPIKE_API_KEYS", raising=False)
    pytester.makepyfile(
        """
        import os

        def test_it():
            assert os.environ["BYTESPIKE_API_KEY"] == "sk-byts-test"
        """
    )

    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    ran = pytester.runpytest_inprocess("-p", "no:cacheprovider", plugins=[plugin])

    ran.assert_outcomes(passed=1)
    import os

    assert os.environ["BYTESPIKE_API_KEY"] == REAL
    outbound.check("https://llm.bytespike.ai")


def test_a_run_without_our_fixtures_imports_nothing_of_ours(project: Project) -> None:
    ran = project(
        {
            "test_it.py": """
import sys


def test_it():
    ours = {name for name in sys.modules if name.startswith("tasks_bridge")}
    assert ours == {
        "tasks_bridge",
        "tasks_bridge.outbound",
        "tasks_bridge.testing",
        "tasks_bridge.testing.plugin",
    }
    assert not {"celery", "httpx", "aiohttp", "pydantic", "redis"} & set(sys.modules)
"""
        },
        "-p",
        "no:celery",
        installed=True,
    )

    ran.assert_outcomes(passed=1)


def test_the_plugin_can_be_switched_off(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTESPIKE_API_KEY", REAL)

    ran = project(
        {"test_it.py": f"import os\n\n\ndef test_it():\n    assert os.environ['BYTESPIKE_API_KEY'] == '{REAL}'\n"},
        "-p",
        "no:tasks_bridge",
        installed=True,
    )

    ran.assert_outcomes(passed=1)


def test_fixtures_are_listed_with_what_they_are_for(project: Project) -> None:
    ran = project({"test_it.py": "def test_it(): pass\n"}, "--fixtures")

    ran.stdout.re_match_lines_random(
        [
            r"bytespike -- .*plugin\.py:\d+",
            r"    ByteSpike for this test: .*",
            r"fast_clock -- .*",
            r"bytespike_sandbox -- .*",
            r"bytespike_redis -- .*",
        ]
    )


def test_one_test_has_one_kind_of_bytespike(project: Project) -> None:
    ran = project({"test_it.py": "def test_it(bytespike, bytespike_sandbox): pass\n"})

    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*either `bytespike` (and `fast_clock`) or `bytespike_sandbox`: not both"])


def test_celerys_own_worker_fixture_works(project: Project) -> None:
    ran = project(
        {
            "test_it.py": """
import pytest
from celery import Celery
from tasks_bridge import Settings, generate, install
from tasks_bridge.testing import assert_job_completed, assert_job_submitted, assert_no_jobs

pytest_plugins = ["celery.contrib.pytest"]

app = Celery("shop", broker="redis://localhost:1/0", backend="redis://localhost:1/0")
install(app, Settings(api_key="sk-byts-real"))


@pytest.fixture
def celery_app(bytespike_sandbox, bytespike_redis):
    return app


@pytest.fixture(scope="session")
def celery_worker_parameters():
    return {"perform_ping_check": False}


def test_a_job(celery_worker, bytespike_sandbox):
    assert_no_jobs()
    result = generate.delay("sora-2", {"prompt": "a fox"})
    assert_job_completed(result)
    assert assert_job_submitted(result, params={"prompt": "a fox"}).model == "sora-2"


def test_the_next_one_finds_nothing_of_it(celery_worker, bytespike_sandbox):
    assert bytespike_sandbox.tasks() == []
    assert_no_jobs()


def test_afterwards_all_is_as_before():
    assert app.conf.broker_url == "redis://localhost:1/0"
"""
        },
        "-W",
        "ignore:Call to deprecated setex:DeprecationWarning",
    )

    ran.assert_outcomes(passed=3)
