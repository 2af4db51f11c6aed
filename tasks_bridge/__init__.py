"""Hand ByteSpike image and video generations to Celery, and get on with your work."""

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
    PermissionDenied,
    RateLimited,
    ServerError,
    SettingsError,
    SpendLimitReached,
    StoreError,
)
from tasks_bridge.install import install
from tasks_bridge.jobs import Job, spending, statuses
from tasks_bridge.models import RemoteStatus, RemoteTask
from tasks_bridge.once import once
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
    "PermissionDenied",
    "RateLimited",
    "RemoteStatus",
    "RemoteTask",
    "ServerError",
    "Settings",
    "SettingsError",
    "SpendLimitReached",
    "Spending",
    "StoreError",
    "generate",
    "install",
    "once",
    "poll",
    "spending",
    "statuses",
]
