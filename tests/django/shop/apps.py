from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "tests.django.shop"
    label = "shop"

    def ready(self) -> None:
        from tests.django.shop import receivers  # noqa: F401
