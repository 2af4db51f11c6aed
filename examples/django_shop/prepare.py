"""What has to be there before the shop opens: the tables, and somebody who may enter the admin. Safe to run again."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - once Django is set up
from django.core.management import call_command  # noqa: E402

call_command("migrate", verbosity=0)
if not User.objects.filter(username="demo").exists():
    User.objects.create_superuser("demo", password=os.environ["ADMIN_PASSWORD"])
