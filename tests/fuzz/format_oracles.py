"""What the readers of JSON and msgpack promise, as functions that raise :class:`Broken` where a promise does not hold.

Pure over ``(target, data, profile)``, so a finding is replayed by its bytes alone. Each target is one way into the
package; :func:`check` runs the oracles that belong to it. The readers they are compared with are the standard
library's ``json`` and msgpack's own, with hooks that keep what they lose: repeated keys, the type of a key, the size
of a number. An oracle catches ``Refused`` and what its peer may raise, by name; everything else is let out.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
import msgpack.fallback
from fuzz import format_zoo, zoo
from fuzz.compare import difference
from fuzz.rights import Broken

from celery_plugin import wishes
from safeserial.envelope.wire import Compression
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.formats import codec, counts
from safeserial.formats.compression import decompress
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.formats.typed import measure
from safeserial.limits import Limits
from safeserial.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PROFILES", "TARGETS", "Broken", "Profile", "check", "memory"]

R = Reason
_COMPILED = "safeserial.formats._counts_c"
#: The pure module, and the compiled one where it is built.
BUILDS = [counts] if importlib.util.find_spec(_COMPILED) is None else [counts, importlib.import_module(_COMPILED)]
_MAX_WRITE_DEPTH = 254
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
#: What any reader may say of text or bytes that another one cannot read to the end.
_SYNTAX = {R.BAD_JSON, R.BAD_MSGPACK, R.TRUNCATED, R.TRAILING_BYTES, R.BAD_TEXT, R.UNKNOWN_TAG, R.NOT_FINITE,
           R.NUMBER_OUT_OF_RANGE, R.TOO_DEEP, R.TOO_MANY_NODES, R.STRING_TOO_LONG, R.TOO_LARGE}  # fmt: skip
#: Which refusals a problem that the other reader saw, or with a question mark may have seen, justifies.
_JUSTIFIES: dict[str, set[Reason]] = {
    "syntax": _SYNTAX,
    # Our reader judges the keys of a map by a walk that decodes no text yet; msgpack stops at the text.
    "utf-8": _SYNTAX | {R.HASH_COST},
    "constant": {R.BAD_JSON},
    "surrogate": {R.BAD_TEXT},
    "number": {R.NUMBER_OUT_OF_RANGE},
    "not finite": {R.NOT_FINITE},
    "duplicate": {R.DUPLICATE_KEY},
    "key": {R.BAD_MSGPACK},
    "extension": {R.UNKNOWN_TAG},
    "depth": {R.TOO_DEEP},
    "nodes": {R.TOO_MANY_NODES},
    "string": {R.STRING_TOO_LONG},
    "bytes": {R.TOO_LARGE},
}
#: What ``build`` may still say of a body that was judged: keys meet, and constructors speak, only there.
_BUILD_REASONS = {R.BUILD_FAILED, R.BAD_TAGGED_VALUE, R.DUPLICATE_KEY, R.HASH_COST, R.NUMBER_OUT_OF_RANGE}


class Profile(NamedTuple):
    """Under what a case is read.

    Attributes:
        name: Short.
        policy: Which types may be named; its limits are the profile's.
    """

    name: str
    policy: Policy

    @property
    def limits(self) -> Limits:
        return self.policy.limits


def _profiles() -> dict[str, Profile]:
    entries = [f"{zoo.HOME}:{entry}" for entry in zoo._ENTRIES]
    wide, tight = zoo.WIDE, Limits(
        max_bytes=400, max_raw_bytes=400, max_depth=5, max_nodes=30, max_string_bytes=24, max_int_bits=64, allow_nan=False
    )  # fmt: skip
    small_ints = Limits(max_int_bits=24)
    made = {
        "zoo": Policy(allow=entries, presets=["stdlib@1"], limits=wide),
        "tight": Policy(allow=entries, presets=["stdlib@1"], limits=tight),
        "roomy": Policy(allow=entries, presets=["stdlib@1"]),
        "plain": Policy(limits=Limits.untrusted()),
        "small": Policy(allow=entries, limits=small_ints),
    }
    # Corpora rely on the order: add new ones at the end.
    made["types"] = format_zoo.policy()
    return {name: Profile(name, policy) for name, policy in made.items()}


PROFILES = _profiles()


# -- the other readers ------------------------------------------------------------------------------------------------


def read_json(data: bytes, limits: Limits, max_bytes: int) -> tuple[Any, set[str], bool]:
    """What the standard library makes of a text: its value, the problems with it, whether an object has the key ``~``."""
    problems: set[str] = set()
    tagged = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal tagged
        made = dict(items)
        if len(made) != len(items):
            problems.add("duplicate")
        if not all(map(_is_utf8, made)):
            problems.add("surrogate")
        tagged |= "~" in made
        return made

    def whole(text: str) -> object:
        if len(text) > 4000 or not -(1 << 63) <= int(text) < 1 << 64 or int(text).bit_length() > limits.max_int_bits:
            problems.add("number")
            return 0
        return int(text)

    def real(text: str) -> float:
        # More characters than any double needs are refused unread.
        if len(text) > 1100 or abs(float(text)) == float("inf"):
            problems.add("number")
        return float(text)

    try:
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=pairs,
            parse_int=whole,
            parse_float=real,
            parse_constant=lambda _: problems.add("constant"),
        )
    except UnicodeDecodeError:
        return None, {"utf-8", *_bounds(data, limits, max_bytes)}, False
    except (json.JSONDecodeError, RecursionError):
        return None, {"syntax", *_bounds(data, limits, max_bytes)}, False
    problems |= _bounds(data, limits, max_bytes)
    depth, nodes = measure(value)
    problems |= {
        name for name, amount, ceiling in (("depth", depth, limits.max_depth), ("nodes", nodes, limits.max_nodes)) if amount > ceiling
    }  # fmt: skip
    if "duplicate" in problems:
        # Entries that the parsed value no longer has count all the same.
        problems |= {"depth?", "nodes?", "surrogate?"}
    if not all(_is_utf8(leaf) for leaf in _leaves(value) if type(leaf) is str):
        problems.add("surrogate")
    return value, problems, tagged


def _bounds(data: bytes, limits: Limits, max_bytes: int) -> set[str]:
    found = set()
    longest = max((len(match[1]) for match in _STRING.finditer(data)), default=0)
    if longest > limits.max_string_bytes:
        found.add("string")
    if len(data) > max_bytes:
        found.add("bytes")
    return found


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _leaves(value: Any) -> list[Any]:
    todo, found = [value], []
    while todo:
        node = todo.pop()
        if type(node) is dict:
            todo += node.values()
        elif type(node) is list:
            todo += node
        else:
            found.append(node)
    return found


def read_msgpack(data: bytes, limits: Limits, max_bytes: int, reader: Any = None) -> tuple[Any, set[str]]:
    """The same of msgpack's own reader, in C or (``msgpack.fallback.Unpacker``) in Python."""
    problems: set[str] = set()

    def pairs(items: list[tuple[Any, Any]]) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, item in items:
            if type(key) not in (str, int):
                problems.update({"key", "extension"} if isinstance(key, msgpack.Timestamp) else {"key"})
                continue
            if type(key) is str and len(key.encode()) > limits.max_string_bytes:
                problems.add("string")
            if type(key) is int and key.bit_length() > limits.max_int_bits:
                problems.add("number")
            if key in made:
                problems.add("duplicate")
            made[key] = item
        return made

    def extension(code: int, raw: bytes) -> object:
        problems.add("extension")
        return None

    # A timestamp would not get to the hook of extensions, and is refused like them.
    options: dict[str, Any] = {
        "strict_map_key": False,
        "object_pairs_hook": pairs,
        "ext_hook": extension,
        "timestamp": 0,
    }
    options |= dict.fromkeys(("max_str_len", "max_bin_len", "max_array_len", "max_map_len", "max_ext_len"), len(data))
    try:
        if reader is None:
            value = msgpack.unpackb(data, **options)
        else:
            one = reader(None, max_buffer_size=max(len(data), 1), **options)
            one.feed(data)
            value = one.unpack()
            if one.tell() != len(data):
                problems.add("syntax")
    except UnicodeDecodeError:
        return None, problems | {"utf-8"}
    except (ValueError, RecursionError, msgpack.OutOfData, msgpack.StackError):
        return None, problems | {"syntax"}
    if len(data) > max_bytes:
        problems.add("bytes")
    depth, nodes = measure(value)
    if depth > min(limits.max_depth, 500):
        problems.add("depth")
    if nodes > limits.max_nodes:
        problems.add("nodes")
    if problems & {"duplicate", "key", "extension"}:
        # What stood there is not in the value, and may have been the first thing wrong.
        problems |= {"depth?", "nodes?", "string?", "number?", "not finite?", "extension?"}
    for leaf in _leaves(value):
        if isinstance(leaf, msgpack.Timestamp):
            problems.add("extension")
        elif type(leaf) is float and not limits.allow_nan and leaf - leaf != 0.0:
            problems.add("not finite")
        elif type(leaf) is int and leaf.bit_length() > limits.max_int_bits:
            problems.add("number")
        elif type(leaf) in (str, bytes) and len(leaf.encode() if type(leaf) is str else leaf) > limits.max_string_bytes:
            problems.add("string")
    return value, problems


