"""Strict Protocol Buffers: the wire format walked by the descriptor, before the library allocates for what it claims.

The library is lenient where readers differ: of two values for one field the last wins or both are merged, a number
too large for its type is cut off, a tag spelled with more bytes than it needs is one field to one implementation and
none to the next, what it does not know it keeps. Here each of these is a refusal, so that every reader of an accepted
message sees the same. What stays free is the order of fields, and packed or not.

One loop with a stack of its own: the sender chooses the depth. A length is believed as far as the bytes reach.
"""

from __future__ import annotations

import re
from struct import unpack_from
from typing import TYPE_CHECKING, Any, NamedTuple

from safeserial.errors import Forbidden, Malformed, Reason
from safeserial.formats import protobuf_plan as plans
from safeserial.formats.protobuf_plan import ANY, BODY
from safeserial.limits import charge
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable

    from safeserial.formats.protobuf_plan import Plan, Row
    from safeserial.limits import Limits

__all__ = ["PREFIX", "Found", "scan"]

#: How a body, and every Any in it, spells the name of its message: this and the full name. One spelling.
PREFIX = b"type.googleapis.com/"
# Numbers of this module, so that they are C's where it is compiled.
BYTES, STRING, MESSAGE, MAP, PACKED = plans.BYTES, plans.STRING, plans.MESSAGE, plans.MAP, plans.PACKED
ANY_TYPE, ANY_VALUE, GROUP, KEY = plans.ANY_TYPE, plans.ANY_VALUE, plans.GROUP, plans.KEY
INT64, INT32, UINT32, BOOL, ENUM = plans.INT64, plans.INT32, plans.UINT32, plans.BOOL, plans.ENUM
FIXED32, FIXED64, FLOAT, DOUBLE = plans.FIXED32, plans.FIXED64, plans.FLOAT, plans.DOUBLE
# The library nests a hundred messages in one; ours stands below it, so that the reason is always ours.
_MAX_READ_DEPTH = 100
_MAX_FIELD = (1 << 29) - 1
_MAX_TYPE_URL_BYTES = 512

# Packed numbers that are not in their one shortest spelling, and those that do not fit their type. Bytes from 80 on say
# that another follows; a negative number of 32 bits is written as the one of 64 bits that it is, in ten bytes.
_OVERLONG = re.compile(rb"[\x80-\xff]\x00")
_START = rb"(?<![\x80-\xff])"
_TOO_LARGE = {
    INT64: re.compile(rb"[\x80-\xff]{9}[\x02-\xff]"),
    UINT32: re.compile(_START + rb"[\x80-\xff]{4}[\x10-\xff]"),
    INT32: re.compile(_START + rb"[\x80-\xff]{4}(?:[\x08-\xf7]|[\xf8-\xff](?!\xff{4}\x01))"),
    BOOL: re.compile(rb"[^\x00\x01]"),
}
_TOO_LARGE[ENUM] = _TOO_LARGE[INT32]
_CONTINUED = bytes(range(0x80, 0x100))
_NUMBER = re.compile(rb"[\x80-\xff]*[\x00-\x7f]")
_WIDTHS = {FIXED32: 4, FLOAT: 4, FIXED64: 8, DOUBLE: 8}
_SKIPPED = {1: 8, 5: 4}
_TOO_MUCH = 1 << 40
_LOW, _HIGH = 1 << 31, (1 << 64) - (1 << 31)


class Found(NamedTuple):
    """What an accepted body holds.

    Attributes:
        names: Full names of messages in the order in which they were read: its own, and those inside of Any fields.
        start: Where the bytes of its own message begin.
        end: Where they end.
    """

    names: tuple[str, ...]
    start: int
    end: int


