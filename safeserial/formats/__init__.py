"""Formats: how a value becomes bytes and comes back, under a policy. Each codec is imported when it is first asked for.

Lazy, because a worker that speaks one format should not load the libraries of the others. How a class of a user's own
is written in JSON and msgpack is for :func:`handler_for` to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeserial.errors import Forbidden, Reason
from safeserial.formats.base import Codec, Judged
from safeserial.formats.custom import TypeHandler, handler_for, load_entry_points, register_handler
from safeserial.policy.model import prepare_with
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.limits import Limits
    from safeserial.policy import Policy

__all__ = ["Codec", "Judged", "TypeHandler", "codec", "codec_names", "handler_for", "load", "register_handler"]

prepare_with(load_entry_points)


def _json() -> Codec:
    from safeserial.formats.json import JsonCodec

    return JsonCodec()


def _msgpack() -> Codec:
    from safeserial.formats.msgpack import MsgpackCodec

    return MsgpackCodec()


def _pickle() -> Codec:
    from safeserial.formats.pickle import PickleCodec

    return PickleCodec()


def _protobuf() -> Codec:
    from safeserial.formats.protobuf import ProtobufCodec

    return ProtobufCodec()


# A closed table: a format's name comes from a message, and must never reach an import by name.
_MAKERS: dict[str, Callable[[], Codec]] = {
    "json": _json,
    "msgpack": _msgpack,
    "pickle": _pickle,
    "protobuf": _protobuf,
}
_made: dict[str, Codec] = {}


def codec_names() -> tuple[str, ...]:
    """The names :func:`codec` knows, in a fixed order."""
    return tuple(_MAKERS)


def codec(name: str) -> Codec:
    """The codec of one format.

    Args:
        name: ``"json"``, ``"msgpack"``, ``"pickle"`` or ``"protobuf"``.

    Returns:
        The codec; always the same object, which keeps no state between calls.

    Raises:
        Forbidden: ``FORMAT_NOT_ALLOWED`` for any other name.
    """
    if type(name) is not str or name not in _MAKERS:
        raise Forbidden(Reason.FORMAT_NOT_ALLOWED, None, f"no codec for {safe_repr(name)}")
    found = _made.get(name)
    if found is None:
        # Two threads may both get here; setdefault lets one of them win.
        found = _made.setdefault(name, _MAKERS[name]())
    return found


def load(name: str, data: bytes, policy: Policy, limits: Limits) -> object:
    """Judge a body and build its value, for a caller that does both in one process.

    The same checks in the same order as ``judge`` and then ``build``; JSON and msgpack parse once instead of twice.

    Args:
        name: The format.
        data: The whole body, decompressed.
        policy: Which types a body may name.
        limits: Ceilings.

    Returns:
        The value. Nothing is built before the whole body was judged.

    Raises:
        Refused: As ``codec``, ``judge`` and ``build``.
    """
    one = codec(name)
    whole = getattr(one, "load", None)
    if whole is not None:
        value: object = whole(data, policy, limits)
        return value
    return one.build(one.judge(data, policy, limits), policy, limits)
