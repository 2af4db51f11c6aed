"""The HTML of the element that shows a job on a page. Pure: which framework marks it as safe is that framework's."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, Final

from tasks_bridge.errors import InvalidRequest

ELEMENT: Final = "bytespike-job"

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


def job_element(source: str, attributes: Mapping[str, Any]) -> str:
    """
    The element for the job whose document is at *source*.

    Args:
        source: URL of the document, relative to the page or not.
        attributes: More attributes, as `_attributes` takes them: ``{"class": "wide", "data_row": 7}``.

    Raises:
        InvalidRequest: A name can't be an attribute's.
    """
    return f"<{ELEMENT}{_attributes({'src': source, **attributes})}></{ELEMENT}>"


def script_element(source: str, attributes: Mapping[str, Any]) -> str:
    """
    What teaches the browser the element, from *source*: once on each page that has one.

    With ``nonce`` among the *attributes*, for a Content-Security-Policy that asks for one.

    Raises:
        InvalidRequest: A name can't be an attribute's.
    """
    return f"<script{_attributes({'type': 'module', 'src': source, **attributes})}></script>"


def _attributes(given: Mapping[str, Any]) -> str:
    """
    HTML attributes, escaped: ``data_row`` in a template is ``data-row`` on the page, and ``class_`` is ``class``.

    True is an attribute without a value, None and False are none.
    """
    found = []
    for given_name, value in given.items():
        name = given_name.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(name):
            raise InvalidRequest(f"This can't be the name of an attribute: {given_name!r}")
        if value is True:
            found.append(f" {name}")
        elif value is not None and value is not False:
            found.append(f' {name}="{html.escape(str(value))}"')
    return "".join(found)