def scan(data: bytes, find: Callable[[str], Plan | None], limits: Limits, unknown: str) -> Found:
    """Walk one body without building anything of it.

    Args:
        data: One whole ``google.protobuf.Any``.
        find: The plan of a listed message by its full name. An Any inside of a message needs to be listed itself.
        limits: Ceilings: depth, values, string sizes, NaN, and sizes of ints where they are below 64 bits.
        unknown: ``"refuse"``, ``"drop"`` or ``"keep"``. What stands inside of an Any inside of a message stays bytes to
            the library, so that ``"drop"`` could not drop from it: there it refuses.

    Returns:
        Where the message is, and what it is.

    Raises:
        Refused: The first byte that breaks a rule is the offset.
    """
    # Local, because they are asked once per field. A packed field or a string is looked at whole, at the speed of C.
    max_depth, max_nodes = min(limits.max_depth, _MAX_READ_DEPTH), limits.max_nodes
    max_string, exact = limits.max_string_bytes, limits.max_int_bits < 64 or not limits.allow_nan
    names: list[str] = []
    body = (0, 0)
    pos, end, nodes = 0, len(data), 1
    # This message: its type, what it has had of what may be there once, what becomes of what it does not declare, where
    # it begins, the tag that ends it (a group), the tag it hangs at, and where to go on behind it.
    plan, rows, seen, mode = BODY, BODY.rows, 0, "refuse"
    began, closing, via, after = 0, -1, 0, end
    # Its entries' keys, by the tag of the map; and of an entry, its key.
    keys: dict[int, set[bytes]] | None = None
    key: bytes | None = None
    any_type = any_value = (0, 0)
    any_listed = False
    stack: list[Any] = []
    while True:
        if pos < end:
            at, tag = pos, data[pos]
            pos += 1
            if tag >= 0x80:
                tag, pos = _small(data, at, end)
            nodes += 1
            if nodes > max_nodes:
                raise Malformed(Reason.TOO_MANY_NODES, at, f"more than the limit of {max_nodes}")
            row = rows.get(tag)
            if row is not None:
                kind, once = row[0], row[1]
                if once:
                    if seen & once:
                        raise Malformed(Reason.DUPLICATE_KEY, at, _field(plan, tag))
                    seen |= once
                is_key = kind >= KEY
                if is_key:
                    kind -= KEY
                if kind < INT64:
                    if pos >= end:
                        raise Malformed(Reason.TRUNCATED, at)
                    size = data[pos]
                    pos += 1
                    if size >= 0x80:
                        size, pos = _small(data, pos - 1, end)
                    start = pos
                    if size > end - pos:
                        raise Malformed(Reason.TRUNCATED, at)
                    pos += size
                    if kind <= STRING:
                        if size > max_string:
                            raise Malformed(Reason.STRING_TOO_LONG, at, f"more than the limit of {max_string}")
                        if kind == STRING and size:
                            text = data[start:pos]
                            if not text.isascii():
                                _check_text(text, start)
                    elif kind <= MAP:
                        sub = row[2]
                        if len(stack) + 2 > max_depth:
                            raise Malformed(Reason.TOO_DEEP, at, f"more than the limit of {max_depth}")
                        nodes += row[3]
                        if not sub.has_rules:
                            if not size:
                                continue
                        elif sub.is_any and not any_listed:
                            # Asked once: a message may hold one in every four bytes.
                            if find(ANY) is None:
                                raise _not_listed(ANY, at)
                            any_listed = True
                        stack.append((plan, seen, mode, began, closing, via, after, keys, key, end))
                        plan, rows, seen, began, closing, via, after = sub, sub.rows, 0, start, -1, tag, pos
                        keys, key, end, pos = None, None, pos, start
                        any_type = any_value = (0, 0)
                        continue
                    elif kind == PACKED:
                        count, strange = _packed(data[start:pos], start, row, limits, exact)
                        nodes += count
                        if nodes > max_nodes:
                            raise Malformed(Reason.TOO_MANY_NODES, at, f"more than the limit of {max_nodes}")
                        if strange and mode == "refuse":
                            raise _unknown_number(plan, tag, at)
                    elif kind == ANY_TYPE:
                        any_type = (start, pos)
                    else:
                        any_value = (start, pos)
                elif kind < FIXED32:
                    if pos >= end:
                        raise Malformed(Reason.TRUNCATED, at)
                    first = data[pos]
                    pos += 1
                    if first >= 0x80 or kind >= BOOL or exact:
                        value = first
                        if first >= 0x80:
                            value, pos = _number(data, pos - 1, end)
                        strange = _check_number(value, row, kind, plan, tag, at)
                        # Implementations differ about an entry with such a value, and a required field would be
                        # missing from what the library makes.
                        if strange and (mode == "refuse" or plan.entry is not None or once & plan.required):
                            raise _unknown_number(plan, tag, at)
                        if exact:
                            _check_int(_signed(value, row[3]), limits, at)
                elif kind != GROUP:
                    start = pos
                    pos += 4 if kind in (FIXED32, FLOAT) else 8
                    if pos > end:
                        raise Malformed(Reason.TRUNCATED, at)
                    if exact:
                        _check_fixed(data[start:pos], kind, row[3], limits, at)
                else:
                    sub = row[2]
                    if len(stack) + 2 > max_depth:
                        raise Malformed(Reason.TOO_DEEP, at, f"more than the limit of {max_depth}")
                    if sub.is_any:
                        raise Malformed(Reason.BAD_PROTOBUF, at, f"{_field(plan, tag)} is an Any in a group")
                    nodes += row[3]
                    stack.append((plan, seen, mode, began, closing, via, after, keys, key, end))
                    plan, rows, seen, began, closing, via = sub, sub.rows, 0, pos, tag + 1, tag
                    keys, key = None, None
                if is_key:
                    # With its length, if it has one: the spelling is the only one, so equal keys are equal bytes.
                    key = data[at + 1 : pos]
                continue
            if tag != closing:
                pos = _skip(data, tag, at, pos, end, plan, mode, max_string)
                continue
            after = pos
        elif closing > 0:
            raise Malformed(Reason.TRUNCATED, pos, "a group does not end")
        # -- the end of a message ---------------------------------------------------------------------------------
        ended, entry = 0, b""
        if plan.has_rules:
            if plan.required & ~seen:
                raise Malformed(Reason.BAD_PROTOBUF, began, f"{plan.name} lacks a field that it requires")
            if plan.entry is not None:
                ended, entry = via, plan.entry if key is None else key
            if plan.is_any and (any_type[0] < any_type[1] or any_value[0] < any_value[1] or not names):
                content = _content(data, any_type, find, began)
                names.append(content.name)
                if len(names) == 1:
                    body, mode = any_value, unknown
                elif mode == "drop":
                    mode = "refuse"
                nodes += content.cost
                # In place of the Any, behind which it goes on when the content has ended.
                plan, rows, seen, keys = content, content.rows, 0, None
                pos, end = any_value
                began, any_type, any_value = pos, (0, 0), (0, 0)
                continue
        if not stack:
            break
        pos = after
        plan, seen, mode, began, closing, via, after, keys, key, end = stack.pop()
        rows = plan.rows
        if ended:
            if keys is None:
                keys = {}
            members = keys.get(ended)
            if members is None:
                members = keys[ended] = set()
            if entry in members:
                raise Malformed(Reason.DUPLICATE_KEY, pos, _field(plan, ended))
            members.add(entry)
    return Found(tuple(names), *body)


