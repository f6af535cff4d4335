"""What MiniPickle promises, as functions that raise :class:`Broken` where a promise does not hold for some bytes.

Pure over ``(data, profile)``: no oracle keeps anything between calls, so a finding is replayed by its bytes alone.
:func:`check` runs all of them; the fuzz target, the campaign and the tests call nothing else. An oracle catches what
the judge or CPython may raise by name, and lets everything else out.
"""

from __future__ import annotations

import importlib
import pickle
import pickletools
import sys
import types
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fuzz import zoo
from fuzz.compare import difference, measure
from fuzz.loaders import Original, Recording, Watching
from fuzz.rights import Broken, is_data

from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.formats.pickle import FORMS, load_verified
from safeserial.minipickle import disassemble, machine, render
from safeserial.minipickle.opcodes import BY_CODE
from safeserial.minipickle.verify import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fuzz.zoo import Profile

__all__ = ["Broken", "Outcome", "Report", "check", "compiled_machine", "concrete_loads", "judged"]

Outcome = Verdict | Refused

#: Canonical bytes hold only these.
_CANONICAL = frozenset(
    [
        "MARK",
        "STOP",
        "POP",
        "POP_MARK",
        "DUP",
        "BINFLOAT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "REDUCE",
        "BUILD",
        "INST",
        "OBJ",
        "NEWOBJ",
        "NEWOBJ_EX",
        "APPEND",
        "APPENDS",
        "SETITEM",
        "SETITEMS",
        "ADDITEMS",
        "LIST",
        "DICT",
        "FROZENSET",
        "EMPTY_LIST",
        "EMPTY_DICT",
        "EMPTY_SET",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "BINGET",
        "LONG_BINGET",
        "MEMOIZE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "STACK_GLOBAL",
        "NEXT_BUFFER",
        "READONLY_BUFFER",
        "PROTO",
    ]
)
#: Opcodes that run code of a listed class or function, whose exceptions are its own.
_OWN = frozenset("RoiNb\x81\x92")


@dataclass(frozen=True)
class Report:
    """What one case did.

    Attributes:
        outcome: Verdict or refusal.
        loaded: ``""`` where nothing was loaded, ``"value"``, or the type of the exception of an allowed constructor.
        oracles: Names of the oracles that had something to say.
    """

    outcome: Outcome
    loaded: str
    oracles: tuple[str, ...]


def compiled_machine() -> Any:
    """The compiled machine's class, or ``None`` where there is no extension."""
    name = "safeserial.minipickle._machine_c"
    try:
        return importlib.import_module(name).Machine
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def concrete_loads() -> Any:
    """``minipickle.concrete.loads``, or ``None`` where this release has none."""
    name = "safeserial.minipickle.concrete"
    try:
        return importlib.import_module(name).loads
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


@contextmanager
def _any_digits() -> Iterator[None]:
    """Let CPython read decimals of any length: how many it reads is an option of the process, and the judge has its own."""
    if not hasattr(sys, "set_int_max_str_digits"):
        yield
        return
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


# -- (a) total --------------------------------------------------------------------------------------------------------


def judged(data: bytes, profile: Profile, engine: Any = machine.Machine) -> Outcome:
    """A verdict or a refusal with a code and an offset within the data; nothing else, whatever the bytes."""
    try:
        outcome: Outcome = judge(engine, data, profile.table, profile.limits, profile.buffers)
    except Refused as refusal:
        if type(refusal) not in (Malformed, Forbidden) or type(refusal.reason) is not Reason:
            raise Broken("total", f"a {type(refusal).__name__} is no refusal of the judge") from refusal
        too_long = (
            refusal.reason is Reason.TOO_LARGE and refusal.offset is None and len(data) > profile.limits.max_bytes
        )
        if not too_long and (refusal.offset is None or not 0 <= refusal.offset <= len(data)):
            raise Broken("total", f"{refusal.reason.value} at offset {refusal.offset}") from refusal
        if not isinstance(refusal.detail, str) or not refusal.detail.isprintable() or len(refusal.detail) > 2000:
            raise Broken("total", "the detail is no short printable text") from refusal
        return refusal
    except Exception as error:
        raise Broken("total", f"{type(error).__name__} leaves the judge: {error!s:.200}") from error
    if type(outcome) is not Verdict:
        raise Broken("total", f"a {type(outcome).__name__} is no verdict")
    return outcome


