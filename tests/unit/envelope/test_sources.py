"""Keys are read from variables and files, refused with their place, and never shown."""

from __future__ import annotations

import json
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from safeserial.envelope import Grants, Key, Keyring
from safeserial.envelope import material as material_module
from safeserial.envelope.keyring_file import keyring_to_json, parse_keyring
from safeserial.envelope.sources import key_to_text, parse_key, parse_keys
from safeserial.errors import Misconfigured

Material = Callable[[str], bytes]


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def refusal_of(make: Callable[[], object], *secrets: str) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        make()
    chain: BaseException | None = caught.value
    shown = ""
    while chain is not None:
        # An error reporter sends the text, arguments and fields of everything in the chain, suppressed or not.
        shown += f"{chain} {chain.args!r} {vars(chain)!r}"
        chain = chain.__context__
    for secret in secrets:
        assert secret not in shown
    return caught.value


@pytest.fixture
def text(material: Material) -> str:
    return f"ss1:hs256:web-1:{b64(material('web-1'))}"


@pytest.fixture
def entry(material: Material) -> dict[str, Any]:
    return {"kid": "web-1", "material": b64(material("web-1"))}


def document(*entries: object, **more: object) -> bytes:
    return json.dumps({"version": 1, "keys": list(entries), **more}).encode()


@pytest.fixture
def keyfile(tmp_path: Path, entry: dict[str, Any]) -> Path:
    path = tmp_path / "keyring.json"
    path.write_bytes(document(entry))
    path.chmod(0o600)
    return path


# --- text form ---


def test_a_key_is_written_and_read_as_text(key: Key, text: str) -> None:
    assert key_to_text(key) == text
    again = parse_key(text)
    assert (again.kid, again.suite, again.material) == (key.kid, key.suite, key.material)


def test_an_id_may_hold_colons(material: Material) -> None:
    key = Key(kid="a:b:c", material=material("x"))

    assert parse_key(key_to_text(key)).kid == "a:b:c"


def test_several_keys_are_separated_by_spaces_or_commas_and_the_first_is_primary(material: Material) -> None:
    texts = [key_to_text(Key(kid=kid, material=material(kid))) for kid in "abc"]

    ring = parse_keys(f"  {texts[0]},{texts[1]} ,\n\t{texts[2]}\n", origin="env:X")

    assert [key.kid for key in ring] == ["a", "b", "c"]
    assert ring.primary("tasks").kid == "a"


@pytest.mark.parametrize(
    "wrong",
    [
        "correct-horse-battery-staple",
        "ss1:hs256:web-1",
        "ss1:hs256::{m}",
        "ss1:hs256:web/1:{m}",
        "ss1:hs256:" + "k" * 65 + ":{m}",
        "ss1:HS256:web-1:{m}",
        "ss2:hs256:web-1:{m}",
        "hs256:web-1:{m}",
        "ss1:hs256:web-1:{m}=",
        "ss1:hs256:web-1:{m}A",
        "ss1:hs256:web-1:correct-horse-battery",
        '{"version":1}',
    ],
)
def test_anything_else_is_refused_unseen_with_the_way_to_a_key(wrong: str, material: Material) -> None:
    secret = b64(material("x"))

    refusal = refusal_of(
        lambda: parse_keys(wrong.format(m=secret) if "{m}" in wrong else wrong, origin="env:X"), secret, "horse"
    )

    assert refusal.file == "env:X"
    assert "key 1 is not written as" in refusal.problem
    assert "safeserial keys new" in refusal.problem


def test_the_refused_part_is_counted(text: str) -> None:
    assert "key 2 is not" in refusal_of(lambda: parse_keys(f"{text} nonsense", origin="env:X")).problem


def test_material_has_one_spelling(material: Material, text: str) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for step in (1, 2, 3):  # the two bits beyond 32 bytes
        other = text[:-1] + alphabet[alphabet.index(text[-1]) + step]
        assert refusal_of(lambda other=other: parse_key(other)).key == "key 1.material"  # type: ignore[misc]