def _number(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read one number of more than a byte; say where it ends."""
    value, shift, pos = 0, 0, at
    while True:
        if pos >= end:
            raise Malformed(Reason.TRUNCATED, at)
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, "more than ten bytes")
    if not byte:
        raise Malformed(Reason.BAD_PROTOBUF, at, "a number that is not in its shortest spelling")
    if value >> 64:
        raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, "more than 64 bits")
    return value, pos


def _small(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a tag or a length of more than a byte; one that is too large for either as one that is so too."""
    value, pos = _number(data, at, end)
    return min(value, _TOO_MUCH), pos


def _check_number(  # noqa: PLR0917 - positional, because keywords cost
    value: int, row: Row, kind: int, plan: Plan, tag: int, at: int
) -> bool:
    """Refuse a number that does not fit its type; say whether it is none of its closed enum."""
    if kind == BOOL:
        fits = value < 2
    elif kind == UINT32:
        fits = value < 1 << 32
    else:
        fits = kind == INT64 or value < _LOW or value >= _HIGH
    if not fits:
        raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, _field(plan, tag))
    return kind == ENUM and _signed(value, 1) not in row[2]


def _packed(chunk: bytes, at: int, row: Row, limits: Limits, exact: bool) -> tuple[int, bool]:
    """Check all numbers of a packed field.

    Returns:
        How many there are, and whether one is not of its closed enum.
    """
    kind, signed, numbers = row[2], row[3], row[4]
    width = _WIDTHS.get(kind)
    if width is not None:
        if len(chunk) % width:
            raise Malformed(Reason.BAD_PROTOBUF, at, f"a packed field is not a multiple of {width} bytes long")
        if exact:
            for start in range(0, len(chunk), width):
                _check_fixed(chunk[start : start + width], kind, signed, limits, at + start)
        return len(chunk) // width, False
    if chunk and chunk[len(chunk) - 1] >= 0x80:
        raise Malformed(Reason.TRUNCATED, at + len(chunk))
    if kind == BOOL or not chunk.isascii():
        found = _OVERLONG.search(chunk)
        if found is not None:
            raise Malformed(Reason.BAD_PROTOBUF, at + found.start(), "a number that is not in its shortest spelling")
        found = _TOO_LARGE[kind].search(chunk)
        if found is not None:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at + found.start(), "it does not fit its type")
    if numbers is None and not exact:
        return len(chunk.translate(None, _CONTINUED)), False
    count, strange = 0, False
    for match in _NUMBER.finditer(chunk):
        count += 1
        value = _number(chunk, match.start(), len(chunk))[0]
        strange = strange or (numbers is not None and _signed(value, 1) not in numbers)
        if exact:
            _check_int(_signed(value, signed), limits, at + match.start())
    return count, strange