def bounded(data: bytes, verdict: Verdict, profile: Profile) -> None:
    """What was accepted is within every limit, by the verdict's own counts and by the size of what it wrote."""
    limits = profile.limits
    for name, have, ceiling in (
        ("opcodes", verdict.opcodes, min(limits.max_opcodes, len(data))),
        ("nodes", verdict.nodes, limits.max_nodes),
        ("depth", verdict.depth, limits.max_depth),
        ("weight", verdict.weight, limits.max_weight + 1),
        ("protocol", verdict.protocol, 5),
        # A name of two lines may be spelled again by every GET of it; the judge caps that at the input's size.
        ("bytes written", len(verdict.canonical), 4 * len(data) + (1 << 17)),
        ("names", len(verdict.names), verdict.opcodes),
    ):
        if have > ceiling:
            raise Broken("bounded", f"{have} {name}, where {ceiling} is the most")
    if any(not 0 <= at < len(data) for at, _ in verdict.names):
        raise Broken("bounded", "a name that stands outside the data")
    for what, stream in (("the input", data), ("canonical", verdict.canonical)):
        with _any_digits():
            end = next((at for op, _, at in pickletools.genops(stream) if op.name == "STOP"), None)
        if end != len(stream) - 1:
            raise Broken("bounded", f"{what} goes on behind its STOP")


