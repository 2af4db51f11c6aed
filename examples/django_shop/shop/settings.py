"""
Settings of the shop.

All that differs between machines comes from the environment; without any of it, this is a project for development.
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).parent.parent
DATA_DIR = Path(os.environ.get("DATA_DIR", BASE_DIR / ".data"))
"""The database and the saved posters."""
DATA_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = os.environ.get("DEBUG", "1") == "1"
SECRET_KEY = os.environ.get("SECRET_KEY", "django-insecure-for-development-only")
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")

# -- tasks-bridge ------------------------------------------------------------------------------------------------------

TASKS_BRIDGE = {
    "API_KEY": os.environ.get("BYTESPIKE_API_KEY"),
    "BASE_URL": os.environ.get("BYTESPIKE_BASE_URL", "http://127.0.0.1:8765"),  # of `tasks-bridge sandbox`
    "REDIS_URL": os.environ.get("REDIS_URL", "redis://localhost:6379/0"),
    "SPEND_LIMIT_PER_LABEL": 20,  # credits a day: each visitor is a label of their own: see posters/models.py
}

INSTALLED_APPS = [
    "tasks_bridge.contrib.django",
    "posters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

# -- the usual ---------------------------------------------------------------------------------------------------------

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        # the web server and the workers write at the same time: they wait for each other, readers for nobody
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
MEDIA_URL = "media/"
MEDIA_ROOT = DATA_DIR / "media"

SESSION_COOKIE_AGE = 365 * 24 * 3600  # a visitor's posters are found by their session
