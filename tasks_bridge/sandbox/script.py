"""
What a developer may ask of one submitted task: ``params["sandbox"]``.

ByteSpike has no test mode, and its contract leaves the contents of ``params`` to the model; so the script
travels there, and a request with a script is still a documented request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tasks_bridge.sandbox.refusal import invalid_param

PLACES: Final = ("submit", "query", "cancel", "stream", "callback", "files")
KINDS: Final = (
    "lost_response",
    "refused",
    "status",
    "not_found",
    "hang",
    "slow",
    "garbage",
    "wrong_content_type",
    "half_close",
    "duplicate",
    "trickle",
    "endless",
    "ignore_range",
    "new_etag",
)
OUTCOMES: Final = ("completed", "failed", "hang")
CANCEL_POLICIES: Final = ("free", "billed", "refused", "completes")
DIALECTS: Final = ("new", "old")

# The kinds that misbehave only in what the client gets to see.
_WORK_IS_DONE: Final = frozenset({"lost_response", "garbage", "wrong_content_type", "half_close"})
_OF_FILES_ONLY: Final = frozenset({"trickle", "endless", "ignore_range", "new_etag"})
_OF_AN_END: Final = frozenset({"outcome", "error_code", "error_message", "credits", "count", "output"})
_MAX_COUNT: Final = 100
_MAX_FILE_BYTES: Final = 2**40
_LOWEST_HTTP_STATUS: Final = 200
_HIGHEST_HTTP_STATUS: Final = 599

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One way to misbehave, and when.

    Attributes:
        on: The request it applies to: one of `PLACES`, or ``any`` for a fault of the whole server.
        kind: One of `KINDS`:

            - ``lost_response``: the work is done, the connection closes without an answer.
            - ``refused``: the connection closes before any work.
            - ``status``: an error envelope with *status*, *code*, *message*, and headers.
            - ``not_found``: 404 ``task_not_found``.
            - ``hang``: nothing is answered for *hang_s*, or until the client leaves if that is None.
            - ``slow``: the answer is right, *delay_s* late.
            - ``garbage``: 200 with a body that is not JSON.
            - ``wrong_content_type``: the right body, labelled ``text/html``.
            - ``half_close``: half of the right body, then the connection closes.
            - ``duplicate``: the callback is delivered twice; only on ``callback``.
            - ``trickle``: all that was asked for comes slowly, in *delay_s*; only on ``files``, as the next three.
            - ``endless``: behind the file more comes, without end, and no length is told.
            - ``ignore_range``: 200 and the whole file, whatever part was asked for.
            - ``new_etag``: the file has another ETag than ever before.

        times: How many requests it spoils, None for all of them.
        after: How many requests of that kind pass unharmed first.
        for_s: Seconds it lasts, counted from when it was asked for; None for ever.
        work_done: Whether the request takes effect although its answer is bad.
        retry_after_s: Sent as ``Retry-After``.
        reset_in_s: Sent as ``X-RateLimit-Reset``, that many seconds from now.

    All times are real seconds: the sandbox's speed does not shorten them.
    """

    on: str
    kind: str
    times: int | None = 1
    after: int = 0
    for_s: float | None = None
    work_done: bool = False
    delay_s: float = 1.0
    hang_s: float | None = None
    status: int = 500
    code: str | None = None
    message: str | None = None
    retry_after_s: float | None = None
    reset_in_s: float | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Script:
    """
    The course of one task. None means: what the model would do.

    Attributes:
        duration_s: Seconds from submit to the end, pending time included.
        pending_s: Seconds before it runs. Not less than *duration_s*: it ends without ever running.
        estimate_s: Reported as ``estimated_seconds``, rounded; see *has_estimate*.
        has_estimate: False leaves ``estimated_seconds`` out of every response.
        outcome: ``completed``, ``failed``, or ``hang``: it never ends.
        credits: Reported as ``credits_used`` on completion.
        estimated_credits: Reported as such; see *has_estimated_credits*.
        cancel: What cancelling it while not ended does: ``free``; ``billed`` (if it runs already);
            ``refused``: it goes on; ``completes``: it turns out to be complete.
        cancel_credits: Charge of a billed cancel; None for the share of the time it ran.
        count: Number of outputs.
        output: Sent verbatim as ``output``.
        url_life_s: How long each URL that an answer tells is served, in real seconds; each answer tells new ones. None:
            always, and always the same.
        file_bytes: Length of the file behind each URL; not less than that of the picture or clip.
        dialect: ``old``: first status ``queued``, ``result.video_url``, ``credits``, ``submitted_at``,
            ``completed_at``, as on the model pages.
        unknown_field: Adds members no documentation names.
        unknown_status: Reported in place of ``running``.
    """

    duration_s: float | None = None
    pending_s: float | None = None
    estimate_s: float | None = None
    has_estimate: bool = True
    outcome: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    credits: float | None = None
    estimated_credits: float | None = None
    has_estimated_credits: bool = True
    cancel: str = "free"
    cancel_credits: float | None = None
    count: int | None = None
    output: list[JsonObject] | None = None
    url_life_s: float | None = None
    file_bytes: int | None = None
    dialect: str = "new"
    unknown_field: bool = False
    unknown_status: str | None = None
    faults: tuple[Fault, ...] = ()


