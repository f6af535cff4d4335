"""Tasks that take one Protocol Buffers message: the arguments section of their body is that message and nothing else.

There is no list around it and no place for keywords, so that a producer in another language writes the message it has.
Callbacks may go along, if plain JSON can say them; values that it cannot say would have to stand beside the message.
"""

from __future__ import annotations

from typing import Any

from safeserial.errors import Reason, Refused

__all__ = ["FORMAT", "only_message", "task_body"]

#: The task's ``serializer``, and the format of its body.
FORMAT = "protobuf"


def only_message(args: Any, kwargs: Any, parts: list[object]) -> object:
    """The one argument of a task that is sent as a message.

    Raises:
        Refused: ``not-representable`` if it has other arguments, or callbacks with values that JSON cannot say.
    """
    args = args or ()
    if len(args) != 1 or kwargs:
        given = f"not {len(args)} arguments and {len(kwargs or ())} keywords"
        raise Refused(Reason.NOT_REPRESENTABLE, None, f'serializer="{FORMAT}" takes one message, {given}')
    if parts:
        problem = "a callback has arguments that JSON cannot say; send it from the task instead"
        raise Refused(Reason.NOT_REPRESENTABLE, None, f'serializer="{FORMAT}": {problem}')
    message: object = args[0]
    return message


def task_body(message: object) -> list[object]:
    """Arguments, keywords and parts of a task that was sent as a message."""
    return [[message], {}, []]
