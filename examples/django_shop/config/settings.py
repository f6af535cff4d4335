"""Settings of the project; those of safeserial are at the end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from safeserial import Key, Keyring
from safeserial.envelope.keyring_file import keyring_to_json

BASE_DIR = Path(__file__).resolve().parent.parent
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "no secret: this project serves no pages")
INSTALLED_APPS = ["django_celery_results", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

CELERY_BROKER_URL = REDIS_URL
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_DEFAULT_QUEUE = "django-shop"
CELERY_TIMEZONE = TIME_ZONE
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True


def keyring() -> str:
    """Where the keys are: in the environment, or in a file that is made for the demo."""
    if "SAFESERIAL_KEYS" in os.environ:
        return "env:SAFESERIAL_KEYS"
    path = BASE_DIR / "keyring.json"
    # Of two programs that start at once, one makes it; and nobody ever reads half of it.
    with suppress(FileExistsError):
        draft = path.with_name(f".keyring-{os.getpid()}")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(keyring_to_json(Keyring([Key.generate("demo-1")])))
        try:
            os.link(draft, path)
        finally:
            draft.unlink()
    return f"file:{path}"


CELERY_SAFESERIAL_KEYRING = keyring()
CELERY_SAFESERIAL_PRESETS = ["stdlib@1", "celery@1", "django@1"]
# One line for each model that a message may carry. Django pickles a model as the pair of its app and its name.
CELERY_SAFESERIAL_ALLOW = ['django.db.models.base:model_unpickle(("shop", "Invoice"))']
CELERY_SAFESERIAL_QUARANTINE = f"sqlite:{BASE_DIR / 'quarantine.db'}"
CELERY_SAFESERIAL_CLAIMS = f"sqlite:{BASE_DIR / 'claims.db'}"
