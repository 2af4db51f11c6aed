"""Where everything is."""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("", include("posters.urls")),
    path("bytespike/", include("tasks_bridge.contrib.django.urls")),
    path("admin/", admin.site.urls),
    # in development only; a deployment leaves these two to its web server
    *staticfiles_urlpatterns(),
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
