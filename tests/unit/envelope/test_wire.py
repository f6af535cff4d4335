"""The wire format: total on hostile bytes, exact, and one spelling per header."""

from __future__ import annotations

import copy
import pickle
import struct
from dataclasses import FrozenInstanceError, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safeserial.envelope import _header as engine
from safeserial.envelope import encode_header, parse_claims, wire
from safeserial.envelope import header as pure
from safeserial.envelope.claims import Draft
from safeserial.envelope.wire import (
    MAX_TIME_MS,
    Claims,
    Compression,
    Format,
    Prefix,
    Suite,
    is_label,
    is_sealed,
    make_claims,
    pack_sections,
    parse_prefix,
    split_sections,
)
from safeserial.errors import Malformed, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

labels = st.text("abcXYZ019._:-", min_size=1, max_size=64)
times = st.integers(0, MAX_TIME_MS)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
sound_claims = st.builds(
    Claims,
    message_id=st.binary(min_size=16, max_size=16),
    issued_at_ms=times,
    expires_at_ms=times,
    format=st.sampled_from(Format),
    compression=st.sampled_from(Compression),
    raw_len=st.integers(0, 2**32 - 1),
    schema_version=st.integers(0, 2**16 - 1),
    purpose=labels,
    type=texts,
    subject=st.none() | texts,
    audience=st.none() | texts,
    bound_headers=st.none() | st.binary(min_size=32, max_size=32),
    not_before_ms=st.none() | times,
    on_behalf_of=st.none() | labels,
    queue=st.none() | texts,
    reseal_of=st.none() | st.binary(min_size=16, max_size=16),
    unknown=st.dictionaries(st.just(0) | st.integers(8, 127), st.binary(max_size=20), max_size=3).map(
        lambda found: tuple(sorted(found.items()))
    ),
)


T = TypeVar("T")


def tried(judge: Callable[[], T]) -> T | Malformed:
    """What a judge says: its result, or its refusal as a value."""
    try:
        return judge()
    except Malformed as refusal:
        return refusal


def prefix_of(header: bytes, suite: Suite = Suite.HS256) -> Prefix:
    kid_len = header[8]
    return Prefix(suite, len(header), header[9 : 9 + kid_len].decode(), 9 + kid_len)


@given(st.sampled_from(Suite), labels, sound_claims)
def test_what_is_encoded_is_parsed_again_to_the_same(suite: Suite, kid: str, claims: Claims) -> None:
    header = encode_header(suite, kid, claims)
    commitment = bytes(wire.COMMITMENT_LENGTH[suite])
    data = header + commitment + b"body" + bytes(wire.TAG_LENGTH[suite])

    prefix = parse_prefix(data, max_bytes=len(data))

    assert prefix == (suite, len(header) + len(commitment), kid, 9 + len(kid))
    assert parse_claims(header, prefix) == claims
    assert is_sealed(data)


edits = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=4)),
    max_size=4,
)


def edited(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, cut, new in changes:
        data = data[:at] + new + data[at + cut :]
    return data


@given(sound_claims, edits, st.integers(0, 400))
@example(Claims(message_id=bytes(16), issued_at_ms=0, expires_at_ms=0, format=Format.RAW, compression=Compression.NONE,
                raw_len=0, purpose="p", type=""), [], 0)  # fmt: skip
def test_any_prefix_is_parsed_or_malformed_at_a_byte_that_exists(
    claims: Claims, changes: list[tuple[int, int, bytes]], ceiling: int
) -> None:
    data = edited(encode_header(Suite.HS256, "web-1", claims) + b"body" + bytes(32), changes)
    prefix = tried(lambda: parse_prefix(data, max_bytes=ceiling))
    if isinstance(prefix, Malformed):
        assert (prefix.reason is Reason.TOO_LARGE) == (len(data) > ceiling)
        assert prefix.offset is None if len(data) > ceiling else 0 <= (prefix.offset or 0) <= len(data)
        return
    assert prefix.claims_at < prefix.header_len <= len(data) - wire.TAG_LENGTH[prefix.suite]
    assert is_label(prefix.kid)


@given(sound_claims, edits, st.none() | st.integers(0, 250))
def test_any_header_is_parsed_or_malformed_and_has_one_spelling(
    claims: Claims, changes: list[tuple[int, int, bytes]], end: int | None
) -> None:
    header = encode_header(Suite.HS256, "web-1", claims)
    mutant = header[:14] + edited(header[14:], changes)[:end]
    found = tried(lambda: parse_claims(mutant, prefix_of(header)))
    if isinstance(found, Malformed):
        assert found.reason in {Reason.BAD_CLAIMS, Reason.UNKNOWN_EXTENSION}
        assert found.offset is not None
        assert 14 <= found.offset <= len(mutant)
        return
    # Whatever parses is what would have been written, but for the length that the prefix parser has judged.
    assert encode_header(Suite.HS256, "web-1", found)[8:] == mutant[8:]


tlvs = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=34) | st.just(bytes(8)) | st.just(bytes(16))))


