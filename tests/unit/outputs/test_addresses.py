from __future__ import annotations

import pytest

from tasks_bridge.media import Unfit
from tasks_bridge.outputs.addresses import check_url, is_private
from tasks_bridge.outputs.addresses import resolve as really_resolve

HOSTS = {
    "cdn.example.com": ["93.184.216.34"],
    "v6.example.com": ["2606:2800:220:1:248:1893:25c8:1946"],
    "inside.example.com": ["10.0.0.7"],
    "both.example.com": ["93.184.216.34", "127.0.0.1"],
    "api.example.com": ["93.184.216.35"],
    "sandbox.example.com": ["127.0.0.1"],
}


def resolve(host: str) -> list[str]:
    return HOSTS.get(host, [host] if host[-1].isdigit() or ":" in host else [])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example.com/a.mp4?signature=x",
        "http://cdn.example.com/a",
        "https://v6.example.com:8443/a",
        "https://unheard-of.example.com/a",
    ],
)
def test_public_addresses_are_fetched_from(url: str) -> None:
    check_url(url, api_host="api.example.com", resolve=resolve)


@pytest.mark.parametrize(
    "host",
    [
        "inside.example.com", "both.example.com", "127.0.0.1", "127.9.9.9", "[::1]", "10.1.2.3", "192.168.0.1",
        "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "[::ffff:127.0.0.1]", "[fe80::1]", "[fd00::1]",
        "224.0.0.1", "[ff0e::1]", "storage.internal", "nas.local", "a.localhost", "bytespike.test",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_fetched_from_only_if_the_api_is_at_one(host: str) -> None:
    with pytest.raises(Unfit, match="no public address"):
        check_url(f"http://{host}:8765/latest/meta-data", api_host="api.example.com", resolve=resolve)

    check_url(f"http://{host}:8765/latest/meta-data", api_host="sandbox.example.com", resolve=resolve)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file:///etc/passwd", "'file'"),
        ("ftp://cdn.example.com/a", "'ftp'"),
        ("gopher://cdn.example.com", "'gopher'"),
        ("//cdn.example.com/a", "''"),
        ("cdn.example.com/a", "''"),
        ("https:///a", "no host"),
        ("https://user:secret-words@cdn.example.com/a", "a user in it"),
        ("https://cdn.example.com:99999/a", "can't be read"),
        ("https://[::1/a", "can't be read"),
        (f"https://cdn.example.com/{'a' * 20_000}", "absurd length"),
    ],
)
@pytest.mark.parametrize("api_host", ["api.example.com", "sandbox.example.com"])
def test_other_urls_are_refused_wherever_the_api_is_and_not_quoted(url: str, said: str, api_host: str) -> None:
    with pytest.raises(Unfit, match=said) as caught:
        check_url(url, api_host=api_host, resolve=resolve)

    assert "secret-words" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_behind_a_proxy_it_decides_what_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", "direct.example.com")
    hosts = {**HOSTS, "direct.example.com": ["10.0.0.7"]}

    check_url("https://inside.example.com/a", api_host="api.example.com", resolve=hosts.__getitem__)
    with pytest.raises(Unfit):
        check_url("https://direct.example.com/a", api_host="api.example.com", resolve=hosts.__getitem__)
    with pytest.raises(Unfit):
        check_url("http://inside.example.com/a", api_host="api.example.com", resolve=hosts.__getitem__)


def test_this_machine_is_private() -> None:
    assert is_private("localhost", really_resolve)
