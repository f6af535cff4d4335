"""The project: Django's settings and the Celery app, which is made whenever Django starts."""

from config.celery import app

__all__ = ["app"]
