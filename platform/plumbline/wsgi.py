"""The pages and the management API, under WSGI (five times faster a process than Django's ASGI)."""

import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plumbline.settings")
application = get_wsgi_application()

from django.conf import settings  # noqa: E402  # needs the lines above
from django.urls import get_resolver  # noqa: E402

from plumbline.accounts.trouble import limit_statements  # noqa: E402

limit_statements(settings.WEB_STATEMENT_SECONDS)

# What is loaded stays. To look through it for garbage, as Python does now and then, takes a tenth
# of a second in which a process answers nobody.
get_resolver().reverse_dict  # noqa: B018  # loads every page's code
gc.collect()
gc.freeze()
