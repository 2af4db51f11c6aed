"""What this site's pages need beyond MyST: the diagram of states drawn, and a page that nobody finds told of."""

from __future__ import annotations

import logging as standard
import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

ARROW = re.compile(r"^ +(\w+|\[\*\]) --> (\w+|\[\*\])", re.MULTILINE)
WIDTH, HEIGHT, BOX = 640, 230, (124, 38)


def draw_states(text: str) -> str:
    """
    The SVG of a Mermaid diagram whose states are open or final: the open ones above, each with its arrows.

    A forge draws such a diagram by itself; the site must not load a program from elsewhere for it.
    """
    arrows = [(one, other) for one, other in ARROW.findall(text) if "[*]" not in (one, other)]
    names = list(dict.fromkeys(name for arrow in arrows for name in arrow))
    is_open = {one for one, _ in arrows}
    rows = [[name for name in names if name in is_open], [name for name in names if name not in is_open]]
    middle = {
        name: (WIDTH * (2 * place + 1) / (2 * len(row)), 60 if row is rows[0] else HEIGHT - 30)
        for row in rows
        for place, name in enumerate(row)
    }
    drawn = [_arrow(middle[one], middle[other]) for one, other in arrows]
    drawn += [_box(name, *middle[name], "open" if name in is_open else "final") for name in names]
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker>'
    )
    said = f"States of a job. {'; '.join(f'{one} to {other}' for one, other in arrows)}."
    return (
        f'<svg class="states" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">'
        f"<defs>{head}</defs>{''.join(drawn)}</svg>"
    )


def _box(name: str, x: float, y: float, kind: str) -> str:
    width, height = BOX
    corner = f'x="{x - width / 2:g}" y="{y - height / 2:g}"'
    return (
        f'<g class="{kind}"><rect {corner} width="{width}" height="{height}" rx="8"/>'
        f'<text x="{x:g}" y="{y:g}" dy="0.35em" text-anchor="middle">{escape(name)}</text></g>'
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    width, height = BOX
    if y1 != y2:
        path = f"M{x1:g} {y1 + height / 2:g}L{x2:g} {y2 - height / 2 - 2:g}"
    elif x2 - x1 < WIDTH / 2:
        path = f"M{x1 + width / 2:g} {y1:g}L{x2 - width / 2 - 2:g} {y2:g}"
    else:  # past the one between them
        top = y1 - height / 2
        path = f"M{x1:g} {top:g}C{x1:g} {top - 40:g} {x2:g} {top - 40:g} {x2:g} {top - 2:g}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def on_read(app: Sphinx, doctree: nodes.document) -> None:
    """Draw what is to be drawn; and lead to files by their names, but to no folder, which a site has none of."""
    for block in list(doctree.findall(nodes.literal_block)):
        if block.get("language") == "mermaid":
            block.replace_self(nodes.raw("", draw_states(block.astext()), format="html"))
    page = Path(str(doctree["source"]))
    for link in list(doctree.findall(lambda node: isinstance(node, pending_xref | download_reference))):
        target = str(link.get("reftarget", ""))
        if link.get("reftype") == "myst" and (page.parent / target).is_dir():
            link.replace_self(link.children)


def on_checked(app: Sphinx, env: Any) -> None:
    """Tell of every page that no table of contents has."""
    listed = {page for pages in env.toctree_includes.values() for page in pages}
    for page in sorted(env.found_docs - listed - {app.config.root_doc}):
        log.warning(
            "%s.md is a page that nobody finds: add it to the table of contents it belongs in, in %s.md",
            page,
            app.config.root_doc,
            location=page,
            type="toc",
            subtype="unlisted",
        )


def on_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Fences in a docstring are Markdown's; the rest of it is what reStructuredText has as well."""
    is_fenced = False
    found: list[str] = []
    for line in lines:
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
            found += ["::", ""] if is_fenced else [""]
        else:
            found.append(f"    {line}" if is_fenced else line)
    lines[:] = found


def is_told(record: standard.LogRecord) -> bool:
    """Of a pattern in a table of contents that no page has yet, nothing is to be told."""
    return not str(record.msg).startswith("toctree glob pattern")


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's hook."""
    standard.getLogger("sphinx.sphinx.directives.other").addFilter(is_told)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("doctree-read", on_read)
    app.connect("env-check-consistency", on_checked)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