def stepwise(data: bytes, profile: Profile, *, base: int = 20_000, per_byte: int = 400, per_cost: int = 60) -> int:
    """The judge's work in lines of the pure build, which a clock cannot blur: linear in the input and the limits."""
    ceiling = base + per_byte * len(data) + per_cost * profile.limits.max_hash_cost
    count = 0
    folder = machine.__file__.rpartition("/")[0]

    def local(frame: types.FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        if count > ceiling:
            raise Broken("bounded", f"more than {ceiling} lines for {len(data)} bytes")
        return local

    def outer(frame: types.FrameType, event: str, arg: object) -> Any:
        return local if frame.f_code.co_filename.startswith(folder) else None

    before = sys.gettrace()
    sys.settrace(outer)
    try:
        judge(machine.Machine, data, profile.table, profile.limits, profile.buffers)
    except Refused:
        pass  # judged() looks at refusals; here only the work counts
    finally:
        sys.settrace(before)
    return count


def shown(data: bytes, outcome: Outcome, profile: Profile) -> None:
    """The disassembler comes to the judge's own conclusion, and never raises."""
    seen = disassemble(data, allow=profile.table, limits=profile.limits, buffers=profile.buffers, max_rows=30)
    if len(render(seen)) > 20_000:
        raise Broken("shown", "the listing is not bounded")
    if isinstance(outcome, Verdict):
        if seen.refusal is not None:
            raise Broken("shown", f"the disassembler refuses what was accepted: {seen.refusal}")
        return
    if seen.refusal is None or (seen.refusal.reason, seen.refusal.offset) != (outcome.reason, outcome.offset):
        raise Broken("shown", f"judge: {outcome}; disassembler: {seen.refusal}")
    if outcome.offset is not None and not any(line.deciding for line in seen.lines):
        raise Broken("shown", "no line decides")


# -- (d) two builds ---------------------------------------------------------------------------------------------------


def agree(pure: Outcome, compiled: Outcome) -> None:
    """Both builds give the same verdict in all fields, or the same code at the same offset about the same name."""

    def facts(outcome: Outcome) -> tuple[object, ...]:
        if isinstance(outcome, Verdict):
            return ("accepted", *outcome)
        return ("refused", type(outcome), outcome.reason, outcome.offset, outcome.opcode, outcome.global_name)

    if facts(pure) != facts(compiled):
        raise Broken("agree", f"pure: {facts(pure)!r:.300}; compiled: {facts(compiled)!r:.300}")


# -- (e) canonical ----------------------------------------------------------------------------------------------------


def canonical(verdict: Verdict, profile: Profile, engine: Any = machine.Machine, *, folded: bool = False) -> None:
    """Canonical bytes are judged as the input was, are what they would be rewritten to, and hold only plain forms.

    ``folded`` says that the input calls ``getattr``, whose arguments are values there and gone afterwards.
    """
    data = verdict.canonical
    if data[:2] not in (b"\x80\x04", b"\x80\x05"):
        raise Broken("canonical", f"it starts with {data[:2].hex()}")
    if not _CANONICAL.issuperset(op.name for op, _, _ in pickletools.genops(data)):
        raise Broken("canonical", "it holds an opcode that only inputs may have")
    limits = profile.limits
    # A name may be longer than in the input: three opcodes and two strings stand for one GLOBAL.
    wide = replace(
        limits,
        max_bytes=max(limits.max_bytes, len(data)),
        max_opcodes=3 * limits.max_opcodes + 3,
        max_stack_items=limits.max_stack_items + 2,
        max_string_bytes=max(limits.max_string_bytes, 255),
    )
    again = judged(data, profile._replace(limits=wide), engine)
    if isinstance(again, Refused):
        raise Broken("canonical", f"it is refused: {again}")
    for name in ("canonical", "nodes", "depth", "weight"):
        one, other = getattr(verdict, name), getattr(again, name)
        if name == "nodes" and folded and one > other:
            continue
        if one != other:
            raise Broken("canonical", f"{name} was {one!r:.80} and is {other!r:.80}")
    if [name for _, name in again.names] != [name for _, name in verdict.names]:
        raise Broken("canonical", "the names are others")


# -- (b) sound --------------------------------------------------------------------------------------------------------


def _buffers(profile: Profile) -> list[object] | None:
    return [b"first", bytearray(b"second")][: profile.buffers] or None


def _run(loader: Any) -> tuple[object, Exception | None, list[str]]:
    """Load; what an allowed class raises is part of the result."""
    zoo.NOTES.clear()
    try:
        return loader.load(), None, list(zoo.NOTES)
    except (Broken, MemoryError):
        raise
    except Exception as error:
        return None, error, list(zoo.NOTES)


def _told(error: Exception | None) -> str:
    return "a value" if error is None else f"{type(error).__name__}, {error!s:.80}"


def _shared_state(names: set[str], profile: Profile) -> list[tuple[str, dict[str, int]]]:
    """The attributes of everything that a pickle names: none of them may be another one afterwards."""
    found = []
    for name in sorted(names):
        target = profile.objects.get(name)
        if isinstance(target, type) or hasattr(target, "__dict__"):
            found.append((name, {key: id(value) for key, value in vars(target).items()}))
    return found


def sound(verdict: Verdict, data: bytes, profile: Profile) -> str:
    """CPython does with canonical bytes what the verdict says, what the table grants, and what it does with the input.

    Returns:
        ``"value"``, or the name of the exception that an allowed class or function raised.
    """
    names = [name for _, name in verdict.names]
    before = _shared_state(set(names), profile)

    # First the one that looks before each step: what it stops is never done by the others.
    watching = Watching(verdict.canonical, profile, _buffers(profile))
    seen, failure, _ = _run(watching)
    if failure is not None and watching.op not in _OWN and not watching.with_instance:
        raise Broken("sound", f"{failure!r:.100} is raised by {BY_CODE[ord(watching.op)].name} itself")
    if failure is None:
        watching.check_dropped(seen)
    if not all(is_data(one, watching) for one in watching.promised):
        raise Broken("rights", "what was data when a call got it holds a class or function now")

    zoo.WORK[0] = 0
    recording = Recording(verdict.canonical, profile, _buffers(profile))
    value, error, notes = _run(recording)
    # A comparison of two unequal keys of one hash costs the judge a thirtieth of a unit.
    if zoo.WORK[0] > 40 * profile.limits.max_hash_cost + 4000:
        raise Broken("sound", f"{zoo.WORK[0]} calls of __hash__ and __eq__")
    if "TRAP" in notes:
        raise Broken("sound", "a name that nobody listed was called")
    if isinstance(error, (pickle.UnpicklingError, EOFError)):
        raise Broken("sound", f"CPython raises {type(error).__name__} on canonical bytes: {error!s:.100}")
    for loader in (watching, recording):
        if loader.seen != names[: len(loader.seen)] or (error is None and len(loader.seen) != len(names)):
            raise Broken("sound", f"names recorded {names!r:.200}, resolved {loader.seen!r:.200}")
    if type(failure) is not type(error):
        raise Broken("sound", f"the C unpickler gives {_told(error)}, the pure one {_told(failure)} at {watching.op!a}")

    original = Original(data, zoo.original_objects(), _buffers(profile))
    with _any_digits():
        value_of_input, error_of_input, notes_of_input = _run(original)
    if type(error) is not type(error_of_input):
        raise Broken("sound", f"the input gives {_told(error_of_input)}; canonical bytes give {_told(error)}")
    if notes != notes_of_input:
        raise Broken("sound", f"hooks saw {notes!r:.150} of the canonical bytes, {notes_of_input!r:.150} of the input")
    after = _shared_state(set(names), profile)
    if before != after:
        changed = [one[0] for one, other in zip(before, after, strict=True) if one != other]
        raise Broken("rights", f"loading changed {changed}")
    if error is not None:
        return type(error).__name__
    for what, other in (("the input", value_of_input), ("the pure unpickler", seen)):
        why = difference(value, other)
        if why:
            raise Broken("sound", f"canonical bytes and {what} give other values: {why}")
    measured(value, verdict, profile)
    loaded = load_verified(verdict.canonical, names, profile.objects, buffers=_buffers(profile))
    why = difference(value, loaded)
    if why:
        raise Broken("sound", f"load_verified gives another value: {why}")
    return "value"


def measured(value: object, verdict: Verdict, profile: Profile) -> None:
    """The value is no deeper, heavier or larger than the verdict says, and no key passes its ceilings."""
    real = measure(value)
    limits = profile.limits
    if real.plain and not real.cyclic:
        for name, have, told in (
            ("depth", real.depth, verdict.depth),
            ("weight", real.weight, verdict.weight),
            # What a constructor copies is in the weight, and in no count of nodes.
            ("nodes", real.slots if not verdict.names else 0, verdict.nodes),
        ):
            if have > told:
                raise Broken("sound", f"the value's {name} is {have}, the verdict says {told}")
        if real.key_depth > limits.max_key_depth or real.key_weight > limits.max_hash_cost:
            raise Broken("sound", f"a key of depth {real.key_depth} and weight {real.key_weight}")


# -- (f) our own loader -----------------------------------------------------------------------------------------------

# What old protocols call to make plain data, and what any pickle may name without calling it.
_PLAIN_NAMES = {
    "_codecs:encode", "builtins:set", "builtins:frozenset", "builtins:bytearray", "builtins:bytes", "builtins:getattr", *FORMS,
}  # fmt: skip


def concrete(data: bytes, profile: Profile, loads: Any) -> str:
    """``minipickle.loads`` gives what CPython gives, or refuses; plain data needs no name but those old protocols use."""
    given = _buffers(profile) or []
    try:
        ours = loads(data, limits=profile.limits, buffers=given)
    except Refused as refusal:
        if refusal.reason is Reason.LOAD_DISAGREED:
            raise Broken("concrete", f"two layers disagree: {refusal}") from refusal
        return "refused"
    except Exception as error:
        raise Broken("concrete", f"{type(error).__name__} leaves loads: {error!s:.200}") from error
    objects = {name: found for name, found in zoo.original_objects().items() if name in _PLAIN_NAMES}
    with _any_digits():
        theirs, error_of_theirs, _ = _run(Original(data, objects, given or None))
    if error_of_theirs is not None:
        raise Broken("concrete", f"we give a value where CPython raises {error_of_theirs!r:.100}")
    why = difference(ours, theirs)
    if why:
        raise Broken("concrete", f"loads and CPython give other values: {why}")
    return "value"


# -- (c) complete -----------------------------------------------------------------------------------------------------


def complete(value: object, data: bytes, profile: Profile) -> Report:
    """What a pickler wrote from allowed types is accepted, and comes back as CPython would give it back."""
    report = check(data, profile)
    if isinstance(report.outcome, Refused):
        raise Broken("complete", f"honest bytes are refused: {report.outcome}")
    if report.loaded != "value":
        raise Broken("complete", f"honest bytes do not load: {report.loaded}")
    names = [name for _, name in report.outcome.names]
    why = difference(load_verified(report.outcome.canonical, names, profile.objects), pickle.loads(data))
    if why:
        raise Broken("complete", f"the value comes back as another one: {why}")
    return report


# -- all of them ------------------------------------------------------------------------------------------------------


def check(data: bytes, profile: Profile, *, also: Callable[[str], bool] = lambda name: True) -> Report:
    """Every oracle that applies.

    Args:
        data: The case.
        profile: Table, objects, limits.
        also: Whether to run the costly oracle of this name too (``"shown"``, ``"steps"``).

    Raises:
        Broken: Some promise does not hold.
    """
    outcome = judged(data, profile)
    ran = ["total"]
    loaded = ""
    compiled = compiled_machine()
    if compiled is not None:
        agree(outcome, judged(data, profile, compiled))
        ran.append("agree")
    if also("shown"):
        shown(data, outcome, profile)
        ran.append("shown")
    if also("steps"):
        stepwise(data, profile)
        ran.append("steps")
    if isinstance(outcome, Verdict):
        bounded(data, outcome, profile)
        canonical(outcome, profile, folded=b"getattr" in data)
        loaded = sound(outcome, data, profile)
        ran += ["bounded", "canonical", "sound"]
    loads = concrete_loads()
    if loads is not None:
        concrete(data, profile, loads)
        ran.append("concrete")
    return Report(outcome, loaded, tuple(ran))
