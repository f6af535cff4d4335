"""``django@1``: what a pickled Django model carries beside its own label.

A model travels as ``model_unpickle(("app_label", "Model"))`` followed by its state. The preset does not list any model:
add one line for each, for example ``django.db.models.base:model_unpickle(("billing", "Invoice"))``. Skipped without
Django.
"""

from __future__ import annotations

__all__ = ["ENTRIES", "OPTIONAL"]

ENTRIES: tuple[str, ...] = ("django.db.models.base:ModelState()",)

OPTIONAL = frozenset({"django.db.models.base"})
