"""What a policy says about a class that JSON or msgpack name: the one place where a typed codec asks for it.

A name on the wire is looked up in the policy's table of objects and nowhere else, and only an object of the kind that
the tag says is used. Nothing is imported and nothing is called here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safeserial.allow import Right
from safeserial.errors import Forbidden, Reason
from safeserial.formats.handler import Context, bad, refuse_value, type_label
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAKES", "check_right", "class_to_read", "name_to_write"]

#: What makes the object is called: a row that grants neither only lets pickle refer to the name.
MAKES = int(Right.CALL | Right.NEW)


def name_to_write(value: object, cls: Any, ctx: Context, *, called: bool = True) -> str:
    """The listed name of ``cls``, for a value that needs it.

    Args:
        value: What is written, for the refusal.
        cls: Its class.
        ctx: The message.
        called: Whether reading calls the class with what the message says (an Enum's members are only looked up).

    Raises:
        Refused: ``NOT_REPRESENTABLE``, with the line that would list it.
    """
    name = ctx.policy.name_of(cls)
    if name is None:
        raise refuse_value(value, f'add "{type_label(cls)}" to allow')
    row = ctx.policy.table[name]
    if not row.rights & MAKES:
        raise refuse_value(value, f"the policy lists {name}, but not for this use")
    if called and row.signatures:
        raise refuse_value(value, f"the policy lists {name} with argument patterns, which are for pickle only")
    return name


def class_to_read(
    name: object, ctx: Context, tag: str, kind: Callable[[Any], bool], *, right: int = MAKES, called: bool = True
) -> Any:
    """The object that a payload names. Appends the name to ``ctx.names``.

    Args:
        name: As it came from the wire.
        ctx: The message.
        tag: The tag that names it.
        kind: Whether an object is of the tag's kind.
        right: What the policy must grant.
        called: As in :func:`name_to_write`.

    Raises:
        Refused: It is no text, not listed, not listed for this use, or not what the tag says.
    """
    if type(name) is not str:
        raise bad(tag)
    row = ctx.policy.table.get(name)
    if row is None or name not in ctx.policy.objects:
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f'add "{safe_repr(name)}" to allow')
    cls = ctx.policy.objects[name]
    if not kind(cls):
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f"{safe_repr(name)} is listed, but not for use as {tag}")
    check_right(name, ctx, tag, right=right, called=called)
    ctx.names.append(name)
    return cls


def check_right(name: str, ctx: Context, tag: str, *, right: int = MAKES, called: bool = True) -> None:
    """Refuse a listed name that the policy does not grant for the use that a tag makes of it.

    Raises:
        Forbidden: ``TYPE_NOT_ALLOWED``.
    """
    row = ctx.policy.table[name]
    if not row.rights & right:
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f"{safe_repr(name)} is listed, but not for use as {tag}")
    if row.signatures and called:
        # Argument patterns speak about pickle's arguments; ignoring them here would widen the entry.
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f"{safe_repr(name)} has argument patterns: pickle only")
