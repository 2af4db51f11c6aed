"""The application's URLs, over a real WSGI server: what pages get, what strangers get, and behind proxies."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from flask import Flask
from flask_wtf import CSRFProtect
from jinja2 import UndefinedError
from pydantic import SecretStr
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from tasks_bridge import InvalidRequest, Job, generate
from tasks_bridge.bridge import bridge_of
from tasks_bridge.callbacks import callback_url
from tasks_bridge.contrib.flask import blueprint, bytespike_job, bytespike_script, job_url
from tasks_bridge.tokens import TokenPurpose, sign
from tests.flask import shop
from tests.flask.conftest import served, store_of

PREFIX = shop.PREFIX
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture(scope="module")
def browser(app: Flask) -> Iterator[httpx.Client]:
    with served(app) as address, httpx.Client(base_url=address) as found:
        yield found


@pytest.fixture
def job(app: Flask) -> Iterator[Job]:
    """One that is not submitted for a while."""
    with app.app_context():
        found = Job(generate.apply_async((shop.MODEL, shop.params()), countdown=600).id)
        yield found
        found.cancel()


def path_of(app: Flask, job: Job, **options: Any) -> str:
    with app.test_request_context():
        return job_url(job.id, **options)


def unchanged(app: Flask, job: Job) -> bool:
    (entry,) = store_of(app).get([job.id])
    return entry is not None and entry.cancel is None and entry.due_at > entry.now + 60


def test_a_link_shows_its_job_to_whoever_has_it_and_cancels_it_if_it_may(
    app: Flask, browser: httpx.Client, job: Job
) -> None:
    path = path_of(app, job)
    assert path.startswith(f"{PREFIX}/jobs/")

    shown = browser.get(path)
    assert (shown.status_code, shown.headers["Content-Type"]) == (200, "application/json")
    assert shown.json()["state"] == "QUEUED"
    assert "events_url" not in shown.json(), "expected a WSGI server to have its pages poll"
    again = browser.get(path, headers={"If-None-Match": shown.headers["ETag"]})
    assert (again.status_code, again.content, "Content-Type" in again.headers) == (304, b"", False)
    asked = browser.head(path)
    assert (asked.status_code, asked.content, asked.headers["ETag"]) == (200, b"", shown.headers["ETag"])

    refused = browser.post(f"{path}/cancel")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "read_only")
    assert unchanged(app, job)
    cancelled = browser.post(path_of(app, job, may_cancel=True) + "/cancel")
    assert cancelled.status_code == 202
    # a worker that is up may have done it by now
    assert cancelled.json()["is_cancelling"] or cancelled.json()["state"] == "CANCELLED"


def test_events_are_one_event_and_when_to_come_back_and_keep_no_thread(
    app: Flask, browser: httpx.Client, job: Job
) -> None:
    path = path_of(app, job) + "/events"

    answer = browser.get(path)

    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.text.startswith("retry: 2000\n\nid: ")
    version = answer.text.partition("id: ")[2].partition("\n")[0]
    assert browser.get(path, headers={"Last-Event-ID": version}).text == "retry: 2000\n\n"


def tokens(app: Flask, job: Job) -> dict[str, str]:
    """What strangers may send for a token."""
    secret = app.extensions["tasks-bridge"].bridge.settings.secret_key
    good = sign(secret, TokenPurpose.CONTROL, job.id, expires_at=9e11)
    return {
        "cut": good[:-1],
        "of another job": good.replace(job.id, "another"),
        "ended": sign(secret, TokenPurpose.CONTROL, job.id, expires_at=1),
        "signed by somebody else": sign(SecretStr("x" * 40), TokenPurpose.CONTROL, job.id, expires_at=9e11),
        "of a job that is not known": sign(secret, TokenPurpose.CONTROL, "never-seen", expires_at=9e11),
        "the id": job.id,
        "not text": "%00%ff%fe",
        "long": "x" * 5000,
        "markup": "%3Cscript%3E",
    }


def test_metrics_are_for_whoever_has_their_token_and_for_nobody_if_there_is_none(
    app: Flask, browser: httpx.Client, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert browser.get(f"{PREFIX}/metrics").status_code == 404
    bridge, token = bridge_of(app.extensions["celery"]), "m" * 40
    monkeypatch.setattr(bridge, "settings", bridge.settings.model_copy(update={"metrics_token": SecretStr(token)}))

    assert browser.get(f"{PREFIX}/metrics").status_code == 401
    shown = browser.get(f"{PREFIX}/metrics", headers={"Authorization": f"Bearer {token}"})
    assert shown.status_code == 200
    assert "tasks_bridge_redis_up 1.0" in shown.text


def test_whatever_is_no_token_gets_404_and_changes_nothing(app: Flask, browser: httpx.Client, job: Job) -> None:
    for kind, token in tokens(app, job).items():
        asked = {
            "job": browser.get(f"{PREFIX}/jobs/{token}"),
            "events": browser.get(f"{PREFIX}/jobs/{token}/events"),
            "cancel": browser.post(f"{PREFIX}/jobs/{token}/cancel"),
        }
        for endpoint, answer in asked.items():
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), (kind, endpoint)
    for path in ("", "jobs", "jobs/", "jobs/a/b/c", "jobs/%2e%2e/jobs/x", "callback/", "bytespike-job.css"):
        assert browser.get(f"{PREFIX}/{path}").status_code == 404, path
    assert unchanged(app, job)


@pytest.mark.parametrize(
    ("endpoint", "allowed"),
    [
        ("jobs/{control}", {"GET", "HEAD"}),
        ("jobs/{control}/events", {"GET"}),
        ("jobs/{control}/cancel", {"POST"}),
        ("callback/{callback}", {"POST"}),
        ("bytespike-job.js", {"GET", "HEAD"}),
    ],
)
def test_every_other_method_gets_405_and_changes_nothing(
    app: Flask, browser: httpx.Client, job: Job, endpoint: str, allowed: set[str]
) -> None:
    with app.app_context():
        callback = callback_url(job.id).rpartition("/")[2]
    control = path_of(app, job, may_cancel=True).rpartition("/")[2]
    path = f"{PREFIX}/{endpoint}".format(control=control, callback=callback)

    for method in set(METHODS) - allowed:
        answer = browser.request(method, path, content=b"{}")
        assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, allowed), method
    assert browser.request("BREW", path).status_code == 405
    assert unchanged(app, job)


def test_a_callback_needs_its_token_and_its_body_is_not_read(app: Flask, browser: httpx.Client, job: Job) -> None:
    with app.app_context():
        path = f"{PREFIX}/callback/" + callback_url(job.id).rpartition("/")[2]

    assert browser.post(path, content=b"\xff" * 5000).status_code == 204
    assert browser.post(path[:-1]).status_code == 404
    assert browser.post(path_of(app, job, may_cancel=True).replace("/jobs/", "/callback/")).status_code == 404
    url = browser.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=10) as line:
        line.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n\r\n".encode())
        assert b" 413 " in line.recv(64), "expected an answer without a word of the body"


def test_views_of_the_application_show_a_job_to_whom_they_want(browser: httpx.Client, job: Job) -> None:
    document = browser.get(f"/renders/{job.id}/status").json()

    assert (document["id"], document["events_url"]) == (job.id, "events")
    assert '"state":"QUEUED"' in browser.get(f"/renders/{job.id}/events").text
    assert browser.get("/renders/never-seen/status").status_code == 404


def test_redis_away_is_503_and_when_to_come_back(environment: dict[str, str]) -> None:
    app = Flask("away")
    app.config.from_mapping(SECRET_KEY="x", TASKS_BRIDGE={"REDIS_URL": "redis://127.0.0.1:1/0", "STORE_TIMEOUT_S": 0.1})
    shop.bridge.init_app(app)
    with app.test_request_context():
        path = job_url("job-1")

    answer = app.test_client().get(path)

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


# -- pages ------------------------------------------------------------------------------------------------------------


def test_a_page_has_an_element_for_its_job(app: Flask, browser: httpx.Client, job: Job) -> None:
    page = browser.get(f"/renders/{job.id}").text

    assert page == (
        f'<bytespike-job src="{path_of(app, job, may_cancel=True)}" class="wide"></bytespike-job>'
        f'<script type="module" src="{PREFIX}/bytespike-job.js"></script>'
    )
    script = browser.get(f"{PREFIX}/bytespike-job.js")
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert browser.get(script.url, headers={"If-None-Match": script.headers["ETag"]}).status_code == 304


class Row:
    """Any object of the application's."""

    id = 7

    def __init__(self, job_id: str | None) -> None:
        self.job_id = job_id