def test_a_password_in_base64_is_refused(tmp_path: Path) -> None:
    raw = b64(b"correct horse battery staple 42!")

    refusal = refusal_of(lambda: parse_key(f"ss1:hs256:a:{raw}", origin="env:X"), raw)

    assert (refusal.file, refusal.key) == ("env:X", "key 1.material")
    assert "a password or a pattern" in refusal.problem


def test_a_suite_of_a_later_release_is_named(material: Material) -> None:
    refusal = refusal_of(lambda: parse_key(f"ss1:es256:a:{b64(material('x'))}"))

    assert refusal.key == "key 1.suite"
    assert "es256 is not available in this release" in refusal.problem


def test_a_doubled_key_in_a_variable_is_refused(text: str) -> None:
    refusal = refusal_of(lambda: parse_keys(f"{text} {text}", origin="env:X"))

    assert refusal.file == "env:X"
    assert "twice" in refusal.problem


@pytest.mark.parametrize(
    "options",
    [
        {"state": "disabled"},
        {"ops": ["open"]},
        {"grants": Grants(max_bytes=5)},
        {"seal_from": datetime(2027, 1, 1, tzinfo=timezone.utc)},
    ],
)
def test_a_restricted_key_has_no_text_form(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="write a keyring file"):
        key_to_text(Key.generate("a", **options))


# --- where from ---