@given(sound_claims, tlvs, st.booleans())
def test_any_extensions_are_parsed_or_malformed(claims: Claims, pairs: list[tuple[int, bytes]], order: bool) -> None:
    bare = encode_header(Suite.HS256, "web-1", make_claims(
        **{f.name: getattr(claims, f.name) for f in fields(Claims)[:8]}
    ))  # fmt: skip
    raw = b"".join(struct.pack(">BH", tag, len(v)) + v for tag, v in (sorted(dict(pairs).items()) if order else pairs))
    header = bare[:-2] + struct.pack(">H", len(raw)) + raw
    found = tried(lambda: parse_claims(header, prefix_of(bare)))
    if isinstance(found, Malformed):
        assert found.reason in {Reason.BAD_CLAIMS, Reason.UNKNOWN_EXTENSION}
        return
    assert encode_header(Suite.HS256, "web-1", found)[8:] == header[8:]


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda raw: b"\xc1SS\x01" + raw))
def test_any_bytes_are_a_prefix_or_malformed(data: bytes) -> None:
    found = tried(lambda: parse_prefix(data, max_bytes=1000))

    assert is_sealed(data) or (isinstance(found, Malformed) and found.reason is Reason.NOT_SEALED)


@pytest.mark.parametrize("data", [None, "text", bytearray(b"\xc1SS\x01"), memoryview(b"\xc1SS\x01"), 5, [1]])
def test_only_bytes_are_judged_since_others_could_change_meanwhile(data: Any) -> None:
    with pytest.raises(Malformed) as caught:
        parse_prefix(data, max_bytes=1000)
    assert caught.value.reason is Reason.NOT_BYTES


def test_the_fast_maker_makes_what_the_constructor_makes(claims: Claims) -> None:
    values: dict[str, Any] = {f.name: getattr(claims, f.name) for f in fields(Claims) if f.name != "unknown"}

    made = make_claims(**values)

    assert type(made) is Claims
    assert made == claims
    assert hash(made) == hash(claims)
    assert repr(made) == repr(claims)
    assert replace(made, type="x").type == "x"
    assert copy.deepcopy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(FrozenInstanceError):
        made.type = "other"  # type: ignore[misc]


def test_parsed_claims_are_frozen(claims: Claims) -> None:
    header = encode_header(Suite.HS256, "k", claims)
    found = parse_claims(header, prefix_of(header))

    assert type(found) is Claims
    with pytest.raises(FrozenInstanceError):
        found.purpose = "other"  # type: ignore[misc]


