"""What is looked at once and kept, and the corners of the tables that keep it."""

from __future__ import annotations

import pickle
import sys
from datetime import date, timedelta
from decimal import Decimal
from types import MappingProxyType

import pytest

from safeserial.allow import Arg, Kind, Right, Row, Signature
from safeserial.errors import Reason, Refused
from safeserial.limits import Limits
from safeserial.minipickle import machine, rules, verify
from safeserial.minipickle.hashing import UNKNOWABLE, hash_like
from safeserial.minipickle.verify import judge
from safeserial.policy import Policy

R = Right
ALL = int(R.REFERENCE | R.CALL | R.NEW | R.BUILD | R.FRESH | R.CLASS | R.HASHABLE)
PRIME = (1 << 61) - 1


def row(name: str, *patterns: Arg, rest: Arg | None = None, **more: object) -> dict[str, Row]:
    signatures = (Signature(patterns, rest),) if patterns or rest else ()
    return {name: Row(name, ALL, signatures, **more)}  # type: ignore[arg-type]


def refused(data: bytes, allow: dict[str, Row] | None = None, limits: Limits | None = None) -> Reason:
    with pytest.raises(Refused) as caught:
        verify(data, allow=allow or {}, limits=limits)
    return caught.value.reason


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def test_judge_is_verify_for_a_machine_of_ones_choice() -> None:
    data = pickle.dumps([1, {"a": (2,)}])

    assert judge(machine.Machine, data, {}, Limits(), 0) == verify(data) == verify(memoryview(data))  # type: ignore[arg-type]
    assert judge(machine.Machine, bytearray(data), {}, Limits(max_bytes=0), 0, max_bytes=100) == verify(data)  # type: ignore[arg-type]
    for wrong, opcode in ((b"cos\ngetpid\n.", "GLOBAL"), (data + b"!", "STOP")):
        with pytest.raises(Refused) as one:
            judge(machine.Machine, wrong, {}, Limits(), 0)
        with pytest.raises(Refused) as other:
            verify(wrong)
        assert (one.value.args, one.value.opcode) == (other.value.args, opcode)
        assert one.value.opcode == other.value.opcode
        assert one.value.global_name == other.value.global_name
    with pytest.raises(Refused) as caught:
        judge(machine.Machine, data, {}, Limits(max_bytes=3), 0)
    assert caught.value.reason is Reason.TOO_LARGE


def test_offsets_fit_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CEILING", 10)

    with pytest.raises(Refused) as caught:
        judge(machine.Machine, b"(NNNNNNNt.", {}, Limits(), 0)
    assert (caught.value.reason, caught.value.offset) == (Reason.TOO_LARGE, None)
    assert judge(machine.Machine, b"(NNNNNNt.", {}, Limits(), 0).nodes == 8


def test_more_names_than_the_first_tables_hold() -> None:
    allow: dict[str, Row] = {}
    for n in range(150):
        allow |= row(f"m:f{n}", *(Arg("const", value=n + k) for k in range(3)))
    data = b"\x80\x04(" + b"".join(
        text("m") + text(f"f{n}") + b"\x93" + b"".join(pickle.dumps(n + k, 2)[2:-1] for k in range(3)) + b"\x87R"
        for n in range(150)
    )

    assert len(verify(data + b"t.", allow=allow).names) == 150
    assert refused(data.replace(b"K\x0bK\x0cK\x0d", b"K\x0bK\x0cK\x0e") + b"t.", allow) is Reason.BAD_ARGUMENTS


def test_a_name_fetched_twice_from_the_memo_is_one_global() -> None:
    data = b"\x80\x04(" + text("m") + b"\x94" + text("A") + b"\x94\x93" + b"h\0h\1\x93" * 3 + b"t."

    assert [name for _, name in verify(data, allow=row("m:A")).names] == ["m:A"] * 4
    assert refused(data) is Reason.GLOBAL_NOT_ALLOWED


def test_a_listed_name_with_rules_of_its_own_keeps_them() -> None:
    data = b"\x80\x04" + text("builtins") + text("getattr") + b"\x93."

    assert refused(data, row("builtins:getattr")) is Reason.GLOBAL_NOT_ALLOWED


