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

from safeserial import envelope as env
from safeserial.envelope import Claims, Compression, Format, Grants, Key, Keyring, Suite
from safeserial.envelope.suites import SUITES, public_half
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
        state="disabled",
        ops=["seal"],
        seal_from=DAY,
        seal_until=DAY,
        open_until=DAY,
        grants=Grants(max_bytes=9),
    )

    assert (key.kid, key.suite, key.enabled, key.ops) == ("a", Suite.HS256, False, frozenset({"seal"}))
    assert (key.seal_from, key.seal_until, key.open_until, key.grants.max_bytes) == (DAY, DAY, DAY, 9)
    assert key.material is not None
    assert len(key.material) == 32
    assert key.material != Key.generate("a").material
    assert key.public is None


@pytest.mark.parametrize("suite", [*SUITES, *(suite.label for suite in SUITES)])
def test_every_suite_of_this_release_has_keys(suite: Suite | str) -> None:
    key = Key.generate("a", suite)

    assert suite in {key.suite, key.suite.label}
    assert key.ops == {"seal", "open"}
    assert (key.public is not None) is (key.suite is Suite.ED25519)


def test_material_is_never_shown(key: Key) -> None:
    holder = dataclasses.make_dataclass("Holder", ["key"])(key)
    shown = [repr(key), str(key), f"{key}", repr(Keyring([key])), repr(holder), repr(dataclasses.asdict(holder))]

    assert key.material is not None
    for text in shown:
        assert key.material.hex() not in text
        assert repr(key.material) not in text
    assert repr(key) == "Key(kid='web-1', suite='hs256', state='enabled', ops=['open', 'seal'])"
    assert not hasattr(key, "__dict__")


def test_keys_and_keyrings_are_not_pickled_and_copies_are_the_same_object(key: Key, ring: Keyring) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for secret in (key, ring):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(secret, protocol)
    assert copy.copy(key) is key
    assert copy.deepcopy({"key": key})["key"] is key


def test_a_key_is_the_same_by_what_it_is_made_of(key: Key) -> None:
    assert key.material is not None
    pair = Key.generate("pair", Suite.ED25519)
    assert key.is_same(key.replace(kid="other", ops=["open"], state="disabled", grants=Grants(types=())))
    assert pair.is_same(pair.public_only())
    assert pair.public_only().is_same(pair)
    gone = Key(kid=key.kid, state="destroyed")
    for other in (
        Key.generate(key.kid), Key(kid=key.kid, suite="a256gcm", material=key.material), gone, pair,
        Key(kid=key.kid, suite="ed25519", material=key.material),
    ):  # fmt: skip
        assert not key.is_same(other)
        assert not other.is_same(key)
    assert not pair.is_same(Key.generate("pair", Suite.ED25519))
    assert not gone.is_same(gone)


@pytest.mark.parametrize(
    "name", ["kid", "state", "ops", "grants", "public", "_material", "primaries", "revision", "new"]
)
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


@pytest.mark.parametrize("suite", ["es256", Suite.ES256])
def test_suites_of_later_releases_are_refused_by_name(material: Material, suite: str | Suite) -> None:
    refusal = problem_of(lambda: Key(kid="a", material=material("a"), suite=suite))

    assert refusal.problem == "es256 is not available in this release; write hs256, ed25519, a256gcm"
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
        ({"suite": 1}, "suite", "1 is no suite"),
        ({"state": "enable"}, "state", "write one of enabled, disabled, destroyed"),
        ({"state": True}, "state", "write one of"),
        ({"state": None}, "state", "write one of"),
        ({"state": "destroyed"}, "material", "a destroyed key has no material: remove it"),
        ({"ops": []}, "ops", 'write ["seal"]'),
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

    assert cause(late, state="disabled") is Reason.KEY_DISABLED
    assert cause(late) is Reason.KEY_OUTSIDE_WINDOW
    assert cause(early) is Reason.KEY_MAY_NOT_OPEN
    assert cause(early, ops=["open"]) is Reason.SUITE_MISMATCH
    assert cause(early, Suite.HS256, ops=["open"]) is Reason.SIZE_NOT_GRANTED
    Key(kid="a", material=material("a"), **{**closed, "ops": ["open"]}).require_open(Suite.HS256, 10, early)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"state": "disabled"}, "is disabled"),
        ({"suite": "ed25519", "state": "disabled"}, "is disabled"),
        ({"ops": ["open"]}, 'no "seal" in its ops'),
        ({"seal_from": DAY + timedelta(1)}, "at this date"),
        ({"seal_until": DAY - timedelta(1)}, "at this date"),
    ],
)
def test_sealing_is_refused_where_the_key_may_not(options: dict[str, Any], part: str) -> None:
    with pytest.raises(Forbidden, match=part) as caught:
        Key.generate("a", **options).require_seal(DAY_MS)
    assert caught.value.reason is Reason.KEY_MAY_NOT_SEAL


