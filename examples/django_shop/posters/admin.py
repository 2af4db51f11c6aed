"""All visitors' posters, for the shop's owner."""

from django.contrib import admin

from tasks_bridge.contrib.django.admin import RemoteJobAdmin

from .models import Poster

admin.site.site_header = admin.site.site_title = "Paper Moon"


@admin.register(Poster)
class PosterAdmin(RemoteJobAdmin):
    """The library's columns, and the shop's."""

    list_display = ("prompt", "kind", "job_badge", "job_credits", "ordered_at")
    list_filter = ("kind", *RemoteJobAdmin.list_filter)
    search_fields = ("prompt", *RemoteJobAdmin.search_fields)
