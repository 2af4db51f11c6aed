"""The worker's end of an application that installs the library into an app of its own."""

from __future__ import annotations

import os

from tests.smoke.smoke_app import make_app

app = make_app(queue_type=os.environ.get("SMOKE_QUEUE_TYPE", "classic"))
