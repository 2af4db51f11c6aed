"""Where an output goes: a destination as the application writes it, and the name of each file. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tasks_bridge.errors import InvalidRequest

FIELDS: Final = ("id", "index", "ext", "model")
DEFAULT_NAME: Final = "{id}.{ext}"
FOLDER: Final = "file"
"""The scheme of a folder, also of one that is written without a scheme."""

_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+)://(?P<root>[^/]*)(?:/(?P<pattern>.*))?", re.DOTALL)
_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_SUFFIX: Final = re.compile(r"\.(?:\{ext\}|[A-Za-z0-9]+)\Z")
_MEDIA_SUFFIX: Final = re.compile(r"\.(?:mp4|mov|webm|png|jpe?g|webp|gif|mp3|wav)\Z", re.IGNORECASE)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_NUMBER_MARK: Final = "~"
"""Before the number of a further output. No id has it, so no two jobs come to the same name."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    A destination, taken apart.

    Attributes:
        scheme: `FOLDER`, or that of the URL.
        root: Of a folder: the absolute path up to the first field; of a URL: what stands before the first slash, such
            as a bucket.
        pattern: The name below it, with fields.
    """

    scheme: str
    root: str
    pattern: str

    def __str__(self) -> str:
        if self.scheme == FOLDER:
            return f"{self.root.rstrip('/')}/{self.pattern}"
        return f"{self.scheme}://{self.root}/{self.pattern}"


def parse_target(text: object) -> Target:
    """
    Read a destination: an absolute path or a URL, in which ``{id}``, ``{index}``, ``{ext}`` and ``{model}`` may stand.

    One without a field is a folder, in which files are called `DEFAULT_NAME`.

    Raises:
        InvalidRequest: It can't be used; in words that say why.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest("The destination of an output must be an absolute path or a URL, such as s3://bucket/{id}")
    if re.search(r"[\x00-\x1f\x7f\\?#]|::", text):
        raise _wrong(text, "it has characters that no destination may have")
    found = _URL.fullmatch(text)
    if found is None:
        if not text.startswith("/"):
            raise _wrong(text, "a folder is an absolute path, as the workers' current folder may be any")
        return _folder(text)
    scheme, root, pattern = found["scheme"], found["root"], found["pattern"] or ""
    if re.search(r":[^@]*@", root):
        raise InvalidRequest(
            "The destination of an output must not have a password in it: it would be in messages and results. "
            "Configure fsspec instead"
        )
    if scheme == FOLDER:
        if root not in ("", "localhost"):
            raise _wrong(text, "file:// leads to this machine only: file:///srv/media")
        return _folder(f"/{pattern}")
    if scheme in ("http", "https"):
        raise _wrong(text, "nothing can be stored by http")
    if _FIELD.search(root) or (not root and not pattern):
        raise _wrong(text, "fields can only stand behind the first slash")
    return Target(scheme, root, _pattern(text, pattern))


def file_name(target: Target, *, job_id: str, index: int, ext: str, model: str) -> str:
    """
    Return the name of one output below the target's root: the same for the same output.

    Where the pattern has no ``{index}``, the outputs behind the first get theirs all the same: ``fox~1.png``.

    Args:
        target: Where it goes.
        job_id: For ``{id}``.
        index: Its place among the job's outputs, from 0.
        ext: What its content is, without the dot.
        model: For ``{model}``.

    Raises:
        InvalidRequest: The fields make a name that leads elsewhere.
    """
    pattern = target.pattern
    if index > 0 and "{index}" not in pattern:
        at = found.start() if (found := _SUFFIX.search(pattern)) else len(pattern)
        pattern = f"{pattern[:at]}{_NUMBER_MARK}{{index}}{pattern[at:]}"
    values = {"id": _clean(job_id), "index": str(index), "ext": _clean(ext), "model": _clean(model)}
    name = _FIELD.sub(lambda field: values[field[1]], pattern)
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidRequest(f"The destination of an output leads outside with these fields: {target}")
    return name


def _folder(text: str) -> Target:
    text = re.sub(r"/{2,}", "/", text)
    before, field, _ = text.partition("{")
    if not field:
        root = text.rstrip("/") or "/"
        return Target(FOLDER, root, _pattern(text, "" if text.endswith("/") else text.rpartition("/")[2], root))
    root = before.rpartition("/")[0] or "/"
    return Target(FOLDER, root, _pattern(text, text[len(root) :].lstrip("/"), root))


def _pattern(text: str, pattern: str, root: str = "") -> str:
    fields = _FIELD.findall(pattern)
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise _wrong(text, f"{{{unknown[0]}}} is no field; there are {', '.join(f'{{{name}}}' for name in FIELDS)}")
    if set("{}") & set(_FIELD.sub("", pattern)):
        raise _wrong(text, "a brace is left over")
    if fields and "id" not in fields:
        raise _wrong(text, "without {id} each job would overwrite the files of the one before")
    if not fields and not pattern.endswith("/") and _MEDIA_SUFFIX.search(pattern):
        raise _wrong(
            text, "each job would overwrite the file of the one before: put {id} into it, or end a folder with a slash"
        )
    if any(part in (".", "..") for part in [*root.split("/"), *pattern.split("/")]):
        raise _wrong(text, "'.' and '..' are no parts of a destination")
    if not fields:
        # of a folder the last part is in its root already
        pattern = f"{'' if root else pattern.strip('/')}/{DEFAULT_NAME}"
    elif pattern.endswith("/"):
        pattern = f"{pattern}{DEFAULT_NAME}"
    return re.sub(r"/{2,}", "/", pattern).lstrip("/")


def _clean(value: str) -> str:
    plain = _UNSAFE.sub("_", value)
    return plain if plain.strip(".") else "_"


def _wrong(text: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{text!r} is no destination for outputs: {why}")
