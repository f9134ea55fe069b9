"""The pages and the management API, under WSGI (five times faster a process than Django's ASGI)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plumbline.settings")
application = get_wsgi_application()

from django.conf import settings  # noqa: E402  # needs the lines above

from plumbline.accounts.trouble import limit_statements  # noqa: E402

limit_statements(settings.WEB_STATEMENT_SECONDS)
