"""What an ASGI server serves: ``uvicorn shop.asgi:application``. Pages get live events from it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

application = get_asgi_application()
