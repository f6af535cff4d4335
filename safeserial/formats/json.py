"""The JSON codec: what goes in comes back, type for type, and the data-only reader of unsigned JSON.

Plain data (``None``, ``bool``, 64-bit ``int``, finite ``float``, ``str``, ``list``, ``dict`` with ``str`` keys) is
written by orjson as it is, after one scan that makes sure it is plain: orjson would write a tuple as a list and NaN
as null without a word. Everything else is tagged; ``typed`` documents how.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import orjson

from safeserial import build
from safeserial.errors import Forbidden, Malformed, Reason
from safeserial.formats.base import Judged
from safeserial.formats.handler import Context, Handler, bad, is_utf8, refuse_value
from safeserial.formats.json_scan import check_strings, parse
from safeserial.formats.plain import PLAIN, RESERVED
from safeserial.formats.typed import BY_TAG, build_tags, find_custom, find_tags, is_plain, judge_tags, lower
from safeserial.limits import Limits, charge

if TYPE_CHECKING:
    from safeserial.policy import Policy

__all__ = ["JsonCodec", "load_untrusted_json"]

# None of these types reaches orjson; should the scan ever miss one, an error is better than a lossy spelling.
_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
# Deeper, orjson refuses to write.
_MAX_WRITE_DEPTH = 254
_LEAVES: frozenset[type] = frozenset({str, int, bool, float, type(None)})
_STR = frozenset({str})
_MARK = b'"~"'
_MARK_ESCAPED = b"\\u007"
_UNTRUSTED = Limits.untrusted()
survey = build.engine("safeserial.formats", "plain").survey


def _scan(value: object, limits: Limits) -> bool:
    """Whether orjson can write the value as it is, as far as types tell; sizes of ints and surrogates it checks itself.

    Raises:
        Refused: It has more levels or nodes than the limits allow.
    """
    max_depth = min(limits.max_depth, _MAX_WRITE_DEPTH)
    found = survey(value, False, False, max_depth, limits.max_nodes)
    return found == PLAIN or is_plain(found, value, limits, max_depth)


class _JsonWire:
    """How tags look in JSON; see :class:`safeserial.formats.handler.Wire`."""

    leaves = _LEAVES
    max_write_depth = _MAX_WRITE_DEPTH

    def keeps(self, value: Any) -> bool:
        kind = type(value)
        if kind is str:
            return is_utf8(value)
        if kind is int:
            return bool(-(1 << 63) <= value < 1 << 64)
        return kind is not float or bool(value - value == 0.0)

    def plain_keys(self, value: dict[Any, Any]) -> bool:
        # Joined, because one look at one text is cheaper than one look at each; surrogates do not pair up by joining.
        if RESERVED in value or not _STR.issuperset(map(type, value)):
            return False
        joined = "".join(value)
        return joined.isascii() or is_utf8(joined)

    def wrap(self, handler: Handler, payload: object) -> tuple[list[object], object]:
        pair = [handler.tag, payload]
        return pair, {RESERVED: pair}

    def nodes(self, _: Handler) -> int:
        return 5

    def split(self, node: object) -> tuple[Handler, list[Any]] | None:
        if type(node) is not dict or RESERVED not in node:
            return None
        pair = node[RESERVED]
        if len(node) != 1 or type(pair) is not list or len(pair) != 2 or type(pair[0]) is not str:
            raise Malformed(Reason.BAD_TAGGED_VALUE, None, "the reserved key has something else than a tag and a value")
        return BY_TAG.get(pair[0]) or find_custom(pair[0]), pair

    def blob(self, data: bytes) -> object:
        return b64encode(data).decode("ascii")

    def unblob(self, payload: object) -> bytes:
        try:
            data = b64decode(payload, validate=True) if type(payload) is str else None
        except ValueError:
            data = None
        # Other spellings of the same bytes (stray bits at the end) are refused too.
        if data is None or b64encode(data).decode("ascii") != payload:
            raise bad("bytes")
        return data


_WIRE = _JsonWire()
_TABLE = dict(BY_TAG)


class JsonCodec:
    """JSON with type tags under a policy. Has no state."""

    name = "json"

    def dumps(self, value: object, policy: Policy) -> bytes:
        """Write one value; see :meth:`safeserial.formats.base.Codec.dumps`."""
        limits = policy.limits
        data: bytes | None = None
        try:
            if _scan(value, limits):
                try:
                    data = orjson.dumps(value, option=_OPTIONS)
                except TypeError:
                    data = None  # left to orjson: a large int, a lone surrogate, a key that is no str; all have tags
            if data is None:
                data = orjson.dumps(lower(value, _WIRE, policy), option=_OPTIONS)
        except RuntimeError:
            raise refuse_value(value, "was changed while it was written") from None
        charge(Reason.TOO_LARGE, len(data), limits.max_raw_bytes)
        check_strings(data, limits)
        if limits.max_int_bits < 64:
            parse(data, limits, limits.max_raw_bytes)  # orjson writes 64 bits
        return data

    def judge(self, data: bytes, policy: Policy, limits: Limits) -> Judged:
        """Decide about one body; see :meth:`safeserial.formats.base.Codec.judge`."""
        value = parse(data, limits, limits.max_raw_bytes)
        if not _may_have_tags(data):
            return Judged(self.name, data)
        ctx = Context(policy, limits, _WIRE)
        _, found = find_tags(value, ctx, _TABLE, binary=False)
        judge_tags(found, ctx)
        return Judged(self.name, data, tuple(ctx.names))

    def build(self, judged: Judged, policy: Policy, limits: Limits) -> object:
        """Make the value; see :meth:`safeserial.formats.base.Codec.build`."""
        if judged.format != self.name:
            raise Forbidden(Reason.FORMAT_NOT_ALLOWED, None, "judged as another format")
        try:
            value = orjson.loads(judged.data)
        except orjson.JSONDecodeError:
            raise Malformed(Reason.BAD_JSON) from None
        if not _may_have_tags(judged.data):
            return value
        ctx = Context(policy, limits, _WIRE)
        holder, found = find_tags(value, ctx, _TABLE, binary=False)
        # Again, and cheaply: what was judged elsewhere came here over a pipe, and decoders rely on these checks.
        judge_tags(found, ctx, again=True)
        return build_tags(holder, found, ctx)

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
        value = parse(data, limits, limits.max_raw_bytes)
        if not _may_have_tags(data):
            return value
        ctx = Context(policy, limits, _WIRE)
        holder, found = find_tags(value, ctx, _TABLE, binary=False)
        return build_tags(holder, found, ctx, judge_tags(found, ctx))


def _may_have_tags(data: bytes) -> bool:
    # One byte first, and as a number, which is looked for four times as fast: most bodies end here.
    return (0x7E in data and _MARK in data) or (0x5C in data and _MARK_ESCAPED in data)


def load_untrusted_json(data: bytes, limits: Limits = _UNTRUSTED) -> object:
    """Read JSON that nobody signed: plain data and nothing else.

    Tags mean nothing here: a dict that looks like one stays a dict.

    Args:
        data: The whole text as it came from the wire.
        limits: Ceilings; the small ones of :meth:`Limits.untrusted` unless given.

    Returns:
        The value: ``None``, ``bool``, ``int`` of 64 bits, finite ``float``, ``str``, ``list``, ``dict``.

    Raises:
        Refused: Not JSON, ambiguous (equal keys), not exact, or past a ceiling.
    """
    return parse(data, limits, limits.max_bytes)
