"""A Protocol Buffers body is one message of a listed class, read by the library after a scan that trusts no length."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import shop_pb2 as pb
from google.protobuf import any_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

from safeserial import Gateway, Key, Keyring, Limits, Misconfigured, Policy, Reason, Refused
from safeserial.envelope import Grants
from safeserial.formats import codec
from safeserial.formats.protobuf_plan import plan_of
from safeserial.formats.protobuf_scan import PREFIX

ANY = "google.protobuf.any_pb2:Any"
CLASSES = [f"shop_pb2:{name}" for name in ("Charge", "ChargeBefore", "Everything", "Crowd", "Order")]
POLICY = Policy(protobuf=CLASSES)
WITH_ANY = Policy(protobuf=[*CLASSES, ANY])
DROP = Policy(protobuf=[*CLASSES, ANY], protobuf_unknown_fields="drop")
KEEP = Policy(protobuf=[*CLASSES, ANY], protobuf_unknown_fields="keep")


def number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def item(field: int, content: bytes) -> bytes:
    return number(field << 3 | 2) + number(len(content)) + content


def body(name: str, message: bytes) -> bytes:
    return item(1, PREFIX + name.encode()) + (item(2, message) if message else b"")


def charge(message: bytes) -> bytes:
    return body("shop.v1.Charge", message)


def every(message: bytes) -> bytes:
    return body("shop.v1.Everything", message)


def order(message: bytes) -> bytes:
    return body("shop.old.Order", b"\x0a\x01x" + message)


def tag(name: str, cls: Any = pb.Everything, wire: int = 0) -> bytes:
    return number(cls.DESCRIPTOR.fields_by_name[name].number << 3 | wire)


def load(data: bytes, policy: Policy = POLICY, limits: Limits | None = None) -> Any:
    limits = policy.limits if limits is None else limits
    judged = codec("protobuf").judge(data, policy, limits)
    return codec("protobuf").build(judged, policy, limits)


def refusal(data: bytes, policy: Policy = POLICY, limits: Limits | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        codec("protobuf").judge(data, policy, policy.limits if limits is None else limits)
    with pytest.raises(Refused) as again:
        codec("protobuf").load(data, policy, policy.limits if limits is None else limits)  # type: ignore[attr-defined]
    assert again.value.args == caught.value.args
    return caught.value


# -- what is read -------------------------------------------------------------------------------------------------


def test_a_message_comes_back_equal_and_of_its_class() -> None:
    message = pb.Charge(
        id="ch_1", amount=pb.Money(units=-(1 << 63), currency="EUR"), labels={"a": "é", "": "x"}, deltas=[0, -1, 1 << 62],
        kind=-1, rate=-0.0, iban="DE", parent=pb.Charge(id="ch_0"), per_day={-5: pb.Money(units=1), 0: pb.Money()},
        items=[pb.Money(), pb.Money(currency="\U0001f600")],
    )  # fmt: skip
    data = codec("protobuf").dumps(message, POLICY)
    judged = codec("protobuf").judge(data, POLICY, POLICY.limits)
    found = codec("protobuf").build(judged, POLICY, POLICY.limits)

    assert judged.names == ("shop.v1.Charge",)
    assert type(found) is pb.Charge
    assert found == message
    assert math.copysign(1, found.rate) == -1
    assert data not in repr(judged).encode()


def test_a_body_is_an_any_that_every_library_reads() -> None:
    message = pb.Charge(id="x")
    data = codec("protobuf").dumps(message, POLICY)
    packed = any_pb2.Any()
    packed.Pack(message)

    assert data == packed.SerializeToString(deterministic=True)
    read = any_pb2.Any.FromString(data)
    other = pb.Charge()
    assert read.Unpack(other) and other == message
    # Nor does it matter in which order the two fields stand.
    assert load(item(2, message.SerializeToString()) + item(1, PREFIX + b"shop.v1.Charge")) == message


def test_equal_messages_are_written_as_equal_bytes() -> None:
    names = [f"k{n}" for n in range(50)]
    one, other = pb.Charge(labels={n: n for n in names}), pb.Charge(labels={n: n for n in reversed(names)})

    assert codec("protobuf").dumps(one, POLICY) == codec("protobuf").dumps(other, POLICY)


def test_an_empty_message_is_a_message() -> None:
    assert load(codec("protobuf").dumps(pb.Charge(), POLICY)) == pb.Charge()
    assert load(item(1, PREFIX + b"shop.v1.Charge") + item(2, b"")) == pb.Charge()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("google.protobuf.timestamp_pb2:Timestamp", timestamp_pb2.Timestamp(seconds=-5, nanos=9)),
        ("google.protobuf.wrappers_pb2:BytesValue", wrappers_pb2.BytesValue(value=b"\xff")),
        ("google.protobuf.struct_pb2:Struct", struct_pb2.Struct(fields={"a": struct_pb2.Value(null_value=0)})),
        ("google.protobuf.struct_pb2:Value", struct_pb2.Value(list_value=struct_pb2.ListValue())),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_the_library_s_own_messages(entry: str, message: Any) -> None:
    policy = Policy(protobuf=[entry])
    assert load(codec("protobuf").dumps(message, policy), policy) == message


def test_packed_or_not_and_in_any_order() -> None:
    packed, one_by_one = tag("many_sint64", wire=2), tag("many_sint64")
    for data in (packed + b"\x03\x02\x04\x06", (one_by_one + b"\x02") + packed + b"\x02\x04\x06"):
        assert list(load(every(data)).many_sint64) == [1, 2, 3]
    spread = tag("many_string", wire=2) + b"\x01a" + tag("one_bool") + b"\x01" + tag("many_string", wire=2) + b"\x01b"
    assert list(load(every(spread)).many_string) == ["a", "b"]


def test_what_is_left_out_of_an_entry_is_its_default() -> None:
    entry = tag("by_int32", wire=2)
    found = load(every(entry + b"\x00" + entry + b"\x04\x08\x05\x10\x02"))
    assert dict(found.by_int32) == {0: 0, 5: 1}


def test_numbers_at_the_edges_of_their_types() -> None:
    edges = {
        "int32": (-(1 << 31), (1 << 31) - 1), "sint32": (-(1 << 31), (1 << 31) - 1), "sfixed32": (-(1 << 31), 7),
        "uint32": (0, (1 << 32) - 1), "fixed32": (0, (1 << 32) - 1), "int64": (-(1 << 63), (1 << 63) - 1),
        "sint64": (-(1 << 63), (1 << 63) - 1), "sfixed64": (-(1 << 63), 7), "uint64": (0, (1 << 64) - 1),
        "fixed64": (0, (1 << 64) - 1), "bool": (False, True), "kind": (-(1 << 31), (1 << 31) - 1),
        "double": (5e-324, math.inf), "float": (-math.inf, 1.5),
    }  # fmt: skip
    for name, values in edges.items():
        for value in values:
            message = pb.Everything(**{f"one_{name}": value, f"many_{name}": [*values, value]})
            assert load(codec("protobuf").dumps(message, POLICY)) == message, name


def test_a_group_is_read_by_its_descriptor() -> None:
    message = pb.Order(id="1")
    outer = message.part.add(name="a")
    outer.part.name = "b"
    data = codec("protobuf").dumps(message, POLICY)

    assert b"\x13" in data and b"\x14" in data
    assert load(data) == message


# -- what is refused ----------------------------------------------------------------------------------------------

I32, U32, S32, I64, BOOL, TEXT = (tag(f"one_{n}") for n in ("int32", "uint32", "sint32", "int64", "bool", "string"))
TEXT = tag("one_string", wire=2)
MANY32, MANYU, MANYS, MANY64, MANYB = (tag(f"many_{n}", wire=2) for n in ("int32", "uint32", "sint32", "int64", "bool"))
CHILD = tag("one_everything", wire=2)
ENTRY = tag("by_string", wire=2)

HOSTILE: list[tuple[str, bytes, Reason]] = [
    ("nothing", b"", Reason.BAD_PROTOBUF),
    ("no name", item(2, b"\x0a\x01x"), Reason.BAD_PROTOBUF),
    ("another prefix", item(1, b"type.example.com/shop.v1.Charge"), Reason.BAD_PROTOBUF),
    ("a prefix alone", item(1, PREFIX), Reason.TYPE_NOT_ALLOWED),
    ("a name alone", item(1, b"shop.v1.Charge"), Reason.BAD_PROTOBUF),
    ("a longer path", item(1, PREFIX + b"x/shop.v1.Charge"), Reason.TYPE_NOT_ALLOWED),
    ("a name that is not listed", body("shop.v1.Money", b""), Reason.TYPE_NOT_ALLOWED),
    ("a name of Python's", body("os.system", b""), Reason.TYPE_NOT_ALLOWED),
    ("a name that is no text", item(1, PREFIX + b"\xff"), Reason.BAD_PROTOBUF),
    ("a name without end", item(1, PREFIX + b"a" * 5000), Reason.BAD_PROTOBUF),
    ("two names", item(1, PREFIX + b"shop.v1.Charge") * 2, Reason.DUPLICATE_KEY),
    ("two values", charge(b"\x0a\x01x") + item(2, b""), Reason.DUPLICATE_KEY),
    ("bytes behind it", charge(b"\x0a\x01x") + b"\x00", Reason.BAD_PROTOBUF),
    ("a field behind it", charge(b"\x0a\x01x") + b"\x18\x01", Reason.BAD_PROTOBUF),
    ("JSON", b"[[],{},[]]", Reason.BAD_PROTOBUF),
    ("field 0", charge(b"\x02\x01x"), Reason.BAD_PROTOBUF),
    ("a field number too large", every(number(1 << 32) + b"\x01"), Reason.BAD_PROTOBUF),
    ("a tag of eleven bytes", every(b"\x88" + b"\x80" * 10 + b"\x01"), Reason.NUMBER_OUT_OF_RANGE),
    ("a tag in two bytes where one is enough", charge(b"\x8a\x00\x01x"), Reason.BAD_PROTOBUF),
    ("a length in two bytes where one is enough", charge(b"\x0a\x81\x00x"), Reason.BAD_PROTOBUF),
    ("a number in two bytes where one is enough", every(I32 + b"\x81\x00"), Reason.BAD_PROTOBUF),
    ("wire type 6", charge(b"\x0e\x01"), Reason.BAD_PROTOBUF),
    ("wire type 7", charge(b"\x0f\x01"), Reason.BAD_PROTOBUF),
    ("another wire type than the field's", charge(b"\x08\x01"), Reason.BAD_PROTOBUF),
    ("text as a fixed number", charge(b"\x0d\x01\x02\x03\x04"), Reason.BAD_PROTOBUF),
    ("a field that is not declared", charge(b"\x98\x06\x01"), Reason.UNKNOWN_FIELDS),
    ("a group that is not declared", charge(b"\x9b\x06\x9c\x06"), Reason.UNKNOWN_FIELDS),
    ("the end of a group that did not begin", charge(b"\x9c\x06"), Reason.BAD_PROTOBUF),
    ("a length beyond the end", charge(b"\x0a\x05x"), Reason.TRUNCATED),
    ("a length beyond everything", charge(b"\x0a\xff\xff\xff\xff\x0f"), Reason.TRUNCATED),
    ("a length of 64 bits", charge(b"\x0a" + b"\xff" * 9 + b"\x01"), Reason.TRUNCATED),
    ("a length that is not there", charge(b"\x0a"), Reason.TRUNCATED),
    ("a length that reaches into the sibling", every(CHILD + b"\x02" + TEXT + b"\x02ab"), Reason.TRUNCATED),
    ("a number that is not there", every(I32), Reason.TRUNCATED),
    ("a number that does not end", every(I32 + b"\x80"), Reason.TRUNCATED),
    ("a number that ends in the sibling", every(CHILD + b"\x02" + I32 + b"\x80" + b"\x01"), Reason.TRUNCATED),
    ("a tag that does not end", every(b"\x80"), Reason.TRUNCATED),
    ("half a fixed number", every(tag("one_fixed64", wire=1) + b"\0" * 7), Reason.TRUNCATED),
    ("int32 of 33 bits", every(I32 + number(1 << 31)), Reason.NUMBER_OUT_OF_RANGE),
    ("int32, negative in five bytes", every(I32 + number((1 << 32) - 1)), Reason.NUMBER_OUT_OF_RANGE),
    ("int32 below its least", every(I32 + number((1 << 64) - (1 << 31) - 1)), Reason.NUMBER_OUT_OF_RANGE),
    ("uint32 of 33 bits", every(U32 + number(1 << 32)), Reason.NUMBER_OUT_OF_RANGE),
    ("sint32 of 33 bits", every(S32 + number(1 << 32)), Reason.NUMBER_OUT_OF_RANGE),
    ("a bool that is 2", every(BOOL + b"\x02"), Reason.NUMBER_OUT_OF_RANGE),
    ("a bool of many bytes", every(BOOL + b"\xff\x7f"), Reason.NUMBER_OUT_OF_RANGE),
    ("int64 of 65 bits", every(I64 + b"\xff" * 9 + b"\x02"), Reason.NUMBER_OUT_OF_RANGE),
    ("int64 of eleven bytes", every(I64 + b"\xff" * 10 + b"\x01"), Reason.NUMBER_OUT_OF_RANGE),
    ("an enum of 33 bits", every(tag("one_kind") + number(1 << 31)), Reason.NUMBER_OUT_OF_RANGE),
    ("packed, does not end", every(MANY32 + b"\x02\x01\x80"), Reason.TRUNCATED),
    ("packed, one too long", every(MANY64 + b"\x03\x01\x81\x00"), Reason.BAD_PROTOBUF),
    ("packed int32 too large", every(MANY32 + b"\x05" + number(1 << 31)), Reason.NUMBER_OUT_OF_RANGE),
    ("packed int32, negative in five", every(MANY32 + b"\x05" + number((1 << 32) - 1)), Reason.NUMBER_OUT_OF_RANGE),
    ("packed int32 below its least", every(item(103, number((1 << 64) - (1 << 31) - 1))), Reason.NUMBER_OUT_OF_RANGE),
    ("packed uint32 too large", every(MANYU + b"\x05" + number(1 << 32)), Reason.NUMBER_OUT_OF_RANGE),
    ("packed sint32 too large", every(MANYS + b"\x06\x01" + number(1 << 34)), Reason.NUMBER_OUT_OF_RANGE),
    ("packed int64 too large", every(MANY64 + b"\x0a" + b"\xff" * 9 + b"\x02"), Reason.NUMBER_OUT_OF_RANGE),
    ("packed int64 of eleven bytes", every(MANY64 + b"\x0b" + b"\xff" * 10 + b"\x01"), Reason.NUMBER_OUT_OF_RANGE),
    ("packed bool that is 2", every(MANYB + b"\x02\x01\x02"), Reason.NUMBER_OUT_OF_RANGE),
    ("packed fixed, half of one", every(tag("many_fixed32", wire=2) + b"\x05" + b"\0" * 5), Reason.BAD_PROTOBUF),
    ("text that is no UTF-8", every(TEXT + b"\x01\xff"), Reason.BAD_TEXT),
    ("text with half a surrogate pair", every(TEXT + b"\x03\xed\xa0\x80"), Reason.BAD_TEXT),
    ("text in a spelling that is too long", every(TEXT + b"\x02\xc0\x80"), Reason.BAD_TEXT),
    ("a field twice", every((I32 + b"\x01") * 2), Reason.DUPLICATE_KEY),
    ("a message twice, which would be merged", every((CHILD + b"\x00") * 2), Reason.DUPLICATE_KEY),
    ("two of a oneof", charge(b"\x2a\x01a\x32\x01b"), Reason.DUPLICATE_KEY),
    ("a key twice", every((ENTRY + b"\x03\x0a\x01a") * 2), Reason.DUPLICATE_KEY),
    ("a key said and left out", every(ENTRY + b"\x02\x0a\x00" + ENTRY + b"\x00"), Reason.DUPLICATE_KEY),
    ("a key left out twice", every((tag("by_int64", wire=2) + b"\x00") * 2), Reason.DUPLICATE_KEY),
    ("a key inside of an entry twice", every(ENTRY + b"\x06\x0a\x01a\x0a\x01b"), Reason.DUPLICATE_KEY),
    ("a value inside of an entry twice", every(ENTRY + b"\x04\x10\x01\x10\x02"), Reason.DUPLICATE_KEY),
    ("a third field of an entry", every(ENTRY + b"\x02\x18\x01"), Reason.UNKNOWN_FIELDS),
    ("an Any that nobody listed", charge(item(10, body("shop.v1.Charge", b""))), Reason.TYPE_NOT_ALLOWED),
    ("an empty Any that nobody listed", charge(item(10, b"")), Reason.TYPE_NOT_ALLOWED),
    ("a required field that is missing", body("shop.old.Order", b""), Reason.BAD_PROTOBUF),
    ("a required field of a part", order(b"\x2a\x02\x08\x01"), Reason.BAD_PROTOBUF),
    ("a required field of a group", order(b"\x13\x14"), Reason.BAD_PROTOBUF),
    ("a group that does not end", order(b"\x13\x0a\x01a"), Reason.TRUNCATED),
    ("a group that ends as another", order(b"\x13\x0a\x01a\x1c"), Reason.BAD_PROTOBUF),
    ("a group in a group that ends too early", order(b"\x13\x0a\x01a\x13\x0a\x01a\x14"), Reason.TRUNCATED),
    ("a number that a closed enum has not", order(b"\x18\x09"), Reason.UNKNOWN_FIELDS),
    ("one of many that a closed enum has not", order(b"\x20\x09"), Reason.UNKNOWN_FIELDS),
    ("a packed one that a closed enum has not", order(b"\x22\x02\x01\x09"), Reason.UNKNOWN_FIELDS),
    ("a value that a closed enum has not", order(b"\x32\x05\x0a\x01a\x10\x09"), Reason.UNKNOWN_FIELDS),
    ("an extension that is known to the library", order(b"\xa2\x06\x01x"), Reason.UNKNOWN_FIELDS),
    ("an Any as a group", order(b"\x43\x44"), Reason.BAD_PROTOBUF),
]


@pytest.mark.parametrize(("data", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_refused_for_the_stated_reason(data: bytes, reason: Reason) -> None:
    found = refusal(data)
    assert found.reason is reason
    assert found.offset is None or 0 <= found.offset <= len(data)


@pytest.mark.parametrize("policy", [DROP, KEEP], ids=["drop", "keep"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [row[1:] for row in HOSTILE if "declared" not in row[0] and "closed" not in row[0] and "nobody" not in row[0]],
    ids=[row[0] for row in HOSTILE if "declared" not in row[0] and "closed" not in row[0] and "nobody" not in row[0]],
)
def test_admitting_unknown_fields_admits_nothing_else(data: bytes, reason: Reason, policy: Policy) -> None:
    assert refusal(data, policy).reason is reason


def test_every_prefix_of_a_body_is_refused_and_nothing_but_refused() -> None:
    message = pb.Charge(
        id="ch", amount=pb.Money(units=300, currency="é"), labels={"a": "b"}, deltas=[300, -300], rate=1.5,
        per_day={5: pb.Money(units=1)}, parent=pb.Charge(id="p"),
    )  # fmt: skip
    data = codec("protobuf").dumps(message, POLICY)
    name = len(item(1, PREFIX + b"shop.v1.Charge"))
    for end in {*range(len(data))} - {name}:  # a name and nothing else is an empty message
        refusal(data[:end])


def test_what_is_no_bytes_is_refused() -> None:
    for thing in (bytearray(b"\x0a"), "text", None):
        with pytest.raises(Refused) as caught:
            codec("protobuf").judge(thing, POLICY, POLICY.limits)  # type: ignore[arg-type]
        assert caught.value.reason is Reason.NOT_BYTES


def test_a_body_judged_as_another_format_is_not_built() -> None:
    judged = codec("json").judge(b"{}", POLICY, POLICY.limits)
    with pytest.raises(Refused) as caught:
        codec("protobuf").build(judged, POLICY, POLICY.limits)
    assert caught.value.reason is Reason.FORMAT_NOT_ALLOWED


def test_a_refusal_shows_nothing_of_a_text_in_the_body() -> None:
    found = refusal(body("\x1b[31m<b>" + "x" * 300, b""))
    assert "\x1b" not in str(found) and "<" not in str(found) and len(str(found)) < 300
    assert "secret" not in str(refusal(every(TEXT + b"\x07secret\xff")))


# -- the list -----------------------------------------------------------------------------------------------------


def test_the_name_on_the_wire_never_leads_to_the_pool_or_to_an_import() -> None:
    # Both are known to the library, and one to Python; neither is listed.
    for name in ("shop.v1.Wide", "google.protobuf.Struct"):
        found = refusal(body(name, b""))
        assert found.reason is Reason.TYPE_NOT_ALLOWED
        assert name in found.detail
    before = set(sys.modules)
    refusal(body("this.antigravity", b""))
    assert set(sys.modules) == before


def test_fields_that_are_messages_need_no_line_of_their_own() -> None:
    policy = Policy(protobuf=["shop_pb2:Charge"])
    assert load(charge(item(2, b"\x08\x05")), policy).amount.units == 5


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("shop_pb2:NoSuch", "has no NoSuch"),
        ("no_such_pb2:Charge", "there is no module no_such_pb2"),
        ("decimal:Decimal", "no message class"),
        ("shop_pb2:NOTE", "no message class"),
        ("google.protobuf.message:Message", "no message class"),
        ("google.protobuf.struct_pb2:Struct.FieldsEntry", "an entry of a map"),
        ("shop_pb2:Charge refer", "write the class alone"),
        ("shop_pb2:Charge(int)", "write the class alone"),
        ("shop.v1.Charge", "with a colon"),
        ("shop_pb2:*", "no wildcards"),
    ],
)
def test_a_wrong_entry_is_told_at_start_up(entry: str, problem: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        Policy(protobuf=[entry]).resolve()
    assert caught.value.key == "protobuf"
    assert problem in caught.value.problem or entry == "shop_pb2:*"


def test_two_classes_of_one_full_name_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.protobuf import descriptor_pool, message_factory

    pool: Any = descriptor_pool.DescriptorPool()
    for file in (any_pb2.DESCRIPTOR, pb.Charge.DESCRIPTOR.file):
        pool.AddSerializedFile(file.serialized_pb)
    other = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.v1.Charge"))
    monkeypatch.setattr(pb, "Other", other, raising=False)

    with pytest.raises(Misconfigured, match="another class is listed"):
        Policy(protobuf=["shop_pb2:Charge", "shop_pb2:Other"]).resolve()
    assert Policy(protobuf=["shop_pb2:Charge", "shop_pb2:Charge"]).resolve().messages["shop.v1.Charge"] is pb.Charge
    # And what is written is of the very class that is listed.
    with pytest.raises(Refused) as caught:
        codec("protobuf").dumps(other(id="x"), POLICY)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE


def test_the_digest_of_a_policy_says_what_is_listed() -> None:
    digests = {
        Policy().digest,
        POLICY.digest,
        DROP.digest,
        KEEP.digest,
        WITH_ANY.digest,
        Policy(protobuf=CLASSES, formats=["json"]).digest,
    }
    assert len(digests) == 6
    assert Policy(protobuf=reversed(CLASSES)).digest == POLICY.digest
    assert POLICY.extended(protobuf=[ANY]).digest == WITH_ANY.digest


def test_a_key_that_was_granted_presets_sends_no_messages() -> None:
    ring = Keyring([Key.generate("web", grants=Grants(presets=frozenset({"stdlib@1"})))])
    gateway = Gateway(keyring=ring, policy=Policy(protobuf=CLASSES, presets=["stdlib@1"]))
    blob = gateway.seal(pb.Charge(id="x"), format="protobuf")
    with pytest.raises(Refused) as caught:
        gateway.open(blob)
    assert caught.value.reason is Reason.TYPE_NOT_ALLOWED


def test_without_the_library_a_message_is_refused_and_a_policy_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['google.protobuf'] = sys.modules['google'] = None\n"
        "from safeserial import Misconfigured, Policy, Refused\n"
        "from safeserial.formats import codec\n"
        "policy = Policy()\n"
        "try: codec('protobuf').judge(b'\\x0a\\x15type.googleapis.com/x', policy, policy.limits)\n"
        "except Refused as refusal: print(refusal.code)\n"
        "try: Policy(protobuf=['shop_pb2:Charge']).resolve()\n"
        "except Misconfigured as error: print(error.problem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True
    )
    assert done.stdout.splitlines()[0] == "SS310"
    assert "safeserial-gateway[protobuf]" in done.stdout


def test_importing_safeserial_does_not_load_the_library() -> None:
    program = "import sys, safeserial; sys.exit('google.protobuf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=False).returncode == 0


# -- unknown fields -----------------------------------------------------------------------------------------------

NEWER = pb.Charge(id="x", note="from later", parent=pb.Charge(id="y", rate=1.5))
AS_BEFORE = body("shop.v1.ChargeBefore", NEWER.SerializeToString())


def test_what_a_newer_sender_added_is_refused_dropped_or_kept() -> None:
    assert refusal(AS_BEFORE).reason is Reason.UNKNOWN_FIELDS
    dropped, kept = load(AS_BEFORE, DROP), load(AS_BEFORE, KEEP)

    assert dropped == pb.ChargeBefore(id="x", parent=pb.ChargeBefore(id="y"))
    assert dropped.SerializeToString() == pb.ChargeBefore(id="x", parent=pb.ChargeBefore(id="y")).SerializeToString()
    assert pb.Charge.FromString(kept.SerializeToString()) == NEWER


def test_unknown_fields_are_counted_and_bounded_too() -> None:
    few = Limits(max_nodes=10)
    for policy in (DROP, KEEP):
        assert refusal(charge(b"\x98\x06\x01" * 20), policy, few).reason is Reason.TOO_MANY_NODES
        assert (
            refusal(charge(item(99, b"x" * 30)), policy, Limits(max_string_bytes=20)).reason is Reason.STRING_TOO_LONG
        )
        for cut in (b"\x98\x06", b"\x98\x06\x80", b"\x99\x06\x01", b"\x9d\x06\x01", b"\x9a\x06\x05a", b"\x9a\x06"):
            assert refusal(charge(cut), policy).reason is Reason.TRUNCATED
        assert load(charge(b"\x98\x06\xff\x01" + b"\x99\x06" + b"\0" * 8 + b"\x9d\x06" + b"\0" * 4), policy) is not None
        assert refusal(charge(b"\x9b\x06\x9c\x06"), policy).reason is Reason.UNKNOWN_FIELDS


def test_a_number_that_a_closed_enum_has_not_is_an_unknown_field() -> None:
    for data in (b"\x18\x09", b"\x20\x09", b"\x22\x02\x01\x09"):
        assert load(order(data), DROP) == pb.Order(id="x", states=[1] if data[0] == 0x22 else [])
        assert load(order(data), KEEP).SerializeToString() != pb.Order(id="x").SerializeToString()
        # Where it is required, the message would lack it.
        assert refusal(order(b"\x2a\x04\x08\x01\x10\x09"), DROP).reason is Reason.UNKNOWN_FIELDS
        assert refusal(order(b"\x32\x05\x0a\x01a\x10\x09"), KEEP).reason is Reason.UNKNOWN_FIELDS


def test_what_is_written_has_no_fields_that_its_readers_would_refuse() -> None:
    message = pb.ChargeBefore.FromString(NEWER.SerializeToString())
    with pytest.raises(Refused) as caught:
        codec("protobuf").dumps(message, POLICY)
    assert caught.value.reason is Reason.UNKNOWN_FIELDS
    assert load(codec("protobuf").dumps(message, KEEP), KEEP) == message


# -- Any ----------------------------------------------------------------------------------------------------------


def test_an_any_is_read_where_it_is_listed_and_what_it_holds_is_listed() -> None:
    message = pb.Charge(id="x")
    message.extra.Pack(pb.Charge(id="inner", labels={"a": "b"}))
    data = codec("protobuf").dumps(message, WITH_ANY)
    judged = codec("protobuf").judge(data, WITH_ANY, WITH_ANY.limits)

    assert judged.names == ("shop.v1.Charge", "shop.v1.Charge")
    assert load(data, WITH_ANY) == message
    assert load(charge(item(10, b"")), WITH_ANY) == pb.Charge(extra=any_pb2.Any())


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (body("shop.v1.Money", b""), Reason.TYPE_NOT_ALLOWED),
        (body("shop.v1.Charge", b"\x0a\x05x"), Reason.TRUNCATED),
        (body("shop.v1.Charge", b"\x98\x06\x01"), Reason.UNKNOWN_FIELDS),
        (body("shop.old.Order", b""), Reason.BAD_PROTOBUF),
        (item(2, b"\x0a\x01x"), Reason.BAD_PROTOBUF),
        (item(1, b"x/shop.v1.Charge"), Reason.BAD_PROTOBUF),
        (body("shop.v1.Charge", b"") * 2, Reason.DUPLICATE_KEY),
        (body("shop.v1.Charge", item(10, body("shop.v1.Money", b""))), Reason.TYPE_NOT_ALLOWED),
    ],
    ids=range(8),
)
def test_what_an_any_holds_is_judged_as_the_message_that_it_says_to_be(inner: bytes, reason: Reason) -> None:
    for policy in (WITH_ANY, DROP):
        assert refusal(charge(item(10, inner)), policy).reason is reason


def test_what_is_unknown_inside_of_an_any_could_not_be_dropped_so_it_is_refused() -> None:
    data = charge(item(10, body("shop.v1.ChargeBefore", NEWER.SerializeToString())))
    assert refusal(data, DROP).reason is Reason.UNKNOWN_FIELDS
    assert load(data, KEEP).extra.value == NEWER.SerializeToString()


def test_an_any_may_be_the_message_itself() -> None:
    outer = any_pb2.Any()
    outer.Pack(pb.Charge(id="x"))
    data = codec("protobuf").dumps(outer, WITH_ANY)
    assert codec("protobuf").judge(data, WITH_ANY, WITH_ANY.limits).names == ("google.protobuf.Any", "shop.v1.Charge")
    assert load(data, WITH_ANY) == outer


def test_anys_in_anys_cost_what_they_are_long() -> None:
    data = b""
    for _ in range(80):
        data = item(10, body("shop.v1.Charge", data))
    found = codec("protobuf").judge(charge(data), WITH_ANY, WITH_ANY.limits)
    assert len(found.names) == 81
    assert refusal(charge(data), WITH_ANY, Limits(max_depth=50)).reason is Reason.TOO_DEEP


def test_whether_any_is_listed_is_asked_once_however_many_there_are() -> None:
    data = body("google.protobuf.Type", b"\x22\x02\x12\x00" * 1_000)
    policy = Policy(protobuf=["google.protobuf.type_pb2:Type", ANY])
    asked: list[str] = []

    def find(name: str) -> Any:
        asked.append(name)
        return plan_of(policy.messages[name])

    assert len(load(data, policy).options) == 1_000
    for build in ("protobuf_scan", "_protobuf_scan_c"):
        engine = pytest.importorskip(f"safeserial.formats.{build}")
        asked.clear()
        engine.scan(data, find, Limits(), "refuse")
        assert asked == ["google.protobuf.Type", "google.protobuf.Any"]


# -- ceilings -----------------------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    data = b""
    for _ in range(levels):
        data = item(11, data)
    return data


def test_depth() -> None:
    assert load(charge(nested(4)), limits=Limits(max_depth=5)) is not None
    assert refusal(charge(nested(5)), limits=Limits(max_depth=5)).reason is Reason.TOO_DEEP
    # Whatever a policy says, no deeper than the library reads.
    deep = Limits(max_depth=10_000)
    assert load(charge(nested(99)), limits=deep) is not None
    for levels in (100, 101, 5_000):
        assert refusal(charge(nested(levels)), limits=deep).reason is Reason.TOO_DEEP
    entry = item(12, b"\x08\x01" + item(2, b"\x08\x01"))
    assert load(charge(entry), limits=Limits(max_depth=3)) is not None
    assert refusal(charge(entry), limits=Limits(max_depth=2)).reason is Reason.TOO_DEEP
    groups = b"\x13\x0a\x01a" * 3 + b"\x14" * 3
    assert load(order(groups), limits=Limits(max_depth=4)) is not None
    assert refusal(order(groups), limits=Limits(max_depth=3)).reason is Reason.TOO_DEEP


@pytest.mark.parametrize(
    "message",
    [
        b"".join(tag("many_string", wire=2) + b"\x00" for _ in range(100)),
        tag("many_int64", wire=2) + b"\x64" + b"\x01" * 100,
        tag("many_int64", wire=2) + b"\x64" + b"\x81\x01" * 50 + b"",
        tag("many_double", wire=2) + b"\xa0\x06" + b"\0" * 800,
        b"".join(tag("many_bool") + b"\x01" for _ in range(100)),
        b"".join(ENTRY + b"\x03\x0a\x01" + bytes([33 + n]) for n in range(40)),
    ],
    ids=["texts", "packed", "packed-two-bytes", "packed-doubles", "one by one", "entries"],
)
def test_values_are_counted_before_the_library_makes_them(message: bytes) -> None:
    assert load(every(message)) is not None
    assert refusal(every(message), limits=Limits(max_nodes=45)).reason is Reason.TOO_MANY_NODES


def test_a_message_costs_what_it_declares_because_the_library_makes_room_for_it() -> None:
    crowd = body("shop.v1.Crowd", b"\x0a\x00" * 5_000)
    assert refusal(crowd).reason is Reason.TOO_MANY_NODES
    assert load(body("shop.v1.Crowd", b"\x12\x00" * 5_000)) is not None
    assert load(body("shop.v1.Crowd", b"\x0a\x00" * 1_000)) is not None


@pytest.mark.skipif(
    not type(pb.Money).__module__.startswith("google._upb"), reason="the library's own fallback takes some 40 MiB"
)
@pytest.mark.parametrize(
    "shape", [b"\x0a\x00", b"\x12\x00", b"\x1a\x00", b"\x20\x01", b"\x28\x01", b"\x12\x02\x08\x01"]
)
def test_what_256_kib_may_become_in_memory(shape: bytes) -> None:
    """Resident memory, because the library allocates where tracemalloc does not look."""
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from safeserial import Policy, Refused; from safeserial.formats import codec\n"
        "policy = Policy(protobuf=['shop_pb2:Crowd']).resolve()\n"
        "data = bytes.fromhex(sys.stdin.read()); codec('protobuf').load(data[:35], policy, policy.limits)\n"
        "kept = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "before = kept(); value = None\n"
        "try: value = codec('protobuf').load(data, policy, policy.limits)\n"
        "except Refused as refusal: print(refusal.code, file=sys.stderr)\n"
        "print(kept() - before)\n"
    )
    head = item(1, PREFIX + b"shop.v1.Crowd")
    count = (256 << 10) // len(shape)
    data = head + item(2, shape * count)
    assert len(head) == 35
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(pb.__file__).parent), str(Path(__file__).parents[3])],
        input=data.hex(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 32 << 20


def test_a_length_allocates_nothing() -> None:
    data = charge(b"\x0a" + number((1 << 32) - 1) + b"x")
    refusal(data)
    tracemalloc.start()
    try:
        refusal(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000


def test_sizes() -> None:
    text = every(TEXT + b"\x0a" + b"a" * 10)
    assert load(text, limits=Limits(max_string_bytes=10)).one_string == "a" * 10
    assert refusal(text, limits=Limits(max_string_bytes=9)).reason is Reason.STRING_TOO_LONG
    assert load(text, limits=Limits(max_raw_bytes=len(text))) is not None
    assert refusal(text, limits=Limits(max_raw_bytes=len(text) - 1)).reason is Reason.TOO_LARGE
    small = Policy(protobuf=CLASSES, limits=Limits(max_raw_bytes=50))
    with pytest.raises(Refused) as caught:
        codec("protobuf").dumps(pb.Charge(id="x" * 60), small)
    assert caught.value.reason is Reason.TOO_LARGE


@pytest.mark.parametrize("name", ["int32", "uint32", "sint32", "int64", "fixed64", "sfixed32", "kind"])
def test_numbers_may_be_bounded(name: str) -> None:
    limits = Limits(max_int_bits=8)
    for value, fits in ((255, True), (256, False), (-255, True), (-256, False)):
        if value < 0 and name in ("uint32", "fixed64"):
            continue
        for message in (pb.Everything(**{f"one_{name}": value}), pb.Everything(**{f"many_{name}": [1, value]})):
            data = every(message.SerializeToString())
            if fits:
                assert load(data, limits=limits) == message
            else:
                assert refusal(data, limits=limits).reason is Reason.NUMBER_OUT_OF_RANGE


@pytest.mark.parametrize("name", ["float", "double"])
def test_nan_and_infinities_may_be_closed(name: str) -> None:
    finite = Limits(allow_nan=False)
    for value in (math.nan, math.inf, -math.inf):
        for message in (pb.Everything(**{f"one_{name}": value}), pb.Everything(**{f"many_{name}": [1.5, value]})):
            data = every(message.SerializeToString())
            assert refusal(data, limits=finite).reason is Reason.NOT_FINITE
            assert load(data) is not None
    assert load(every(pb.Everything(**{f"many_{name}": [1.5, 2.5]}).SerializeToString()), limits=finite) is not None


def test_the_library_s_own_refusal_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        @staticmethod
        def FromString(data: bytes) -> None:
            raise struct.error("quotes the secret")

    data = charge(b"\x0a\x01x")
    policy = Policy(protobuf=CLASSES).resolve()
    judged = codec("protobuf").judge(data, policy, policy.limits)
    from safeserial.formats import protobuf, protobuf_plan

    plan = protobuf_plan.plan_of(pb.Charge)
    monkeypatch.setattr(protobuf, "plan_of", lambda _: plan)
    object.__setattr__(policy.compiled, "messages", {"shop.v1.Charge": Broken})
    with pytest.raises(Refused) as caught:
        codec("protobuf").build(judged, policy, policy.limits)
    assert caught.value.reason is Reason.BAD_PROTOBUF
    assert "secret" not in str(caught.value)


# -- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, "one message"), ({"id": "x"}, "one message"), ([pb.Charge()], "one message"), (None, "one message"),
        (pb.Charge, "one message"), (pb.Money(), 'add "shop_pb2:Money" to protobuf'),
        (pb.Order(), "EncodeError"),
    ],
    ids=range(7),
)  # fmt: skip
def test_what_is_no_listed_message_is_not_written(value: object, words: str) -> None:
    with pytest.raises(Refused) as caught:
        codec("protobuf").dumps(value, POLICY)
    assert caught.value.reason is Reason.NOT_REPRESENTABLE
    assert words in caught.value.detail


def test_an_any_is_written_where_its_readers_would_read_it() -> None:
    message = pb.Charge()
    message.extra.Pack(timestamp_pb2.Timestamp())
    for policy in (POLICY, WITH_ANY):
        with pytest.raises(Refused) as caught:
            codec("protobuf").dumps(message, policy)
        assert caught.value.reason is Reason.TYPE_NOT_ALLOWED
    more = WITH_ANY.extended(protobuf=["google.protobuf.timestamp_pb2:Timestamp"])
    assert load(codec("protobuf").dumps(message, more), more) == message


# -- in envelopes -------------------------------------------------------------------------------------------------


def test_sealed_opened_and_inspected_with_its_name_signed() -> None:
    gateway = Gateway(keyring=Keyring([Key.generate("web")]), policy=POLICY, compression="zlib")
    message = pb.Charge(id="x" * 5_000)
    blob = gateway.seal(message, format="protobuf", type="billing.charge")

    assert gateway.open(blob) == message
    found = gateway.inspect(blob)
    assert found.names == ("shop.v1.Charge",) and found.refusal is None
    assert found.claims is not None and (found.claims.format.label, found.claims.type) == ("protobuf", "billing.charge")
    with pytest.raises(Refused):
        gateway.open(blob.replace(b"web", b"wbe"))


def test_a_policy_and_a_key_may_leave_the_format_out() -> None:
    ring = Keyring([Key.generate("web")])
    blob = Gateway(keyring=ring, policy=POLICY).seal(pb.Charge(id="x"), format="protobuf")
    closed = Gateway(keyring=ring, policy=Policy(protobuf=CLASSES, formats=["json"]))
    with pytest.raises(Refused) as caught:
        closed.open(blob)
    assert caught.value.reason is Reason.FORMAT_NOT_ALLOWED

    narrow = Keyring([Key.generate("web", grants=Grants(formats=["json"]))])  # type: ignore[arg-type]
    with pytest.raises(Refused) as caught:
        Gateway(keyring=narrow, policy=POLICY).seal(pb.Charge(id="x"), format="protobuf")
    assert caught.value.reason is Reason.FORMAT_NOT_GRANTED
    wide = Keyring([Key.generate("web", grants=Grants(formats=["protobuf"]))])  # type: ignore[arg-type]
    sealed = Gateway(keyring=wide, policy=POLICY)
    assert sealed.open(sealed.seal(pb.Charge(id="x"), format="protobuf")) == pb.Charge(id="x")


# -- settings -------------------------------------------------------------------------------------------------------


def test_settings_list_messages_for_every_queue_and_for_one(tmp_path: Path) -> None:
    from safeserial.config import Settings

    file = tmp_path / "safeserial.toml"
    file.write_text(
        'protobuf = ["shop_pb2:Charge"]\nprotobuf_unknown_fields = "drop"\n'
        '[queues.orders]\nprotobuf = ["shop_pb2:Order"]\n',
        "utf-8",
    )
    settings = Settings.load(file=file, environ={}).resolve()
    assert set(settings.policy.messages) == {"shop.v1.Charge"}
    assert set(settings.policy_for("orders").messages) == {"shop.v1.Charge", "shop.old.Order"}
    assert settings.policy_for("orders").protobuf_unknown_fields == "drop"
    rows = {key: value for key, value, _ in settings.rows()}
    assert (rows["protobuf"], rows["queues.orders.protobuf"]) == ("[shop_pb2:Charge]", "[shop_pb2:Order]")

    said = Settings.load(search=False, environ={"SAFESERIAL_PROTOBUF": "shop_pb2:Charge, shop_pb2:Order"})
    assert set(said.resolve().policy.messages) == {"shop.v1.Charge", "shop.old.Order"}
    given = Settings.load(search=False, environ={}, arguments={"policy": KEEP})
    assert given.policy.digest == KEEP.digest
    assert Policy.from_file(str(file)).protobuf == ("shop_pb2:Charge",)


@pytest.mark.parametrize(
    ("text", "key", "line", "words"),
    [
        ('protobuf = ["shop_pb2:Charge", "shop_pb2:No"]', "protobuf[1]", 1, "has no No"),
        ('protobuf = "shop_pb2:Charge"', "protobuf", 1, "list of texts"),
        ('protobuf = ["shop_pb2.Charge"]', "protobuf[0]", 1, "colon"),
        ('\nprotobuf_unknown_fields = "ignore"', "protobuf_unknown_fields", 2, "refuse, drop, keep"),
        ('[queues.a]\nprotobuf = ["decimal:Decimal"]', "queues.a.protobuf[0]", 2, "no message class"),
        ('format = "protobuf"', "format", 1, "json, msgpack, pickle"),
    ],
    ids=range(6),
)
def test_a_wrong_setting_is_told_with_its_place(tmp_path: Path, text: str, key: str, line: int, words: str) -> None:
    from safeserial.config import Settings

    file = tmp_path / "safeserial.toml"
    file.write_text(text + "\n", "utf-8")
    with pytest.raises(Misconfigured) as caught:
        Settings.load(file=file, environ={}).resolve()
    assert (caught.value.key, caught.value.line) == (key, line)
    assert words in caught.value.problem
