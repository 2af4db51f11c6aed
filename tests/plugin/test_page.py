"""What the page on testing shows works when it is copied."""

from collections.abc import Callable

import pytest

from tests.plugin.conftest import NO_SLEEP, number_of_tests, of_page

Project = Callable[..., pytest.RunResult]

DJANGO = {
    "pytest.ini": """
[pytest]
DJANGO_SETTINGS_MODULE = shop.settings
python_files = tests.py test_*.py
pythonpath = .
""",
    "shop/__init__.py": "",
    "shop/settings.py": """
SECRET_KEY = "no secret"
INSTALLED_APPS = ["tasks_bridge.contrib.django", "renders"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["testserver"]
TASKS_BRIDGE = {"REDIS_URL": "redis://localhost:1/0", "API_KEY": "sk-byts-real"}
CELERY_TASK_ALWAYS_EAGER = True
""",
    "shop/urls.py": """
from django.urls import path
from renders import views

urlpatterns = [path("renders", views.create)]
""",
    "renders/__init__.py": "",
    "renders/apps.py": """
from django.apps import AppConfig


class RendersConfig(AppConfig):
    name = "renders"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from renders import receivers
""",
    "renders/models.py": """
from django.db import models

from tasks_bridge.contrib.django.models import RemoteJobModel


class Render(RemoteJobModel):
    prompt = models.TextField()

    def job_request(self):
        return "seedream-v4", {"prompt": self.prompt}
""",
    "renders/views.py": """
from django.http import HttpResponse

from .models import Render


def create(request):
    row = Render(prompt=request.POST["prompt"])
    row.start_job()
    return HttpResponse(status=202)
""",
}

FLASK_SHOP = """
from celery import shared_task
from flask import Blueprint, Flask, current_app, request
from tasks_bridge import Job, RemoteTask, generate
from tasks_bridge.contrib.flask import TasksBridge

bridge = TasksBridge()
renders = Blueprint("renders", __name__)


@shared_task(pydantic=True)
def publish(video: RemoteTask) -> None:
    current_app.config["PUBLISHED"].append(video.out_task_id)


@renders.post("/renders")
def create():
    return {"id": generate.apply_async(("seedream-v4", request.json), link=publish.s()).id}, 202


@renders.get("/renders/<job_id>")
def show(job_id):
    return {"status": Job(job_id).status}


def create_app():
    app = Flask("shop")
    app.config.update(PUBLISHED=[], SECRET_KEY="test", TASKS_BRIDGE={"REDIS_URL": "redis://localhost:1/0"})
    bridge.init_app(app)
    app.register_blueprint(renders)
    return app
"""


def test_whoever_copies_the_first_minute_has_tests_that_pass(project: Project) -> None:
    files = {path: text for path, text in of_page().items() if path in ("shop.py", "test_shop.py")}

    ran = project({**files, "conftest.py": NO_SLEEP}, installed=True)

    ran.assert_outcomes(passed=3)


def test_every_recipe_passes_without_a_moment_of_sleep(project: Project) -> None:
    files = {path: text for path, text in of_page().items() if path in ("shop.py", "test_recipes.py")}

    ran = project({**files, "conftest.py": NO_SLEEP})

    ran.assert_outcomes(passed=number_of_tests(files["test_recipes.py"]))


def test_the_tests_of_a_django_project_pass(project: Project) -> None:
    files = {path: text for path, text in of_page().items() if path.startswith("renders/")}

    ran = project({**DJANGO, **files, "conftest.py": NO_SLEEP}, "-p", "pytest_django.plugin")

    ran.assert_outcomes(
        passed=number_of_tests(files["renders/tests.py"]) + number_of_tests(files["renders/test_case.py"])
    )


def test_the_tests_of_a_flask_app_pass(project: Project) -> None:
    ran = project(
        {
            "flask_shop.py": FLASK_SHOP,
            "test_flask_app.py": of_page()["test_flask_app.py"],
            "conftest.py": NO_SLEEP,
        }
    )

    ran.assert_outcomes(passed=1)


def test_the_tests_with_a_real_worker_pass(project: Project) -> None:
    files = {path: text for path, text in of_page().items() if path in ("shop.py", "test_worker.py")}

    ran = project(files, "-W", "ignore:Call to deprecated setex:DeprecationWarning")

    ran.assert_outcomes(passed=2)


def test_every_file_of_the_page_is_tried() -> None:
    tried = {"shop.py", "test_shop.py", "test_recipes.py", "test_flask_app.py", "test_worker.py"}

    assert {path for path in of_page() if not path.startswith("renders/")} == tried
