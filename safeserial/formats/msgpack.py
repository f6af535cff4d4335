"""The msgpack codec: what goes in comes back, type for type, and the data-only reader of unsigned msgpack.

msgpack says more than JSON by itself: bytes, NaN, infinities and integer keys need no tag. The rest is tagged; see
``typed``. Timestamps (extension -1) are refused: they would come back as another type than any that was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgpack import ExtType

from safeserial import build
from safeserial.errors import Forbidden, Malformed, Reason
from safeserial.formats.base import Judged
from safeserial.formats.handler import CUSTOM_CODE, Context, Handler, bad, is_utf8, refuse_value
from safeserial.formats.msgpack_scan import check, may_have_extensions, may_have_large_maps, pack, parse
from safeserial.formats.plain import PLAIN
from safeserial.formats.typed import BY_CODE, build_tags, find_custom, find_tags, is_plain, judge_tags, lower
from safeserial.limits import Limits, charge

if TYPE_CHECKING:
    from safeserial.policy import Policy

__all__ = ["MsgpackCodec", "load_untrusted_msgpack"]

# msgpack's writer recurses, and stops itself at 511.
_MAX_WRITE_DEPTH = 500
_LEAVES: frozenset[type] = frozenset({str, int, bool, float, bytes, type(None)})
_KEYS = frozenset({str, int})
_MARKERS = {code: ExtType(code, b"") for code in BY_CODE}
_TABLE = {_MARKERS[code]: handler for code, handler in BY_CODE.items()}
_CUSTOM_MARKER = ExtType(CUSTOM_CODE, b"")
_UNTRUSTED = Limits.untrusted()
survey = build.engine("safeserial.formats", "plain").survey


def _scan(value: object, limits: Limits) -> bool:
    """Whether msgpack can write the value as it is; sizes of ints and surrogates it checks itself.

    Raises:
        Refused: It has more levels or nodes than the limits allow.
    """
    max_depth = min(limits.max_depth, _MAX_WRITE_DEPTH)
    found = survey(value, True, limits.allow_nan, max_depth, limits.max_nodes)
    return found == PLAIN or is_plain(found, value, limits, max_depth)


class _MsgpackWire:
    """How tags look in msgpack; see :class:`safeserial.formats.handler.Wire`."""

    leaves = _LEAVES
    max_write_depth = _MAX_WRITE_DEPTH

    def __init__(self, *, allow_nan: bool) -> None:
        self._allow_nan = allow_nan

    def keeps(self, value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return is_utf8(value)
        if kind is int:
            return bool(-(1 << 63) <= value < 1 << 64)
        # Where NaN is not allowed, the tag's handler is who says so.
        return kind is not float or self._allow_nan or bool(value - value == 0.0)

    def plain_keys(self, value: dict[Any, Any]) -> bool:
        return all(type(key) in _KEYS and self.keeps(key) for key in value)

    def wrap(self, handler: Handler, payload: object) -> tuple[list[object], object]:
        if handler.code == CUSTOM_CODE:
            pair = [handler.tag, payload]
            return pair, [_CUSTOM_MARKER, pair]
        pair = [_MARKERS[handler.code], payload]
        return pair, pair

    def nodes(self, handler: Handler) -> int:
        return 6 if handler.code == CUSTOM_CODE else 3

    def split(self, node: object) -> tuple[Handler, list[Any]] | None:
        if type(node) is list:
            if len(node) != 2 or type(node[0]) is not ExtType:
                return None
            if node[0] == _CUSTOM_MARKER:
                return _split_custom(node[1])
            handler = BY_CODE.get(node[0].code)
            if handler is None or node[0].data:
                raise Malformed(Reason.UNKNOWN_TAG)
            return handler, node
        if type(node) is not dict and type(node) not in _LEAVES:
            raise Malformed(Reason.UNKNOWN_TAG, None, "an extension that is no tag")
        return None

    def blob(self, data: bytes) -> object:
        return data

    def unblob(self, payload: object) -> bytes:
        if type(payload) is not bytes:
            raise bad("bytes")
        return payload


def _split_custom(pair: object) -> tuple[Handler, list[Any]]:
    """What stands beside the marker of all tags that users registered: one of those tags, and its payload."""
    if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str:
        raise Malformed(Reason.BAD_TAGGED_VALUE, None, "the marker has something else than a tag and a value beside it")
    return find_custom(pair[0]), pair


_WIRES = {flag: _MsgpackWire(allow_nan=flag) for flag in (True, False)}


class MsgpackCodec:
    """msgpack with type tags under a policy. Has no state."""

    name = "msgpack"

    def dumps(self, value: object, policy: Policy) -> bytes:
        """Write one value; see :meth:`safeserial.formats.base.Codec.dumps`."""
        limits = policy.limits
        data: bytes | None = None
        try:
            if _scan(value, limits):
                try:
                    data = pack(value)
                except (OverflowError, UnicodeEncodeError):
                    data = None  # left to msgpack: a large int and a lone surrogate; both have tags
            if data is None:
                data = pack(lower(value, _WIRES[limits.allow_nan], policy))
        except RuntimeError:
            raise refuse_value(value, "was changed while it was written") from None
        charge(Reason.TOO_LARGE, len(data), limits.max_raw_bytes)
        # The walk knows, too, whether the keys of a large map meet in one place of a table: no reader takes those.
        if len(data) > limits.max_string_bytes or limits.max_int_bits < 64 or may_have_large_maps(data):
            check(data, limits, tags=True)
        return data

    def judge(self, data: bytes, policy: Policy, limits: Limits) -> Judged:
        """Decide about one body; see :meth:`safeserial.formats.base.Codec.judge`."""
        value = parse(data, limits, limits.max_raw_bytes, tags=True)
        if not _may_have_tags(data, value):
            return Judged(self.name, data)
        wire = _WIRES[limits.allow_nan]
        ctx = Context(policy, limits, wire)
        _, found = find_tags(value, ctx, _TABLE, binary=True)
        judge_tags(found, ctx)
        return Judged(self.name, data, tuple(ctx.names))

    def build(self, judged: Judged, policy: Policy, limits: Limits) -> object:
        """Make the value; see :meth:`safeserial.formats.base.Codec.build`."""
        if judged.format != self.name:
            raise Forbidden(Reason.FORMAT_NOT_ALLOWED, None, "judged as another format")
        return self._read(judged.data, policy, limits, again=True)

    def load(self, data: bytes, policy: Policy, limits: Limits) -> object:
        """``judge`` and ``build`` in one parse, for a caller that judges and uses the value in one process.

        Args:
            data: The whole body, decompressed.
            policy: Which types a body may name.
            limits: Ceilings.

        Returns:
            The value. Nothing is built before the whole body was judged.

        Raises:
            Refused: As ``judge`` and ``build``.
        """
        return self._read(data, policy, limits, again=False)

    def _read(self, data: bytes, policy: Policy, limits: Limits, *, again: bool) -> object:
        value = parse(data, limits, limits.max_raw_bytes, tags=True)
        if not _may_have_tags(data, value):
            return value
        wire = _WIRES[limits.allow_nan]
        ctx = Context(policy, limits, wire)
        holder, found = find_tags(value, ctx, _TABLE, binary=True)
        made = judge_tags(found, ctx, again=again)
        return build_tags(holder, found, ctx, None if again else made)


def _may_have_tags(data: bytes, value: object) -> bool:
    """Whether a tag may be anywhere in a parsed value. Bytes of text and numbers look like extensions all the time."""
    if not may_have_extensions(data):
        return False
    # It has no more levels than bytes, and no more containers, which count as three where they are empty.
    return bool(survey(value, True, True, len(data), 3 * len(data) + 1) != PLAIN)


def load_untrusted_msgpack(data: bytes, limits: Limits = _UNTRUSTED) -> object:
    """Read msgpack that nobody signed: plain data and nothing else, no extensions at all.

    Args:
        data: The whole value as it came from the wire.
        limits: Ceilings; the small ones of :meth:`Limits.untrusted` unless given.

    Returns:
        The value: ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, ``list``, and ``dict`` with ``str`` or
        ``int`` keys.

    Raises:
        Refused: Not msgpack, ambiguous (equal keys), or past a ceiling.
    """
    return parse(data, limits, limits.max_bytes, tags=False)
