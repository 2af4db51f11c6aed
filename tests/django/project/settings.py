"""A Django project as a user of the library has it; where things are, the environment says."""

import os

SECRET_KEY = "django signs with these characters, and so do links"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.django.project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "tasks_bridge.contrib.django",
    "tests.django.shop",
]
MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
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
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["TESTS_DATABASE"],
        "OPTIONS": {"timeout": 1},
    }
}
STATIC_URL = "static/"
MEDIA_ROOT = os.environ["TESTS_MEDIA"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "memory": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
LOGGING_CONFIG = None
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

TASKS_BRIDGE = {
    "API_KEY": os.environ["TESTS_API_KEY"],
    "BASE_URL": os.environ["TESTS_SANDBOX"],
    "REDIS_URL": os.environ["TESTS_REDIS"],
    "NAMESPACE": "tests-django",
    "CALLBACK_BASE_URL": "http://127.0.0.1:9/shop/bytespike/callback",
    "CALLBACK_POLL_FACTOR": 1,
    "TICK_S": 0.05,
    "LEASE_S": 1.5,
    "POLL_MIN_S": 0.15,
    "POLL_MAX_S": 0.5,
    "RETRY_MIN_S": 0.1,
    "RETRY_MAX_S": 0.5,
}

TASKS = {"bytespike": {"BACKEND": "tasks_bridge.contrib.django.backend.JobBackend"}}
