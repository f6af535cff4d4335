"""Sealed results in tables: SQLAlchemy's (``db+sqlite:///...``) and Django's (``django-db``).

Both backends spread a result over columns: state, value, traceback, children. A seal over one column would let anybody
who can write the table combine the value of one moment with the state of another. So the whole result stands sealed in
the column of the value, and that is all that is read. The other columns are written for who looks at the table (state,
times, name, worker, queue) or left empty, because they would show what an encrypting key hides.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from celery import states
from celery.backends.base import Backend
from celery.result import result_from_tuple
from kombu.utils.encoding import bytes_to_str

from celery_plugin.codec import CONTENT_ENCODING, CONTENT_TYPE
from celery_plugin.results import SealedBackendMixin, _expected, _saved_group, _set, _writing, as_bytes
from safeserial.errors import Refused

__all__ = ["SealedDjangoMixin", "SealedTableMixin"]

# What libraries raise for a value that their column cannot hold. SQLite takes any in any column.
_SHAPE_ERRORS = (ValueError, TypeError, OverflowError, MemoryError)


class SealedRowsMixin(SealedBackendMixin):
    """What both kinds of tables have in common."""

    def _whole(self, task_id: Any, result: Any, state: str, traceback: Any, request: Any) -> dict[str, Any]:
        """All that there is to say of a task's result, as the key-value stores have it."""
        meta: dict[str, Any] = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        return {**meta, "task_id": bytes_to_str(task_id)}

    def _open_row(self, task_id: Any, sealed: bytes) -> Any:
        with _set(_expected, bytes_to_str(task_id)):
            try:
                return self.decode_result(sealed)
            except Refused as refusal:
                return self._stands_for(task_id, refusal)

    def _open_rows(self, task_id: Any, found: list[bytes]) -> Any:
        return self._open_row(task_id, found[0]) if found else {"status": states.PENDING, "result": None}

    def _seal_group(self, result: Any) -> bytes:
        return self.encode({"result": result.as_tuple()})

    def _open_groups(self, group_id: Any, found: list[bytes]) -> dict[str, Any] | None:
        if not found:
            return None
        with _set(_saved_group, bytes_to_str(group_id)):
            meta = self.decode(found[0])
        return {"result": result_from_tuple(meta["result"], self.app)}


class SealedTableMixin(SealedRowsMixin):
    """SQLAlchemy's table."""

    task_cls: Any
    taskset_cls: Any
    ResultSession: Any

    def _store_result(self, task_id: Any, *args: Any, **kwargs: Any) -> Any:
        with _set(_writing, bytes_to_str(task_id)):
            try:
                return super()._store_result(task_id, *args, **kwargs)
            except _SHAPE_ERRORS:  # of a row that was never written here
                self._forget(task_id)
                return super()._store_result(task_id, *args, **kwargs)

    def _query_task(self, session: Any, task_id: Any, for_update: bool = False) -> Any:
        task = super()._query_task(session, task_id, for_update=for_update)
        if task and for_update:
            # Celery keeps a SUCCESS that is stored. Whether it is one, the seal says, and not the column.
            task.status = self._open_row(task_id, as_bytes(task.result))["status"]
        return task

    def _update_result(self, task: Any, result: Any, state: str, traceback: Any = None, request: Any = None) -> None:
        meta = self._whole(task.task_id, result, state, traceback, request)
        shown = {name: meta.get(name) for name in ("status", "name", "worker", "retries", "queue")}
        shown["date_done"] = meta["date_done"] and datetime.fromisoformat(meta["date_done"])
        shown["result"] = self.encode(meta)
        for column in self.task_cls.__table__.columns:
            if column.name not in {"id", "task_id"}:
                setattr(task, column.name, shown.get(column.name))

    def _stored(self, column: Any, condition: Any) -> list[bytes]:
        """What stands in the sealed column of a row, if there is one, and of the row nothing else."""
        from celery.backends.database import session_cleanup

        session = self.ResultSession()
        with session_cleanup(session):
            return [as_bytes(value) for (value,) in session.query(column).filter(condition)]

    def _get_task_meta_for(self, task_id: Any) -> Any:
        table = self.task_cls
        return self._open_rows(task_id, self._stored(table.result, table.task_id == task_id))

    def _decode_stored_result(self, payload: Any) -> Any:
        # Celery's takes what it cannot decode for a pickle of an older release, and loads it.
        return self.decode(as_bytes(payload))

    def _save_group(self, group_id: Any, result: Any) -> Any:
        from celery.backends.database import session_cleanup

        sealed = self._seal_group(result)
        session = self.ResultSession()
        with session_cleanup(session):
            session.query(self.taskset_cls).filter(self.taskset_cls.taskset_id == group_id).delete()
            session.add(self.taskset_cls(group_id, sealed))
            session.commit()
        return result

    def _restore_group(self, group_id: Any) -> Any:
        table = self.taskset_cls
        return self._open_groups(group_id, self._stored(table.result, table.taskset_id == group_id))