# --- halves and states ---


def signer(material: Material, **options: Any) -> Key:
    return Key(kid="sig", suite="ed25519", material=material("sig"), **options)


def test_a_key_pair_knows_its_public_half_and_gives_it_away_alone(material: Material, claims: Claims) -> None:
    pair = signer(material, grants=Grants(types=("billing.*",)), open_until=DAY, seal_until=DAY)
    reader = pair.public_only()

    assert pair.public == public_half(material("sig"))
    assert (reader.public, reader.material, reader.ops) == (pair.public, None, frozenset({"open"}))
    assert (reader.kid, reader.suite, reader.grants) == (pair.kid, pair.suite, pair.grants)
    assert (reader.open_until, reader.seal_until, reader.state) == (DAY, DAY, "enabled")
    assert repr(reader) == "Key(kid='sig', suite='ed25519', state='enabled', ops=['open'])"
    twice = reader.public_only()
    assert (twice.public, twice.material) == (pair.public, None)


def test_a_public_key_opens_and_does_not_seal(material: Material, claims: Claims) -> None:
    pair = signer(material)
    reader = Key(kid="sig", suite="ed25519", public=pair.public)

    data = env.seal(b"body", claims, pair)
    assert (
        env.open(data, Keyring([reader]), purpose="tasks", now_ms=claims.issued_at_ms, max_bytes=1000).body == b"body"
    )
    assert reader.ops == {"open"}
    assert not reader.may_seal("tasks")
    with pytest.raises(Forbidden, match='key sig has no "seal" in its ops') as caught:
        env.seal(b"body", claims, reader)
    assert caught.value.reason is Reason.KEY_MAY_NOT_SEAL
    with pytest.raises(Forbidden):
        Keyring([reader]).primary("tasks")


@pytest.mark.parametrize("ops", [["seal"], ["seal", "open"]])
def test_a_public_key_that_is_said_to_seal_is_refused(material: Material, ops: list[str]) -> None:
    refusal = problem_of(lambda: Key(kid="a", suite="ed25519", public=public_half(material("a")), ops=ops))

    assert (refusal.key, "a public key does not seal" in refusal.problem) == ("ops", True)


@pytest.mark.parametrize("suite", ["hs256", "a256gcm"])
def test_suites_without_a_public_half_say_so(material: Material, suite: str) -> None:
    refusal = problem_of(lambda: Key(kid="a", suite=suite, public=material("a")))
    assert refusal.problem == f"{suite} has no public half; suite ed25519 has"
    assert refusal.key == "public"

    refusal = problem_of(Key(kid="a", suite=suite, material=material("a")).public_only)
    assert refusal.problem == f"{suite} has no public half; suite ed25519 has"
    assert refusal.key == "suite"


def test_both_halves_are_refused_even_where_they_fit(material: Material) -> None:
    refusal = problem_of(
        lambda: Key(kid="a", suite="ed25519", material=material("a"), public=public_half(material("a")))
    )

    assert (refusal.key, refusal.problem) == ("public", "it follows from the material: remove one of them")


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(33), "x" * 32, bytearray(range(32))])
def test_a_public_key_is_32_bytes(public: Any) -> None:
    refusal = problem_of(lambda: Key(kid="a", suite="ed25519", public=public))
    assert (refusal.key, refusal.problem) == ("public", "a public key is exactly 32 bytes")


