"""Keys are silent, immutable, random and bounded; a keyring holds each id and each material once."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from safeserial.envelope import Claims, Compression, Format, Grants, Key, Keyring, Suite
from safeserial.errors import Forbidden, Misconfigured, Reason, Unauthentic

Material = Callable[[str], bytes]
DAY = datetime(2027, 1, 1, tzinfo=timezone.utc)
DAY_MS = 1_798_761_600_000


def problem_of(make: Callable[[], object]) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        make()
    return caught.value


def test_a_generated_key_is_random_and_takes_every_option() -> None:
    key = Key.generate(
        "a",
        "hs256",
        enabled=False,
        ops=["seal"],
        seal_from=DAY,
        seal_until=DAY,
        open_until=DAY,
        grants=Grants(max_bytes=9),
    )

    assert (key.kid, key.suite, key.enabled, key.ops) == ("a", Suite.HS256, False, frozenset({"seal"}))
    assert (key.seal_from, key.seal_until, key.open_until, key.grants.max_bytes) == (DAY, DAY, DAY, 9)
    assert len(key.material) == 32
    assert key.material != Key.generate("a").material


def test_material_is_never_shown(key: Key) -> None:
    holder = dataclasses.make_dataclass("Holder", ["key"])(key)
    shown = [repr(key), str(key), f"{key}", repr(Keyring([key])), repr(holder), repr(dataclasses.asdict(holder))]

    for text in shown:
        assert key.material.hex() not in text
        assert repr(key.material) not in text
    assert repr(key) == "Key(kid='web-1', suite='hs256', enabled=True, ops=['open', 'seal'])"
    assert not hasattr(key, "__dict__")


def test_keys_and_keyrings_are_not_pickled_and_copies_are_the_same_object(key: Key, ring: Keyring) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for secret in (key, ring):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(secret, protocol)
    assert copy.copy(key) is key
    assert copy.deepcopy({"key": key})["key"] is key


@pytest.mark.parametrize("name", ["kid", "enabled", "ops", "grants", "_material", "new"])
def test_keys_and_keyrings_cannot_be_changed(key: Key, ring: Keyring, name: str) -> None:
    for frozen in (key, ring):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(frozen, name, None)
        with pytest.raises(AttributeError, match="cannot be changed"):
            delattr(frozen, name)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"short",
        bytes(range(31)),
        bytes(range(33)),
        bytes(32),
        b"\xff" * 32,
        b"\x00\x01\x02\x03\x04\x05\x06" * 4 + b"\x00" * 4,
        b"correct horse battery staple 42!",
        "correct horse battery staple 42!",
        bytearray(range(100, 132)),
        None,
    ],
)
def test_passwords_and_patterns_are_refused_unseen(raw: Any) -> None:
    refusal = problem_of(lambda: Key(kid="a", material=raw))

    assert refusal.key == "material"
    assert "safeserial keys new" in refusal.problem
    assert "horse" not in "".join(traceback.format_exception(refusal))


def test_suites_of_later_releases_are_refused_by_name(material: Material) -> None:
    for suite in ("ed25519", "es256", "a256gcm", Suite.ED25519):
        refusal = problem_of(lambda suite=suite: Key(kid="a", material=material("a"), suite=suite))  # type: ignore[misc]
        assert "is not available in this release; write hs256" in refusal.problem
        assert refusal.key == "suite"


@pytest.mark.parametrize(
    ("options", "key", "part"),
    [
        ({"suite": "hs512"}, "suite", "hs512 is no suite; write hs256"),
        ({"suite": None}, "suite", "None is no suite"),
        ({"kid": ""}, "kid", "1 to 64"),
        ({"kid": "k" * 65}, "kid", "1 to 64"),
        ({"kid": "a b"}, "kid", "1 to 64"),
        ({"kid": 5}, "kid", "1 to 64"),
        ({"enabled": 1}, "enabled", "true or false"),
        ({"ops": []}, "ops", 'write ["seal"]'),
        ({"ops": None}, "ops", 'write ["seal"]'),
        ({"ops": "seal"}, "ops", "write a list"),
        ({"ops": ["seal", "sign"]}, "ops", 'write ["seal"]'),
        ({"ops": [1]}, "ops", "must be text"),
        ({"grants": {}}, "grants", "write Grants"),
        ({"seal_from": datetime(2027, 1, 1)}, "seal_from", "with a time zone"),
        ({"seal_until": "2027-01-01"}, "seal_until", "with a time zone"),
        ({"open_until": 5}, "open_until", "with a time zone"),
        ({"seal_from": DAY, "seal_until": DAY - timedelta(1)}, "seal_until", "before seal_from"),
        ({"seal_until": DAY, "open_until": DAY - timedelta(1)}, "open_until", "before seal_until"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_setting(options: dict[str, Any], key: str, part: str) -> None:
    refusal = problem_of(lambda: Key.generate(**{"kid": "a", **options}))

    assert refusal.key == key
    assert part in refusal.problem


def test_dates_are_inclusive_and_skew_widens_sealing(material: Material) -> None:
    key = Key(kid="a", material=material("a"), seal_from=DAY, seal_until=DAY + timedelta(seconds=1))

    found = [key.admits_issue(DAY_MS + delta) for delta in (-1, 0, 1000, 1001)]
    assert found == [False, True, True, False]
    assert key.admits_issue(DAY_MS - 60_000, 60_000)
    assert not key.admits_issue(DAY_MS - 60_001, 60_000)


def test_dates_of_other_time_zones_are_the_same_moment(material: Material) -> None:
    there = DAY.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert Key(kid="a", material=material("a"), seal_from=there).admits_issue(DAY_MS)
    assert not Key(kid="a", material=material("a"), seal_from=there).admits_issue(DAY_MS - 1)


def test_opening_is_refused_in_the_stated_order(material: Material) -> None:
    late, early = DAY_MS + 1, DAY_MS
    closed = {"open_until": DAY, "ops": ["seal"], "grants": Grants(max_bytes=10)}

    def cause(now_ms: int, suite: Suite = Suite.A256GCM, size: int = 11, **options: Any) -> Reason:
        with pytest.raises(Unauthentic) as caught:
            Key(kid="a", material=material("a"), **{**closed, **options}).require_open(suite, size, now_ms)
        return caught.value.cause

    assert cause(late, enabled=False) is Reason.KEY_DISABLED
    assert cause(late) is Reason.KEY_OUTSIDE_WINDOW
    assert cause(early) is Reason.KEY_MAY_NOT_OPEN
    assert cause(early, ops=["open"]) is Reason.SUITE_MISMATCH
    assert cause(early, Suite.HS256, ops=["open"]) is Reason.SIZE_NOT_GRANTED
    Key(kid="a", material=material("a"), **{**closed, "ops": ["open"]}).require_open(Suite.HS256, 10, early)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"enabled": False}, "is disabled"),
        ({"ops": ["open"]}, 'no "seal" in its ops'),
        ({"seal_from": DAY + timedelta(1)}, "at this date"),
        ({"seal_until": DAY - timedelta(1)}, "at this date"),
    ],
)
def test_sealing_is_refused_where_the_key_may_not(options: dict[str, Any], part: str) -> None:
    with pytest.raises(Forbidden, match=part) as caught:
        Key.generate("a", **options).require_seal(DAY_MS)
    assert caught.value.reason is Reason.KEY_MAY_NOT_SEAL


# --- grants ---


def test_no_grants_leave_everything_open_but_living_forever(claims: Claims) -> None:
    grants = Grants()

    grants.check(claims, 1 << 30, "k")
    assert grants.admits_type("anything")
    assert grants.admits_embedded("anything")
    with pytest.raises(Forbidden) as caught:
        grants.check(dataclasses.replace(claims, expires_at_ms=0), 1, "k")
    assert caught.value.reason is Reason.EXPIRY_MISSING
    Grants(allow_no_expiry=True).check(dataclasses.replace(claims, expires_at_ms=0), 1, "k")


def test_empty_lists_admit_nothing() -> None:
    grants = Grants(purposes=frozenset(), types=(), embedded=(), formats=frozenset(), compression=frozenset())

    assert not grants.admits_purpose("tasks")
    assert not grants.admits_type("")
    assert not grants.admits_embedded("a")
    assert not grants.admits_format(Format.JSON)
    assert not grants.admits_compression(Compression.ZLIB)
    assert grants.admits_compression(Compression.NONE)


def test_types_are_exact_or_a_prefix_and_deny_is_stronger() -> None:
    grants = Grants(types=("a.b", "c.*"), deny_types=("c.secret", "c.admin.*"))

    for name, admitted in {
        "a.b": True, "a.b.c": False, "a": False, "c.": True, "c.x": True, "c": False, "cx": False, "": False,
        "c.secret": False, "c.secrets": True, "c.admin.x": False, "c.admin": True, "c.*": True,
    }.items():  # fmt: skip
        assert grants.admits_type(name) is admitted, name
        assert grants.admits_embedded(name) is admitted, name
    assert Grants(types=("*",)).admits_type("")
    assert Grants(deny_types=("a",)).admits_type("b")
    assert not Grants(deny_types=("a",)).admits_embedded("a")


def test_embedded_tasks_have_their_own_list_where_there_is_one() -> None:
    grants = Grants(types=("a",), embedded=("b", "c.*"), deny_types=("c.x",))

    found = {name: grants.admits_embedded(name) for name in ("a", "b", "c.d", "c.x")}
    assert found == {"a": False, "b": True, "c.d": True, "c.x": False}


def test_names_and_members_of_formats_mean_the_same() -> None:
    given: Any = ["json", Format.PICKLE]
    methods: Any = ["zstd", Compression.ZLIB]

    grants = Grants(formats=given, compression=methods, purposes=["tasks"])  # type: ignore[arg-type]

    assert grants.formats == frozenset({Format.JSON, Format.PICKLE})
    assert grants.compression == frozenset({Compression.ZLIB, Compression.ZSTD})
    assert grants.purposes == frozenset({"tasks"})
    assert grants == Grants(
        formats=frozenset(grants.formats), compression=grants.compression, purposes=frozenset({"tasks"})
    )
    assert hash(grants)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"types": "billing.*"}, "write a list"),
        ({"types": b"x"}, "write a list"),
        ({"types": ["a*b"]}, "is no pattern"),
        ({"types": ["**"]}, "is no pattern"),
        ({"deny_types": [""]}, "is no pattern"),
        ({"embedded": ["*a"]}, "is no pattern"),
        ({"embedded": [None]}, "must be text"),
        ({"purposes": ["a b"]}, "1 to 64 characters"),
        ({"purposes": "tasks"}, "write a list"),
        ({"formats": ["yaml"]}, "write a list of json, msgpack"),
        ({"formats": "json"}, "write a list of json"),
        ({"formats": [1]}, "write a list of json"),
        ({"formats": [["json"]]}, "write a list of json"),
        ({"compression": ["gzip"]}, "write a list of none, zlib, zstd"),
        ({"compression": [Format.JSON]}, "write a list of none"),
        ({"max_ttl_seconds": 0}, "whole number above 0"),
        ({"max_ttl_seconds": 1.5}, "whole number above 0"),
        ({"max_bytes": True}, "whole number above 0"),
        ({"max_bytes": 1 << 80}, "whole number above 0"),
        ({"allow_no_expiry": "yes"}, "true or false"),
    ],
)
def test_grants_that_cannot_be_are_refused_by_setting(options: dict[str, Any], part: str) -> None:
    refusal = problem_of(lambda: Grants(**options))

    assert refusal.key in options
    assert part in refusal.problem


@pytest.mark.parametrize(
    ("grants", "reason"),
    [
        ({"purposes": ["data"]}, Reason.PURPOSE_NOT_GRANTED),
        ({"types": ["mail.*"]}, Reason.TYPE_NOT_GRANTED),
        ({"deny_types": ["billing.*"]}, Reason.TYPE_NOT_GRANTED),
        ({"formats": ["pickle"]}, Reason.FORMAT_NOT_GRANTED),
        ({"compression": ["zlib"]}, Reason.COMPRESSION_NOT_GRANTED),
        ({"max_ttl_seconds": 59}, Reason.TTL_NOT_GRANTED),
        ({"max_bytes": 99}, Reason.SIZE_NOT_GRANTED),
    ],
)
def test_what_is_not_granted_is_refused_for_its_own_reason(
    claims: Claims, grants: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(Forbidden, match="key k ") as caught:
        Grants(**grants).check(dataclasses.replace(claims, compression=Compression.ZSTD), 100, "k")
    assert caught.value.reason is reason


def test_what_is_granted_to_the_byte_and_second_passes(claims: Claims) -> None:
    given: Any = {"purposes": ["tasks"], "types": ["billing.charge"], "formats": ["json"], "compression": []}

    Grants(**given, max_ttl_seconds=60, max_bytes=100, allow_no_expiry=True).check(claims, 100, "k")
    Grants(**given, max_ttl_seconds=60, allow_no_expiry=True).check(
        dataclasses.replace(claims, expires_at_ms=0), 1 << 40, "k"
    )


# --- keyrings ---


def test_a_keyring_finds_iterates_and_counts(material: Material) -> None:
    one, two = Key(kid="one", material=material("1")), Key(kid="two", material=material("2"), enabled=False)
    ring = Keyring(iter([one, two]))

    assert ring.find("one") is one
    assert ring.find("two") is two
    assert ring.find("three") is None
    assert list(ring) == [one, two]
    assert len(ring) == 2
    assert "one" in ring
    assert "three" not in ring
    assert repr(ring) == "Keyring([one, two])"


def test_the_primary_key_is_the_first_that_may_seal_for_the_purpose(material: Material) -> None:
    def key(kid: str, **options: Any) -> Key:
        return Key(kid=kid, material=material(kid), **options)

    ring = Keyring(
        [
            key("off", enabled=False),
            key("reader", ops=["open"]),
            key("results", grants=Grants(purposes=frozenset({"results"}))),
            key("old", seal_until=DAY),
            key("new"),
        ]
    )

    assert ring.primary("results").kid == "results"
    assert ring.primary("tasks").kid == "old"
    assert ring.primary("tasks", now_ms=DAY_MS).kid == "old"
    assert ring.primary("tasks", now_ms=DAY_MS + 1).kid == "new"


def test_a_ring_of_readers_has_no_primary_key() -> None:
    with pytest.raises(Forbidden, match="no key may seal for tasks") as caught:
        Keyring([Key.generate("a", ops=["open"])]).primary("tasks")
    assert caught.value.reason is Reason.KEY_MAY_NOT_SEAL


def test_an_empty_ring_is_refused() -> None:
    refusal = problem_of(lambda: Keyring([]))
    assert refusal.key == "keys"
    assert "safeserial keys new" in refusal.problem


def test_one_id_twice_and_one_material_twice_are_refused(material: Material) -> None:
    twice = [Key(kid="a", material=material("1")), Key(kid="a", material=material("2"))]
    shared = [Key(kid="a", material=material("1")), Key(kid="b", material=material("1"))]

    assert "the kid a stands there twice" in problem_of(lambda: Keyring(twice)).problem
    refusal = problem_of(lambda: Keyring(shared))
    assert "a and b have the same material" in refusal.problem
    assert material("1").hex() not in str(refusal)


def test_only_keys_go_into_a_ring() -> None:
    wrong: Any = ["secret"]
    assert "secret" not in str(problem_of(lambda: Keyring(wrong)))
