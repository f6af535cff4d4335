"""Bytes are judged and shown; nothing in them is loaded, and nothing in them reaches the terminal unescaped."""

from __future__ import annotations

import json
import marshal
import pickle
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from safeserial import Gateway, Key, Keyring, Policy, safe_dumps
from safeserial.envelope import pack_sections
from safeserial.envelope.sources import key_to_text
from safeserial.formats import codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch, here: Path) -> Keyring:
    key = Key.generate("web-1")
    monkeypatch.setenv("SAFESERIAL_KEYS", key_to_text(key))
    return Keyring([key])


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('loaded')",)


def test_a_good_seal_is_accepted_and_its_claims_are_shown(
    cli: Callable[..., Result], ring: Keyring, here: Path
) -> None:
    blob = Gateway(keyring=ring).seal({"a": 1}, type="billing.charge", subject="7")
    (here / "m").write_bytes(blob)
    result = cli("inspect", "m", "--keyring", "env:SAFESERIAL_KEYS")
    assert result.exit_code == 0
    for part in ("accepted", "billing.charge", "web-1", "hs256"):
        assert part in result.output
    shown = json.loads(cli("inspect", "m", "--keyring", "env:SAFESERIAL_KEYS", "--json").output)
    assert (shown["verdict"], shown["claims"]["subject"], shown["envelope"]["kid"]) == ("accepted", "7", "web-1")


def test_the_keyring_may_come_from_the_settings(cli: Callable[..., Result], ring: Keyring, here: Path) -> None:
    (here / "m").write_bytes(safe_dumps([1], keyring=ring))
    (here / "safeserial.toml").write_text('keyring = "env:SAFESERIAL_KEYS"\n', "utf-8")
    assert cli("inspect", "m").exit_code == 0


def test_a_sealed_message_without_a_key_is_not_judged(cli: Callable[..., Result], ring: Keyring, here: Path) -> None:
    (here / "m").write_bytes(safe_dumps([1], keyring=ring))
    result = cli("inspect", "m")
    assert result.exit_code == 2
    assert "web-1" in result.output
    assert "--keyring" in result.output


def test_the_exact_cause_is_told_to_who_holds_the_key(cli: Callable[..., Result], ring: Keyring, here: Path) -> None:
    blob = bytearray(safe_dumps([1], keyring=ring))
    blob[-1] ^= 1
    (here / "m").write_bytes(blob)
    shown = json.loads(cli("inspect", "m", "--keyring", "env:SAFESERIAL_KEYS", "--json").output)
    assert (shown["refusal"]["code"], shown["refusal"]["slug"], shown["claims"]) == ("SS115", "bad-tag", None)


def test_another_purpose_is_refused(cli: Callable[..., Result], ring: Keyring, here: Path) -> None:
    (here / "m").write_bytes(safe_dumps([1], keyring=ring))
    result = cli("inspect", "m", "--keyring", "env:SAFESERIAL_KEYS", "--purpose", "results")
    assert result.exit_code == 1


def test_a_task_body_is_judged_by_its_arguments(cli: Callable[..., Result], ring: Keyring, here: Path) -> None:
    arguments = codec("pickle").dumps([[Decimal(1)], {}, []], Policy(allow=["decimal:Decimal"]))
    body = pack_sections(b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}', arguments)
    blob = Gateway(keyring=ring).seal_body(body, format="pickle", purpose="tasks", type="t", subject="i")
    (here / "m").write_bytes(blob)
    where = ("inspect", "m", "--keyring", "env:SAFESERIAL_KEYS", "--purpose", "tasks", "--json")
    refused = json.loads(cli(*where).output)
    assert refused["refusal"]["code"] == "SS201"
    accepted = json.loads(cli(*where, "--allow", "decimal:Decimal").output)
    assert (accepted["verdict"], accepted["names"][0]["name"]) == ("accepted", "decimal:Decimal")


def test_an_unsigned_pickle_is_refused_and_its_body_judged_besides(cli: Callable[..., Result], here: Path) -> None:
    (here / "p").write_bytes(pickle.dumps([Trap()], 4))
    shown = json.loads(cli("inspect", "p", "--json").output)
    assert (shown["refusal"]["code"], shown["body_refusal"]["code"]) == ("SS401", "SS201")
    result = cli("inspect", "p")
    assert result.exit_code == 1
    assert "SS401" in result.output


