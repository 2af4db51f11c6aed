"""The shop's pages."""

from django.urls import path

from . import views

app_name = "posters"
urlpatterns = [
    path("", views.counter, name="counter"),
    path("gallery", views.gallery, name="gallery"),
    path("posters/<int:pk>", views.poster, name="poster"),
]