# -- oracles ----------------------------------------------------------------------------------------------------------


def _total(read: Callable[[], Any], data: bytes, allowed: set[Reason] | None = None) -> Any:
    """The value, or the refusal; that is all there is."""
    try:
        return read()
    except Refused as refusal:
        if refusal.reason is R.INTERNAL_ERROR:
            raise Broken("total", "it refuses as its own failure") from refusal
        if type(refusal) not in (Malformed, Forbidden, Refused):
            raise Broken("total", f"refused as {type(refusal).__name__}") from refusal
        if refusal.offset is not None and not 0 <= refusal.offset <= len(data):
            raise Broken("total", f"the offset {refusal.offset} is outside {len(data)} bytes") from refusal
        if allowed is not None and refusal.reason not in allowed:
            raise Broken("total", f"it may not refuse for {refusal.reason.value} there") from refusal
        return refusal
    except RecursionError as error:
        raise Broken("total", "Python's stack is used up") from error
    except Exception as error:
        raise Broken("total", f"{type(error).__name__} leaves it: {error}") from error


def _agree(outcome: Any, value: Any, problems: set[str], peer: str) -> None:
    """Accepted and equal exactly where the other reader has no problem; refused for one that it has."""
    if isinstance(outcome, Refused):
        justified = set().union(*(_JUSTIFIES[name.rstrip("?")] for name in problems)) if problems else set()
        if outcome.reason not in justified:
            raise Broken("agree", f"{outcome.reason.value}, but {peer} sees {sorted(problems) or 'nothing wrong'}")
        return
    if problems:
        raise Broken("agree", f"accepted, but {peer} sees {sorted(problems)}")
    found = difference(outcome, value)
    if found:
        raise Broken("agree", f"not what {peer} reads: {found}")


