"""
The Celery app of a Flask app, for workers: ``FLASK_APP=shop celery -A tasks_bridge.contrib.flask worker -E``.

The Flask app is found as the ``flask`` command finds it: by ``FLASK_APP``, a module or package with an app or a
``create_app``, or ``module:name``; else in ``wsgi.py`` or ``app.py``. ``.env`` and ``.flaskenv`` are read as there.
"""

from __future__ import annotations

import os

from flask.cli import ScriptInfo, load_dotenv
from flask.helpers import get_load_dotenv

from tasks_bridge.contrib.flask.state import state_of

if get_load_dotenv():
    load_dotenv()

app = state_of(ScriptInfo(app_import_path=os.environ.get("FLASK_APP")).load_app()).celery
