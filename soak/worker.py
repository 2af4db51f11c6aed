"""What the soak's workers run: ``celery -A soak.worker worker``, configured by the environment alone."""

from __future__ import annotations

import warnings

from soak.app import make_app
from tasks_bridge import Settings

# containers often have root only, and this worker reads nothing but JSON
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")

app = make_app(Settings())