def untrusted_json(data: bytes, profile: Profile) -> str:
    """Data-only JSON: as the standard library reads it, less what is ambiguous; and writing it again is a fixed point."""
    outcome = _total(lambda: load_untrusted_json(data, profile.limits), data)
    value, problems, _ = read_json(data, profile.limits, profile.limits.max_bytes)
    _agree(outcome, value, problems, "json")
    if isinstance(outcome, Refused):
        return outcome.reason.value
    again = json.dumps(outcome, ensure_ascii=False, separators=(",", ":")).encode()
    roomy = Limits(max_bytes=1 << 24, max_string_bytes=1 << 24, max_int_bits=64)
    if difference(load_untrusted_json(again, roomy), outcome):
        raise Broken("fixed point", "what it writes is read as something else")
    return "accepted"


def _walked(engine: Any, data: bytes, limits: Limits, tags: bool) -> object:
    try:
        return engine.walk(
            data,
            min(limits.max_depth, 500),
            limits.max_nodes,
            limits.max_string_bytes,
            limits.max_int_bits,
            limits.allow_nan,
            tags,
        )
    except Malformed as refusal:
        return refusal.args


def both_builds(data: bytes, limits: Limits) -> None:
    """The pure and the compiled walk say the same of the same bytes, at the same byte."""
    for tags in (False, True):
        found = [_walked(engine, data, limits, tags) for engine in BUILDS]
        if any(one != found[0] for one in found):
            raise Broken("builds", f"the pure walk says {found[0]!r}, the compiled one {found[-1]!r}")


def untrusted_msgpack(data: bytes, profile: Profile) -> str:
    """Data-only msgpack: as msgpack reads it in C and in Python, less what is ambiguous; and a fixed point."""
    limits = profile.limits
    both_builds(data, limits)
    outcome = _total(lambda: load_untrusted_msgpack(data, limits), data)
    value, problems = read_msgpack(data, limits, limits.max_bytes)
    _agree(outcome, value, problems, "msgpack")
    if len(data) < 400:
        value, problems = read_msgpack(data, limits, limits.max_bytes, msgpack.fallback.Unpacker)
        _agree(outcome, value, problems, "msgpack.fallback")
    if isinstance(outcome, Refused):
        return outcome.reason.value
    if difference(load_untrusted_msgpack(msgpack.packb(outcome), Limits()), outcome):
        raise Broken("fixed point", "what it writes is read as something else")
    return "accepted"


