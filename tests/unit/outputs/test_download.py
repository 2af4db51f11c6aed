"""Answers that only a broken or hostile server gives; good ones come from the sandbox, in tests/integration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tasks_bridge.media import Unfit
from tasks_bridge.outputs import download as module
from tasks_bridge.outputs.download import (
    CONNECTIONS,
    GONE,
    REDIRECTS,
    Gone,
    Limits,
    TooLarge,
    Unreachable,
    download,
    open_client,
)
from tasks_bridge.outputs.partial import Partial
from tasks_bridge.sandbox.media import clip
from tasks_bridge.settings import Settings

URL = "http://127.0.0.1/fox.mp4?signature=hush"
CLIP = clip(16, 9)
TAG = '"abc"'
HEADERS = {"content-type": "video/mp4", "etag": TAG}
LIMITS = Limits(max_bytes=1_000_000, content_types=("video/*",), timeout_s=10)

Handler = Callable[[httpx.Request], httpx.Response]


class Cut(httpx.SyncByteStream):
    """A body that ends before its end."""

    def __init__(self, data: bytes, error: Exception) -> None:
        self._data = data
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield self._data
        raise self._error


class Server:
    """Answers with one handler after the other, the last one for ever, and keeps the requests."""

    def __init__(self, *handlers: Handler) -> None:
        self._handlers = list(handlers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return (self._handlers.pop(0) if len(self._handlers) > 1 else self._handlers[0])(request)


def sent(code: int, data: bytes, **headers: str) -> httpx.Response:
    """An answer whose body is still to come."""
    head = HEADERS | {"content-length": str(len(data))} | headers
    return httpx.Response(code, headers=head, stream=httpx.ByteStream(data))


def whole(request: httpx.Request, **headers: str) -> httpx.Response:
    return sent(200, CLIP, **headers)


def ranged(request: httpx.Request) -> httpx.Response:
    """As a good server answers."""
    if request.headers.get("if-range") != TAG:
        return whole(request)
    start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
    return sent(206, CLIP[start:], **{"content-range": f"bytes {start}-{len(CLIP) - 1}/{len(CLIP)}"})


def cut(size: int, **headers: str) -> Handler:
    """The first *size* bytes, and then no more."""
    head = HEADERS | {"content-length": str(len(CLIP))} | headers

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=head, stream=Cut(CLIP[:size], httpx.RemoteProtocolError(f"cut {URL}")))

    return answer


def status(code: int, **headers: str) -> Handler:
    return lambda _: httpx.Response(code, headers=headers, content=b"no")


def redirect(to: str) -> Handler:
    return status(302, location=to)


@pytest.fixture
def settings() -> Settings:
    return Settings(base_url="http://127.0.0.1:1", api_key=SecretStr("sk-byts-hush"))


def fetch(
    server: Server, folder: Path, settings: Settings, *, limits: Limits = LIMITS, url: str = URL, **options: Any
) -> tuple[bytes, Any]:
    with open_client(settings) as client, Partial(folder, "a") as partial:
        client._transport = httpx.MockTransport(server)
        content = download(client, url, partial, limits, **{"kind": "video", **options})
        partial.finish()
        return partial.path.read_bytes(), content


def test_a_file_is_fetched_whole(tmp_path: Path, settings: Settings) -> None:
    server = Server(whole)
    data, content = fetch(server, tmp_path, settings)

    assert (data, content.content_type) == (CLIP, "video/mp4")
    assert [request.headers.get("range") for request in server.requests] == [None]


def test_nothing_that_is_secret_is_sent(tmp_path: Path, settings: Settings) -> None:
    server = Server(redirect("/elsewhere"), whole)
    fetch(server, tmp_path, settings)

    assert len(server.requests) == 2
    for request in server.requests:
        assert not {"authorization", "x-api-key", "cookie", "referer"} & set(request.headers)
        assert "hush" not in str(request.headers)
        assert request.headers["accept-encoding"] == "identity"


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path, settings: Settings) -> None:
    server = Server(cut(1000), ranged)
    data, _ = fetch(server, tmp_path, settings)

    assert data == CLIP
    assert [request.headers.get("range") for request in server.requests] == [None, "bytes=1000-"]


def test_without_a_validator_it_begins_anew(tmp_path: Path, settings: Settings) -> None:
    server = Server(cut(1000, etag='W/"abc"'), whole)
    data, _ = fetch(server, tmp_path, settings)

    assert data == CLIP
    assert [request.headers.get("range") for request in server.requests] == [None, None]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda request: whole(request, etag='"new"'), id="another version, whole"),
        pytest.param(
            lambda _: sent(206, bytes(1000), **{"etag": '"new"', "content-range": "bytes 1000-1999/2000"}),
            id="another version, in part",
        ),
        pytest.param(
            lambda _: sent(206, CLIP[900:], **{"content-range": f"bytes 900-{len(CLIP) - 1}/{len(CLIP)}"}),
            id="another part",
        ),
        pytest.param(status(416), id="no such part"),
    ],
)
def test_what_does_not_continue_is_begun_anew(answer: Handler, tmp_path: Path, settings: Settings) -> None:
    data, _ = fetch(Server(cut(1000), answer, whole), tmp_path, settings)

    assert data == CLIP


def test_more_than_the_server_told_is_no_file(tmp_path: Path, settings: Settings) -> None:
    def too_much(request: httpx.Request) -> httpx.Response:
        return sent(206, CLIP, **{"content-range": f"bytes 1000-{len(CLIP) - 1}/{len(CLIP)}"})

    server = Server(cut(1000), too_much, status(416), whole)
    data, _ = fetch(server, tmp_path, settings)

    assert data == CLIP
    assert len(server.requests) == 4


def test_what_an_earlier_try_left_is_gone_on_with(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Unreachable):
        fetch(Server(cut(1000), status(503)), tmp_path, settings)
    server = Server(ranged)
    data, _ = fetch(server, tmp_path, settings, url=f"{URL}-and-fresh")

    assert data == CLIP
    assert server.requests[0].headers["range"] == "bytes=1000-"


def test_what_is_all_there_is_not_asked_for(tmp_path: Path, settings: Settings) -> None:
    fetch(Server(whole), tmp_path, settings)
    server = Server(status(500))
    data, content = fetch(server, tmp_path, settings)

    assert (data, content.ext, server.requests) == (CLIP, "mp4", [])
    with pytest.raises(TooLarge):
        fetch(server, tmp_path, settings, limits=Limits(10, ("video/*",), 10))


def test_a_connection_that_brings_nothing_ends_the_try(tmp_path: Path, settings: Settings) -> None:
    server = Server(cut(1000), cut(0))
    with pytest.raises(Unreachable, match="RemoteProtocolError") as caught:
        fetch(server, tmp_path, settings)

    assert len(server.requests) == 2
    assert "hush" not in str(caught.value)


def test_a_server_that_cuts_for_ever_ends_the_try_too(tmp_path: Path, settings: Settings) -> None:
    server = Server(cut(1000, etag='W/"abc"'))
    with pytest.raises(Unreachable):
        fetch(server, tmp_path, settings)

    assert len(server.requests) <= CONNECTIONS


def test_a_server_whose_parts_never_fit_ends_the_try(tmp_path: Path, settings: Settings) -> None:
    server = Server(cut(1000), status(416))
    with pytest.raises(Unreachable, match="don't fit together"):
        fetch(server, tmp_path, settings)

    assert len(server.requests) == CONNECTIONS


@pytest.mark.parametrize("error", [httpx.ConnectError(f"no route to {URL}"), httpx.ReadTimeout("late")])
def test_a_server_that_can_not_be_reached_ends_the_try(error: Exception, tmp_path: Path, settings: Settings) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(Unreachable) as caught:
        fetch(Server(fail), tmp_path, settings)

    assert "hush" not in caught.value.why


@pytest.mark.parametrize("code", sorted(GONE))
def test_a_url_that_is_served_no_more_is_told_from_trouble(code: int, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Gone) as caught:
        fetch(Server(status(code)), tmp_path, settings)

    assert caught.value.status == code


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 599])
def test_trouble_passes_and_the_server_may_say_when(code: int, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Unreachable, match=str(code)) as caught:
        fetch(Server(status(code, **{"retry-after": "7"})), tmp_path, settings)

    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("code", [204, 300, 304, 405, 418, 451])
def test_any_other_answer_is_none_that_a_file_comes_with(code: int, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Unfit, match=str(code)):
        fetch(Server(status(code)), tmp_path, settings)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda request: whole(request, **{"content-type": "text/html"}), id="label"),
        pytest.param(lambda _: sent(200, b"<html>" * 50), id="content"),
        pytest.param(lambda _: sent(200, b"<html>"), id="short"),
        pytest.param(lambda _: sent(200, b""), id="empty"),
        pytest.param(
            lambda request: whole(request, **{"content-encoding": "gzip"}),
            id="compressed",
        ),
    ],
)
def test_what_is_no_video_is_thrown_away(answer: Handler, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Unfit):
        fetch(Server(answer), tmp_path, settings)

    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_not_fetched_to_its_end(tmp_path: Path, settings: Settings) -> None:
    body = Cut(b"<html>" * 50, AssertionError("no more than the beginning should have been read"))
    with pytest.raises(Unfit):
        fetch(Server(lambda _: httpx.Response(200, headers=HEADERS, stream=body)), tmp_path, settings)


def test_a_file_that_is_told_to_be_too_large_is_not_begun(tmp_path: Path, settings: Settings) -> None:
    body = Cut(b"", AssertionError("nothing should have been read"))
    head = HEADERS | {"content-length": "2000000"}
    with pytest.raises(TooLarge) as caught:
        fetch(Server(lambda _: httpx.Response(200, headers=head, stream=body)), tmp_path, settings)

    assert caught.value.size == 2_000_000
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_turns_out_too_large_is_thrown_away(tmp_path: Path, settings: Settings) -> None:
    def endless() -> Iterator[bytes]:
        yield CLIP
        while True:
            yield bytes(65536)

    with pytest.raises(TooLarge) as caught:
        fetch(Server(lambda _: httpx.Response(200, headers=HEADERS, content=endless())), tmp_path, settings)

    assert caught.value.size is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_have_exactly_as_many_bytes_as_are_allowed(tmp_path: Path, settings: Settings) -> None:
    assert fetch(Server(whole), tmp_path, settings, limits=Limits(len(CLIP), ("video/*",), 10))[0] == CLIP
    (tmp_path / "a.part").unlink()
    with pytest.raises(TooLarge):
        fetch(Server(whole), tmp_path, settings, limits=Limits(len(CLIP) - 1, ("video/*",), 10))


def test_a_try_takes_no_longer_than_it_may_and_keeps_what_came(tmp_path: Path, settings: Settings) -> None:
    now = 0.0

    def slowly() -> Iterator[bytes]:
        nonlocal now
        for at in range(0, len(CLIP), 1000):
            now += 3
            yield CLIP[at : at + 1000]

    with pytest.raises(Unreachable, match="10 s"):
        fetch(
            Server(lambda _: httpx.Response(200, headers=HEADERS, content=slowly())),
            tmp_path,
            settings,
            clock=lambda: now,
        )

    assert (tmp_path / "a.part").stat().st_size == 3000


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/a", "http://user:x@127.0.0.1/a"])
def test_a_redirect_leads_nowhere_that_a_url_must_not(to: str, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Unfit):
        fetch(Server(redirect(to), whole), tmp_path, settings)


def test_a_redirect_from_a_public_address_leads_to_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server(redirect("http://169.254.169.254/latest/meta-data"), whole)
    with pytest.raises(Unfit, match="no public address"):
        fetch(server, tmp_path, Settings(base_url="https://93.184.216.34"), url="https://93.184.216.35/a.mp4")

    assert len(server.requests) == 1


def test_redirects_come_to_an_end(tmp_path: Path, settings: Settings) -> None:
    server = Server(redirect("/on"))
    with pytest.raises(Unfit, match=f"{REDIRECTS} redirects"):
        fetch(server, tmp_path, settings)

    assert len(server.requests) == REDIRECTS + 1


def test_the_log_does_not_show_the_url(tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with pytest.raises(Gone):
        fetch(Server(status(403)), tmp_path, settings)
    with httpx.Client(transport=httpx.MockTransport(whole)) as other:
        other.get("http://127.0.0.1/of-somebody-else")

    assert "hush" not in caplog.text
    assert "of-somebody-else" in caplog.text


def test_no_answer_of_the_tests_is_as_large_as_the_limit() -> None:
    assert len(CLIP) < LIMITS.max_bytes
    assert module.CONNECTIONS > 2


def test_only_the_servers_own_word_on_when_to_come_back_counts(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Unreachable) as caught:
        fetch(Server(status(503, **{"x-ratelimit-reset": "9999999999"})), tmp_path, settings)

    assert caught.value.retry_after_s is None
