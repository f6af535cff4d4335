"""The data-only lane: unsigned JSON and msgpack for tasks that opted in, read as what their signatures say and no more.

Nobody vouches for such a message, so what it may cost is small and what it may say is little::

    opt in     the queue's section lists the task; the queue is the consumer's
    count      256 KiB, before anything is parsed
    parse      strictly and structure first: depth, nodes, sizes, no key twice, exact numbers
    wishes     must be empty: run here, they would be published under this worker's key
    judge      number and names of the arguments, then types, keys and spellings, by the task's annotations
    build      in the process that runs the task: classes, their constructors and validators

All but the last happen in the consumer's process and run no code of the task's. A dataclass may run anything when it is
made, so that waits for the process that was to run the task anyway, where the arguments are judged once more. (If
Celery has the consumer retry a task whose process was lost, the consumer makes them: that retry is a message of its
own.) Of the sender's headers nothing survives but the task's name: a chosen id would write another task's result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery_plugin import headers as heads
from celery_plugin import runtime as runtimes
from celery_plugin import wishes
from celery_plugin.request import SealedBody
from safeserial.errors import Forbidden, Malformed, Misconfigured, Reason
from safeserial.formats import Judged
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.limits import Limits
from safeserial.policy.files import key_text
from safeserial.schema.arguments import Arguments
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_plugin.lanes import Delivery
    from celery_plugin.runtime import Runtime

__all__ = ["DataBody", "admit", "prepare", "problems"]

_WIRES = {"application/json": "json", "application/x-msgpack": "msgpack", "application/msgpack": "msgpack"}


class DataBody(SealedBody):
    """A judged body whose arguments become what the task's annotations say, where the task runs.

    Args:
        app_key: As for every body.
        queue: Likewise.
        judged: The body as it came, and its format.
        task: Name of the task.
    """

    __slots__ = ()

    def __init__(self, app_key: str, queue: str, judged: Judged, *, task: str) -> None:
        super().__init__(app_key, queue, judged, None, task=task)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return _data_body, (self.app_key, self.queue, self.judged, self.task)

    def open(self, *, upcast: bool = True) -> tuple[Any, dict[str, Any], dict[str, Any]]:  # noqa: ARG002 - as any body
        """Parse, judge and build the arguments; called where the task runs.

        Raises:
            Refused: They do not fit the signature, or a constructor raised.
        """
        wire = self.judged.format
        args, kwargs = _parse(self.judged.data, wire)
        built = _arguments_of(runtimes.find(self.app_key), self.task).build(args, kwargs, wire=wire)
        return (*built, dict(wishes.NOTHING))


def _data_body(app_key: str, queue: str, judged: Judged, task: str) -> DataBody:
    return DataBody(app_key, queue, judged, task=task)


def admit(delivery: Delivery, runtime: Runtime) -> DataBody:
    """Judge one unsigned message, and make headers for it.

    Args:
        delivery: The message; its headers, claim id and expiry are filled in.
        runtime: The app.

    Raises:
        Refused: With the reason of the first check that failed, in the order of this module's docstring.
    """
    message, queue = delivery.message, delivery.queue
    task = str(heads.check(message.headers)["task"])
    if not runtime.settings.section(queue).accepts_data(task):
        raise Forbidden(Reason.NOT_OPTED_IN, None, f"add {safe_repr(task)} to the queue's tasks to accept it unsigned")
    if task not in runtime.app.tasks:
        raise Forbidden(Reason.UNKNOWN_TASK, None, safe_repr(task))
    wire = _WIRES.get(message.content_type) if type(message.content_type) is str else None
    if wire is None:
        raise Forbidden(Reason.FOREIGN_CONTENT_TYPE, None, f"content type {safe_repr(message.content_type, 60)}")
    body = delivery.body
    args, kwargs = _parse(body, wire)
    _arguments_of(runtime, task).check(args, kwargs, wire=wire)
    fresh = str(uuid4())
    delivery.headers = {
        "lang": "py", "task": task, "id": fresh, "root_id": fresh, "parent_id": None, "group": None, "retries": 0,
        "eta": None, "expires": None, "timelimit": [None, None], "argsrepr": "", "kwargsrepr": "",
        "origin": "data-only", "ignore_result": True, "replaced_task_nesting": 0, "stamped_headers": None,
        "stamps": {}, "shadow": None, "group_index": None,
    }  # fmt: skip
    delivery.claim_id = f"data:{fresh}"
    # The id is fresh, so no copy can meet this claim: a tombstone that stays would let strangers fill the store.
    delivery.expires_at_ms = runtime.gateway.now_ms()
    # As it came: what was looked at here is thrown away, and read once more by the process that runs the task.
    return DataBody(runtime.key, queue, Judged(wire, body), task=task)


def _parse(body: bytes, wire: str) -> tuple[list[object], dict[str, object]]:
    """Arguments of a protocol 2 body that asks for nothing else."""
    limits = Limits.untrusted()
    if len(body) > limits.max_bytes:
        raise Malformed(Reason.TOO_LARGE, None, f"{len(body)} bytes, the limit for unsigned data is {limits.max_bytes}")
    value = load_untrusted_json(body, limits) if wire == "json" else load_untrusted_msgpack(body, limits)
    if type(value) is not list or len(value) != 3 or type(value[0]) is not list or type(value[1]) is not dict:
        raise Malformed(Reason.BAD_TASK_BODY, None, "not [args, kwargs, embed]")
    args, kwargs, embed = value
    if not all(type(name) is str for name in kwargs):
        raise Malformed(Reason.BAD_TASK_BODY, None, "a keyword is no text")
    if embed is not None and (type(embed) is not dict or any(wish is not None for wish in embed.values())):
        raise Forbidden(Reason.BAD_WISHES, None, "unsigned messages may not ask for callbacks")
    return args, kwargs


# -- signatures


def _arguments_of(runtime: Runtime, task: str) -> Arguments:
    """How a task's arguments are read; looked at when the worker started, or when the task is met first."""
    found = runtime.signatures.get(task)
    if found is None:
        found = runtime.signatures[task] = _look_at(runtime.app, task)
    if isinstance(found, Misconfigured):
        # A task that was registered after the start; at the start, it would have kept the worker from starting.
        raise Forbidden(Reason.NOT_ANNOTATED, None, safe_repr(str(found), 300))
    return found


def _look_at(app: Any, task: str) -> Arguments | Misconfigured:
    try:
        return Arguments(app.tasks[task].run, name=f"task {safe_repr(task)}")
    except Misconfigured as error:
        return error


def problems(app: Any, tasks: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Registered tasks of a section whose arguments cannot be read, and why."""
    for task in sorted(tasks):
        found = _look_at(app, task) if task in app.tasks else None
        if isinstance(found, Misconfigured):
            yield task, str(found)


def prepare(runtime: Runtime) -> None:
    """Look at the signature of every task that a queue takes unsigned.

    Raises:
        Misconfigured: One cannot be read; names the section, the task and the parameter.
    """
    origins = runtime.settings.origins
    for name, section in runtime.settings.queues.items():
        for task in sorted(section.tasks & set(runtime.app.tasks)):
            found = runtime.signatures[task] = _look_at(runtime.app, task)
            if isinstance(found, Misconfigured):
                at = origins[key_text(("queues", name, "tasks"))]
                raise Misconfigured(f"unsigned data cannot be read: {found}", at.file, at.key, at.line)
