"""
The configuration: one frozen object, from the environment or from arguments, checked when it is made.

Names in the environment are the field names in capitals under ``TASKS_BRIDGE_``, but for the three that belong to the
API itself: ``BYTESPIKE_API_KEY``, ``BYTESPIKE_API_KEYS`` and ``BYTESPIKE_BASE_URL``.
"""

from __future__ import annotations

import difflib
import os
import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSetting

from tasks_bridge.errors import InvalidRequest, SettingsError
from tasks_bridge.media import is_media_type
from tasks_bridge.naming import parse_target
from tasks_bridge.tokens import MIN_SECRET_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_KEY: Final = "default"
"""Alias of the key in ``BYTESPIKE_API_KEY``."""
DEFAULT_NAMESPACE: Final = "tasks-bridge"
QUEUE: Final = "tasks_bridge"
"""Queue of poll messages, or its start."""

HTTPS_PORT: Final = 443

UNREADABLE: Final = (
    "can't be read: it must look like redis://user:password@host:port/0, with special characters of a password "
    "percent-encoded, as %2F for a slash"
)
"""Said of a URL, which is not quoted: what follows a bare ``/``, ``?`` or ``#`` in it may be half of a password."""

_SCHEMES: Final = ("redis", "rediss", "sentinel", "amqp", "amqps", "pyamqp")

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Credits = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_API_PREFIX: Final = "BYTESPIKE_"
_OWN_PREFIX: Final = "TASKS_BRIDGE_"
_API_FIELDS: Final = ("api_key", "api_keys", "base_url")


def _api(name: str, **extra: Any) -> Any:
    return Field(validation_alias=AliasChoices(name, f"{_API_PREFIX}{name}".upper()), **extra)