def _typed(name: str, data: bytes, profile: Profile) -> str:
    one: Any = codec(name)
    policy, limits = profile.policy, profile.limits
    zoo.NOTES.clear()
    judged = _total(lambda: one.judge(data, policy, limits), data)
    if zoo.NOTES:
        raise Broken("judge", f"judging ran {zoo.NOTES[0]}")
    if isinstance(judged, Refused):
        loaded = _total(lambda: one.load(data, policy, limits), data)
        if not isinstance(loaded, Refused) or loaded.reason is not judged.reason:
            raise Broken("one parse", f"load does not refuse as the judge: {judged.reason.value}")
        return judged.reason.value
    if not set(judged.names) <= set(policy.table):
        raise Broken("judge", "it recorded a name that is not listed")
    built = _total(lambda: one.build(judged, policy, limits), data, _BUILD_REASONS)
    if any("TRAP" in text for text in zoo.NOTES):
        raise Broken("build", "building ran what is not listed")
    loaded = _total(lambda: one.load(data, policy, limits), data, _BUILD_REASONS)
    if isinstance(built, Refused) or isinstance(loaded, Refused):
        if type(built) is not type(loaded) or built.reason is not loaded.reason:
            raise Broken("one parse", "load and build after judge end differently")
        return f"built: {built.reason.value}"
    found = _differ(built, loaded, profile)
    if found:
        raise Broken("one parse", f"load and build after judge give different values: {found}")
    return _written_again(one, built, profile, data)


def _written_again(one: Any, built: Any, profile: Profile, data: bytes) -> str:
    """What was built can be written, and comes back as it was."""
    policy, limits = profile.policy, profile.limits
    # orjson reads more levels than it writes.
    allowed = {R.NOT_REPRESENTABLE, R.TOO_DEEP} if limits.max_depth > _MAX_WRITE_DEPTH else {R.NOT_REPRESENTABLE}
    if 2 * len(data) > limits.max_raw_bytes:
        allowed.add(R.TOO_LARGE)  # a float may be spelled shorter than its writer spells it
    written = _total(lambda: one.dumps(built, policy), data, allowed)
    if isinstance(written, Refused):
        return f"written: {written.reason.value}"
    again = _total(lambda: one.load(written, policy, limits), written)
    if isinstance(again, Refused):
        raise Broken("fixed point", f"what it writes is refused: {again}")
    found = _differ(again, built, profile)
    if found:
        raise Broken("fixed point", f"what it writes is read as something else: {found}")
    if one.dumps(again, policy) != written and not _has_sets(built):
        raise Broken("fixed point", "written again, it is another text")
    return "accepted"


def _differ(one: Any, other: Any, profile: Profile) -> str:
    """Where two values differ; those of the zoo of types by its own oracle too."""
    found = difference(one, other)
    return found or ("" if profile.name != "types" or format_zoo.same(one, other) else "the zoo of types says so")


def _has_sets(value: Any) -> bool:
    # The order of a set's members is nobody's; its braces in the text of the value are enough to leave such values out.
    return "{" in repr(value)


def typed_json(data: bytes, profile: Profile) -> str:
    """The JSON codec; where nothing is tagged, as the standard library reads it."""
    outcome = _typed("json", data, profile)
    value, problems, tagged = read_json(data, profile.limits, profile.limits.max_raw_bytes)
    if outcome == "accepted" and problems:
        raise Broken("agree", f"accepted, but json sees {sorted(problems)}")
    if not tagged and not problems and outcome not in {"accepted", "written: too-deep", "written: too-large"}:
        raise Broken("agree", f"plain data that json reads is refused: {outcome}")
    if not tagged and not problems and difference(codec("json").load(data, profile.policy, profile.limits), value):
        raise Broken("agree", "plain data is not what json reads")
    return outcome