def test_the_draft_has_every_slot_of_claims() -> None:
    assert set(Draft.__slots__) == set(Claims.__slots__)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"message_id": bytes(15)}, "message_id must be 16 bytes"),
        ({"message_id": "0123456789abcdef"}, "message_id must be 16 bytes"),
        ({"issued_at_ms": -1}, "issued_at_ms must be"),
        ({"issued_at_ms": MAX_TIME_MS + 1}, "issued_at_ms must be"),
        ({"issued_at_ms": 1.5}, "issued_at_ms must be"),
        ({"expires_at_ms": True}, "expires_at_ms must be"),
        ({"format": 0}, "format and compression"),
        ({"compression": 3}, "format and compression"),
        ({"raw_len": 2**32}, "raw_len must be"),
        ({"raw_len": -1}, "raw_len must be"),
        ({"schema_version": 2**16}, "schema_version must be"),
        ({"purpose": ""}, "purpose must be"),
        ({"purpose": "p" * 65}, "purpose must be"),
        ({"purpose": "with space"}, "purpose must be"),
        ({"type": "t" * 256}, "type must be at most 255"),
        ({"type": "\u20ac" * 86}, "type must be at most 255"),
        ({"type": None}, "type must be text"),
        ({"type": "\ud800"}, "type has a lone surrogate"),
        ({"subject": b"s"}, "subject must be text"),
        ({"subject": "s" * 4097}, "subject must be at most 4096"),
        ({"subject": "s" * 4090}, "the header would be"),
        ({"audience": "\ud800"}, "audience has a lone surrogate"),
        ({"bound_headers": bytes(31)}, "bound_headers must be 32 bytes"),
        ({"not_before_ms": -1}, "not_before_ms must be"),
        ({"on_behalf_of": ""}, "on_behalf_of must be a key id"),
        ({"queue": 5}, "queue must be text"),
        ({"reseal_of": bytes(17)}, "reseal_of must be 16 bytes"),
        ({"unknown": ((0x80, b""),)}, "unknown must be"),
        ({"unknown": ((3, b""),)}, "unknown must be"),
        ({"unknown": ((9, b""), (9, b""))}, "unknown must be"),
        ({"unknown": ((9, b""), (8, b""))}, "unknown must be"),
        ({"unknown": ((-1, b""),)}, "unknown must be"),
        ({"unknown": ((9, "text"),)}, "unknown must be"),
        ({"unknown": ((9, bytes(4097)),)}, "an unknown extension is longer"),
    ],
)
def test_claims_that_do_not_fit_are_the_callers_mistake(claims: Claims, changes: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        encode_header(Suite.HS256, "web-1", replace(claims, **changes))


@pytest.mark.parametrize("kid", ["", "k" * 65, "with space", "k\u00e9", "k/1", "k\n"])
def test_a_key_id_outside_the_alphabet_is_the_callers_mistake(claims: Claims, kid: str) -> None:
    assert not is_label(kid)
    with pytest.raises(ValueError, match="kid must be"):
        encode_header(Suite.HS256, kid, claims)


def test_a_header_of_exactly_4096_bytes_is_written_and_read(claims: Claims) -> None:
    bare = len(encode_header(Suite.HS256, "web-1", claims))
    header = encode_header(Suite.HS256, "web-1", replace(claims, subject="s" * (4096 - bare - 3)))

    assert len(header) == 4096
    assert parse_prefix(header + bytes(32), max_bytes=5000).header_len == 4096
    with pytest.raises(ValueError, match="4097 bytes"):
        encode_header(Suite.HS256, "web-1", replace(claims, subject="s" * (4096 - bare - 2)))


@pytest.mark.parametrize("field", ["purpose", "type"])
def test_a_text_that_claims_to_equal_another_is_written_as_it_is(claims: Claims, field: str) -> None:
    class Liar(str):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash("tasks")

    encode_header(Suite.HS256, "tasks", replace(claims, purpose="tasks", type="tasks"))
    names = {"purpose": "tasks", "type": "tasks", field: Liar("other")}

    header = encode_header(Suite.HS256, "tasks", replace(claims, **names))

    assert str(getattr(parse_claims(header, prefix_of(header)), field)) == "other"
    assert b"\x05other" in encode_header(Suite.HS256, Liar("other"), claims)[:14]


def test_what_is_remembered_is_bounded_and_changes_no_verdict(claims: Claims) -> None:
    header = encode_header(Suite.HS256, "web-1", claims)
    sound, short = header + bytes(32), header + bytes(31)
    refused = [(sound[:9] + b"web/1" + sound[14:], Reason.BAD_KEY_ID, 12), (short, Reason.TRUNCATED, len(short)),
               # Both are wrong: the length is said first, whether or not the beginning was seen before.
               (short[:9] + b"web/1" + short[14:], Reason.TRUNCATED, len(short)),
               (sound[:10], Reason.TRUNCATED, 10)]  # fmt: skip

    for _ in range(3):
        for data, reason, offset in refused:
            refusal = tried(lambda data=data: parse_prefix(data, max_bytes=1000))  # type: ignore[misc]
            assert isinstance(refusal, Malformed)
            assert (refusal.reason, refusal.offset) == (reason, offset)
        assert parse_prefix(sound, max_bytes=1000) == prefix_of(header)
        for number in range(300):
            other = encode_header(Suite.HS256, f"k{number}", replace(claims, purpose=f"p{number}"))
            assert parse_prefix(other + bytes(32), max_bytes=1000).kid == f"k{number}"
            assert parse_claims(other, prefix_of(other)).purpose == f"p{number}"

    for remembering in (wire._judge_start, engine._read_label, engine._form):
        info = remembering.cache_info()
        assert info.currsize == info.maxsize == 256


@given(sound_claims, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3), st.integers(0, 3))
def test_the_builds_agree(claims: Claims, changes: list[tuple[int, int]], cut: int) -> None:
    compiled = pytest.importorskip("safeserial.envelope._header_c", reason="the compiled build is not installed")
    header = pure.encode_header(Suite.HS256, "web-1", claims)
    assert compiled.encode_header(Suite.HS256, "web-1", claims) == header
    prefix = prefix_of(header)
    changed = bytearray(header)
    for place, value in changes:
        if prefix.claims_at + place < len(changed):
            changed[prefix.claims_at + place] = value
    data = bytes(changed[: len(changed) - cut])

    def said(module: Any) -> object:
        try:
            return module.parse_claims(data, prefix)
        except Malformed as refusal:
            return refusal.reason, refusal.offset, str(refusal)

    assert said(compiled) == said(pure)


