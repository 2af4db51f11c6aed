"""``path("bytespike/", include("tasks_bridge.contrib.django.urls"))``: see `tasks_bridge.web.endpoints`."""

from __future__ import annotations

from django.urls import path

from tasks_bridge.contrib.django import views
from tasks_bridge.web.endpoints import SCRIPT

app_name = "tasks_bridge"
urlpatterns = [
    path("jobs/<str:token>", views.job, name="job"),
    path("jobs/<str:token>/events", views.events, name="events"),
    path("jobs/<str:token>/cancel", views.cancel, name="cancel"),
    path("callback/<str:token>", views.callback, name="callback"),
    path(SCRIPT, views.script, name="script"),
    path("metrics", views.metrics, name="metrics"),
]