def _signed(value: int, signed: int) -> int:
    if signed == 2:
        return (value >> 1) ^ -(value & 1)
    return value - (1 << 64) if signed and value >> 63 else value


def _check_int(value: int, limits: Limits, at: int) -> None:
    charge(Reason.NUMBER_OUT_OF_RANGE, value.bit_length(), limits.max_int_bits, at)


def _check_fixed(raw: bytes, kind: int, signed: int, limits: Limits, at: int) -> None:
    if kind in (FIXED32, FIXED64):
        _check_int(int.from_bytes(raw, "little", signed=bool(signed)), limits, at)
    elif not limits.allow_nan:
        value: float = unpack_from("<f" if kind == FLOAT else "<d", raw)[0]
        if value - value != 0.0:
            raise Malformed(Reason.NOT_FINITE, at)


def _check_text(text: bytes, at: int) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(Reason.BAD_TEXT, at + error.start) from None


def _skip(  # noqa: PLR0917
    data: bytes, tag: int, at: int, pos: int, end: int, plan: Plan, mode: str, max_string: int
) -> int:
    """Refuse what the type does not declare, or say where it ends."""
    number, wire = tag >> 3, tag & 7
    if not 0 < number <= _MAX_FIELD:
        raise Malformed(Reason.BAD_PROTOBUF, at, "no field has this number")
    if plan is BODY:
        raise Malformed(Reason.BAD_PROTOBUF, at, f"not a {ANY}")
    if number in plan.fields or wire in (4, 6, 7):
        raise Malformed(Reason.BAD_PROTOBUF, at, f"{_field(plan, tag)} cannot have wire type {wire}")
    if any(first <= number < last for first, last in plan.extensions):
        # Known or not is for whatever modules were imported to say; the library would read it without us.
        raise Malformed(Reason.UNKNOWN_FIELDS, at, f"extension {number} of {plan.name}: extensions are not read")
    if mode == "refuse" or wire == 3 or plan.entry is not None:
        raise Malformed(Reason.UNKNOWN_FIELDS, at, f"{plan.name} declares no field {number}")
    if wire == 0:
        if pos < end and data[pos] < 0x80:
            return pos + 1
        return _number(data, pos, end)[1]
    if wire == 2:
        if pos >= end:
            raise Malformed(Reason.TRUNCATED, at)
        size, pos = (data[pos], pos + 1) if data[pos] < 0x80 else _number(data, pos, end)
        charge(Reason.STRING_TOO_LONG, size, max_string, at)
        pos += size
    else:
        pos += _SKIPPED[wire]
    if pos > end:
        raise Malformed(Reason.TRUNCATED, at)
    return pos


def _content(data: bytes, url: tuple[int, int], find: Callable[[str], Plan | None], at: int) -> Plan:
    """The type that an Any names, if it is listed."""
    raw = data[url[0] : min(url[1], url[0] + _MAX_TYPE_URL_BYTES)]
    name = raw[len(PREFIX) :]
    if not raw.startswith(PREFIX) or len(raw) != url[1] - url[0] or not name.isascii():
        problem = f'a message is named by "{PREFIX.decode()}" and its full name, and by nothing else'
        raise Malformed(Reason.BAD_PROTOBUF, at, problem)
    plan = find(name.decode("ascii"))
    if plan is None:
        raise _not_listed(name.decode("ascii"), at)
    return plan


def _not_listed(name: str, at: int) -> Forbidden:
    if name == ANY:
        return Forbidden(Reason.TYPE_NOT_ALLOWED, at, 'add "google.protobuf.any_pb2:Any" to protobuf to admit it')
    return Forbidden(Reason.TYPE_NOT_ALLOWED, at, f"add the class of the message {safe_repr(name)} to protobuf")


def _field(plan: Plan, tag: int) -> str:
    number = tag >> 3
    return f"{plan.name}.{plan.fields.get(number, number)}"


def _unknown_number(plan: Plan, tag: int, at: int) -> Malformed:
    return Malformed(Reason.UNKNOWN_FIELDS, at, f"{_field(plan, tag)} has a number that its enum does not declare")
