"""What commands print of jobs: the document, or that there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks_bridge.web.document import document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks_bridge.store import Entry


def report_of(job_id: str, entry: Entry | None) -> dict[str, Any]:
    """The document of the job; ``{"id": …, "state": None}`` for one that is not known."""
    return {"id": job_id, "state": None} if entry is None else document(entry)


def line_of(report: Mapping[str, Any]) -> str:
    """The same for people: ``my-render-001  RUNNING    41%``."""
    if report["state"] is None:
        return f"{report['id']}  unknown"
    told = " ".join(output["url"] for output in report["outputs"]) or (report["error"] or {}).get("code", "")
    return f"{report['id']}  {report['state']:<9}  {report['progress']:.0%}  {told}".rstrip()
