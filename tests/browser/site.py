"""A small web site with jobs on its pages. Its policy is as strict as any, and what browsers ask for is noted."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus
from typing import Any, Final, Self
from wsgiref.types import StartResponse, WSGIEnvironment

import uvicorn
from pydantic import SecretStr
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from tasks_bridge.web.answers import Answer, Request, encode
from tasks_bridge.web.asgi import JobsApp
from tasks_bridge.web.endpoints import Endpoints
from tasks_bridge.web.links import status_token
from tests.integration.lab import Lab, eventually

SECRET: Final = SecretStr("links in the browser are signed with these characters")
PREFIX: Final = "/bytespike"

PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Renders</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/site.css">
<script type="module" src="/bytespike/bytespike-job.js"></script>
<main>
<h1>Renders</h1>
{body}
</main>
</html>
"""

STYLE: Final = """
:root { color-scheme: light dark; }
body { margin: 0; background: light-dark(#fff, #14161a); color: light-dark(#1b1d21, #e8eaee); }
body { font: 16px/1.5 Inter, system-ui, sans-serif; }
main { max-width: 40rem; margin: 0 auto; padding: 1.5rem 1rem; }
h1 { font-size: 1.25rem; }
bytespike-job + bytespike-job { margin-top: 2rem; }
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a browser."""

    method: str
    path: str
    headers: Mapping[str, str]


class Site:
    """
    Pages of jobs on a real server in a thread. It can be stopped and started again: the port and the pages stay.

    Args:
        lab: Whose jobs.
        is_asgi: Whether its server can keep answers open (uvicorn), or is one of threads (WSGI).
    """

    def __init__(self, lab: Lab, *, is_asgi: bool = True) -> None:
        self.lab = lab
        self.asked: list[Asked] = []
        """All that came in."""
        self.refused: dict[str, HTTPStatus] = {}
        """What is answered to requests whose path matches a regular expression, instead of the truth."""
        self.chunks_passed: int | None = None
        """How many chunks of a stream get through a proxy that holds back the others; None for all. ASGI only."""
        self.documents: dict[str, dict[str, Any]] = {}
        """Documents that no job of the library has, by their paths."""
        self._pages: dict[str, str] = {}
        self._server: _Uvicorn | _Werkzeug = _Uvicorn(self) if is_asgi else _Werkzeug(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Accept connections."""
        self._server.start()

    def stop(self) -> None:
        """Close all connections, as a process that was killed."""
        self._server.stop()

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.port}"

    # -- pages --------------------------------------------------------------------------------------------------------

    def source(self, job: Any, *, may_cancel: bool = False) -> str:
        """The path of a job's document."""
        job_id = job if isinstance(job, str) else job.id
        return f"{PREFIX}/jobs/{status_token(job_id, may_cancel=may_cancel, app=self.lab.app)}"

    def element(self, job: Any, content: str = "", *, may_cancel: bool = False, **attributes: str) -> str:
        """The element for *job*."""
        given = {"src": self.source(job, may_cancel=may_cancel), **attributes}
        listed = "".join(f' {name}="{escape(value)}"' for name, value in given.items())
        return f"<bytespike-job{listed}>{content}</bytespike-job>"

    def page(self, *elements: str) -> str:
        """The address of a new page with these elements."""
        path = f"/{len(self._pages) + 1}"
        self._pages[path] = PAGE.format(body="\n".join(elements))
        return self.url + path

    def page_of(self, job: Any, **options: Any) -> str:
        """The address of a new page with the element for *job*."""
        return self.page(self.element(job, **options))

    def asked_for(self, pattern: str, method: str = "GET") -> list[Asked]:
        """The requests whose path matches *pattern*."""
        return [one for one in list(self.asked) if one.method == method and re.search(pattern, one.path)]

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Answer | None:
        """What is the site's own to say, or None."""
        self.asked.append(Asked(method, path, headers))
        for pattern, status in self.refused.items():
            if re.search(pattern, path):
                return Answer(status, {"Content-Type": "text/plain"}, status.phrase.encode())
        if path == "/site.css":
            return Answer(HTTPStatus.OK, {"Content-Type": "text/css"}, STYLE.encode())
        if path in self.documents:
            return Answer(HTTPStatus.OK, {"Content-Type": "application/json"}, encode(self.documents[path]))
        if (page := self._pages.get(path)) is not None:
            headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": self._policy()}
            return Answer(HTTPStatus.OK, headers, page.encode())
        return None if path.startswith(PREFIX) else Answer(HTTPStatus.NOT_FOUND, {"Content-Type": "text/plain"})

    def _policy(self) -> str:
        outputs = self.lab.sandbox.url
        return (
            "default-src 'none'; base-uri 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            f"img-src data: {outputs}; media-src {outputs}; require-trusted-types-for 'script'; trusted-types 'none'"
        )


class _Uvicorn:
    def __init__(self, site: Site) -> None:
        self.port = 0
        self._site = site
        self._jobs = JobsApp(site.lab.app)

    def start(self) -> None:
        config = uvicorn.Config(
            self._app,
            port=self.port,
            interface="asgi3",
            log_level="error",
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="asgi site", daemon=True)
        self._thread.start()
        eventually(lambda: self._server.started, "the ASGI server to start")
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.force_exit = self._server.should_exit = True
        self._thread.join()

    async def _app(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        answer = self._site.answer(scope["method"], scope["path"], headers)
        if answer is None:
            await self._jobs({**scope, "root_path": PREFIX}, receive, self._through_proxy(scope["path"], send))
            return
        encoded = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": int(answer.status), "headers": encoded})
        await send({"type": "http.response.body", "body": answer.body})

    def _through_proxy(self, path: str, send: Any) -> Any:
        if self._site.chunks_passed is None or not path.endswith("/events"):
            return send
        passed = itertools.count()

        async def pass_some(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" or next(passed) < (self._site.chunks_passed or 0):
                await send(message)

        return pass_some


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


class _Werkzeug:
    def __init__(self, site: Site) -> None:
        self.port = 0
        self._site = site
        self._endpoints = Endpoints(site.lab.app)

    def start(self) -> None:
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", self.port, self._app, threaded=True, request_handler=_Silent
        )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="wsgi site", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        headers = {
            name[5:].replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        answer = self._site.answer(method, path, headers) or self._endpoint(method, path, headers)
        start_response(f"{int(answer.status)} {HTTPStatus(answer.status).phrase}", list(answer.headers.items()))
        yield answer.body

    def _endpoint(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        asked = Request.of(method, lambda name: headers.get(name.lower()))
        if path == f"{PREFIX}/bytespike-job.js":
            return self._endpoints.script(asked)
        _, _, _, token, *rest = path.split("/")
        endpoint: Callable[[str, Request], Any] = getattr(self._endpoints, rest[0] if rest else "status")
        answer = endpoint(token, asked)
        assert isinstance(answer, Answer), "expected no stream on a server of threads"
        return answer