class Settings(BaseSettings):
    """
    Everything that can be set. Plain numbers are seconds and end in ``_s``.

    Raises:
        SettingsError: A value is missing or wrong, or a name is unknown; no message shows a value of a secret.
    """

    model_config = SettingsConfigDict(
        env_prefix=_OWN_PREFIX,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_ignore_empty=True,
    )

    # -- the API ------------------------------------------------------------------------------------------------------

    api_key: SecretStr | None = _api("api_key", default=None)
    """The ByteSpike key, under the alias ``default``."""
    api_keys: dict[str, SecretStr] = _api("api_keys", default={})
    """More keys by alias, as JSON. A task is visible only to the key that made it, so each job remembers its alias."""
    base_url: str = _api("base_url", default="https://llm.bytespike.ai")
    connect_timeout_s: Seconds = 5.0
    """Contract, section 14 (HTTP timeouts), as the next two."""
    query_timeout_s: Seconds = 30.0
    """For a whole query or cancel."""
    submit_timeout_s: Seconds = 60.0
    """For a whole submit; running into it says nothing of whether a task was created."""

    # -- our own places -----------------------------------------------------------------------------------------------

    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    """Where jobs wait. It must persist (AOF) and must not evict."""
    broker_url: SecretStr | None = None
    """Celery's broker, for an app that has none configured; default: `redis_url`."""
    result_backend: SecretStr | None = None
    """Celery's result backend, for an app that has none configured; default: `redis_url`."""
    namespace: str = Field(default=DEFAULT_NAMESPACE, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Start of every key in Redis, so that several deployments can share one."""
    queue: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Celery queue of the `poll` messages. Every worker of an installed app reads it, whatever its ``-Q``. Default:
    see `poll_queue`."""
    secret_key: SecretStr | None = None
    """What tokens in URLs are signed with: at least 32 characters that nobody can guess. There is no default: whatever
    needs it says so."""
    secret_key_fallbacks: list[SecretStr] = []
    """Secret keys of the past, as JSON: what they signed is still valid, nothing new is signed with them."""
    callback_base_url: str | None = None
    """Public address under which the view that calls `callbacks.receive` is reached; ByteSpike is given it, and a token
    for the job, with every submit. Needs `secret_key`. Default: no callbacks."""
    alarm: bool = True
    """False for workers that must neither wake nor poll jobs."""
    log_format: Literal["text", "json"] = "text"
    """How a worker's log is written, where Celery sets it up: as Celery's settings say, or as JSON."""
    health_file: Path | None = None
    """Where a worker notes its pulse, for `tasks_bridge.health`; one file for each worker. Default: nowhere."""
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where a worker tells Prometheus what it does; needs the extra ``metrics``. One for each worker of a machine.
    Default: nowhere."""
    metrics_host: str = "127.0.0.1"
    """The address it listens on there. Metrics name models and costs, so they are not for everybody."""
    metrics_token: SecretStr | None = None
    """Who sends it, as ``Authorization: Bearer …``, may read the metrics of all jobs at ``metrics`` among the URLs of a
    web application: at least 32 characters. Default: nobody, and there is no such URL."""
    stream_limit: int = Field(default=1000, ge=0)
    """Most live streams of events that one web process keeps open; whoever comes beyond is told to poll. 0: none."""
    show_credits: bool = False
    """Whether a job's document for web pages says what the job cost."""

    # -- pace ---------------------------------------------------------------------------------------------------------

    poll_min_s: Seconds = 2.0
    """Shortest countdown. Source: the /tasks/query page, "Polling cadence"."""
    poll_max_s: Seconds = 120.0
    """Longest countdown, and so how old the state that is shown may get."""
    poll_cost_s: Seconds = 1.0
    """How many seconds of lag one poll is worth. More makes learned countdowns longer."""
    learn_cadence: bool = True
    """Whether countdowns follow from how long the model's latest jobs took; otherwise all go by the published rule."""
    callback_poll_factor: float = Field(default=4.0, ge=1, le=100)
    """How much longer the countdowns of jobs are that ByteSpike was asked to call back for, until their callbacks have
    shown how often they come; and how much longer than `poll_max_s` they may be. They never end: whether a callback
    comes at all is not documented (contract, section 14)."""
    poll_batch: int = Field(default=100, ge=1, le=1000)
    """Most jobs that one `poll` message names."""
    tick_s: Seconds = 0.25
    """How often each worker looks for due jobs: the most that it adds to a countdown."""
    lease_s: Seconds = 15.0
    """How long a silent worker keeps a job. Renewed while it works: bounds only the recovery from its death."""
    deadline_s: Seconds | None = None
    """A job's deadline where the call names none; default: the later of 15 minutes and 20 estimates."""
    cancel_grace_s: Seconds = 300.0
    """How long after the deadline, or the first try if that is later, to insist that ByteSpike confirm the cancel."""
    not_found_grace_s: Seconds = 30.0
    """How long after a submit ``task_not_found`` is taken for a delay. Source: contract, section 14."""

    # -- failures -----------------------------------------------------------------------------------------------------

    store_timeout_s: Seconds = 5.0
    """How long a caller waits for a Redis that hangs, in all; a worker waits longer, see `store.patience`."""
    submit_attempts: int = Field(default=4, ge=1)
    """Submits without a usable answer before going on slowly, every `retry_max_s`, until the deadline."""
    submit_concurrency: int | None = Field(default=None, ge=1)
    """Most submits at a time, of all workers together; default: no cap but ByteSpike's (contract, section 9)."""
    breaker_max_s: Seconds = 15.0
    """Longest interval between probes while the API does not answer."""
    retry_min_s: Seconds = 1.0
    """First wait after a failed request; doubles. Source: contract, section 8 (retry policy)."""
    retry_max_s: Seconds = 60.0
    """Longest wait after a failed request."""
    rate_limit_max_s: Seconds = 300.0
    """Longest wait that a 429 can impose. Source: contract, section 8."""
    on_insufficient_balance: Literal["fail", "wait"] = "fail"
    """What a 402 does to a job: end it, or let it wait for a top-up until its deadline."""

    # -- outputs ------------------------------------------------------------------------------------------------------

    save_to: str | None = None
    """Where `save_output` puts outputs if its call doesn't say: a folder, a URL; see `naming`."""
    save_max_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    """Most bytes of one output."""
    save_content_types: list[str] = ["image/*", "video/*", "audio/*"]
    """What outputs may be, as JSON."""
    save_timeout_s: Seconds = 900.0
    """For one try to fetch one output; what has come by then is kept for the next."""
    save_silence_s: Seconds = 30.0
    """How long an output's server may send nothing."""
    save_attempts: int = Field(default=20, ge=1)
    """Tries to save a job's outputs, while a server or the destination can't be reached: nearly two hours."""
    save_retry_max_s: Seconds = 600.0
    """Longest wait between two of them; the first is `retry_min_s`, and each is twice the one before."""
    save_folder: str | None = None
    """Where what is on its way to another place than a folder is kept meanwhile; default: among the temporary files."""

    # -- spending -----------------------------------------------------------------------------------------------------

    spend_limit: Credits | None = None
    """Most credits for all jobs of a period: used, and reserved for those on their way. The unit is that of the API's
    ``estimated_credits`` and ``credits_used``, unconverted, as in all that follows."""
    spend_limit_per_label: Credits | None = None
    """The same for the jobs under each label."""
    spend_limit_per_job: Credits | None = None
    """Most credits for one job; a job may set itself a lower limit with `max_credits`."""
    spend_period_s: Seconds = 24 * 3600.0
    """Length of a period. Periods follow each other on Redis' clock from the epoch: a day begins at midnight UTC."""
    spend_unknown: Credits = 0.0
    """What to reserve for a job that sets no `max_credits`, before anything is known of its model's cost."""
    on_spend_limit: Literal["fail", "wait"] = "fail"
    """What a limit that is reached does to a job that is not submitted yet: end it, or let it wait until its
    deadline."""

    # -- memory -------------------------------------------------------------------------------------------------------

    result_ttl_s: Seconds = 24 * 3600.0
    """How long a finished job is remembered; as Celery's ``result_expires``, and as long as output URLs live."""
    keep_prompt: bool = False
    """Keep the request in Redis after ByteSpike accepted it, until the job is forgotten."""

    def __init__(self, **values: Any) -> None:
        _refuse_unknown_names(list(os.environ))
        try:
            super().__init__(**values)
        except ValidationError as error:
            values.clear()  # crash reporters show local variables
            raise SettingsError(_explain(error)) from None
        except UnreadableSetting as error:  # a value that should be JSON is not
            values.clear()
            field = str(error).split('"')[1]
            raise SettingsError(f"The settings are wrong: {field} ({_variable(field)}): must be JSON") from None

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse, as `frozen` does, but without showing what may be a secret."""
        del value
        raise SettingsError(f"Settings do not change: make others, with another {name}")

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        if not _is_plain_url(value):
            msg = "must be an http or https URL without user and query"
            raise ValueError(msg)
        return value.rstrip("/")

    @field_validator("callback_base_url")
    @classmethod
    def _check_callback_base_url(cls, value: str | None) -> str | None:
        if value is not None and not _is_plain_url(value):
            msg = "must be an https URL without user, query and fragment"
            raise ValueError(msg)
        return None if value is None else value.rstrip("/")

    @field_validator("redis_url", "broker_url", "result_backend")
    @classmethod
    def _check_places(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not is_readable(value):
            raise ValueError(UNREADABLE)
        return value

    @field_validator("save_to")
    @classmethod
    def _check_save_to(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                parse_target(value)
        except InvalidRequest:  # it quotes the value, which may hold what is secret at the destination
            msg = "must be an absolute path or a URL without password; its fields may be {id}, {index}, {ext}, {model}"
            raise ValueError(msg) from None
        return value

    @field_validator("save_content_types")
    @classmethod
    def _check_content_types(cls, value: list[str]) -> list[str]:
        if not value or not all(map(is_media_type, value)):
            msg = 'must be a JSON list of media types, such as ["video/*", "image/png"]'
            raise ValueError(msg)
        return value

    @field_validator("save_folder")
    @classmethod
    def _check_save_folder(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            msg = "must be an absolute path"
            raise ValueError(msg)
        return value

    @field_validator("api_keys")
    @classmethod
    def _check_aliases(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for alias in value:
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", alias):
                msg = "an alias is 1 to 64 letters, digits, '.', '_' or '-'"
                raise ValueError(msg)
        return value

    @field_validator("metrics_token", "secret_key", "secret_key_fallbacks")
    @classmethod
    def _check_secret_keys(cls, value: SecretStr | list[SecretStr] | None) -> SecretStr | list[SecretStr] | None:
        for secret in value if isinstance(value, list) else [value]:
            if secret is not None and len(secret.get_secret_value().strip()) < MIN_SECRET_CHARS:
                msg = f"must have at least {MIN_SECRET_CHARS} characters"
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        for low, high in (
            ("poll_min_s", "poll_max_s"),
            ("retry_min_s", "retry_max_s"),
            ("retry_min_s", "save_retry_max_s"),
            ("tick_s", "lease_s"),
        ):
            if getattr(self, low) > getattr(self, high):
                msg = f"{low} must not be above {high}"
                raise ValueError(msg)
        if self.callback_base_url is not None:
            self._check_callbacks(self.callback_base_url)
        if self.api_key is not None and DEFAULT_KEY in self.api_keys:
            msg = (
                f"the alias '{DEFAULT_KEY}' is the key in BYTESPIKE_API_KEY; it can't be in BYTESPIKE_API_KEYS as well"
            )
            raise ValueError(msg)
        return self

    def _check_callbacks(self, url: str) -> None:
        """
        Refuse what ByteSpike can hardly reach.

        Source: contract, section 14 (callback URL rules): HTTPS on port 443, a public host.
        """
        if self.secret_key is None:
            msg = "callback_base_url needs TASKS_BRIDGE_SECRET_KEY, to sign the URLs with"
            raise ValueError(msg)
        # in development: a sandbox on this machine calls back on this machine
        is_local = _is_loopback(_host(url)) and _is_loopback(_host(self.base_url))
        parts = urlsplit(url)
        if not is_local and not (
            parts.scheme == "https" and parts.port in (None, HTTPS_PORT) and _is_public(_host(url))
        ):
            msg = "callback_base_url must be an https URL on port 443 of a public host"
            raise ValueError(msg)

    @property
    def keys(self) -> dict[str, SecretStr]:
        """All API keys by alias."""
        return self.api_keys if self.api_key is None else {DEFAULT_KEY: self.api_key, **self.api_keys}

    def key(self, alias: str) -> SecretStr:
        """
        The API key under *alias*.

        Raises:
            SettingsError: There is none.
        """
        secret = self.keys.get(alias)
        if secret is not None and secret.get_secret_value().strip():
            return secret
        if alias == DEFAULT_KEY:
            raise SettingsError("There is no ByteSpike API key: set BYTESPIKE_API_KEY")
        known = ", ".join(sorted(self.keys)) or "none"
        raise SettingsError(f"There is no ByteSpike API key '{alias}' (known: {known}): add it to BYTESPIKE_API_KEYS")

    @property
    def secret_keys(self) -> list[SecretStr]:
        """
        The key to sign with, and after it those that are still good for verifying.

        Raises:
            SettingsError: There is none.
        """
        if self.secret_key is None:
            raise SettingsError(
                f"There is no secret key to sign URLs with: set TASKS_BRIDGE_SECRET_KEY to {MIN_SECRET_CHARS} or more "
                "random characters, the same in all processes"
            )
        return [self.secret_key, *self.secret_key_fallbacks]

    @property
    def has_spend_limit(self) -> bool:
        """Whether anything limits what jobs may cost, beside their own `max_credits`."""
        limits = (self.spend_limit, self.spend_limit_per_label, self.spend_limit_per_job)
        return any(limit is not None for limit in limits)

    @property
    def poll_queue(self) -> str:
        """
        Celery queue of the `poll` messages.

        A namespace of one's own has its own: polls that another app's workers took would come to nothing there.
        """
        return self.queue or (QUEUE if self.namespace == DEFAULT_NAMESPACE else f"{QUEUE}.{self.namespace}")

    @property
    def broker(self) -> str:
        """The broker's URL, credentials included."""
        return (self.broker_url or self.redis_url).get_secret_value()

    @property
    def backend(self) -> str:
        """The result backend's URL, credentials included."""
        return (self.result_backend or self.redis_url).get_secret_value()


def is_readable(url: SecretStr) -> bool:
    """Whether the address of a broker or a Redis can be taken apart; of other kinds of servers, it is theirs to say."""
    # between the addresses of several servers, but not within a password
    for part in re.split(r";(?=[a-z]+://)", url.get_secret_value()):
        try:
            parts = urlsplit(part)
            is_database = parts.scheme not in ("redis", "rediss", "sentinel") or re.fullmatch(r"/?\d*/?", parts.path)
            if parts.scheme in _SCHEMES and (parts.port == 0 or not is_database):
                return False
        except ValueError:  # a port that is no number, brackets that don't match
            return False
    return True


def _is_plain_url(url: str) -> bool:
    """Whether *url* is one of HTTP without user, query and fragment, and can be taken apart."""
    try:
        parts = urlsplit(url)
        can_be_reached = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that don't match
        return False
    return can_be_reached and re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url) is not None


