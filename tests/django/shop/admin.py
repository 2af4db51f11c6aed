from django.contrib import admin

from tasks_bridge.contrib.django.admin import RemoteJobAdmin
from tests.django.shop.models import Render

admin.site.register(Render, RemoteJobAdmin)