@pytest.mark.parametrize("public", [bytes(32), b"\x01" + bytes(31), bytes(31) + b"\x80"])
def test_a_public_key_for_which_anybody_can_sign_is_refused(public: bytes) -> None:
    refusal = problem_of(lambda: Key(kid="a", suite="ed25519", public=public))
    assert (refusal.key, "anybody can sign" in refusal.problem) == ("public", True)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.label)
def test_a_destroyed_key_is_a_name_that_does_nothing(suite: Suite, material: Material, claims: Claims) -> None:
    alive = Key(kid="a", suite=suite, material=material("a"))
    dead = alive.replace(state="destroyed", material=None)

    assert (dead.kid, dead.suite, dead.state) == ("a", suite, "destroyed")
    assert (dead.material, dead.public, dead.enabled) == (None, None, False)
    assert not dead.may_seal("tasks")
    with pytest.raises(Forbidden, match="key a is destroyed"):
        env.seal(b"body", claims, dead)
    with pytest.raises(Unauthentic) as caught:
        env.open(env.seal(b"body", claims, alive), Keyring([dead]), purpose="tasks", now_ms=DAY_MS, max_bytes=1000)
    assert caught.value.cause is Reason.KEY_DISABLED
    refusal = problem_of(dead.public_only)
    assert refusal.key == ("state" if suite is Suite.ED25519 else "suite")


def test_a_destroyed_key_keeps_no_half(material: Material) -> None:
    for half in ({"material": material("a")}, {"public": public_half(material("a"))}):
        refusal = problem_of(lambda half=half: Key(kid="a", suite="ed25519", state="destroyed", **half))  # type: ignore[misc]
        assert (refusal.key, "has no material" in refusal.problem) == ("material", True)
    dead = Key(kid="a", state="destroyed")
    assert Keyring([dead, Key(kid="b", state="destroyed")]).find("a") is dead


def test_a_key_with_neither_half_is_refused() -> None:
    for suite in SUITES:
        refusal = problem_of(lambda suite=suite: Key(kid="a", suite=suite))  # type: ignore[misc]
        assert (refusal.key, "exactly 32 random bytes" in refusal.problem) == ("material", True)


def test_a_changed_key_keeps_what_was_not_named(material: Material) -> None:
    grants = Grants(types=("a",))
    key = Key(kid="a", material=material("a"), ops=["open"], seal_from=DAY, grants=grants)

    changed = key.replace(state="disabled")
    assert (changed.kid, changed.material, changed.seal_from) == ("a", material("a"), DAY)
    assert changed.ops == {"open"}
    assert (changed.grants, changed.state, key.state) == (grants, "disabled", "enabled")
    assert key.replace(kid="b", material=material("b")).kid == "b"
    pair = signer(material)
    assert pair.replace(state="disabled").public == pair.public
    reader = pair.public_only()
    assert reader.replace(state="disabled").public == pair.public
    assert reader.replace(state="destroyed", public=None).public is None
    assert reader.replace(public=None, material=material("sig"), ops=None).ops == {"seal", "open"}
    with pytest.raises(TypeError):
        key.replace(unknown=1)


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
    one, two = Key(kid="one", material=material("1")), Key(kid="two", material=material("2"), state="disabled")
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
            key("off", state="disabled"),
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


def test_the_halves_of_one_pair_under_two_ids_are_refused(material: Material) -> None:
    pair = signer(material)
    reader = pair.public_only().replace(kid="reader")
    as_secret = Key(kid="mac", material=pair.public)  # what everybody knows, as a secret
    same = Key(kid="mac", material=pair.material)

    for keys in (
        [pair, reader],
        [reader, pair],
        [reader, reader.replace(kid="again")],
        [pair, as_secret],
        [same, pair],
    ):
        refusal = problem_of(lambda keys=keys: Keyring(keys))  # type: ignore[misc]
        assert f"{keys[0].kid} and {keys[1].kid} have the same material" in refusal.problem
    assert len(Keyring([pair, signer(material).replace(kid="other", material=material("o")).public_only()])) == 2