def _host(plain_url: str) -> str:
    return str(urlsplit(plain_url).hostname)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_public(host: str) -> bool:
    """Whether *host* may be reached from outside, as far as its name tells."""
    address = _address(host)
    if address is not None:
        return address.is_global
    name = host.removesuffix(".")
    return "." in name and not name.endswith((".localhost", ".local", ".internal"))


def _variable(field: str) -> str:
    return f"{_API_PREFIX if field in _API_FIELDS else _OWN_PREFIX}{field}".upper()


def _refuse_unknown_names(environment: Sequence[str]) -> None:
    """A misspelt variable would silently leave the default in force. Without the values, which may be secret."""
    known = {field.upper(): _variable(field) for field in Settings.model_fields}
    for name in environment:
        # in either case, as pydantic-settings reads them
        upper = name.upper()
        if upper.startswith((_API_PREFIX, _OWN_PREFIX)) and upper not in known.values():
            # without the prefix, which would make all of them look alike
            close = difflib.get_close_matches(upper.removeprefix(_API_PREFIX).removeprefix(_OWN_PREFIX), known)
            hint = f": did you mean {known[close[0]]}?" if close else f"; known are {', '.join(sorted(known.values()))}"
            raise SettingsError(f"Unknown setting {name!r} in the environment{hint}")


def _explain(error: ValidationError) -> str:
    parts = []
    for problem in error.errors(include_input=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(field, Settings.model_fields)
            parts.append(f"unknown setting {field!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
        else:
            text = problem["msg"].removeprefix("Value error, ")
            parts.append(f"{field} ({_variable(field)}): {text}" if field else text)
    return "The settings are wrong: " + "; ".join(parts)