def test_many_arguments_are_looked_at_once_if_they_are_constants() -> None:
    allow = row("m:f", rest=Arg("kind", int(Kind.INT | Kind.STR), 0, 300)) | row("m:g", rest=Arg("data"))
    ten = b"(" + b"K\1" * 10 + b"t\x94"
    twice = b"\x80\x04(" + text("m") + text("f") + b"\x93\x94" + ten + b"Rh\0h\1Rh\0h\1Rt."
    assert verify(twice, allow=allow).names == ((9, "m:f"),)
    assert refused(twice.replace(b"K\1K\1t", b"NK\1t"), allow) is Reason.BAD_ARGUMENTS
    assert verify(twice.replace(b"K\1K\1t", b"M\x2c\1K\1t"), allow=allow).names
    assert refused(twice.replace(b"K\1K\1t", b"M\x2d\1K\1t"), allow) is Reason.BAD_ARGUMENTS

    # A list may still grow, and then a class stands in it.
    grown = b"\x80\x04(" + text("m") + text("g") + b"\x93\x94(]\x94" + b"K\1" * 9 + b"t\x94Rh\0h\2Rh\1h\0at."
    assert refused(grown, allow) is Reason.REFERENCE_NOT_ALLOWED
    assert verify(grown.replace(b"h\1h\0a", b""), allow=allow).opcodes


def test_state_that_is_shared_is_looked_at_once() -> None:
    shared = b"(cm\nA\np0\n)\x81}p1\nS'a'\nK\1sbg0\n)\x81g1\nbg0\n)\x81g1\nbt."

    assert len(verify(shared, allow=row("m:A")).names) == 1
    assert refused(shared.replace(b"'a'", b"'__a__'"), row("m:A")) is Reason.BAD_STATE
    reserved = row("m:A", reserved=frozenset({"a"}))
    assert refused(shared, reserved) is Reason.BAD_STATE


def test_a_list_that_is_state_takes_no_items() -> None:
    allow = row("m:A", state=(Arg("kind", int(Kind.LIST)),))
    data = b"(cm\nA\n)\x81]p0\nbg0\nK\1at."

    assert refused(data, allow) is Reason.MUTATION_NOT_ALLOWED


def test_a_constant_may_be_what_is_left_of_a_run_with_care() -> None:
    assert verify(b"]q\x000(h\0l0h\0K\1a0N.").depth == 0
    assert verify(b"\x8f(\x90.").weight == 1


def test_patterns_within_patterns() -> None:
    pair = Arg("tuple", value=(Arg("kind", int(Kind.INT | Kind.FLOAT), 0, 5), Arg("any")))
    for inner, fine in ((b"G" + bytes(8) + b"N", True), (b"K\5N", True), (b"K\6N", False), (b"K\5cm\nf\n", True)):
        data = b"cm\nf\n((" + inner + b"ttR."
        if fine:
            assert verify(data, allow=row("m:f", pair)).names[0][1] == "m:f"
        else:
            assert refused(data, row("m:f", pair)) is Reason.BAD_ARGUMENTS


def test_tables_of_rules_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_MOST_KEPT", 0)
    monkeypatch.setattr(rules, "_MOST_TABLES", 0)
    table = MappingProxyType(row("m:A.b.c"))

    assert rules.holders_of(table) == {"m:A", "m:A.b"}
    assert rules.holders_of(MappingProxyType(row("m:B.c"))) == {"m:B"}
    assert rules.holders_of(table) == {"m:A", "m:A.b"}
    assert rules.rule_of(table["m:A.b.c"]) == rules.rule_of(table["m:A.b.c"])
    assert len(rules._KEPT) == len(rules._HOLDERS) == 1