def test_an_unsigned_pickle_is_judged_alone_where_the_settings_accept_it(
    cli: Callable[..., Result], here: Path
) -> None:
    (here / "safeserial.toml").write_text("unsafe_accept_unsigned_pickle = true\n", "utf-8")
    (here / "good").write_bytes(pickle.dumps([1, 2]))
    (here / "bad").write_bytes(pickle.dumps(Trap(), 0))
    assert cli("inspect", "good").exit_code == 0
    assert json.loads(cli("inspect", "bad", "--format", "pickle", "--json").output)["refusal"]["code"] == "SS201"


@pytest.mark.parametrize(
    ("data", "code", "status"),
    [
        (b'{"a": [1]}', None, 0),
        (b"\x81\xa1a\x01", None, 0),
        (b'{"a":', "SS301", 1),
        (b'{"a":1,"a":2}', "SS302", 1),
        (b"", "SS402", 1),
        (b"[" * 100, "SS305", 1),
        (b"\xc1SS", "SS107", 1),
        (b"\xc1SS\x02" + b"\0" * 40, "SS102", 1),
    ],
)
def test_any_bytes_get_a_verdict(cli: Callable[..., Result], data: bytes, code: str | None, status: int) -> None:
    result = cli("inspect", "-", "--json", input=data)
    shown = json.loads(result.output)
    assert (result.exit_code, shown["refusal"] and shown["refusal"]["code"]) == (status, code)
    assert cli("inspect", "-", input=data).exit_code == status


def test_hostile_names_do_not_reach_the_terminal(cli: Callable[..., Result], ring: Keyring, here: Path) -> None:
    evil = "\x1b]0;pwned\x07"
    (here / "m").write_bytes(Gateway(keyring=ring).seal([1], type=evil, subject=evil))
    for extra in ((), ("--json",)):
        output = cli("inspect", "m", "--keyring", "env:SAFESERIAL_KEYS", *extra).output
        assert "\x1b" not in output
        assert "\x07" not in output


def test_values_are_shown_only_if_asked_for_and_only_of_plain_data(
    cli: Callable[..., Result], ring: Keyring, here: Path
) -> None:
    where = ("--keyring", "env:SAFESERIAL_KEYS")
    secret = {"card": ["4111", (1, b"pin")]}
    for protocol in range(6):
        (here / "p").write_bytes(pickle.dumps(secret, protocol))
        assert "4111" not in cli("inspect", "p", "--format", "pickle").output
        shown = json.loads(cli("inspect", "p", "--format", "pickle", "--values", "--json").output)
        assert shown["values"] == "{'card': ['4111', (1, bytes[3])]}"
    for format in ("pickle", "json", "msgpack"):
        (here / "m").write_bytes(safe_dumps({"card": "4111"}, keyring=ring, format=format))
        assert "4111" not in cli("inspect", "m", *where).output
        result = cli("inspect", "m", *where, "--values")
        assert result.exit_code == 0
        assert "  values {'card': '4111'}\n" in result.output
    assert "  values [1, None]\n" in cli("inspect", "-", "--values", input=b"[1,null]").output
    assert "  values {'a': 1}\n" in cli("inspect", "-", "--values", input=b"\x81\xa1a\x01").output
    assert json.loads(cli("inspect", "-", "--values", "--json", input=b"").output)["values"] is None


def test_values_need_no_policy_and_build_nothing(cli: Callable[..., Result], ring: Keyring, here: Path) -> None:
    (here / "p").write_bytes(pickle.dumps([Trap()], 4))
    text = cli("inspect", "p", "--values").output
    assert "no values: they are shown of plain data only (SS201 global-not-allowed at byte" in text
    assert "\n  values" not in text
    where = ("--keyring", "env:SAFESERIAL_KEYS", "--values", "--json")
    blob = Gateway(keyring=ring, policy=Policy(allow=["decimal:Decimal"])).seal([Decimal(1)], format="pickle")
    (here / "m").write_bytes(blob)
    assert json.loads(cli("inspect", "m", *where).output)["values"] is None
    # What cannot be authenticated is not read.
    (here / "m").write_bytes(safe_dumps([1], keyring=ring)[:-1] + b"!")
    shown = json.loads(cli("inspect", "m", *where).output)
    assert (shown["values"], shown["notes"], shown["refusal"]["code"]) == (None, [], "SS115")


