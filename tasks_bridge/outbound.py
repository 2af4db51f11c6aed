"""
Where requests may go. Everywhere, except in a test run: a test that reached ByteSpike itself would be paid for.

It imports nothing, so that the plugin for pytest can switch it before anything else is there.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

_allows: Callable[[str], bool] | None = None


class RequestRefused(RuntimeError):
    """
    A test was about to send a request to a host that it must not reach. Nothing was sent.

    It is none of the library's errors, which would have the job wait and try again.
    """


def restrict(allows: Callable[[str], bool] | None) -> None:
    """Let requests go only to hosts that *allows* says yes to; None lifts all restrictions."""
    global _allows  # noqa: PLW0603 - one per process, like the environment
    _allows = allows


def check(url: str) -> None:
    """
    Make sure that a request may go to *url*.

    Raises:
        RequestRefused: It may not.
    """
    if _allows is None:
        return
    host = urlsplit(url).hostname or ""
    if not _allows(host):
        raise RequestRefused(
            f"This is a test run, which must not reach {host}: it would be paid for. Use the fixture `bytespike` or "
            f"`bytespike_sandbox`; or, if it is no mistake, name the host: bytespike_allow_hosts = {host}"
        )