@pytest.mark.parametrize(
    ("how", "parts", "number"),
    [
        ("decimal", ["0.75"], Decimal("0.75")), ("decimal", ["-75e-2"], Decimal("-0.75")), ("decimal", ["12"], 12),
        ("decimal", ["1E+30"], 10**30), ("decimal", ["." + "3" * 900], Decimal("." + "3" * 900)),
        ("fraction", [3, 4], Decimal("0.75")), ("fraction", ["-3/4"], Decimal("-0.75")), ("fraction", ["7"], 7),
        ("fraction", [PRIME + 5, 1], 5), ("fraction", [3, -4], Decimal("-0.75")), ("fraction", [-3, -4], Decimal("0.75")),
        ("fraction", [-7, 1], -7), ("decimal", ["-1"], -1), ("number", [5], 5), ("number", [-1], -1), ("number", [], 0), ("number", [2.5], 2.5),
        ("tuple", [(1, 2)], (1, 2)), ("tuple", [], ()), ("timedelta", [1, 90_000, -5], timedelta(1, 90_000, -5)),
        ("timedelta", [-1], timedelta(-1)), ("timedelta", [0, -1], timedelta(0, -1)), ("timedelta", [], timedelta()),
    ],
)  # fmt: skip
def test_numbers_hash_by_their_value(how: str, parts: list[object], number: object) -> None:
    assert hash(hash_like(how, parts)) == hash(number)


def test_what_says_no_number_stands_for_itself() -> None:
    assert hash_like("decimal", ["sNaN12"]) == ("sNaN12",)
    assert hash_like("decimal", [1]) == (1,)
    assert hash_like("fraction", ["x"]) == ("x",)
    assert hash_like("fraction", [1.5]) == (1.5,)
    assert hash_like("fraction", [1, PRIME]) == hash_like("fraction", [7, 2 * PRIME])
    for text, sign in (("inf", 1), ("+InfinIty", 1), ("-Inf", -1)):
        assert hash_like("decimal", [text]) == sign * sys.hash_info.inf == hash(Decimal(text))
    assert hash_like("decimal", ["-NaN7"]) == ("-NaN7",)
    assert hash(hash_like("decimal", ["7E-1000000000000000001"])) == hash(Decimal("7E-1000000000000000001"))
    for text in ("1E-10000000000000000001", "In", "1E"):
        assert hash_like("decimal", [text]) is UNKNOWABLE
    assert hash_like("fraction", [2 * PRIME, PRIME]) is hash_like("fraction", [f"{PRIME}/{PRIME}"]) is UNKNOWABLE
    assert hash_like("timedelta", ["a"]) == ("a",)
    assert hash_like("timedelta", [1, -1, -1]) == (0, 86_398, 999_999)
    assert hash_like("arguments", [1, "a"]) == (1, "a")


def test_keys_of_library_types_pay_for_their_real_hashes() -> None:
    policy = Policy(presets=["stdlib@1"])
    honest: dict[object, object] = {(date(2026, 1, 1 + n % 28), n): n for n in range(3000)}
    honest |= {(Decimal(n) / 100, n): None for n in range(3000)} | {Decimal(n): n for n in range(3000)}
    assert verify(pickle.dumps(honest), allow=policy.table).nodes > 9000

    def fractions(texts: list[str]) -> bytes:
        made = b"".join(b"h\2" + text(one) + b"\x85R" for one in texts)
        return b"\x80\x04" + text("fractions") + b"\x94" + text("Fraction") + b"\x94\x93\x940\x8f(" + made + b"\x90."

    assert verify(fractions([f"{n}/7" for n in range(3000)]), allow=policy.table).names
    with pytest.raises(Refused) as caught:
        verify(fractions([f"{5 + PRIME * n}/1" for n in range(3000)]), allow=policy.table)
    assert caught.value.reason is Reason.HASH_COST


# Two ints that share a hash, in tuples of six: sixty-four tuples with one hash.
_PAIRS = [
    b"(" + b"".join(b"J" + (b"\xff" if n >> bit & 1 else b"\xfe") + b"\xff" * 3 for bit in range(6)) + b"t"
    for n in range(64)
]


