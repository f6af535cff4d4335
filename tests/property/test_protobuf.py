"""The scan and the library agree: what the scan passes the library reads the same, what honest writers write it passes.

``canonical`` is the oracle for the other direction: bytes that the library itself writes again, and that use nothing
which is refused on purpose, must pass.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import shop_pb2 as pb
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safeserial import Limits, Policy, Reason, Refused, build
from safeserial.formats import codec, protobuf_scan
from safeserial.formats.protobuf_plan import plan_of

CLASSES = {"shop.v1.Everything": pb.Everything, "shop.v1.Charge": pb.Charge, "shop.old.Order": pb.Order}
POLICY = Policy(protobuf=["shop_pb2:Everything", "shop_pb2:Charge", "shop_pb2:Order"])
LIMITS = POLICY.limits
INTS = {
    "int32": (-(1 << 31), (1 << 31) - 1), "sint32": (-(1 << 31), (1 << 31) - 1), "sfixed32": (-(1 << 31), (1 << 31) - 1),
    "uint32": (0, (1 << 32) - 1), "fixed32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1),
    "sint64": (-(1 << 63), (1 << 63) - 1), "sfixed64": (-(1 << 63), (1 << 63) - 1), "uint64": (0, (1 << 64) - 1),
    "fixed64": (0, (1 << 64) - 1),
}  # fmt: skip
KINDS = dict(enumerate(("double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string"), 1))
KINDS |= {12: "bytes", 13: "uint32", 15: "sfixed32", 16: "sfixed64", 17: "sint32", 18: "sint64"}


def number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def body(name: str, message: bytes) -> bytes:
    url = protobuf_scan.PREFIX + name.encode()
    return b"\x0a" + number(len(url)) + url + b"\x12" + number(len(message)) + message


def values(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        if field.enum_type.is_closed:
            return st.sampled_from([value.number for value in field.enum_type.values])
        return st.integers(*INTS["int32"]) | st.sampled_from([0, 1, 2])
    kind = KINDS[field.type]
    if kind in INTS:
        return st.integers(*INTS[kind]) | st.integers(0, 300)
    return {
        "double": st.floats(), "float": st.floats(width=32), "bool": st.booleans(),
        "string": st.text(max_size=8), "bytes": st.binary(max_size=8),
    }[kind]  # fmt: skip


@st.composite
def messages(draw: Any, cls: Any, depth: int = 2) -> Any:
    """A message with some of its fields set, groups, maps and messages in it included."""
    made = cls()
    fields = [f for f in cls.DESCRIPTOR.fields if f.message_type is None or f.message_type.name not in ("Any",)]
    oneofs: set[str] = set()
    for field in draw(st.lists(st.sampled_from(fields), max_size=6, unique_by=lambda f: f.name)):
        if field.containing_oneof is not None:
            if field.containing_oneof.name in oneofs:
                continue
            oneofs.add(field.containing_oneof.name)
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
            for entry in draw(st.lists(values(key, 0), max_size=3, unique=True)):
                if value.message_type is None:
                    getattr(made, field.name)[entry] = draw(values(value, 0))
                elif depth:
                    getattr(made, field.name)[entry].CopyFrom(
                        draw(messages(GetMessageClass(value.message_type), depth - 1))
                    )
        elif kind is not None:
            if not depth:
                continue
            holder = getattr(made, field.name)
            if field.is_repeated:
                for inner in draw(st.lists(messages(GetMessageClass(kind), depth - 1), max_size=2)):
                    holder.add().CopyFrom(inner)
            else:
                holder.CopyFrom(draw(messages(GetMessageClass(kind), depth - 1)))
                holder.SetInParent()
        elif field.is_repeated:
            getattr(made, field.name).extend(draw(st.lists(values(field, depth), max_size=5)))
        else:
            setattr(made, field.name, draw(values(field, depth)))
    for field in fields:
        if field.is_required and not made.HasField(field.name):
            setattr(made, field.name, draw(values(field, depth)))
    return made


some = st.sampled_from(sorted(CLASSES)).flatmap(lambda name: messages(CLASSES[name]))


def name_of(message: Any) -> str:
    return str(message.DESCRIPTOR.full_name)


def load(data: bytes) -> Any:
    return codec("protobuf").load(data, POLICY, LIMITS)  # type: ignore[attr-defined]


def same(one: Any, other: Any) -> bool:
    """Equal as bytes are: NaN is itself, and -0.0 is not 0.0."""
    return bool(one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True))


@settings(max_examples=300)
@given(some)
def test_what_honest_senders_write_is_read_back(message: Any) -> None:
    data = codec("protobuf").dumps(message, POLICY)
    found = load(data)

    assert type(found) is type(message)
    assert same(found, message)
    assert codec("protobuf").dumps(found, POLICY) == data
    # As any other writer does it, too.
    assert same(load(body(name_of(message), message.SerializeToString())), message)


def pieces(data: bytes) -> list[bytes]:
    """The fields of a message at its top, groups whole."""
    out, at = [], 0
    while at < len(data):
        end = field_end(data, at)
        out.append(data[at:end])
        at = end
    return out


def read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def field_end(data: bytes, at: int) -> int:
    tag, at = read(data, at)
    if tag & 7 == 0:
        return read(data, at)[1]
    if tag & 7 == 2:
        size, at = read(data, at)
        return at + size
    if tag & 7 == 3:
        while read(data, at)[0] != tag + 1:
            at = field_end(data, at)
        return read(data, at)[1]
    return at + (8 if tag & 7 == 1 else 4)


@settings(max_examples=200)
@given(some, st.randoms(use_true_random=False))
def test_the_order_of_fields_is_the_senders_choice(message: Any, random: Any) -> None:
    parts = pieces(message.SerializeToString())
    random.shuffle(parts)
    data = b"".join(parts)
    assert same(load(body(name_of(message), data)), type(message).FromString(data))


def is_open(message: Any) -> bool:
    """Whether it holds what is refused on purpose: unknown fields, extensions, and an Any, which nobody listed here."""
    if message.DESCRIPTOR.full_name == "google.protobuf.Any":
        return True
    if len(UnknownFieldSet(message)):
        return True
    for field, value in message.ListFields():
        kind = field.message_type
        if field.is_extension:
            return True
        if kind is None:
            continue
        if kind.GetOptions().map_entry:
            inner = list(value.values()) if kind.fields_by_name["value"].message_type is not None else []
        else:
            inner = list(value) if field.is_repeated else [value]
        if any(map(is_open, inner)):
            return True
    return False


def mutate(draw: Any, data: bytes) -> bytes:
    if not data:
        return draw(st.binary(max_size=6))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["flip", "cut", "add", "double", "swap"]))
        if how == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif how == "cut":
            data = data[:at] + data[at + draw(st.integers(0, 3)) :]
        elif how == "add":
            data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at:]
        elif how == "double":
            other = draw(st.integers(0, len(data)))
            data = data[:at] + data[min(at, other) : max(at, other)] + data[at:]
        else:
            with suppress(IndexError):
                parts = pieces(data)
                data = b"".join(parts[1:] + parts[:1] * draw(st.integers(1, 2)))
    return data


@st.composite
def hostile(draw: Any) -> tuple[str, bytes]:
    message = draw(some)
    return name_of(message), mutate(draw, message.SerializeToString())


WIDTHS = {1: 8, 2: 4, 6: 8, 7: 4, 15: 4, 16: 8}


def tree(data: bytes, kind: Any) -> dict[int, list[Any]]:
    """What stands on the wire, by number, read by the descriptor alone; what says no more than its default left out."""
    out: dict[int, list[Any]] = {}
    for piece in pieces(data):
        tag, at = read(piece, 0)
        field, inner = kind.fields_by_number[tag >> 3], kind.fields_by_number[tag >> 3].message_type
        found: list[Any]
        if tag & 7 == 0:
            found = [read(piece, at)[0]]
        elif tag & 7 == 3:
            found = [tree(piece[at : len(piece) - at], inner)]
        elif tag & 7 != 2:
            found = [piece[at:]]
        else:
            content = piece[read(piece, at)[1] :]
            if inner is not None:
                found = [tree(content, inner)]
            elif field.type in (9, 12):
                found = [content]
            elif field.type in WIDTHS:
                width = WIDTHS[field.type]
                found = [content[i : i + width] for i in range(0, len(content), width)]
            else:
                found, at = [], 0
                while at < len(content):
                    value, at = read(content, at)
                    found.append(value)
        if inner is not None and inner.GetOptions().map_entry:
            found = [{1: [0], 2: [0], **found[0]}]
            found = [{n: [0 if v in (b"", 0, bytes(4), bytes(8), {}) else v for v in vs] for n, vs in found[0].items()}]
        if field.is_repeated or field.has_presence or found[0] not in (0, b"", bytes(4), bytes(8)):
            out.setdefault(field.number, []).extend(found)
            if inner is not None and inner.GetOptions().map_entry:
                out[field.number].sort(key=repr)
    return {number: out[number] for number in sorted(out) if out[number]}


@settings(max_examples=1500)
@given(hostile())
@example(("shop.v1.Everything", b"\x88\x00\x01"))
@example(("shop.old.Order", b"\x0a\x01x\x43\x44"))
@example(("shop.old.Order", b"\x0a\x01x\xa2\x06\x01x"))
def test_the_scan_and_the_library_agree(case: tuple[str, bytes]) -> None:
    name, message = case
    cls = CLASSES[name]
    data = body(name, message)
    library: Any = None
    with suppress(DecodeError, UnicodeDecodeError):
        library = cls.FromString(message)
    try:
        found = load(data)
    except Refused as refusal:
        assert refusal.reason is not Reason.INTERNAL_ERROR
        if library is None or not library.IsInitialized() or is_open(library):
            return
        if refusal.reason is Reason.BAD_TEXT and name == "shop.old.Order":
            return  # proto2 lets a text be no text
        # What it writes again as the same bytes, in whichever order, had nothing twice and nothing cut off.
        canonical = {library.SerializeToString(deterministic=True), library.SerializeToString()}
        assert message not in canonical, refusal
        return
    assert library is not None
    assert same(found, library)
    assert found.IsInitialized() and not is_open(found)
    # Nothing of what was sent is lost.
    assert tree(message, cls.DESCRIPTOR) == tree(library.SerializeToString(), cls.DESCRIPTOR)


@settings(max_examples=500)
@given(st.sampled_from(sorted(CLASSES)), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(name: str, message: bytes) -> None:
    for data in (message, body(name, message)):
        with suppress(Refused):
            load(data)


twin = build.engine("safeserial.formats", "protobuf_scan")


@pytest.mark.skipif(twin is protobuf_scan, reason="the compiled build is not installed")
@settings(max_examples=800)
@given(hostile(), st.sampled_from(["refuse", "drop", "keep"]), st.booleans())
def test_both_builds_say_the_same(case: tuple[str, bytes], unknown: str, exact: bool) -> None:
    limits = Limits(max_int_bits=20, allow_nan=False, max_depth=3) if exact else LIMITS
    data = body(*case)

    def outcome(scan: Any) -> object:
        try:
            return tuple(scan(data, lambda name: plan_of(CLASSES[name]) if name in CLASSES else None, limits, unknown))
        except Refused as refusal:
            return refusal.args

    assert outcome(twin.scan) == outcome(protobuf_scan.scan)


@settings(max_examples=300)
@given(hostile())
def test_keeping_and_dropping_never_raise_anything_else(case: tuple[str, bytes]) -> None:
    for how in ("drop", "keep"):
        policy = Policy(protobuf=POLICY.protobuf, protobuf_unknown_fields=how)
        try:
            found = codec("protobuf").load(body(*case), policy, LIMITS)  # type: ignore[attr-defined]
        except Refused:
            continue
        if how == "drop":
            assert not is_open(found)
