"""
Jobs in a Flask application: ``TasksBridge(app)``, or ``bridge = TasksBridge()`` and ``bridge.init_app(app)``.

It knows Flask and the library; the library knows nothing of it.
"""

from __future__ import annotations

from tasks_bridge.contrib.flask.extension import TasksBridge
from tasks_bridge.contrib.flask.markup import bytespike_job, bytespike_script
from tasks_bridge.contrib.flask.signals import job_cancelled, job_changed, job_completed, job_failed
from tasks_bridge.contrib.flask.views import blueprint, job_events_response, job_response, job_url
from tasks_bridge.hooks import NotYet

__all__ = [
    "NotYet",
    "TasksBridge",
    "blueprint",
    "bytespike_job",
    "bytespike_script",
    "job_cancelled",
    "job_changed",
    "job_completed",
    "job_events_response",
    "job_failed",
    "job_response",
    "job_url",
]
