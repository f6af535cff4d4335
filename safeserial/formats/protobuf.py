"""Protocol Buffers: one message, of a class that the policy lists by name, read by the official library after a scan.

**A body** is one ``google.protobuf.Any``: ``type_url`` is ``type.googleapis.com/`` and the full name of the message,
``value`` its bytes. The name stands in the body because it must be signed and a task's type is the task's name; and it
stands there as an Any because every language's library reads and writes one, so a sender needs no framing of ours. Its
name is looked up in the policy's list: it leads to no import, and to no pool of descriptors.

The scan (``protobuf_scan``) decides, and builds nothing; the library then parses what it passed. Should the library
refuse that, they disagree, which refuses the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from safeserial import build
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.formats.base import Judged
from safeserial.formats.handler import refuse_value, type_label
from safeserial.formats.protobuf_plan import Plan, plan_of
from safeserial.formats.protobuf_scan import PREFIX
from safeserial.limits import charge

if TYPE_CHECKING:
    from safeserial.formats.protobuf_scan import Found
    from safeserial.limits import Limits
    from safeserial.policy import Policy

__all__ = ["ProtobufCodec"]

scan = build.engine("safeserial.formats", "protobuf_scan").scan
_TYPE_URL, _VALUE = b"\x0a", b"\x12"


class ProtobufCodec:
    """One Protocol Buffers message under a policy. Has no state."""

    name = "protobuf"

    def dumps(self, value: object, policy: Policy) -> bytes:
        """Write one message, deterministically; see :meth:`safeserial.formats.base.Codec.dumps`.

        Equal messages of one library's release are equal bytes; other releases and languages may order map entries
        differently. What a reader under ``policy`` would refuse is refused here.
        """
        cls: Any = type(value)
        name = getattr(getattr(cls, "DESCRIPTOR", None), "full_name", None)
        if type(name) is not str or not callable(getattr(cls, "SerializeToString", None)):
            raise refuse_value(value, "protobuf carries one message, and nothing else")
        listed: Any = policy.messages.get(name)
        if listed is not cls:
            raise refuse_value(value, f'add "{type_label(cls)}" to protobuf')
        try:
            message: bytes = listed.SerializeToString(value, deterministic=True)
        except Exception as error:
            # A field that is required and not set, or text that is not UTF-8; the library's words may quote it.
            raise refuse_value(value, f"{type(error).__name__} while it was written") from error
        limits = policy.limits
        charge(Reason.TOO_LARGE, len(message), limits.max_raw_bytes)
        body = _item(_TYPE_URL, PREFIX + name.encode("ascii")) + (_item(_VALUE, message) if message else b"")
        _look(body, policy, limits)
        return body

    def judge(self, data: bytes, policy: Policy, limits: Limits) -> Judged:
        """Decide about one body; see :meth:`safeserial.formats.base.Codec.judge`.

        The names are full names of messages: the body's own, and those inside of Any fields.
        """
        return Judged(self.name, data, _look(data, policy, limits).names)

    def build(self, judged: Judged, policy: Policy, limits: Limits) -> object:
        """Parse a judged body; see :meth:`safeserial.formats.base.Codec.build`."""
        if judged.format != self.name:
            raise Forbidden(Reason.FORMAT_NOT_ALLOWED, None, "judged as another format")
        return self.load(judged.data, policy, limits)

    def load(self, data: bytes, policy: Policy, limits: Limits) -> object:
        """Judge and parse. What was judged elsewhere is judged again: the library is never given anything else.

        Args:
            data: The whole body, decompressed.
            policy: Which messages a body may be.
            limits: Ceilings.

        Returns:
            The message.

        Raises:
            Refused: As ``judge``; ``BAD_PROTOBUF`` if the library does not read what the scan passed.
        """
        found = _look(data, policy, limits)
        cls: Any = policy.messages[found.names[0]]
        try:
            message = cls.FromString(data[found.start : found.end])
            if policy.protobuf_unknown_fields == "drop":
                message.DiscardUnknownFields()
        except Exception as error:  # noqa: BLE001 - totality: implementations raise more than their DecodeError
            # The type alone: the text may hold parts of the message.
            raise Malformed(Reason.BAD_PROTOBUF, None, f"the library raised {type(error).__name__}") from None
        return message


def _look(data: bytes, policy: Policy, limits: Limits) -> Found:
    if type(data) is not bytes:
        raise Refused(Reason.NOT_BYTES)
    charge(Reason.TOO_LARGE, len(data), limits.max_raw_bytes)
    messages = policy.messages

    def find(name: str) -> Plan | None:
        cls = messages.get(name)
        return None if cls is None else plan_of(cls)

    found: Found = scan(data, find, limits, policy.protobuf_unknown_fields)
    return found


def _item(tag: bytes, content: bytes) -> bytes:
    """One length-delimited field."""
    size, length = len(content), bytearray()
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return tag + bytes(length) + content
