"""The Celery app. Everything about it stands in Django's settings, in keys that begin with ``CELERY_``."""

from __future__ import annotations

import os

from celery import Celery

from celery_plugin import install

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("django_shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
install(app)
