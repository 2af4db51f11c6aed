"""
Hand ByteSpike image and video generations to Celery, and get on with your work.

Names are imported when they are first used (PEP 562): a process that only needs one of them doesn't wait for the rest.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks_bridge.bridge import Bridge
    from tasks_bridge.budget import Spending
    from tasks_bridge.client import AsyncClient, Client
    from tasks_bridge.errors import (
        ApiConnectionError,
        ApiError,
        ApiResponseError,
        ApiStatusError,
        ApiTimeout,
        AuthenticationError,
        BadRequest,
        BridgeError,
        Conflict,
        InsufficientBalance,
        InvalidRequest,
        InvalidToken,
        JobCancelled,
        JobConflict,
        JobError,
        JobExpired,
        JobFailed,
        JobNotFinished,
        JobNotFound,
        NotFound,
        OutputError,
        OutputGone,
        OutputNotStored,
        OutputRejected,
        OutputTooLarge,
        OutputUnreachable,
        PermissionDenied,
        RateLimited,
        ServerError,
        SettingsError,
        SpendLimitReached,
        StoreError,
        StoreUnreachable,
    )
    from tasks_bridge.install import install
    from tasks_bridge.jobs import Job, spending, spending_by_label, statuses
    from tasks_bridge.models import RemoteStatus, RemoteTask, SavedOutput
    from tasks_bridge.once import once
    from tasks_bridge.outputs.task import save_output
    from tasks_bridge.record import JobState
    from tasks_bridge.settings import Settings
    from tasks_bridge.tasks import generate, poll

__version__ = "0.1.0"

__all__ = [
    "ApiConnectionError",
    "ApiError",
    "ApiResponseError",
    "ApiStatusError",
    "ApiTimeout",
    "AsyncClient",
    "AuthenticationError",
    "BadRequest",
    "Bridge",
    "BridgeError",
    "Client",
    "Conflict",
    "InsufficientBalance",
    "InvalidRequest",
    "InvalidToken",
    "Job",
    "JobCancelled",
    "JobConflict",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobNotFinished",
    "JobNotFound",
    "JobState",
    "NotFound",
    "OutputError",
    "OutputGone",
    "OutputNotStored",
    "OutputRejected",
    "OutputTooLarge",
    "OutputUnreachable",
    "PermissionDenied",
    "RateLimited",
    "RemoteStatus",
    "RemoteTask",
    "SavedOutput",
    "ServerError",
    "Settings",
    "SettingsError",
    "SpendLimitReached",
    "Spending",
    "StoreError",
    "StoreUnreachable",
    "generate",
    "install",
    "once",
    "poll",
    "save_output",
    "spending",
    "spending_by_label",
    "statuses",
]

_HOMES = {
    name: f"tasks_bridge.{module}"
    for module, names in {
        "bridge": ("Bridge",),
        "budget": ("Spending",),
        "client": ("AsyncClient", "Client"),
        "install": ("install",),
        "jobs": ("Job", "spending", "spending_by_label", "statuses"),
        "models": ("RemoteStatus", "RemoteTask", "SavedOutput"),
        "once": ("once",),
        "outputs.task": ("save_output",),
        "record": ("JobState",),
        "settings": ("Settings",),
        "tasks": ("generate", "poll"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES.get(name, "tasks_bridge.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package: ``install`` and ``once`` are functions, whenever the modules of these names are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