NO_SCRIPT: Final = Script()


def parse_script(value: object) -> Script:
    """
    Read ``params["sandbox"]``.

    Raises:
        Refusal: 400 ``invalid_param`` naming the member that is wrong; unknown members are wrong too, so that
            a misspelt fault does not pass for a success.
    """
    members = _Members(value, "params.sandbox")
    script = Script(
        duration_s=members.seconds("duration_s"),
        pending_s=members.seconds("pending_s"),
        estimate_s=members.seconds("estimate_s"),
        has_estimate=not members.is_null("estimate_s"),
        outcome=members.choice("outcome", OUTCOMES),
        error_code=members.text("error_code"),
        error_message=members.text("error_message"),
        credits=members.seconds("credits"),
        estimated_credits=members.seconds("estimated_credits"),
        has_estimated_credits=not members.is_null("estimated_credits"),
        cancel=members.choice("cancel", CANCEL_POLICIES) or "free",
        cancel_credits=members.seconds("cancel_credits"),
        count=members.whole("count", 0, _MAX_COUNT),
        output=members.objects("output"),
        url_life_s=members.seconds("url_life_s"),
        file_bytes=members.whole("file_bytes", 0, _MAX_FILE_BYTES),
        dialect=members.choice("dialect", DIALECTS) or "new",
        unknown_field=members.flag("unknown_field") or False,
        unknown_status=members.text("unknown_status"),
        faults=tuple(
            parse_fault(fault, f"params.sandbox.faults[{index}]")
            for index, fault in enumerate(members.items("faults") or [])
        ),
    )
    members.refuse_unknown()
    return script


def parse_end(members: Mapping[str, object]) -> Script:
    """
    Read how a task is to end at once: those members of a script that speak of its end.

    Raises:
        Refusal: One is unknown or wrong; a task that never ends can't end so.
    """
    if unknown := sorted(set(members) - _OF_AN_END):
        raise invalid_param(f"an end takes {', '.join(sorted(_OF_AN_END))}, not {', '.join(unknown)}")
    script = parse_script(dict(members))
    if script.outcome == "hang":
        raise invalid_param("`hang` is no way to end")
    return script


