from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from tests.django.shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("shop/bytespike/", include("tasks_bridge.contrib.django.urls")),
    path("renders/<int:pk>", views.show),
    path("renders/<int:pk>/async", views.ashow),
    path("renders/<int:pk>/events", views.follow),
    path("renders/<int:pk>/events/async", views.afollow),
]
