"""The app in ``INSTALLED_APPS``."""

from django.apps import AppConfig


class PostersConfig(AppConfig):
    """Posters, made to order."""

    name = "posters"