def parse_fault(value: object, where: str = "fault", *, server_wide: bool = False) -> Fault:
    """
    Read one fault.

    Args:
        where: How to call it in a refusal.
        server_wide: ``on`` may be ``any`` (and is, if left out).

    A fault applies once unless ``times`` says otherwise (null: always); one with ``for_s`` applies always
    while it lasts.

    Raises:
        Refusal: 400 ``invalid_param`` naming the member that is wrong.
    """
    members = _Members(value, where)
    on = members.choice("on", (*PLACES, "any") if server_wide else PLACES) or ("any" if server_wide else None)
    kind = members.choice("kind", KINDS)
    if on is None or kind is None:
        raise invalid_param(f"{where} needs `on` and `kind`")
    if kind == "duplicate" and on != "callback":
        raise invalid_param(f"{where}.kind `duplicate` is for callbacks only")
    if kind in _OF_FILES_ONLY and on != "files":
        raise invalid_param(f"{where}.kind `{kind}` is for files only")
    for_s = members.seconds("for_s")
    times = members.whole("times", 0, None)
    if times is None and for_s is None and not members.is_null("times"):
        times = 1
    work_done = members.flag("work_done")
    delay_s = members.seconds("delay_s")
    fault = Fault(
        on=on,
        kind=kind,
        times=times,
        after=members.whole("after", 0, None) or 0,
        for_s=for_s,
        work_done=kind in _WORK_IS_DONE if work_done is None else work_done,
        delay_s=1.0 if delay_s is None else delay_s,
        hang_s=members.seconds("hang_s"),
        status=members.whole("status", _LOWEST_HTTP_STATUS, _HIGHEST_HTTP_STATUS) or 500,
        code=members.text("code"),
        message=members.text("message"),
        retry_after_s=members.seconds("retry_after_s"),
        reset_in_s=members.seconds("reset_in_s"),
        headers=members.headers("headers"),
    )
    members.refuse_unknown()
    return fault


def outage_s(members: Mapping[str, object]) -> float:
    """
    Return how long an outage asked for as ``{"kind": "down", "for_s": …}`` lasts.

    Raises:
        Refusal: There is no ``for_s``, it is no number of seconds, or there are other members.
    """
    for_s = members.get("for_s")
    if isinstance(for_s, bool) or not isinstance(for_s, int | float) or for_s < 0:
        raise invalid_param("`down` needs for_s, a number of seconds")
    if unknown := sorted(set(members) - {"kind", "for_s"}):
        raise invalid_param(f"`down` takes for_s only, not {', '.join(unknown)}")
    return float(for_s)


class _Members:
    """
    The members of one JSON object, read by type; remembers which were asked for.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise invalid_param(f"{where} must be an object")
        self._value: JsonObject = value
        self._where = where
        self._known: set[str] = set()

    def refuse_unknown(self) -> None:
        unknown = sorted(set(self._value) - self._known)
        if unknown:
            raise invalid_param(f"{self._where} has unknown members: {', '.join(unknown)}")

    def is_null(self, name: str) -> bool:
        return name in self._value and self._value[name] is None

    def seconds(self, name: str) -> float | None:
        number: float | None = self._get(name, (int, float), "a number, 0 or more")
        if number is not None and not 0 <= number < float("inf"):
            raise self._wrong(name, "a number, 0 or more")
        return number

    def whole(self, name: str, lowest: int, highest: int | None) -> int | None:
        wanted = f"a whole number, {lowest} " + ("or more" if highest is None else f"to {highest}")
        number: int | None = self._get(name, (int,), wanted)
        if number is not None and (number < lowest or (highest is not None and number > highest)):
            raise self._wrong(name, wanted)
        return number

    def text(self, name: str) -> str | None:
        text: str | None = self._get(name, (str,), "a string")
        return text

    def flag(self, name: str) -> bool | None:
        value = self._value.get(name)
        self._known.add(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            raise self._wrong(name, f"one of {', '.join(choices)}")
        return value

    def items(self, name: str) -> list[object] | None:
        items: list[object] | None = self._get(name, (list,), "an array")
        return items

    def objects(self, name: str) -> list[JsonObject] | None:
        items = self.items(name)
        if items is None:
            return None
        if not all(isinstance(item, dict) for item in items):
            raise self._wrong(name, "an array of objects")
        return [item for item in items if isinstance(item, dict)]

    def headers(self, name: str) -> dict[str, str]:
        headers = self._get(name, (dict,), "an object of strings") or {}
        if not all(isinstance(text, str) for text in headers.values()):
            raise self._wrong(name, "an object of strings")
        return headers

    def _get(self, name: str, types: tuple[type, ...], wanted: str) -> Any:
        self._known.add(name)
        value = self._value.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            raise self._wrong(name, wanted)
        return value

    def _wrong(self, name: str, wanted: str) -> Exception:
        return invalid_param(f"{self._where}.{name} must be {wanted}")
