"""Where an ASGI server finds the gateway: `uvicorn plumbline.gateway.asgi:application`.

Its own small application and not Django's ASGI handler, which costs about a millisecond a request.
"""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plumbline.settings")
django.setup()

from plumbline.gateway.app import create_app  # noqa: E402

application = create_app()