def typed_msgpack(data: bytes, profile: Profile) -> str:
    """The msgpack codec; where nothing is tagged, as msgpack reads it."""
    outcome = _typed("msgpack", data, profile)
    value, problems = read_msgpack(data, profile.limits, profile.limits.max_raw_bytes)
    wrong = [name for name in sorted(problems) if name != "extension" and not name.endswith("?")]
    if outcome == "accepted" and wrong:
        raise Broken("agree", f"accepted, but msgpack sees {wrong}")
    if not problems and outcome != "accepted":
        raise Broken("agree", f"plain data that msgpack reads is refused: {outcome}")
    if not problems and difference(codec("msgpack").load(data, profile.policy, profile.limits), value):
        raise Broken("agree", "plain data is not what msgpack reads")
    return outcome


def wish_section(data: bytes, profile: Profile) -> str:
    """The wishes of a task: four keys with signatures, or bad-wishes; every walk over them ends, without a stack."""
    outcome = _total(lambda: wishes.parse(data, profile.limits), data, {R.BAD_WISHES})
    if isinstance(outcome, Refused):
        return outcome.detail.partition(" ")[0][:40]
    if difference(outcome, json.loads(data)):
        raise Broken("agree", "not what json reads")
    if set(outcome) != set(wishes.KEYS):
        raise Broken("shape", "not Celery's four keys")
    list(wishes.embedded_tasks(outcome))
    caused = _total(lambda: list(wishes.caused_tasks(outcome)), data, {R.BAD_WISHES})
    if not isinstance(caused, Refused) and not set(caused) <= set(wishes.embedded_tasks(outcome)):
        raise Broken("shape", "a task is caused that the consumer does not see")
    _total(lambda: wishes.unfold(outcome, [1, [2]]), data, {R.BAD_WISHES})
    return "accepted"


_METHODS = (Compression.ZLIB, Compression.ZSTD, Compression.NONE)


def compressed(data: bytes, profile: Profile) -> str:
    """One byte of method, four of announced length, the stream: exactly the announced bytes, or refused."""
    method = _METHODS[data[0] % 3] if data else Compression.NONE
    announced, stream = int.from_bytes(data[1:5], "big"), data[5:]
    allowed = {R.DECOMPRESSED_TOO_LARGE, R.RAW_LENGTH_MISMATCH, R.BAD_COMPRESSED_DATA}
    outcome = _total(lambda: decompress(stream, method, announced, profile.limits), stream, allowed)
    if isinstance(outcome, Refused):
        return outcome.reason.value
    if len(outcome) != announced:
        raise Broken("length", f"{len(outcome)} bytes where {announced} were announced")
    if method == Compression.ZLIB and zlib.decompress(stream) != outcome:
        raise Broken("agree", "not what zlib makes of it")
    if method == Compression.NONE and outcome != stream:
        raise Broken("agree", "not what was sent")
    return "accepted"


TARGETS: dict[str, Callable[[bytes, Profile], str]] = {
    "json": untrusted_json,
    "msgpack": untrusted_msgpack,
    "typed-json": typed_json,
    "typed-msgpack": typed_msgpack,
    "wishes": wish_section,
    "compressed": compressed,
}


def check(target: str, data: bytes, profile: Profile) -> str:
    """Hold every promise of a target against one input; say how it ended, in a word or two."""
    return TARGETS[target](data, profile)


_READ: dict[str, Callable[[bytes, Profile], Any]] = {
    "json": lambda data, profile: load_untrusted_json(data, profile.limits),
    "msgpack": lambda data, profile: load_untrusted_msgpack(data, profile.limits),
    "typed-json": lambda data, profile: codec("json").load(data, profile.policy, profile.limits),  # type: ignore[attr-defined]
    "typed-msgpack": lambda data, profile: codec("msgpack").load(data, profile.policy, profile.limits),  # type: ignore[attr-defined]
    "wishes": lambda data, profile: wishes.parse(data, profile.limits),
}
#: 32 MiB for 256 KiB, and what a parser needs in any case: the buffer of msgpack's writer has 256 KiB from the start.
BYTES_PER_BYTE, BYTES_ANYWAY = 128, 1 << 20


def memory(target: str, data: bytes, profile: Profile) -> int:
    """The peak of one read, which is bounded by the length of what was read."""
    read = _READ.get(target)
    if read is None:
        return 0
    tracemalloc.start()
    try:
        read(data, profile)
    except Refused:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if peak > BYTES_ANYWAY + BYTES_PER_BYTE * len(data):
        raise Broken("memory", f"{peak} bytes for {len(data)}")
    return peak
