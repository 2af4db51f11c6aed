"""
Which addresses outputs are fetched from.

URLs come from ByteSpike's answers, so whoever could write these could make workers fetch from inside the network that
they are in. The rule: http and https only, and public addresses only, unless the API itself is at an address that
isn't: a sandbox, or a gateway of one's own. Each redirect goes by it too. A name that is public when it is looked up
here and private when it is connected to gets past the rule; what it leads to has to be a picture, a video or a sound.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tasks_bridge.media import Unfit

Resolve = Callable[[str], Iterable[str]]
"""From a host's name to its addresses; none if it has none."""

_LONGEST_URL: Final = 16 * 1024

_OF_NOBODY: Final = (".test", ".localhost", ".invalid", ".local", ".internal")
"""Names that the world's name servers don't know. Source: RFC 2606, RFC 6762; ICANN (``.internal``)."""


def resolve(host: str) -> list[str]:
    """The addresses of *host*; none if it can't be found, which connecting will tell."""
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError:
        return []


def check_url(url: str, *, api_host: str, resolve: Resolve = resolve) -> None:
    """
    Refuse a URL that workers don't go to.

    Args:
        url: Of an output, or of a redirect.
        api_host: Where the API is.
        resolve: Looks names up.

    Raises:
        Unfit: It says why, and does not quote the URL, whose query is as good as a key.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Unfit("its URL can't be read") from None
    if parts.scheme not in ("http", "https"):
        raise Unfit(f"its URL begins with {parts.scheme[:20]!r}, and only http and https are fetched")
    if not host or "@" in parts.netloc or len(url) > _LONGEST_URL:
        raise Unfit("its URL has no host, a user in it, or an absurd length")
    if not _is_proxied(parts.scheme, host) and is_private(host, resolve) and not is_private(api_host, resolve):
        raise Unfit(f"it is at {host}, which is no public address, while the API is at one")


def is_private(host: str, resolve: Resolve = resolve) -> bool:
    """Whether any address of *host* is one that not everybody can reach."""
    return host.endswith(_OF_NOBODY) or any(not _is_public(address) for address in resolve(host))


def _is_public(address: str) -> bool:
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_global and not found.is_multicast


def _is_proxied(scheme: str, host: str) -> bool:
    """Whether the environment sends such requests through a proxy, which then decides what is reached."""
    proxies = getproxies()
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host)