class SealedDjangoMixin(SealedRowsMixin):
    """The table of django-celery-results, whose column of the value is text.

    Chords are waited for by Celery's own task, as with SQLAlchemy: its message names the parts, under a seal. The
    library keeps their names in a table, unsealed, and would pass on the results of whichever tasks stand there.
    """

    TaskModel: Any
    GroupModel: Any

    def _store_result(  # noqa: PLR0917 - Celery and the library call it
        self,
        task_id: Any,
        result: Any,
        status: str,
        traceback: Any = None,
        request: Any = None,
        using: Any = None,
    ) -> Any:
        own = self._get_meta_from_request(request)
        meta = self._whole(task_id, result, status, traceback, request)
        fields = {
            "content_type": CONTENT_TYPE,
            "content_encoding": CONTENT_ENCODING,
            "task_id": meta["task_id"],
            "result": _as_text(self.encode({**own, **meta} if isinstance(own, dict) else meta)),
            "status": status,
            "task_name": meta.get("name"),
            "worker": meta.get("worker"),
            "using": using,
        }
        if "name" in meta:  # extended results
            fields["periodic_task_name"] = getattr(request, "periodic_task_name", None)
        if status == states.STARTED:
            from django.db.models.functions import Now

            fields["date_started"] = Now()
        manager = self.TaskModel._default_manager  # noqa: SLF001 - Django's public name for it
        try:
            manager.store_result(**fields)
        except _SHAPE_ERRORS:  # of a row that was never written here
            manager.using(using).filter(task_id=meta["task_id"]).delete()
            manager.store_result(**fields)
        return result

    def _get_task_meta_for(self, task_id: Any) -> Any:
        return self._open_rows(task_id, _stored_in(self.TaskModel, task_id=task_id))

    def _save_group(self, group_id: Any, group_result: Any) -> Any:
        manager = self.GroupModel._default_manager  # noqa: SLF001
        manager.store_group_result(CONTENT_TYPE, CONTENT_ENCODING, group_id, _as_text(self._seal_group(group_result)))
        return group_result

    def _restore_group(self, group_id: Any) -> Any:
        return self._open_groups(group_id, _stored_in(self.GroupModel, group_id=group_id))

    def apply_chord(self, header_result_args: Any, body: Any, **kwargs: Any) -> Any:
        """As Celery's, not the library's: see the class."""
        return Backend.apply_chord(self, header_result_args, body, **kwargs)

    def on_chord_part_return(self, request: Any, state: Any, result: Any, **kwargs: Any) -> Any:
        """As Celery's: nothing, because the waiting task looks by itself."""
        return Backend.on_chord_part_return(self, request, state, result, **kwargs)


def _stored_in(model: Any, **condition: Any) -> list[bytes]:
    """What stands in the sealed column of a row, if there is one, and of the row nothing else."""
    rows = model._default_manager.filter(**condition)  # noqa: SLF001
    return [_from_text(text) for text in rows.values_list("result", flat=True)[:1]]


def _as_text(sealed: bytes) -> str:
    return base64.b64encode(sealed).decode("ascii")


def _from_text(text: object) -> bytes:
    """What was sealed; or, where that cannot be it, what stands there, so that it is refused as what it is."""
    raw = as_bytes(text)
    try:
        return base64.b64decode(raw, validate=True)
    except ValueError:
        return raw