def colliding(prefix: bytes, pieces: bytes, start: int, count: int = 1500) -> bytes:
    """A set of tuples that share a hash, each holding something that is looked up or made anew."""
    memo = b"".join(piece + b"\x940" for piece in _PAIRS)
    keys = b"".join(
        pieces + b"h" + bytes([start + n % 64]) + b"h" + bytes([start + n // 64 % 64]) + b"\x87" for n in range(count)
    )
    return b"\x80\x04" + prefix + memo + b"\x8f(" + keys + b"\x90."


def test_equal_parts_of_keys_hash_alike_however_often_they_are_made() -> None:
    policy = Policy(presets=["stdlib@1"])
    made = text("datetime") + text("date") + b"\x93\x940C\4\x07\xe4\1\1\x85\x940"

    with pytest.raises(Refused) as caught:
        verify(colliding(made, b"h\0h\1R", 2), allow=policy.table)
    assert caught.value.reason is Reason.HASH_COST
    # A class that is looked up again is the same class.
    assert refused(colliding(b"N\x940", b"cm\nK\n", 1), row("m:K")) is Reason.HASH_COST
    assert refused(colliding(b"N\x940", b"cm\nK\n)\x81", 1), row("m:K")) is Reason.HASH_COST


def test_the_class_is_no_part_of_what_an_instance_hashes_like() -> None:
    allow = row("m:P", hashing="arguments")
    head = b"ccopyreg\n__newobj__\n\x940"
    memo = b"".join(piece + b"\x940" for piece in _PAIRS)
    keys = b"".join(
        b"h\0(cm\nP\nh" + bytes([1 + n % 64]) + b"h" + bytes([1 + n // 64 % 64]) + b"tR" for n in range(1500)
    )

    assert refused(b"\x80\x04" + head + memo + b"\x8f(" + keys + b"\x90.", allow) is Reason.HASH_COST


def test_addresses_of_ipv6_share_hashes_if_the_sender_likes() -> None:
    from ipaddress import IPv6Address

    policy = Policy(presets=["stdlib@1"])
    made = b"".join(b"h\0" + text(str(IPv6Address(5 + n * PRIME))) + b"\x85R" for n in range(3000))
    data = b"\x80\x04" + text("ipaddress") + text("IPv6Address") + b"\x93\x940\x8f(" + made + b"\x90."

    with pytest.raises(Refused) as caught:
        verify(data, allow=policy.table)
    assert caught.value.reason is Reason.HASH_COST


def test_what_grew_is_weighed_again_before_its_instances_are_let_go() -> None:
    policy = Policy(presets=["stdlib@1"])
    data = (
        b"\x80\x04" + text("collections") + text("deque") + b"\x93\x940]\x94\x85\x940]h\0h\2R\x94ah\1(" + b"N" * 30000
    )
    data += b"e0" + b"h\0h\2R\x940h\x030" * 3000 + b"."

    with pytest.raises(Refused) as caught:
        verify(data, allow=policy.table)
    assert caught.value.reason is Reason.TOO_HEAVY


def test_a_shared_part_of_many_keys_is_hashed_once() -> None:
    keys = b"".join(b"h\0K" + bytes([n]) + b"\x86" for n in range(50))
    data = b"\x80\x04G" + bytes(8) + b"2\x86" * 13 + b"\x940\x8f(" + keys + b"\x90."

    assert verify(data).weight > 50 * (1 << 13)


def test_limits_as_large_as_they_may_be_are_those_of_the_tables() -> None:
    large = Limits(
        max_string_bytes=(1 << 62) - 1, max_memo_entries=1 << 59, max_weight=(1 << 62) - 1, max_calls=1 << 61
    )

    assert verify(b"I5\n.", limits=large).canonical == b"\x80\x04K\5."
    assert verify(b"Nq\5.", limits=large).canonical == b"\x80\x04N\x94."
    heavy = b"\x80\x04N" + b"2\x86" * 29 + b"\x940" + text("m") + text("K") + b"\x93h\0\x85}" + text("a") + b"h\0s\x92."
    assert refused(heavy, row("m:K", keywords=True), large) is Reason.TOO_HEAVY


def test_a_mark_above_the_ceiling_is_refused_where_it_stands() -> None:
    for data in (b"}\x94(u.", b"]\x94(e."):
        with pytest.raises(Refused) as caught:
            verify(data, limits=Limits(max_stack_items=1))
        assert (caught.value.reason, caught.value.offset) == (Reason.STACK_TOO_LARGE, 2)


def test_an_old_instance_may_be_a_call() -> None:
    only_new = {"m:G": Row("m:G", int(R.CLASS | R.NEW))}

    assert refused(b"(im\nG\n.", only_new) is Reason.CALL_NOT_ALLOWED
    assert refused(b"(cm\nG\no.", only_new) is Reason.CALL_NOT_ALLOWED


def test_keys_of_constant_state_are_looked_at_once_and_its_values_each_time() -> None:
    allow = {
        "m:U": Row("m:U", ALL | int(R.SETSTATE), state=(Arg("constants", value=("int", "is_safe")),)),
        "m:V": Row("m:V", ALL | int(R.SETSTATE), state=(Arg("constants", value=("hex",)),)),
    }
    made = text("int") + b"\x940\x8c\x01m\x8c\x01U\x93\x940"  # memo 0: "int", memo 1: U

    def uuid(state: bytes) -> bytes:
        return b"h\1)\x81" + state + b"b"

    one, two = b"}h\0K\1s", b"}h\0K\1s" + text("is_safe") + b"K\0s"
    empty, nested, other = b"}", b"}h\0]s", b"}" + text("hex") + b"K\1s"
    assert verify(b"\x80\x04" + made + b"(" + uuid(one) * 3 + uuid(two) * 2 + uuid(empty) + b"t.", allow=allow).names
    for bad in (nested, other, b"N", b"]"):
        assert refused(b"\x80\x04" + made + b"(" + uuid(one) * 2 + uuid(bad) + b"t.", allow) is Reason.BAD_STATE
    # What one row admits says nothing about another.
    second = b"\x8c\x01m\x8c\x01V\x93)\x81" + one + b"b"
    assert refused(b"\x80\x04" + made + b"(" + uuid(one) + second + b"t.", allow) is Reason.BAD_STATE


def test_only_so_many_spellings_of_a_name_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MANY_SPELLINGS", 1)
    allow = row("shop:Bag") | row("shop:Sack")
    data = b"(" + b"cshop\nBag\n)Rcshop\nSack\n)R" * 3 + b"t."
    verdict = judge(machine.Machine, data, allow, Limits(), 0)
    assert [name for _, name in verdict.names] == ["shop:Bag", "shop:Sack"] * 3


def test_a_memory_that_was_released_is_no_pickle() -> None:
    view = memoryview(b"N.")
    view.release()
    assert refused(view) is Reason.NOT_BYTES  # type: ignore[arg-type]


LARGE = b"\x8b" + (4000).to_bytes(4, "little") + b"\x55" * 4000  # 9 599 digits


@pytest.mark.parametrize(
    ("how", "arguments", "weight"),
    [
        ("path", text("a" * 200) + b"\x85", 50),
        ("path", text("a" * 40) + text("b" * 40) + b"\x86", 20),
        ("path", b"K\1\x85", 0),
        ("fraction", text("9" * 255) + b"\x85", 0),
        ("fraction", LARGE + b"\x85", 1405),
        ("fraction", LARGE + b"K\1\x86", 1405),
        ("fraction", b"N\x85", 0),
    ],
)
def test_some_calls_weigh_what_they_work_with(how: str, arguments: bytes, weight: int) -> None:
    data = b"\x80\x04\x8c\x04shop\x8c\x04Work\x93" + arguments + b"R."
    free, least = (
        next(limit for limit in range(10_000) if not heavy(data, allow, limit))
        for allow in (row("shop:Work"), row("shop:Work", work=how))
    )
    assert least - free == weight


def heavy(data: bytes, allow: dict[str, Row], limit: int) -> bool:
    try:
        verify(data, allow=allow, limits=Limits(max_weight=limit))
    except Refused as refusal:
        assert refusal.reason is Reason.TOO_HEAVY
        return True
    return False
