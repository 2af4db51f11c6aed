"""
Jobs in a Django project: ``INSTALLED_APPS += ["tasks_bridge.contrib.django"]``.

It knows Django and the library; the library knows nothing of it.
"""