@pytest.mark.parametrize("build", ["safeserial.envelope.header", "safeserial.envelope._header_c"])
def test_a_room_is_as_large_as_it_was_asked_for_and_is_given_back_as_it_was_written(build: str) -> None:
    module = pytest.importorskip(build, reason="the compiled build is not installed")
    for size in (0, 1, 70_000):
        room = module.room(size)
        with room.getbuffer() as view:
            assert len(view) == size
            view[:] = b"x" * size
        assert room.getvalue() == b"x" * size


def test_a_later_version_is_named_before_anything_behind_it_is_looked_at() -> None:
    for data in (b"\xc1SS\x02", b"\xc1SS\x02" + bytes(100)):
        with pytest.raises(Malformed) as caught:
            parse_prefix(data, max_bytes=1000)
        assert (caught.value.reason, caught.value.offset) == (Reason.UNSUPPORTED_VERSION, 3)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\xc1S", b"{}", b"\x80\x04N.", b"\xc1SX\x01"])
def test_other_bytes_are_not_taken_for_an_envelope(data: bytes) -> None:
    assert not is_sealed(data)


def test_labels_are_the_names_in_settings() -> None:
    assert [suite.label for suite in Suite] == ["hs256", "ed25519", "es256", "a256gcm"]
    assert [fmt.label for fmt in Format] == ["json", "msgpack", "pickle", "protobuf", "raw"]
    assert [method.label for method in Compression] == ["none", "zlib", "zstd"]


@given(st.binary(), st.binary())
def test_sections_are_split_as_they_were_packed(wishes: bytes, arguments: bytes) -> None:
    assert split_sections(pack_sections(wishes, arguments)) == (wishes, arguments)


@pytest.mark.parametrize(
    ("body", "offset"),
    [(b"", 0), (b"\0\0\0", 3), (b"\0\0\0\x01", 0), (b"\xff\xff\xff\xff" + b"x" * 100, 0)],
)
def test_a_body_without_two_sections_is_refused(body: bytes, offset: int) -> None:
    with pytest.raises(Malformed) as caught:
        split_sections(body)
    assert (caught.value.reason, caught.value.offset) == (Reason.BAD_SECTIONS, offset)


def test_wishes_of_4_gib_do_not_fit() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 32

    with pytest.raises(ValueError, match="4 GiB"):
        pack_sections(Huge(), b"")


def test_a_message_without_claims_is_refused_whoever_calls(make: Callable[..., bytes]) -> None:
    data = make()
    prefix = parse_prefix(data, max_bytes=1000)
    for end in range(prefix.header_len):
        with pytest.raises(Malformed) as caught:
            parse_claims(data[:end], prefix)
        assert caught.value.reason is Reason.BAD_CLAIMS
