"""A studio for storyboards: the Flask app."""

import os
from pathlib import Path

from flask import Flask

from tasks_bridge.contrib.flask import TasksBridge

from .models import db
from .pages import pages

bridge = TasksBridge()


def create_app(config=None):
    """Make the app. All that differs between machines comes from the environment; *config* is what tests change."""
    app = Flask(__name__)
    data = Path(os.environ.get("DATA_DIR", Path(app.root_path).parent / ".data")).absolute()
    files = data / "files"
    app.config.from_mapping(
        SECRET_KEY=os.environ.get("SECRET_KEY", "for-development-only"),
        SESSION_COOKIE_SAMESITE="Lax",  # a form on somebody else's site comes without the cookie, and finds nothing
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{data / 'studio.db'}",
        SQLALCHEMY_ENGINE_OPTIONS={"connect_args": {"timeout": 20}},  # web server and workers wait for each other
        FILES=files,
        TASKS_BRIDGE={
            "API_KEY": os.environ.get("BYTESPIKE_API_KEY"),
            "BASE_URL": os.environ.get("BYTESPIKE_BASE_URL", "http://127.0.0.1:8765"),  # of `tasks-bridge sandbox`
            "REDIS_URL": os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
            "SAVE_TO": str(files),
            "SPEND_LIMIT_PER_LABEL": 20,  # credits a day: each visitor is a label of their own, see tasks.py
        },
    )
    app.config.from_mapping(config or {})
    files.mkdir(parents=True, exist_ok=True)
    db.init_app(app)
    bridge.init_app(app)
    app.register_blueprint(pages)
    app.cli.command("create-tables", help="Create the tables that are not there yet.")(db.create_all)
    return app