def test_the_element_takes_whatever_stands_for_a_job(app: Flask, job: Job) -> None:
    with app.test_request_context():
        expected = bytespike_job(job.id)
        result = generate.AsyncResult(job.id)
        assert bytespike_job(job) == bytespike_job(result) == bytespike_job(Row(job.id)) == expected
        assert bytespike_job(None) == bytespike_job(Row(None)) == ""
        for wrong in (7, object()):
            with pytest.raises(InvalidRequest, match=r"not (int|object)"):
                bytespike_job(wrong)
        with pytest.raises(InvalidRequest):
            bytespike_job("no job's id")


def test_templates_escape_what_they_are_given_and_tell_what_is_undefined(app: Flask) -> None:
    with app.test_request_context():
        template = app.jinja_env.from_string(
            '{{ bytespike_job("my-render", title=title, data_x=1) }}{{ bytespike_script(nonce=nonce) }}'
        )
        page = template.render(title='"><script>', nonce="<1")
        with pytest.raises(UndefinedError, match="rendr"):
            app.jinja_env.from_string("{{ bytespike_job(rendr) }}").render()
        nonce = bytespike_script(nonce="r4nd0m")

    assert ' title="&quot;&gt;&lt;script&gt;" data-x="1"></bytespike-job>' in page
    assert page.endswith(' nonce="&lt;1"></script>')
    assert nonce.endswith(' nonce="r4nd0m"></script>')


