"""Listed Protocol Buffers messages: which class stands behind which full name. Decided when a policy is loaded.

A message's full name is what its class's own descriptor says, never what an entry is called; and a body can say only
these names. Fields that are messages come with their holder: the descriptor is the operator's, and says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from safeserial.errors import Misconfigured
from safeserial.policy.grammar import shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.policy.grammar import Entry

__all__ = ["MAX_NAME_BYTES", "by_full_name"]

#: As long as an envelope's own names may be.
MAX_NAME_BYTES = 255


def by_full_name(entries: tuple[Entry, ...], resolve: Callable[[Entry], object]) -> dict[str, type]:
    """Look up listed message classes, and index them.

    Args:
        entries: What the operator listed.
        resolve: Finds the object that an entry names, importing its module.

    Raises:
        Misconfigured: The library is not installed, an entry names no message class, or two have one name.
    """
    if not entries:
        return {}
    try:
        from google.protobuf.message import Message
    except ImportError as error:
        raise Misconfigured(
            "needs the protobuf library: pip install 'safeserial-gateway[protobuf]'", key="protobuf"
        ) from error
    classes: dict[str, type] = {}
    for entry in entries:
        try:
            target = resolve(entry)
        except Misconfigured as error:
            raise Misconfigured(error.problem, key="protobuf") from error
        descriptor = getattr(target, "DESCRIPTOR", None)
        if not isinstance(target, type) or not issubclass(target, Message) or descriptor is None:
            problem = "no message class that protoc made: write its module and name, such as shop.v1_pb2:Charge"
            raise Misconfigured(f"{shown(entry.text)}: {problem}", key="protobuf")
        name = str(descriptor.full_name)
        if descriptor.GetOptions().map_entry:
            raise Misconfigured(f"{shown(entry.text)}: an entry of a map is no message of its own", key="protobuf")
        if len(name.encode()) > MAX_NAME_BYTES:
            problem = f"the full name of the message is longer than {MAX_NAME_BYTES} bytes"
            raise Misconfigured(f"{shown(entry.text)}: {problem}", key="protobuf")
        if classes.setdefault(name, target) is not target:
            raise Misconfigured(f"{shown(entry.text)}: another class is listed for {shown(name)}", key="protobuf")
    return classes
