"""Celery as a doorbell: messages say that a queue has work; the database says what it is.

Acknowledged early, prefetched one at a time, never stored: a lost message costs one sweep.
"""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "plumbline.settings")
