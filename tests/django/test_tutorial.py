"""The tutorial, as somebody follows it who has nothing yet."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FILES = re.compile(r"^```\w+ file=(?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

_BEGUN = """
import pathlib, sys
from django.core.management import execute_from_command_line

execute_from_command_line(["django-admin", "startproject", "shop", "."])
execute_from_command_line(["django-admin", "startapp", "renders"])
for path, text in eval(sys.argv[1]).items():
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    known = file.read_text() if path == "shop/settings.py" else ""
    file.write_text(known + text)
"""

_FOLLOWED = """
import os, sys
import django
from django.core.management import call_command

sys.path.insert(0, ".")
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
django.setup()
call_command("check", fail_level="WARNING")
call_command("makemigrations", "renders", verbosity=0)
call_command("migrate", verbosity=0)

import renders.tasks
from django.test import Client
from renders.models import Render
from tasks_bridge import JobState

client = Client(headers={"host": "localhost"})
page = client.post("/renders", {"prompt": "a fox"}, follow=True).content.decode()
row = Render.objects.get()
assert '<bytespike-job src="/bytespike/jobs/' in page, page
assert '<script type="module" src="/bytespike/bytespike-job.js">' in page, page
assert row.job.status is JobState.QUEUED
document = client.get(page.partition('src="')[2].partition('"')[0]).json()
assert (document["id"], document["state"]) == (row.job_id, "QUEUED"), document
row.job.cancel()
"""


def test_whoever_follows_the_tutorial_has_a_page_with_a_job(tmp_path: Path, redis_url: str, namespace: str) -> None:
    page = (ROOT / "docs/django.md").read_text()
    files = {match["path"]: match["text"] for match in _FILES.finditer(page)}
    assert len(files) == 6
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BYTESPIKE_API_KEY": "sk-byts-tutorial"}

    for step in (_BEGUN, _FOLLOWED):
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", step, repr(files)],
            cwd=tmp_path,
            env={**environment, "REDIS_URL": redis_url, "TASKS_BRIDGE_NAMESPACE": namespace},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, f"expected the tutorial to work:\n{ran.stdout}{ran.stderr}"
