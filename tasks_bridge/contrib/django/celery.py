"""
The Celery app of a project that has none: ``celery -A tasks_bridge.contrib.django worker -E``.

Its settings are the Django settings that begin with ``CELERY_``, as in Celery's own guide; broker and result backend
are the Redis of the jobs, unless they are among them.
"""

from __future__ import annotations

from celery import Celery

app = Celery("tasks_bridge.contrib.django")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.set_current()
app.set_default()  # for all threads
app.autodiscover_tasks()