def test_disasm_marks_the_opcode_that_decides(cli: Callable[..., Result], here: Path) -> None:
    (here / "p").write_bytes(pickle.dumps([Trap()], 4))
    result = cli("disasm", "p")
    assert result.exit_code == 1
    marked = [line for line in result.output.splitlines() if line.startswith(">>")]
    assert len(marked) == 1
    assert "STACK_GLOBAL" in marked[0]
    assert "no policy may list builtins:exec: " in result.output
    assert "allow =" not in result.output
    assert result.output.splitlines()[-1].startswith("it would make: [builtins.exec('raise SystemExit(")
    shown = json.loads(cli("disasm", "p", "--json").output)
    assert [line["opcode"] for line in shown["lines"] if line["deciding"]] == ["STACK_GLOBAL"]
    assert shown["makes"].startswith("[builtins.exec('raise SystemExit(")
    assert shown["nearest"] is None
    assert shown["refusal"]["code"] == "SS201"


def test_disasm_accepts_what_the_policy_lists(cli: Callable[..., Result], here: Path) -> None:
    (here / "p").write_bytes(pickle.dumps(Decimal("1.5")))
    assert cli("disasm", "p").exit_code == 1
    assert cli("disasm", "p", "--allow", "decimal:Decimal").exit_code == 0
    assert cli("disasm", "p", "--preset", "stdlib@1").exit_code == 0
    near = cli("disasm", "p", "--allow", "decimal:DecimalException")
    assert "nearest allowed entry: decimal:DecimalException" in near.output


def test_disasm_opens_a_seal_first(cli: Callable[..., Result], ring: Keyring, here: Path) -> None:
    (here / "m").write_bytes(safe_dumps([1], keyring=ring, format="pickle"))
    (here / "j").write_bytes(safe_dumps([1], keyring=ring, format="json"))
    assert cli("disasm", "m").exit_code == 2
    assert cli("disasm", "m", "--keyring", "env:SAFESERIAL_KEYS").exit_code == 0
    assert cli("disasm", "m", "--keyring", "env:SAFESERIAL_KEYS", "--purpose", "results").exit_code == 2
    assert "json" in cli("disasm", "j", "--keyring", "env:SAFESERIAL_KEYS").output


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"not a pickle at all", b"\x80\x04" + b"(" * 100])
def test_disasm_shows_anything(cli: Callable[..., Result], data: bytes) -> None:
    assert cli("disasm", "-", input=data).exit_code == 1


@pytest.mark.parametrize(
    ("data", "format", "words"),
    [
        (marshal.dumps({"a": [1, 2]}), "marshal", "send JSON or msgpack"),
        (b"\xac\xed\x00\x05sr", "Java serialization", "seal them"),
        (b"\x1f\x8b\x08\x00", "gzip", "leave compressing to the envelope"),
        (b"a: !!python/object/apply:os.getcwd []", "YAML with tags", "send their fields"),
    ],
    ids=range(4),
)
def test_a_foreign_format_is_named_with_what_to_send_instead(
    cli: Callable[..., Result], here: Path, data: bytes, format: str, words: str
) -> None:
    (here / "m").write_bytes(data)
    result = cli("inspect", "m")
    assert result.exit_code == 1
    assert "SS405 foreign-format" in result.output and format in result.output and words in result.output
    shown = json.loads(cli("inspect", "m", "--json").output)
    assert (shown["format"], shown["refusal"]["code"]) == (format, "SS405")


def test_a_pickle_of_an_old_protocol_is_judged_as_one(cli: Callable[..., Result], here: Path) -> None:
    (here / "m").write_bytes(pickle.dumps(Trap(), 0))
    result = cli("inspect", "m", "--json")
    shown = json.loads(result.output)
    assert (shown["format"], shown["refusal"]["code"], shown["body_refusal"]["code"]) == ("pickle", "SS401", "SS201")


def test_a_sealed_message_of_protocol_buffers_is_judged_by_its_name(
    cli: Callable[..., Result], ring: Keyring, here: Path
) -> None:
    import shop_pb2

    policy = Policy(protobuf=["shop_pb2:Charge"])
    (here / "m").write_bytes(Gateway(keyring=ring, policy=policy).seal(shop_pb2.Charge(id="secret"), format="protobuf"))
    refused = json.loads(cli("inspect", "m", "--keyring", "env:SAFESERIAL_KEYS", "--json").output)
    assert (refused["format"], refused["refusal"]["code"]) == ("protobuf", "SS310")
    (here / "safeserial.toml").write_text('protobuf = ["shop_pb2:Charge"]\n', "utf-8")
    result = cli("inspect", "m", "--keyring", "env:SAFESERIAL_KEYS", "--values")
    assert result.exit_code == 0
    assert "shop.v1.Charge" in result.output and "secret" not in result.output
    checked = json.loads(cli("policy", "check", "--json").output)
    assert checked["protobuf"] == {"shop.v1.Charge": "shop_pb2:Charge"}
    assert "shop.v1.Charge" in cli("policy", "check").output
