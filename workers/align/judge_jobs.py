"""Jobs that judge answers without training or loading a model: over HTTP, or by a program."""

from __future__ import annotations
