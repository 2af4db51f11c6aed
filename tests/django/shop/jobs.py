"""Tasks of Django 6's own framework."""

from __future__ import annotations

from typing import Any

from django.tasks import task


@task(backend="bytespike")
def picture(prompt: str, **script: Any) -> Any:
    return "seedream-v4", {"prompt": prompt, "sandbox": {"duration_s": 0.3, "estimate_s": 1, **script}}


@task(backend="bytespike")
def confused() -> None:
    pass
