"""Strict JSON (RFC 8259): what orjson lets pass is checked on the bytes, at the speed of ``bytes`` methods.

orjson keeps the last of two equal keys and turns 2**64 into a float, so its output cannot tell what was sent. Two ways
lead to certainty. The short one: if writing the parsed value again gives the very bytes that came in, nothing was
lost, so there was no duplicate and no number out of range; everything our own writer made takes it. The long one, for
other writers' spelling: strings are cut out of the text, and what remains (the *skeleton*) is counted.

No step is quadratic and none backtracks: counts, replacements and splits of ``bytes``, and regular expressions
without nested repetition on the skeleton alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from safeserial import build
from safeserial.errors import Malformed, Reason, Refused
from safeserial.limits import Limits, charge

if TYPE_CHECKING:
    from safeserial.formats import counts
else:
    counts = build.engine("safeserial.formats", "counts")

__all__ = ["MAX_READ_DEPTH", "check_strings", "parse"]

#: orjson's own ceiling is 1024 levels; ours stands below it, so that the reason is always ours.
MAX_READ_DEPTH = 1000

# Deeper, orjson does not write.
_PROVEN_DEPTH = 254
# For each item that it writes, orjson reserves up to 256 bytes.
_MAX_WRITTEN = 50_000
_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(code for code in range(256) if code not in _BRACKETS)
# An integer beyond 64 bits has as many digits as 2**63, so only numbers as long as that need a look. Each match is one
# whole number. What overflows a double needs none: orjson refuses it.
_LONG = re.compile(rb"[0-9.eE+-]{19,}")
_INTEGER = re.compile(rb"-?[0-9]+")
_EVERY_INTEGER = re.compile(rb"(?<![0-9.eE+-])-?[0-9]+(?![0-9.eE])")
# The longest decimal fraction that names one double exactly has 1077 significant characters; nobody writes more.
_MAX_NUMBER_CHARS = 1100


def parse(data: bytes, limits: Limits, max_bytes: int) -> Any:
    """Parse one JSON text strictly.

    Args:
        data: The whole text, UTF-8.
        limits: Ceilings: depth, nodes, string sizes, and int size where it is below 64 bits.
        max_bytes: Ceiling of the whole text.

    Returns:
        The value: ``None``, ``bool``, ``int`` of 64 bits, finite ``float``, ``str``, ``list`` and ``dict`` alone.

    Raises:
        Malformed: Not JSON, ambiguous, not exact, or past a ceiling.
    """
    if type(data) is not bytes:
        raise Refused(Reason.NOT_BYTES)
    charge(Reason.TOO_LARGE, len(data), max_bytes)
    skeleton = None
    # Upper bounds that cost next to nothing: a bracket a level, a byte a node, and one. They fail for long texts only.
    # Where the limit is no lower than orjson's own for writing, writing again below proves the depth without a count.
    if (
        len(data) >= limits.max_nodes
        or (limits.max_depth < _PROVEN_DEPTH and data.count(b"[") + data.count(b"{") > limits.max_depth)
        or len(data) > limits.max_string_bytes
    ):
        skeleton = _skeleton(data, limits)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if skeleton is None:
            _skeleton(data, limits)  # too deep for orjson is too deep by a limit, not bad JSON
        raise _explain(data, error) from None
    if limits.max_int_bits >= 64 and (skeleton is None or skeleton.count(b",") <= _MAX_WRITTEN):
        try:
            if orjson.dumps(value) == data:
                return value
        except TypeError:
            pass  # deeper than orjson writes: not our writer's, and no fault; the long way decides
    if skeleton is None:
        skeleton = _skeleton(data, limits)
    _check_numbers(skeleton, limits)
    keys = skeleton.count(b":")
    if keys and keys != counts.entries(value):
        raise Malformed(Reason.DUPLICATE_KEY)
    return value


def check_strings(data: bytes, limits: Limits) -> None:
    """Charge every string of a JSON text, in bytes as it is spelled there."""
    if len(data) > limits.max_string_bytes:
        _skeleton(data, limits)


def _skeleton(data: bytes, limits: Limits) -> bytes:
    """The text with each string replaced by one quote, after charging depth, nodes and string sizes."""
    if 0x5C in data:  # a backslash
        # Pairs of backslashes first: what is left before a quote then escapes it. Same length, so sizes stay true.
        data = data.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    # A key and a value per node at the most. Checked before the split, which makes an object of each piece.
    charge(Reason.TOO_MANY_NODES, data.count(b'"') // 4, limits.max_nodes)
    pieces = data.split(b'"')
    charge(Reason.STRING_TOO_LONG, max(map(len, pieces[1::2]), default=0), limits.max_string_bytes)
    skeleton = b'"'.join(pieces[::2])
    brackets = skeleton.translate(None, _NOT_BRACKETS)
    charge(Reason.TOO_DEEP, counts.depth(brackets), min(limits.max_depth, MAX_READ_DEPTH))
    nodes = 1 + skeleton.count(b",") + 2 * (brackets.count(b"[") + brackets.count(b"{"))
    charge(Reason.TOO_MANY_NODES, nodes, limits.max_nodes)
    return skeleton


def _check_numbers(skeleton: bytes, limits: Limits) -> None:
    """Refuse what orjson read as another number than was sent: integers beyond 64 bits, as floats."""
    long = _LONG.findall(skeleton)
    # Counted before they are converted, which is quadratic.
    if long and max(map(len, long)) > _MAX_NUMBER_CHARS:
        raise Malformed(Reason.NUMBER_OUT_OF_RANGE)
    integers = [int(text) for text in long if _INTEGER.fullmatch(text)]
    if integers and not -(1 << 63) <= min(integers) <= max(integers) < 1 << 64:
        raise Malformed(Reason.NUMBER_OUT_OF_RANGE, None, "an integer of more than 64 bits")
    if limits.max_int_bits < 64:
        bits = max(map(int.bit_length, map(int, _EVERY_INTEGER.findall(skeleton))), default=0)
        charge(Reason.NUMBER_OUT_OF_RANGE, bits, limits.max_int_bits)


def _explain(data: bytes, error: orjson.JSONDecodeError) -> Malformed:
    """The refusal for text that orjson does not read, with the byte where it stopped."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return Malformed(Reason.BAD_TEXT, wrong.start, "not valid UTF-8")
    if "surrogate" in error.msg:
        return Malformed(Reason.BAD_TEXT, None, "half of a surrogate pair")
    if "infinity" in error.msg:
        return Malformed(Reason.NUMBER_OUT_OF_RANGE, None, "larger than any double")
    # orjson counts characters; a byte offset is what a person finds in a hex dump.
    return Malformed(Reason.BAD_JSON, len(text[: error.pos].encode("utf-8")))