def test_a_link_for_a_mail_is_a_whole_one(app: Flask) -> None:
    with app.test_request_context(base_url="https://shop.example"):
        assert job_url("my-render", _external=True).startswith(f"https://shop.example{PREFIX}/jobs/1~")


# -- where it is mounted ----------------------------------------------------------------------------------------------


def followed(browser: httpx.Client, job: Job, prefix: str, **headers: str) -> None:
    """Open the page of *job* and go where it leads, as a browser does that sees *prefix*."""
    page = browser.get(f"{prefix}/renders/{job.id}", headers=headers).text
    sources = [part.partition('"')[0] for part in page.split('src="')[1:]]
    assert [source.startswith(f"{prefix}{PREFIX}/") for source in sources] == [True, True], page
    document, script = (browser.get(source, headers=headers) for source in sources)
    assert script.status_code == 200
    cancel = document.url.join(document.json()["cancel_url"])
    assert str(cancel.path).startswith(f"{prefix}{PREFIX}/jobs/")
    assert browser.post(cancel, headers=headers).status_code == 202


def test_under_a_script_name_links_lead_to_where_the_app_is(app: Flask, job: Job) -> None:
    mounted = DispatcherMiddleware(Flask("elsewhere"), {"/outer": app})

    with served(mounted) as address, httpx.Client(base_url=address) as browser:
        followed(browser, job, "/outer")


def test_behind_a_proxy_that_adds_a_prefix_links_have_it(app: Flask, job: Job) -> None:
    class Proxy:
        """Takes the prefix off, as nginx does with ``proxy_pass http://app/``, and tells of it."""

        def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/outer")
            environ["HTTP_X_FORWARDED_PREFIX"] = "/outer"
            return ProxyFix(app.wsgi_app, x_prefix=1)(environ, start_response)

    with served(Proxy()) as address, httpx.Client(base_url=address) as browser:
        followed(browser, job, "/outer")


def test_forms_protected_by_flask_wtf_leave_the_library_s_urls_alone_once_told_to(environment: dict[str, str]) -> None:
    guarded = shop.create_app(environment)
    csrf = CSRFProtect(guarded)
    browser = guarded.test_client()
    with guarded.test_request_context():
        job = generate.apply_async((shop.MODEL, shop.params()), countdown=600)
        path = job_url(job.id, may_cancel=True)

    assert browser.post("/renders", json={}).status_code == 400
    assert browser.post(f"{path}/cancel").status_code == 400
    csrf.exempt(blueprint)
    assert browser.post("/renders", json={}).status_code == 400
    assert browser.post(f"{path}/cancel").status_code == 202
