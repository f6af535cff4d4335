"""A policy lists Protocol Buffers messages by their classes; what is no message class is said before a worker starts."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import shop_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from safeserial import Misconfigured, Policy
from safeserial.policy.files import load_section
from safeserial.policy.messages import MAX_NAME_BYTES


def refusal(**options: Any) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        Policy(**options).resolve()
    assert caught.value.key in {"protobuf", "protobuf_unknown_fields"}
    return caught.value


def listed(name: str, made: object, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(shop_pb2, name, made, raising=False)
    return f"shop_pb2:{name}"


def test_the_full_name_is_what_the_class_says_and_not_what_the_entry_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = listed("Other", shop_pb2.Charge, monkeypatch)
    policy = Policy(protobuf=["shop_pb2:Money", entry, entry]).resolve()
    assert dict(policy.messages) == {"shop.v1.Money": shop_pb2.Money, "shop.v1.Charge": shop_pb2.Charge}


def test_which_messages_are_listed_is_a_part_of_the_policys_digest() -> None:
    plain, one = Policy(), Policy(protobuf=["shop_pb2:Money"])
    assert len({plain.digest, one.digest, Policy(protobuf=["shop_pb2:Charge"]).digest}) == 3
    assert Policy(protobuf=["shop_pb2:Money"], protobuf_unknown_fields="keep").digest != one.digest
    assert Policy(protobuf=["shop_pb2:Money"]).digest == one.digest


@pytest.mark.parametrize("entry", ["shop_pb2:SCALARS", "shop_pb2:KEYS", "datetime:datetime", "shop_pb2:_class"])
def test_what_is_no_message_class_is_refused(entry: str) -> None:
    assert "no message class that protoc made" in refusal(protobuf=[entry]).problem


def test_a_message_class_without_a_descriptor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.protobuf.message import Message

    entry = listed("Bare", type("Bare", (Message,), {"DESCRIPTOR": None}), monkeypatch)
    assert "no message class" in refusal(protobuf=[entry]).problem


def test_the_entry_of_a_map_is_no_message_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [kind for kind in shop_pb2.Everything.DESCRIPTOR.nested_types if kind.GetOptions().map_entry]
    entry = listed("Entry", message_factory.GetMessageClass(entries[0]), monkeypatch)
    assert "an entry of a map" in refusal(protobuf=[entry]).problem


def test_a_name_that_no_envelope_has_room_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="long.proto", syntax="proto3")
    file.message_type.add(name="L" * (MAX_NAME_BYTES + 1))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("L" * (MAX_NAME_BYTES + 1)))
    assert f"longer than {MAX_NAME_BYTES} bytes" in refusal(protobuf=[listed("Long", made, monkeypatch)]).problem


def test_one_name_stands_for_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="twin.proto", package="shop.v1", syntax="proto3")
    file.message_type.add(name="Money")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    twin = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.v1.Money"))
    found = refusal(protobuf=["shop_pb2:Money", listed("Twin", twin, monkeypatch)])
    assert 'another class is listed for "shop.v1.Money"' in found.problem


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("shop_pb2", ""),
        ("shop_pb2:*", ""),
        ("shop_pb2:Missing", ""),
        ("no_such_module_pb2:Charge", ""),
        ('shop_pb2:Money("literal")', "write the class alone"),
    ],
)
def test_an_entry_is_exactly_one_class_that_exists(entry: str, problem: str) -> None:
    assert problem in refusal(protobuf=[entry]).problem


def test_what_is_done_with_unknown_fields_is_one_of_three_words() -> None:
    for word in ("refuse", "drop", "keep"):
        assert Policy(protobuf_unknown_fields=word).protobuf_unknown_fields == word
    for wrong in ("", "ignore", None, 1):
        assert "must be one of" in refusal(protobuf_unknown_fields=wrong).problem


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)
    assert "safeserial-gateway[protobuf]" in refusal(protobuf=["shop_pb2:Money"]).problem
    assert dict(Policy().resolve().messages) == {}


def test_a_key_of_very_many_parts_is_refused_before_it_costs_anything(tmp_path: Any) -> None:
    """Why: what the TOML reader does for one key is more than quadratic in its parts."""
    file = tmp_path / "safeserial.toml"
    file.write_text("presets = []\n" + ".".join(["a"] * 5000) + " = 1\n")
    with pytest.raises(Misconfigured, match="a key has more than 32 parts") as caught:
        load_section(str(file))
    assert caught.value.line == 2