def test_a_disabled_key_still_holds_its_material(material: Material) -> None:
    off = Key(kid="off", material=material("1"), state="disabled")
    assert (
        "have the same material" in problem_of(lambda: Keyring([off, off.replace(kid="on", state="enabled")])).problem
    )


# --- which key seals ---


def test_the_named_key_seals_its_purpose_and_the_star_all_others(material: Material) -> None:
    keys = [Key(kid=kid, material=material(kid)) for kid in ("first", "tasks-1", "rest")]

    ring = Keyring(keys, primary={"tasks": "tasks-1", "*": "rest"}, revision=7)
    assert [ring.primary(purpose).kid for purpose in ("tasks", "results", "*")] == ["tasks-1", "rest", "rest"]
    assert (dict(ring.primaries), ring.revision) == ({"tasks": "tasks-1", "*": "rest"}, 7)
    without_star = Keyring(keys, primary={"tasks": "tasks-1"})
    assert [without_star.primary(purpose).kid for purpose in ("tasks", "results")] == ["tasks-1", "first"]
    plain = Keyring(keys)
    assert (plain.primary("tasks").kid, dict(plain.primaries), plain.revision) == ("first", {}, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"state": "disabled"},
        {"ops": ["open"]},
        {"grants": Grants(purposes=frozenset({"results"}))},
        {"seal_from": DAY + timedelta(1)},
        {"seal_until": DAY - timedelta(1)},
    ],
)
def test_no_other_key_takes_the_place_of_the_named_one(material: Material, options: dict[str, Any]) -> None:
    named = Key(kid="named", material=material("1"), **options)
    ring = Keyring([Key(kid="able", material=material("2")), named], primary={"tasks": "named"})

    with pytest.raises(Forbidden, match="key named is primary for tasks and may not seal it now") as caught:
        ring.primary("tasks", now_ms=DAY_MS)
    assert caught.value.reason is Reason.KEY_MAY_NOT_SEAL
    assert ring.primary("results", now_ms=DAY_MS).kid == "able"


def test_the_primaries_of_a_ring_do_not_change_with_what_it_was_made_from(material: Material) -> None:
    given = {"tasks": "a"}
    ring = Keyring([Key(kid="a", material=material("a"))], primary=given)
    given["tasks"] = "b"

    assert ring.primaries["tasks"] == "a"
    with pytest.raises(TypeError):
        ring.primaries["tasks"] = "b"  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "key", "part"),
    [
        ({"primary": {"tasks": "b"}}, "primary.tasks", "write the kid of a key of this ring"),
        ({"primary": {"tasks": ["a"]}}, "primary.tasks", "write the kid of a key of this ring"),
        ({"primary": {"tasks": None}}, "primary.tasks", "write the kid of a key of this ring"),
        ({"primary": {"two words": "a"}}, "primary.two words", "write a purpose"),
        ({"primary": {"": "a"}}, "primary.", "write a purpose"),
        ({"primary": {5: "a"}}, "primary.5", "write a purpose"),
        ({"revision": -1}, "revision", "a whole number"),
        ({"revision": 1 << 53}, "revision", "a whole number"),
        ({"revision": True}, "revision", "a whole number"),
        ({"revision": "7"}, "revision", "a whole number"),
        ({"revision": None}, "revision", "a whole number"),
    ],
)
def test_a_ring_that_cannot_be_is_refused_by_setting(
    material: Material, options: dict[str, Any], key: str, part: str
) -> None:
    refusal = problem_of(lambda: Keyring([Key(kid="a", material=material("a"))], **options))

    assert refusal.key == key
    assert part in refusal.problem


def test_the_largest_revision_is_what_json_carries_exactly(material: Material) -> None:
    assert Keyring([Key(kid="a", material=material("a"))], revision=(1 << 53) - 1).revision == (1 << 53) - 1
