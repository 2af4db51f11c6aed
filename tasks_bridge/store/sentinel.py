"""A Redis that Sentinels watch: its address as one URL, and a client that follows the master. No jobs here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from tasks_bridge.errors import SettingsError
from tasks_bridge.store.patience import CONNECT_TIMEOUT_S

SCHEME: Final = "sentinel://"
DEFAULT_PORT: Final = 26379
FORM: Final = "sentinel://host:port[;sentinel://host:port]/db?master_name=name"


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """
    ``sentinel://[user:password@]host:port[;sentinel://host:port…][/db]?master_name=name[&sentinel_password=…]``.

    The form that Celery and kombu use, and the name of the master, which they take from their transport options.
    """

    hosts: tuple[tuple[str, int], ...]
    db: int
    username: str | None
    password: str | None = field(repr=False)
    master_name: str
    sentinel_password: str | None = field(repr=False)
    plain_url: str = field(repr=False)
    """The URL without its query: Celery's and kombu's own form."""

    @classmethod
    def parse(cls, url: SecretStr) -> Self:
        """
        Take *url* apart.

        Raises:
            SettingsError: It is none, or names no master; the message doesn't quote it.
        """
        try:
            return cls._parse(url.get_secret_value())
        except ValueError:
            # from None: the cause may quote a part of the URL
            raise SettingsError(f"The URL of the Sentinels is wrong: it must look like {FORM}") from None

    @classmethod
    def _parse(cls, url: str) -> Self:
        parts = [urlsplit(chunk) for chunk in url.split(";")]
        if any(part.scheme != "sentinel" or not part.hostname for part in parts):
            raise ValueError
        query = {name: values[-1] for name, values in parse_qs(parts[-1].query).items()}
        if not query.get("master_name") or query.keys() - {"master_name", "sentinel_password"}:
            raise ValueError
        db = next((part.path.strip("/") for part in parts if part.path.strip("/")), "0")
        owner = next((part for part in parts if part.password), parts[0])
        return cls(
            hosts=tuple((part.hostname or "", part.port or DEFAULT_PORT) for part in parts),
            db=int(db),
            username=unquote(owner.username) if owner.username else None,
            password=unquote(owner.password) if owner.password else None,
            master_name=query["master_name"],
            sentinel_password=query.get("sentinel_password"),
            plain_url=url.partition("?")[0],
        )

    @property
    def transport_options(self) -> dict[str, Any]:
        """What Celery's result backend and kombu need beside the plain URL."""
        return {"master_name": self.master_name, "sentinel_kwargs": self._sentinel_options(CONNECT_TIMEOUT_S)}

    def client(self, **options: Any) -> redis.Redis:
        """A client of whichever server is the master, with *options* of the connections; nothing is sent yet."""
        make_sentinel: Any = Sentinel  # without types
        sentinel = make_sentinel(
            list(self.hosts), sentinel_kwargs=self._sentinel_options(options["socket_connect_timeout"]), **options
        )
        master: redis.Redis = sentinel.master_for(
            self.master_name, redis.Redis, db=self.db, username=self.username, password=self.password
        )
        return master

    def _sentinel_options(self, wait_s: float) -> dict[str, Any]:
        return {
            "password": self.sentinel_password,
            "socket_timeout": wait_s,
            "socket_connect_timeout": wait_s,
            # by itself, redis-py asks one that is down for seconds before it asks the next
            "retry": Retry(NoBackoff(), 0),
        }


def sentinel_url(plain_url: SecretStr, transport_options: Any) -> SecretStr:
    """
    Celery's or kombu's URL and transport options, as one URL.

    What they lack is left out: `SentinelAddress.parse` says what it was.
    """
    options = transport_options or {}
    query = {
        "master_name": options.get("master_name"),
        "sentinel_password": (options.get("sentinel_kwargs") or {}).get("password"),
    }
    return SecretStr(
        f"{plain_url.get_secret_value()}?{urlencode({name: value for name, value in query.items() if value})}"
    )
