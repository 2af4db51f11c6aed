"""``manage.py``: what the checks say of a project, and what brings lost rows back."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pydantic import SecretStr

from tasks_bridge import JobState, Settings, install
from tasks_bridge.bridge import bridge_of
from tasks_bridge.sandbox import SandboxServer
from tasks_bridge.store import Purpose
from tests.smoke.processes import LocalProcess, eventually

# -- bytespike_reconcile, bytespike_status ----------------------------------------------------------------------------


def manage(*arguments: str) -> str:
    from django.core.management import call_command

    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out)
    return out.getvalue()


def failing(*arguments: str) -> str:
    from django.core.management import CommandError, call_command

    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(*arguments, stdout=out, stderr=out)
    return f"{out.getvalue()}{caught.value}"


@pytest.fixture(autouse=True)
def empty(shop: Any, django_sandbox: SandboxServer) -> None:
    shop.Render.objects.all().delete()
    shop.Clip.objects.all().delete()
    django_sandbox.reset()


def reconcile(*arguments: str) -> str:
    return manage("bytespike_reconcile", "--older-than", "0", *arguments)


def submitted(sandbox: SandboxServer, job_id: str, **script: Any) -> None:
    """A task that ByteSpike has and nobody here remembers."""
    from tasks_bridge import Client

    params = {"prompt": "a fox", "sandbox": {"duration_s": 0, "estimate_s": 1, **script}}
    with Client("sk-byts-django-0123456789", sandbox.url) as client:
        client.submit("seedream-v4", params, out_task_id=job_id)
        if script.get("duration_s", 0) == 0:
            eventually(lambda: client.query(out_task_id=job_id).is_terminal, expected="the remote task to end")


def test_a_row_behind_its_job_is_brought_up_to_date(shop: Any) -> None:
    row = shop.started(countdown=600)
    behind = shop.started(countdown=600)
    shop.Render.objects.filter(pk=behind.pk).update(job_state="QUEUED")
    shop.store().request_cancel(behind.job_id, "for the test")
    (lease,) = shop.store().begin([behind.job_id], Purpose.GENERATE, 60)
    shop.store().write(lease, JobState.CANCELLED, lease.record, delay_s=60)

    out = reconcile()

    behind.refresh_from_db()
    assert (behind.job_state, shop.notes(behind.job_id)) == ("CANCELLED", ["QUEUED -> CANCELLED", "cancelled"])
    assert "QUEUED -> CANCELLED" in out
    assert out.endswith("1 under way, 1 updated\n")
    assert "1 under way" in reconcile("-v2")
    row.job.cancel()


def test_a_row_whose_process_died_before_it_could_start_the_job_gets_it_started(
    shop: Any, django_sandbox: SandboxServer
) -> None:
    row = shop.row()

    assert "1 started" in reconcile("--dry-run")
    assert shop.store().get([row.job_id]) == [None]
    assert "it was never submitted" in reconcile()
    assert "started" not in reconcile()

    assert not row.job.is_terminal
    row.job.cancel()


def test_a_job_that_is_started_late_has_the_options_that_its_row_says(shop: Any) -> None:
    row = shop.row(label="ada")

    assert "1 started" in reconcile()

    assert shop.store().get([row.job_id])[0].record.label == "ada"
    row.job.cancel()


def test_a_row_that_only_bytespike_remembers_gets_its_outputs_by_the_job_s_id(
    shop: Any, django_sandbox: SandboxServer
) -> None:
    done, failed, going = shop.row(), shop.row(), shop.row(script={"duration_s": 60})
    clip = shop.Clip(title="a clip")
    with shop.transaction.atomic():
        clip.start_job(shop.MODEL, {"prompt": "a clip"})
        shop.connection.run_on_commit.clear()
    submitted(django_sandbox, done.job_id)
    submitted(django_sandbox, failed.job_id, outcome="failed", error_code="content_policy_violation")
    submitted(django_sandbox, going.job_id, duration_s=60)
    submitted(django_sandbox, clip.job_id, duration_s=60)

    assert "4 recovered" in reconcile("--dry-run")
    done.refresh_from_db()
    assert done.job_state == "QUEUED"
    out = reconcile()

    assert "4 recovered" in out
    for row in (done, failed, going, clip):
        row.refresh_from_db()
    assert (done.job_state, bool(done.job_outputs), done.job_credits > 0) == ("COMPLETED", True, True)
    assert (failed.job_state, failed.job_error_code) == ("FAILED", "content_policy_violation")
    assert shop.notes(done.job_id) == ["QUEUED -> COMPLETED", "completed"]
    assert going.job_state in ("PENDING", "RUNNING")
    assert clip.job_state in ("PENDING", "RUNNING")
    assert shop.store().get([going.job_id])[0] is not None, "expected the workers to follow it again"
    assert shop.store().get([clip.job_id]) == [None], "expected what nobody can submit again to be left alone"
    going.job.cancel()


def test_a_row_so_old_that_its_job_may_be_forgotten_is_not_started_again(shop: Any) -> None:
    row = shop.row()
    old = row.job_changed_at - timedelta(seconds=bridge_of().settings.result_ttl_s)
    shop.Render.objects.filter(pk=row.pk).update(job_changed_at=old)

    assert "1 lost" in failing("bytespike_reconcile")
    assert shop.store().get([row.job_id]) == [None]


def test_a_job_that_nobody_knows_is_told_of_until_it_is_given_up(shop: Any) -> None:
    accepted, clip = shop.row(), shop.Clip(title="a clip")
    shop.record_change(shop.change(accepted.job_id, JobState.RUNNING))
    with shop.transaction.atomic():
        clip.start_job(shop.MODEL, {"prompt": "a clip"})
        shop.connection.run_on_commit.clear()

    out = failing("bytespike_reconcile", "--older-than", "0")
    assert "2 lost" in out
    assert f"shop.Clip {clip.pk}: lost" in out
    assert shop.store().get([accepted.job_id]) == [None], "expected nothing that may be paid for to be started again"
    assert "2 ended" in reconcile("--fail-lost", "--dry-run")
    assert "2 ended" in reconcile("--fail-lost")
    clip.refresh_from_db()
    assert (clip.job_state, clip.job_error_code) == ("FAILED", "lost")
    assert shop.notes(clip.job_id)[-1] == "failed"
    assert reconcile() == "no open jobs\n"


def test_what_bytespike_can_not_be_asked_stays_as_it_is(shop: Any, django_sandbox: SandboxServer) -> None:
    row = shop.row()
    keyless = shop.row()
    shop.Render.objects.filter(pk=keyless.pk).update(job_key="gone")
    django_sandbox.fail("status", on="query", status=500)

    out = failing("bytespike_reconcile", "--older-than", "0", "--fail-lost")

    row.refresh_from_db()
    assert (row.job_state, "2 unknown" in out) == ("QUEUED", True)
    assert "no ByteSpike API key 'gone'" in out


def test_young_rows_are_left_to_the_workers(shop: Any) -> None:
    shop.row()

    assert manage("bytespike_reconcile") == "no open jobs\n"
    assert "--older-than" in failing("bytespike_reconcile", "--older-than", "nan")


def test_the_status_of_everything_and_of_single_jobs(shop: Any) -> None:
    row, bare = shop.started(countdown=600), shop.Render.objects.create(prompt="bare")

    found = json.loads(manage("bytespike_status", "--json"))
    assert found["rows"]["shop.Render"] == {"without a job": 1, "QUEUED": 1}
    assert found["open"] >= 1
    assert "shop.Render  1 without a job, 1 QUEUED" in manage("bytespike_status")
    assert f"{row.job_id}  QUEUED" in manage("bytespike_status", row.job_id)
    assert json.loads(manage("bytespike_status", "--json", row.job_id))["state"] == "QUEUED"
    assert "unknown" in failing("bytespike_status", "never-heard-of")
    assert bare.job_id is None
    row.job.cancel()


# -- checks -----------------------------------------------------------------------------------------------------------


@contextmanager
def told(address: str, celery: dict[str, Any] | None = None, **changes: Any) -> Iterator[Any]:
    """Gives what the checks say of a project with these settings."""
    from tasks_bridge.contrib.django import checks

    app = Celery("checked", broker=address, backend=address, set_as_current=False)
    app.conf.update(celery or {})
    values = {"redis_url": SecretStr(address), "api_key": SecretStr("sk-byts-checks"), **changes}
    bridge = install(app, Settings(**values))
    try:
        yield lambda: sorted(found.code for found in checks.findings(bridge))
    finally:
        bridge.store.client.close()
        app.close()


CALLBACKS: dict[str, Any] = {"secret_key": SecretStr("s" * 32), "base_url": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("changes", "celery", "expected"),
    [
        ({}, {}, []),
        ({"api_key": None}, {}, ["W001"]),
        ({"api_key": None, "api_keys": {"studio": SecretStr("sk")}}, {}, []),
        ({"alarm": False}, {}, ["W003"]),
        ({}, {"accept_content": ["pickle"]}, ["E002"]),
        ({}, {"broker_transport_options": {"visibility_timeout": 60}}, ["W004"]),
        ({}, {"broker_transport_options": {"visibility_timeout": 3600}}, []),
        ({}, {"beat_schedule": {"mine": {"task": "tasks_bridge.poll", "schedule": 5.0}}}, ["W005"]),
        ({}, {"beat_schedule": {"mine": {"task": "shop.tidy", "schedule": 5.0}}}, []),
        ({}, {"task_always_eager": True}, ["W006"]),
        (
            {**CALLBACKS, "callback_base_url": "https://shop.example.com/shop/bytespike/callback"},
            {},
            [],
        ),
        (
            {**CALLBACKS, "callback_base_url": "https://shop.example.com/prefix/shop/bytespike/callback"},
            {},
            [],
        ),
        ({**CALLBACKS, "callback_base_url": "https://shop.example.com/bytespike"}, {}, ["E004"]),
        ({**CALLBACKS, "callback_base_url": "http://127.0.0.1:8000/shop/bytespike/callback"}, {}, ["W007"]),
        ({"redis_url": SecretStr("redis://127.0.0.1:1/0")}, {}, ["W008"]),
        ({"save_to": "django://nowhere/{id}"}, {}, ["E006"]),
        ({"save_to": "django://memory/{id}"}, {}, []),
    ],
)
def test_each_check_speaks_up_for_its_own_mistake(
    shop: Any, redis_url: str, changes: dict[str, Any], celery: dict[str, Any], expected: list[str]
) -> None:
    with told(redis_url, celery, **changes) as messages:
        assert messages() == expected


def test_urls_that_are_missing_matter_once_bytespike_is_to_call_back(shop: Any, redis_url: str) -> None:
    from django.test import override_settings

    address = "https://shop.example.com/shop/bytespike/callback"
    module = type("urls", (), {"urlpatterns": []})
    with override_settings(ROOT_URLCONF=module):
        with told(redis_url) as messages:
            assert messages() == []
        with told(redis_url, **CALLBACKS, callback_base_url=address) as messages:
            assert messages() == ["E003"]


def test_a_redis_that_evicts_is_an_error(shop: Any, redis_url: str) -> None:
    client = shop.store().client
    with told(redis_url) as messages:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert messages() == ["E005"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")


def test_the_project_s_own_check_passes_and_a_wrong_setting_fails_it(
    shop: Any, run: Callable[..., LocalProcess]
) -> None:
    assert "tasks_bridge.W007" in manage("check")

    bad = run("manage.py", "check", TASKS_BRIDGE_POL_MIN_S="2")
    assert bad.wait(60) == 1
    assert "tasks_bridge.E001" in bad.logs()
    assert "did you mean TASKS_BRIDGE_POLL_MIN_S" in bad.logs()
    assert "Traceback" not in bad.logs()


def test_every_check_is_on_the_page_and_no_other() -> None:
    package = Path(__file__).parents[2] / "tasks_bridge"
    told = (package / "checks.py").read_text() + (package / "contrib/django/checks.py").read_text()
    page = (package.parent / "docs/django.md").read_text()

    assert re.findall(r"`tasks_bridge\.([EW]\d+)`", page) == sorted(set(re.findall(r'"([EW]\d{3})"', told)))


# -- configuration ----------------------------------------------------------------------------------------------------


def test_settings_come_from_the_dict_then_the_environment_and_the_secret_from_django(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.test import override_settings

    from tasks_bridge.contrib.django import conf
    from tasks_bridge.errors import SettingsError

    monkeypatch.setenv("TASKS_BRIDGE_POLL_MAX_S", "7")
    monkeypatch.setenv("TASKS_BRIDGE_POLL_MIN_S", "3")
    with override_settings(TASKS_BRIDGE={"POLL_MIN_S": 5}, SECRET_KEY_FALLBACKS=["an older key"]):
        found = conf.library_settings()
    assert (found.poll_min_s, found.poll_max_s) == (5, 7)
    assert len(found.secret_keys) == 2
    with override_settings(SECRET_KEY="an older key"):
        older = conf.library_settings()
    assert older.secret_key == found.secret_key_fallbacks[0] != found.secret_key
    monkeypatch.setenv("TASKS_BRIDGE_SECRET_KEY", "e" * 40)
    assert conf.library_settings().secret_key == SecretStr("e" * 40)

    for wrong, said in (
        ({"POL_MAX_S": 5}, "did you mean 'poll_max_s'"),
        ({"poll_max_s": 5}, "capitals"),
        ({"API_KEY": 5}, "api_key"),
        ("a string", "must be a dict"),
    ):
        with override_settings(TASKS_BRIDGE=wrong), pytest.raises(SettingsError, match=said):
            conf.library_settings()


def test_the_celery_app_is_the_one_that_is_named_else_the_project_s_own(shop: Any, project: Any) -> None:
    from django.test import override_settings

    from tasks_bridge.contrib.django import conf
    from tasks_bridge.errors import SettingsError

    assert conf.celery_app() is project
    with override_settings(TASKS_BRIDGE={"CELERY_APP": "tasks_bridge.contrib.django.celery.app"}):
        assert conf.celery_app() is project
    for path in ("no.such.module", "tests", 5):
        with override_settings(TASKS_BRIDGE={"CELERY_APP": path}), pytest.raises(SettingsError, match="CELERY_APP"):
            conf.celery_app()
