"""
What an ASGI server serves: ``uvicorn asgi:application``.

The jobs' URLs stand beside Flask, which can't keep answers open: so pages get live events. Under a WSGI server,
``flask --app studio run`` or any other, Flask serves these URLs too, and pages poll.
"""

from a2wsgi import WSGIMiddleware
from studio import create_app

from tasks_bridge.web.asgi import JobsApp

app = create_app()
pages = WSGIMiddleware(app)
jobs = JobsApp(app.extensions["celery"])


async def application(scope, receive, send):
    """Lead each request to whom it is for."""
    if scope["type"] == "http" and scope["path"].startswith("/bytespike/"):
        await jobs({**scope, "root_path": "/bytespike"}, receive, send)
    else:
        await pages(scope, receive, send)
