"""A Django project whose tasks take model instances.

A task queue with Django is where pickle lives on: JSON has no model instances, so people accept pickle for them, and
with it whatever anybody puts on the broker. Here a message is sealed, its pickle is judged before it is loaded, and it
may build one model: the line in ``CELERY_SAFESERIAL_ALLOW`` (``config/settings.py``).

::

    pip install 'safeserial-gateway[celery,cli,redis]' Django django-celery-results
    python manage.py migrate
    python -m celery -A config worker --pool solo --loglevel INFO       # in this folder
    python manage.py demo                                               # in another terminal, in this folder
    python -m celery -A config safeserial doctor
    python -m celery -A config safeserial quarantine list               # what was refused

``REDIS_URL`` says where the broker is; redis://127.0.0.1:6379/0 if not set. The keys are those in ``SAFESERIAL_KEYS``
(``safeserial keys new --kid web-1``), as in a real installation. Where it is not set, the first program that starts
makes ``keyring.json`` in this folder, for the demo. Results are kept in Django's own database, sealed.
"""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    execute_from_command_line(sys.argv)
