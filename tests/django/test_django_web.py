"""The project's URLs, under WSGI as Django's test client has it and under ASGI in a real server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tasks_bridge import JobState
from tasks_bridge.bridge import bridge_of
from tasks_bridge.callbacks import callback_url
from tasks_bridge.record import RecordedError
from tests.django.conftest import served
from tests.smoke.processes import eventually

PREFIX = "/shop/bytespike"
VIEWERS = 200


@pytest.fixture
def client(shop: Any) -> Any:
    """A browser that nobody has logged in, and that sends no CSRF token: the project asks for both elsewhere."""
    from django.test import Client

    return Client(enforce_csrf_checks=True)


@pytest.fixture
def staff(shop: Any) -> Any:
    from django.contrib.auth.models import User
    from django.test import Client

    user = User.objects.filter(username="staff").first() or User.objects.create_superuser("staff")
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture(scope="module")
def port(shop: Any) -> Iterator[int]:
    from django.core.handlers.asgi import ASGIHandler

    with served(ASGIHandler()) as found:
        yield found


def path_of(shop: Any, job_id: str, *, may_cancel: bool = False) -> str:
    from tasks_bridge.contrib.django.models import status_url

    return status_url(job_id, may_cancel=may_cancel)


def test_a_link_shows_its_job_to_whoever_has_it_and_cancels_it_if_it_may(shop: Any, client: Any) -> None:
    row = shop.started(countdown=600)
    path = row.job_status_url()
    assert path.startswith(f"{PREFIX}/jobs/")

    shown = client.get(path)
    assert (shown.status_code, shown.headers["Content-Type"]) == (200, "application/json")
    assert shown.json()["state"] == "QUEUED"
    assert "events_url" not in shown.json(), "expected a WSGI server to have its pages poll"
    assert client.get(path, headers={"If-None-Match": shown.headers["ETag"]}).status_code == 304
    assert client.head(path).status_code == 200

    assert client.post(f"{path}/cancel").status_code == 403
    assert client.get(f"{path}/cancel").status_code == 405
    cancelled = client.post(row.job_status_url(may_cancel=True) + "/cancel")
    assert cancelled.status_code == 202
    # a worker that is up may have done it by now
    assert cancelled.json()["is_cancelling"] or cancelled.json()["state"] == "CANCELLED"
    for forged in (path[:-1], path.replace(row.job_id, "another"), f"{PREFIX}/jobs/x", f"{PREFIX}/jobs/%00%ff"):
        assert client.get(forged).status_code == 404


def test_a_page_about_a_row_works_as_long_as_the_row_is_there(shop: Any, client: Any) -> None:
    done, broke, waiting = shop.row(), shop.row(), shop.row()
    shop.record_change(shop.change(done.job_id, JobState.COMPLETED, output=shop.OUTPUT))
    error = RecordedError(name="InsufficientBalance", args=["empty", 402, "insufficient_balance", None])
    shop.record_change(shop.change(broke.job_id, JobState.FAILED, error=error))
    assert shop.store().get([row.job_id for row in (done, broke, waiting)]) == [None] * 3

    assert client.get(done.job_status_url()).json()["outputs"] == shop.OUTPUT
    assert client.get(broke.job_status_url()).json()["error"]["code"] == "failed"
    assert client.get(waiting.job_status_url()).json()["state"] == "QUEUED"
    assert client.post(done.job_status_url(may_cancel=True) + "/cancel").json()["is_over"]


def test_metrics_are_for_whoever_has_their_token_and_for_nobody_if_there_is_none(
    shop: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get(f"{PREFIX}/metrics").status_code == 404
    bridge, token = bridge_of(), "m" * 40
    monkeypatch.setattr(bridge, "settings", bridge.settings.model_copy(update={"metrics_token": SecretStr(token)}))

    assert client.get(f"{PREFIX}/metrics").status_code == 401
    shown = client.get(f"{PREFIX}/metrics", HTTP_AUTHORIZATION=f"Bearer {token}")
    assert shown.status_code == 200
    assert b"tasks_bridge_redis_up 1.0" in shown.content


def test_a_callback_needs_its_token_and_nothing_else(shop: Any, client: Any) -> None:
    row = shop.started(countdown=600)
    path = f"{PREFIX}/callback/" + callback_url(row.job_id).rpartition("/")[2]

    assert client.post(path, b"\xff" * 5000, content_type="application/x-www-form-urlencoded").status_code == 204
    assert client.post(path[:-1]).status_code == 404
    assert client.get(path).status_code == 405
    row.job.cancel()


def test_events_under_wsgi_are_one_event_and_when_to_come_back(shop: Any, client: Any) -> None:
    row = shop.started(countdown=600)

    answer = client.get(row.job_status_url() + "/events")

    assert answer.headers["Content-Type"] == "text/event-stream"
    assert not answer.streaming
    assert answer.content.startswith(b"retry: 2000\n\nid: ")
    row.job.cancel()


def test_a_view_of_the_project_shows_a_job_to_whom_it_wants(shop: Any, client: Any, staff: Any) -> None:
    row = shop.started(countdown=600)

    for path in (f"/renders/{row.pk}", f"/renders/{row.pk}/async"):
        assert client.get(path).status_code == 302, "expected a login to be asked for"
        assert staff.get(path).json()["id"] == row.job_id
    assert staff.get(f"/renders/{row.pk}").json()["events_url"] == "events"
    for path in (f"/renders/{row.pk}/events", f"/renders/{row.pk}/events/async"):
        assert b'"state":"QUEUED"' in staff.get(path).content
    row.job.cancel()


def test_a_page_has_an_element_for_its_job(shop: Any, client: Any) -> None:
    from django.template import Context, Template

    row = shop.Render(prompt='"><script>')
    template = Template(
        "{% load bytespike %}"
        '{% bytespike_job row may_cancel=True class="wide" data_x=row.prompt %}'
        "{% bytespike_script %}"
    )
    script = f'<script type="module" src="{PREFIX}/bytespike-job.js"></script>'
    assert template.render(Context({"row": row})) == script

    row.job_id = "my-render"
    page = template.render(Context({"row": row}))
    source = row.job_status_url(may_cancel=True)
    assert page == (
        f'<bytespike-job src="{source}" class="wide" data-x="&quot;&gt;&lt;script&gt;"></bytespike-job>{script}'
    )
    assert client.get(f"{PREFIX}/bytespike-job.js").headers["Content-Type"].startswith("text/javascript")
    guarded = Template("{% load bytespike %}{% bytespike_script nonce=nonce %}")
    assert ' nonce="&lt;1"></script>' in guarded.render(Context({"nonce": "<1"}))
    by_id = Template("{% load bytespike %}{% bytespike_job id %}").render(Context({"id": "my-render"}))
    assert f'src="{row.job_status_url()}"' in by_id


# -- a real server ----------------------------------------------------------------------------------------------------


def run(test: Callable[[httpx.AsyncClient], Awaitable[None]], port: int) -> None:
    async def limited() -> None:
        limits = httpx.Limits(max_connections=None)
        async with (
            asyncio.timeout(60),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=20) as client,
        ):
            await test(client)

    asyncio.run(limited())


class Viewer:
    """One open stream."""

    def __init__(self, client: httpx.AsyncClient, path: str, **headers: str) -> None:
        self._opened = client.stream("GET", path, headers=headers)
        self._rest = b""

    async def open(self) -> None:
        self.answer = await self._opened.__aenter__()
        self._chunks = self.answer.aiter_bytes()

    async def document(self) -> dict[str, Any]:
        while b"\ndata: " not in self._rest or not self._rest.endswith(b"\n\n"):
            self._rest += await anext(self._chunks)
        data, self._rest = self._rest.rpartition(b"\ndata: ")[2], b""
        document: dict[str, Any] = json.loads(data)
        return document

    async def close(self) -> None:
        await self._opened.__aexit__(None, None, None)


def test_a_stream_goes_through_django_and_its_middleware_to_the_end_of_the_job(
    shop: Any, port: int, worker: Any
) -> None:
    row = shop.started(duration_s=1)
    path = row.job_status_url()

    async def watch(client: httpx.AsyncClient) -> None:
        assert (await client.get(path)).json()["events_url"].endswith("/events")
        viewer = Viewer(client, f"{path}/events")
        await viewer.open()
        seen = [await viewer.document()]
        while not seen[-1]["is_over"]:
            seen.append(await viewer.document())
        await viewer.close()
        assert seen[-1]["outputs"]
        assert [document["progress"] for document in seen] == sorted(document["progress"] for document in seen)

    run(watch, port)


def test_hundreds_of_viewers_pin_no_thread_of_django_and_leave_nothing_behind(shop: Any, port: int) -> None:
    from tasks_bridge.bridge import bridge_of
    from tasks_bridge.web.hub import hub_of

    rows = [shop.started(countdown=600) for _ in range(2)]
    hub = hub_of(bridge_of())

    async def watch(client: httpx.AsyncClient) -> None:
        viewers = [Viewer(client, rows[number % 2].job_status_url() + "/events") for number in range(VIEWERS)]
        threads = threading.active_count()
        for viewer in viewers:
            await viewer.open()
        states = {(await viewer.document())["state"] for viewer in viewers}
        assert states == {"QUEUED"}
        assert len(hub) == VIEWERS
        assert threading.active_count() < threads + 60, "expected no thread for each viewer"
        for viewer in viewers:
            await viewer.close()
        await asyncio.to_thread(eventually, lambda: not len(hub), expected="all viewers to be forgotten")

    run(watch, port)
    for row in rows:
        row.job.cancel()


def test_a_stream_of_a_view_of_the_project_is_one_too(shop: Any, port: int, staff: Any) -> None:
    row = shop.started(countdown=600)
    session = f"sessionid={staff.cookies['sessionid'].value}"

    async def watch(client: httpx.AsyncClient) -> None:
        for path in (f"/renders/{row.pk}/events", f"/renders/{row.pk}/events/async"):
            viewer = Viewer(client, path, Cookie=session)
            await viewer.open()
            assert (viewer.answer.status_code, (await viewer.document())["state"]) == (200, "QUEUED")
            await viewer.close()

    run(watch, port)
    row.job.cancel()


# -- admin ------------------------------------------------------------------------------------------------------------

ADMIN = "/admin/shop/render/"


def acted(staff: Any, action: str, *rows: Any) -> str:
    answer = staff.post(ADMIN, {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_the_admin_shows_states_filters_and_links(shop: Any, staff: Any) -> None:
    done, failed, bare = shop.row(prompt="done"), shop.row(prompt="failed"), shop.Render.objects.create(prompt="bare")
    output = [*shop.OUTPUT, {"url": "javascript:alert(1)"}, {"b64_json": "…"}]
    shop.record_change(shop.change(done.job_id, JobState.COMPLETED, output=output))
    shop.record_change(shop.change(failed.job_id, JobState.FAILED, error_message="<b>no</b>"))

    page = staff.get(ADMIN).content.decode()
    assert '<span class="bytespike-badge bytespike-completed" title="">Completed</span>' in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page
    assert "tasks_bridge/admin.css" in page
    filtered = staff.get(ADMIN, {"job_state__exact": "FAILED", "q": failed.job_id}).content.decode()
    assert ("bytespike-failed" in filtered, "bytespike-completed" in filtered) == (True, False)
    change = staff.get(f"{ADMIN}{done.pk}/change/").content.decode()
    assert '<a href="https://cdn.example/fox.png" rel="noreferrer">' in change
    assert 'href="javascript' not in change
    assert staff.get(f"{ADMIN}{bare.pk}/change/").status_code == 200


def test_the_admin_cancels_jobs_and_has_them_looked_at(shop: Any, staff: Any) -> None:
    waiting, over, unknown = shop.started(countdown=600), shop.started(countdown=600), shop.row()
    bare = shop.Render.objects.create(prompt="bare")
    shop.Render.objects.filter(pk=waiting.pk).update(job_state="")

    page = acted(staff, "recheck_jobs", waiting, unknown, bare)
    assert "Rows updated: 1. Jobs that ByteSpike is being asked about: 1." in page
    assert "Jobs known no longer: 1." in page

    over.job.cancel()
    page = acted(staff, "cancel_jobs", waiting, over, unknown, bare)
    assert "Jobs being cancelled: " in page
    assert "Jobs that were over already, or unknown: " in page
    assert shop.store().get([waiting.job_id])[0].cancel == "cancelled in the admin"
    assert shop.store().get([over.job_id])[0].cancel == "cancelled"


def test_the_admin_lets_nobody_cancel_who_may_only_look(shop: Any) -> None:
    from django.contrib.auth.models import Permission, User
    from django.test import Client

    user, _ = User.objects.get_or_create(username="looks", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_render"))
    client = Client()
    client.force_login(user)
    row = shop.started(countdown=600)

    page = acted(client, "cancel_jobs", row)

    assert "being cancelled" not in page
    assert shop.store().get([row.job_id])[0].cancel is None
    row.job.cancel()