def test_a_ring_is_loaded_from_a_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SAFESERIAL_TEST_KEYS", text)

    assert [key.kid for key in Keyring.load("env:SAFESERIAL_TEST_KEYS")] == ["web-1"]


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_an_unset_variable_is_refused(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("SAFESERIAL_TEST_KEYS", raising=False)
    if value is not None:
        monkeypatch.setenv("SAFESERIAL_TEST_KEYS", value)

    refusal = refusal_of(lambda: Keyring.load("env:SAFESERIAL_TEST_KEYS"))

    assert refusal.key == "env:SAFESERIAL_TEST_KEYS"
    assert "not set" in refusal.problem
    assert refusal_of(lambda: Keyring.load("env:")).key == "env:"


def test_a_variable_of_commas_holds_no_key() -> None:
    assert "there is no key" in refusal_of(lambda: parse_keys(" , ", origin="env:X")).problem


def test_a_ring_is_loaded_from_a_file_however_it_is_named(keyfile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(keyfile.parent)
    for source in (f"file:{keyfile}", str(keyfile), keyfile, "file:keyring.json"):
        assert [key.kid for key in Keyring.load(source)] == ["web-1"]


@pytest.mark.parametrize(
    "source", ["keyring.json", "", "file:", "cmd:cat key", "correct-horse", "https://x/y", 5, None]
)
def test_other_places_are_refused_unseen(source: Any) -> None:
    refusal = refusal_of(lambda: Keyring.load(source), "horse")

    assert refusal.key == "keyring"
    assert 'write "env:NAME"' in refusal.problem


def test_a_key_in_the_place_of_a_place_is_refused_unseen(text: str, material: Material) -> None:
    refusal = refusal_of(lambda: Keyring.load(f" {text}"), text, b64(material("web-1")))

    assert "this is a key, not a place" in refusal.problem


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o644, 0o666])
def test_a_file_that_others_can_touch_is_refused(keyfile: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    keyfile.chmod(mode)

    assert "chmod 600" in refusal_of(lambda: Keyring.load(keyfile)).problem
    # Elsewhere these bits mean nothing.
    monkeypatch.setattr(material_module, "_POSIX", False)
    assert len(Keyring.load(keyfile)) == 1


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_of_the_owner_alone_is_read(keyfile: Path, mode: int) -> None:
    keyfile.chmod(mode)

    assert len(Keyring.load(keyfile)) == 1


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    large = tmp_path / "large"
    large.write_bytes(b" " * ((1 << 20) + 1))
    large.chmod(0o600)

    for source, part in {
        tmp_path / "missing": "No such file",
        tmp_path: "regular file",
        fifo: "regular file",
        large: "larger than 1048576 bytes",
        "/\0": "no path",
    }.items():
        refusal = refusal_of(lambda source=source: Keyring.load(source))  # type: ignore[misc]
        assert part in refusal.problem
        assert refusal.file


# --- keyring files ---


def test_a_full_keyring_is_written_and_read_again(material: Material) -> None:
    day = datetime(2027, 3, 1, 12, 30, 1, tzinfo=timezone.utc)
    ring = Keyring(
        [
            Key(kid="plain", material=material("plain")),
            Key(
                kid="full",
                material=material("full"),
                state="disabled",
                ops=["open"],
                seal_from=day,
                seal_until=day + timedelta(1),
                open_until=day.astimezone(timezone(timedelta(hours=-3))) + timedelta(2),
                grants=Grants(
                    purposes=["tasks"],  # type: ignore[arg-type]
                    types=("a.*", "b"),
                    deny_types=("a.x",),
                    embedded=(),
                    formats=["json", "pickle"],  # type: ignore[arg-type]
                    compression=["zlib"],  # type: ignore[arg-type]
                    max_ttl_seconds=60,
                    max_bytes=1000,
                    allow_no_expiry=True,
                ),
            ),
        ]
    )

    again = parse_keyring(keyring_to_json(ring).encode(), origin="x")

    assert keyring_to_json(again) == keyring_to_json(ring)
    for before, after in zip(ring, again, strict=True):
        for name in ("kid", "suite", "material", "enabled", "ops", "seal_from", "seal_until", "open_until", "grants"):
            assert getattr(before, name) == getattr(after, name), name
    assert set(json.loads(keyring_to_json(ring))["keys"][0]) == {"kid", "suite", "material"}


BAD_ENTRIES: list[tuple[dict[str, Any], str, str]] = [
    ({"kid": None}, "keys[1].kid", "1 to 64"),
    ({"suit": "hs256"}, "keys[1].suit", "unknown field; known are grants, kid"),
    ({"suite": "es256"}, "keys[1].suite", "not available in this release"),
    ({"suite": None}, "keys[1].suite", "is no suite"),
    ({"material": "short"}, "keys[1].material", "32 random bytes"),
    ({"material": 5}, "keys[1].material", "32 random bytes"),
    ({"material": "A" * 43}, "keys[1].material", "a password or a pattern"),
    ({"state": "no"}, "keys[1].state", "write one of"),
    ({"state": None}, "keys[1].state", "write one of"),
    ({"ops": "seal"}, "keys[1].ops", "must be a list"),
    ({"ops": None}, "keys[1].ops", "must be a list"),
    ({"ops": []}, "keys[1].ops", 'write ["seal"]'),
    ({"ops": [["seal"]]}, "keys[1].ops", "must be text"),
    ({"seal_from": "2027-03-01"}, "keys[1].seal_from", "like 2027-03-01T00:00:00Z"),
    ({"seal_from": "2027-03-01T00:00:00"}, "keys[1].seal_from", "like 2027-03-01T00:00:00Z"),
    ({"seal_until": "2027-02-31T00:00:00Z"}, "keys[1].seal_until", "like 2027-03-01T00:00:00Z"),
    ({"open_until": None}, "keys[1].open_until", "like 2027-03-01T00:00:00Z"),
    ({"seal_from": "2027-03-01T00:00:00Z", "seal_until": "2027-03-01T00:00:00+01:00"}, "keys[1].seal_until", "before"),
    ({"grants": None}, "keys[1].grants", "must be an object"),
    ({"grants": {"type": []}}, "keys[1].grants.type", "unknown field; known are allow_no_expiry"),
    ({"grants": {"types": None}}, "keys[1].grants.types", "must not be null"),
    ({"grants": {"types": "a"}}, "keys[1].grants.types", "must be a list"),
    ({"grants": {"types": ["a*b"]}}, "keys[1].grants.types", "is no pattern"),
    ({"grants": {"formats": ["yaml"]}}, "keys[1].grants.formats", "write a list of json"),
    ({"grants": {"max_bytes": "1MiB"}}, "keys[1].grants.max_bytes", "whole number"),
    ({"grants": {"allow_no_expiry": 1}}, "keys[1].grants.allow_no_expiry", "true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "place", "part"), BAD_ENTRIES)
def test_a_bad_key_is_refused_with_its_place(
    change: dict[str, Any], place: str, part: str, entry: dict[str, Any], material: Material
) -> None:
    second = {"kid": "second", "material": b64(material("second")), **change}

    refusal = refusal_of(lambda: parse_keyring(document(entry, second), origin="ring.json"), b64(material("second")))

    assert (refusal.file, refusal.key) == ("ring.json", place)
    assert part in refusal.problem


@pytest.mark.parametrize("name", ["kid", "material"])
def test_a_missing_field_is_named(entry: dict[str, Any], name: str) -> None:
    del entry[name]

    refusal = refusal_of(lambda: parse_keyring(document(entry), origin="ring.json"))

    assert (refusal.key, refusal.problem.startswith("is missing")) == (f"keys[0].{name}", True)


@pytest.mark.parametrize(
    ("data", "key", "line", "part"),
    [
        (b"", "", 1, "not JSON"),
        (b'{"version": 1,\n "keys": [}', "", 2, "not JSON"),
        (b"\xff", "", None, "not UTF-8"),
        (b"[" * 100_000, "", None, "nesting too deep"),
        (b"9" * 5000, "", None, "number is too long"),
        (b"[]", "", None, 'write {"version": 1'),
        (b"{}", "version", None, "must be 1"),
        (b'{"version": 2, "keys": []}', "version", None, "must be 1"),
        (b'{"version": true, "keys": []}', "version", None, "must be 1"),
        (b'{"version": 1}', "keys", None, "must be a list"),
        (b'{"version": 1, "keys": {}}', "keys", None, "must be a list"),
        (b'{"version": 1, "keys": []}', "keys", None, "there is no key"),
        (b'{"version": 1, "keys": [1]}', "keys[0]", None, "must be an object"),
        (
            b'{"version": 1, "keys": [], "mode": "x"}',
            "mode",
            None,
            "unknown field; known are keys, primary, revision, version",
        ),
        (b'{"version": 1, "version": 1}', "", None, "version stands there twice"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(data: bytes, key: str, line: int | None, part: str) -> None:
    refusal = refusal_of(lambda: parse_keyring(data, origin="ring.json"))

    assert (refusal.file, refusal.key, refusal.line) == ("ring.json", key, line)
    assert part in refusal.problem


def test_a_broken_file_does_not_travel_with_the_error(text: str, material: Material) -> None:
    secret = b64(material("web-1"))
    with pytest.raises(Misconfigured) as caught:
        parse_keyring(f'{{"keys": ["{secret}"'.encode(), origin="ring.json")

    # json.JSONDecodeError keeps the document; an error reporter would send it away.
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_the_same_key_twice_in_a_file_is_refused(entry: dict[str, Any]) -> None:
    refusal = refusal_of(lambda: parse_keyring(document(entry, {**entry, "kid": "b"}), origin="ring.json"))

    assert (refusal.file, refusal.key) == ("ring.json", "keys")
    assert "web-1 and b have the same material" in refusal.problem


# --- public halves, fallbacks, primaries ---


def test_the_public_half_has_a_text_form_of_its_own() -> None:
    key = Key.generate("partner", suite="ed25519")
    text = key_to_text(key, public=True)

    assert text.startswith("ss1pub:ed25519:partner:")
    read = parse_key(text)
    assert (read.public, read.material, read.ops) == (key.public, None, frozenset({"open"}))
    assert key_to_text(read) == text
    assert parse_key(key_to_text(key)).public == key.public
    with pytest.raises(ValueError, match="no such half"):
        key_to_text(Key.generate("a"), public=True)
    assert "has no public half" in refusal_of(lambda: parse_key(text.replace("ed25519", "hs256"))).problem
    assert refusal_of(lambda: parse_key("ss1pub:ed25519:a:" + "A" * 42 + "B")).key == "key 1.public"


def test_fallbacks_open_and_never_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    new, old, older = (Key.generate(kid) for kid in ("new", "old", "older"))
    monkeypatch.setenv("SAFESERIAL_KEY", key_to_text(new))
    monkeypatch.setenv("SAFESERIAL_KEY_FALLBACKS", f"{key_to_text(old)}, {key_to_text(older)}")

    ring = Keyring.load("env:SAFESERIAL_KEY")
    assert [(key.kid, sorted(key.ops)) for key in ring] == [
        ("new", ["open", "seal"]), ("old", ["open"]), ("older", ["open"])
    ]  # fmt: skip
    monkeypatch.setenv("SAFESERIAL_KEY_FALLBACKS", "nonsense")
    assert "FALLBACKS" in str(refusal_of(lambda: Keyring.load("env:SAFESERIAL_KEY")).file)


def test_states_halves_and_primaries_stand_in_the_file(material: Material) -> None:
    pair = Key.generate("pair", suite="ed25519")
    assert pair.public is not None
    data = document(
        {"kid": "one", "material": b64(material("one"))},
        {"kid": "two", "material": b64(material("two")), "ops": ["open"]},
        {"kid": "partner", "suite": "ed25519", "public": b64(pair.public)},
        {"kid": "gone", "state": "destroyed"},
        primary={"tasks": "one", "*": "one"},
        revision=7,
    )

    ring = parse_keyring(data, origin="ring.json")
    assert (ring.revision, dict(ring.primaries)) == (7, {"tasks": "one", "*": "one"})
    assert ring.primary("tasks").kid == ring.primary("results").kid == "one"
    again = parse_keyring(keyring_to_json(ring).encode(), origin="ring.json")
    assert [repr(key) for key in again] == [repr(key) for key in ring]
    assert (again.revision, again.primaries) == (ring.revision, ring.primaries)


def test_presets_stand_in_the_file(material: Material) -> None:
    data = document({"kid": "one", "material": b64(material("one")), "grants": {"presets": ["stdlib@1", "a@1"]}})

    ring = parse_keyring(data, origin="ring.json")
    assert json.loads(keyring_to_json(ring))["keys"][0]["grants"] == {"presets": ["a@1", "stdlib@1"]}


@pytest.mark.parametrize(
    ("more", "key", "part"),
    [
        ({"primary": []}, "primary", "must be an object"),
        ({"primary": {"tasks": "nobody"}}, "primary.tasks", "a key of this ring"),
        ({"primary": {"": "one"}}, "primary.", "write a purpose"),
        ({"revision": -1}, "revision", "whole number"),
        ({"revision": True}, "revision", "whole number"),
        ({"revision": 1 << 53}, "revision", "whole number"),
    ],
)
def test_a_bad_primary_or_revision_is_refused(more: dict[str, Any], key: str, part: str, material: Material) -> None:
    data = document({"kid": "one", "material": b64(material("one"))}, **more)

    refusal = refusal_of(lambda: parse_keyring(data, origin="ring.json"))
    assert refusal.key == key
    assert part in refusal.problem


def test_a_public_key_in_the_file_must_be_one() -> None:
    refusal = refusal_of(lambda: parse_keyring(document({"kid": "a", "suite": "ed25519", "public": "x"}), origin="r"))

    assert refusal.key == "keys[0].public"


# --- material that stands elsewhere ---


def load_reference(folder: Path, reference: str) -> bytes | None:
    file = folder / "ring.json"
    file.touch(mode=0o600)
    file.write_bytes(document({"kid": "a", "material": reference}))
    found = Keyring.load(file).find("a")
    assert found is not None
    return found.material


def test_material_may_stand_elsewhere(tmp_path: Path, material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = material("elsewhere")
    monkeypatch.setenv("ELSEWHERE", f" {b64(raw)} ")
    private = tmp_path / "one.key"
    private.touch(mode=0o600)
    private.write_text(b64(raw) + "\n")

    for reference in ("env:ELSEWHERE", "file:one.key", f"file:{private}", f"cmd:echo '{b64(raw)}'", "cmd:cat one.key"):
        assert load_reference(tmp_path, reference) == raw


class Provider:
    """An entry point."""

    def __init__(self, call: Callable[[str], object]) -> None:
        self.call = call

    def load(self) -> Callable[[str], object]:
        return self.call


def test_a_provider_is_found_by_its_entry_point(
    tmp_path: Path, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = material("provided")
    asked: list[str] = []

    def vault(text: str) -> object:
        asked.append(text)
        if text == "raises":
            raise RuntimeError(b64(raw))
        if text == "says":
            raise Misconfigured("no such secret", file="vault", key="elsewhere")
        return {"raw": raw, "text": b64(raw), "short": b"short", "nothing": None}[text]

    def entry_points(*, group: str, name: str) -> list[Provider]:
        assert group == material_module.PROVIDERS
        return [Provider(vault)] if name == "vault" else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert load_reference(tmp_path, "provider:vault:raw") == load_reference(tmp_path, "provider:vault:text") == raw
    for reference, part in {
        "provider:nobody": "no installed package has a key provider",
        "provider:vault:raises": "raised RuntimeError",
        "provider:vault:says": "no such secret",
        "provider:vault:short": "gives no 32 random bytes",
        "provider:vault:nothing": "gives no 32 random bytes",
    }.items():
        refusal = refusal_of(lambda reference=reference: load_reference(tmp_path, reference), b64(raw))  # type: ignore[misc]
        assert (refusal.key, part in refusal.problem) == ("keys[0].material", True)
    assert asked == ["raw", "text", "raises", "says", "short", "nothing"]


def test_material_that_cannot_be_had_is_refused_unseen(
    tmp_path: Path, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = b64(material("secret"))
    open_file = tmp_path / "open.key"
    open_file.write_text(secret)
    open_file.chmod(0o644)
    monkeypatch.setenv("SHORT", secret[:-1])
    monkeypatch.setattr(material_module, "COMMAND_SECONDS", 0.2)

    for reference, part in {
        "env:MISSING": "is not set",
        "env:SHORT": "gives no 32 random bytes",
        "file:missing.key": "cannot be read",
        "file:open.key": "chmod 600",
        "cmd:": "needs a program",
        "cmd:'": "needs a program",
        "cmd:/no/such/program": "cannot be started",
        f"cmd:sh -c 'echo {secret}; exit 3'": "ended with status 3",
        "cmd:sleep 5": "took more than",
        f"cmd:echo {secret[:-1]}": "gives no 32 random bytes",
        "cmd:true": "gives no 32 random bytes",
        "cmd:yes": "printed more than 4096 bytes",
        f"cmd:sh -c 'echo {secret}; exec >&-; sleep 5'": "took more than",
        f"cmd:sh -c 'echo {secret}; yes | head -c 5000'": "printed more than 4096 bytes",
        # The key itself where its place should be.
        f"env:ss1:hs256:web-1:{secret}": "(a key, which is not shown) is not set",
        f"file:{secret}": "(a key, which is not shown)",
        f"cmd:{secret}": "the command (a key, which is not shown) cannot be started",
        # What no operating system can take: a lone surrogate, a null byte.
        "env:\ud800": "its name is no text",
        "env:a\0b": "is not set",
        "file:\ud800": "this is no path",
        "file:a\0b": "this is no path",
        f"cmd:echo {secret} \ud800": "no text that a program can take",
        f"cmd:echo {secret} a\0b": "no text that a program can take",
        "cmd:a\0b": "no text that a program can take",
        "provider:\ud800": "no installed package",
    }.items():
        refusal = refusal_of(lambda reference=reference: load_reference(tmp_path, reference), secret[:-1])  # type: ignore[misc]
        assert (refusal.key, part in refusal.problem) == ("keys[0].material", True), refusal
        assert str(refusal.file).endswith("ring.json")
        assert str(refusal).isascii()


def test_what_a_command_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material_module, "COMMAND_SECONDS", 0.3)
    refusal_of(lambda: load_reference(tmp_path, f"cmd:sh -c 'sleep 77 & echo $! > {tmp_path}/pid; wait'"))
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        with suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return  # ended, and nobody has asked how
        time.sleep(0.05)
    pytest.fail("it runs still")


@pytest.mark.parametrize("source", ["env:{}", "file:{}", "file:/x/{}", "env:ss1:hs256:web-1:{}"])
def test_a_key_in_the_place_of_its_place_is_not_shown(material: Material, source: str) -> None:
    secret = b64(material("misplaced"))
    refusal_of(lambda: Keyring.load(source.format(secret)), secret)


@pytest.mark.parametrize("field", ["suite", "formats", "compression", "unknown"])
def test_a_key_in_another_field_is_not_shown(entry: dict[str, Any], material: Material, field: str) -> None:
    secret = b64(material("misplaced"))
    wrong = {"suite": {"suite": secret}, "unknown": {secret: 1}}.get(field, {"grants": {field: [secret]}})
    refusal_of(lambda: parse_keyring(document({**entry, **wrong}), origin="ring"), secret)


@pytest.mark.parametrize("between", ["", ":", "::"])
def test_keys_with_nothing_between_them_are_no_key(
    material: Material, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """The first one's material would be part of the second one's name, which every message carries."""
    one, two = b64(material("one")), b64(material("two"))
    monkeypatch.setenv("TWO", f"ss1:hs256:a:{one}{between}ss1:hs256:b:{two}")
    refusal = refusal_of(lambda: Keyring.load("env:TWO"), one, two)
    assert "key in this name" in refusal.problem or "is not written as" in refusal.problem
    refusal_of(lambda: Key.generate(f"a:{one}"), one)


def test_a_disabled_key_needs_no_secret(entry: dict[str, Any], material: Material) -> None:
    gone = {"kid": "gone", "material": "env:SAFESERIAL_NO_SUCH_VARIABLE", "state": "disabled"}
    without = {"kid": "without", "suite": "ed25519", "state": "disabled"}
    inline = {"kid": "inline", "material": b64(material("inline")), "state": "disabled"}
    ring = parse_keyring(document(entry, gone, without, inline), origin="ring")
    assert [key.material is None for key in ring] == [False, True, True, False]
    again = parse_keyring(keyring_to_json(ring).encode(), origin="ring")
    assert [(key.kid, key.state, key.material) for key in again] == [(key.kid, key.state, key.material) for key in ring]
    with pytest.raises(Misconfigured, match="no public half here"):
        ring.find("without").public_only()  # type: ignore[union-attr]
    refusal_of(lambda: parse_keyring(document(entry, {**gone, "state": "enabled"}), origin="ring"))


@pytest.mark.parametrize(
    ("error", "part"),
    [(ImportError, "cannot be imported: it raised ImportError"), (SystemExit, "cannot be imported: it raised SystemExit"),
     (AttributeError, "cannot be imported: it raised AttributeError"),
     (RecursionError, "cannot be imported: it raised RecursionError")],
)  # fmt: skip
def test_a_provider_that_cannot_be_imported_is_refused_unseen(
    tmp_path: Path, material: Material, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], part: str
) -> None:
    secret = b64(material("secret"))

    class Broken:
        def load(self) -> Callable[[str], object]:
            raise error(secret)

    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [Broken()])
    refusal = refusal_of(lambda: load_reference(tmp_path, f"provider:vault:{secret}"), secret)
    assert (refusal.key, part in refusal.problem) == ("keys[0].material", True), refusal


def test_providers_that_cannot_be_looked_up_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(**_: object) -> list[Provider]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    refusal = refusal_of(lambda: load_reference(tmp_path, "provider:vault"))
    assert (refusal.key, "cannot be looked up" in refusal.problem) == ("keys[0].material", True)


def test_a_variable_that_cannot_be_is_not_set() -> None:
    for name in ("\ud800", "a\0b", ""):
        refusal = refusal_of(lambda name=name: Keyring.load(f"env:{name}"))  # type: ignore[misc]
        assert "is not set" in refusal.problem
        assert refusal.key.isascii()
