r"""The concrete stack machine: builds plain data from a pickle, without CPython's unpickler and without any name.

It is the second half of a judge and has a judge's rule: it takes bytes and data, and imports, looks up and calls
nothing that a stream names. Every byte was judged before (``verify`` with the table below, which lists no class that
could be instantiated and no function but the few by which pickle spells plain data), and what is run is the canonical
stream that the judge wrote. So the steps here are few and trusting in one thing only: should they ever meet what the
judge does not let through, the two disagree, which is a bug that refuses the pickle instead of building it.

Below protocol 4 sets and frozensets, below 5 bytearrays, and below 3 bytes are *calls* in the stream:
``builtins.set([1])``, ``_codecs.encode("\xff", "latin1")``. These shapes and no others are admitted, and what they say
is made here, by our own code; a name is only ever compared.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from safeserial.allow import AllowTable, Arg, Kind, Right, Row, Signature
from safeserial.errors import Forbidden, Malformed, Reason
from safeserial.minipickle.literals import value_at
from safeserial.minipickle.opcodes import OPCODES, argument_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from safeserial.limits import Limits

__all__ = ["PLAIN", "construct", "loads"]


class _Form(NamedTuple):
    """One call by which CPython spells plain data.

    Attributes:
        name: What the stream calls.
        args: The arguments, as the judge checks them.
        types: The same, as they are looked at again before anything is made.
        make: Makes the value.
    """

    name: str
    args: tuple[Arg, ...]
    types: tuple[type, ...]
    make: Callable[..., object]


_TEXT, _BYTES, _LIST = (Arg("kind", int(kind)) for kind in (Kind.STR, Kind.BYTES, Kind.LIST))

# The codec is what the judge compared; the maker knows it and does not look it up.
_FORMS = (
    _Form("_codecs:encode", (_TEXT, Arg("const", value="latin1")), (str, str), lambda text, _: text.encode("latin-1")),
    _Form("builtins:bytes", (), (), bytes),
    _Form("builtins:bytearray", (), (), bytearray),
    _Form("builtins:bytearray", (_BYTES,), (bytes,), bytearray),
    _Form(
        "builtins:bytearray",
        (_TEXT, Arg("const", value="latin-1")),
        (str, str),
        lambda text, _: bytearray(text.encode("latin-1")),
    ),
    _Form("builtins:set", (), (), set),
    _Form("builtins:set", (_LIST,), (list,), set),
    _Form("builtins:frozenset", (), (), frozenset),
    _Form("builtins:frozenset", (_LIST,), (list,), frozenset),
)
_MAKERS = {(form.name, form.types): form.make for form in _FORMS}
_UNHASHABLE = frozenset({"builtins:bytearray", "builtins:set"})


def _rows() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for form in _FORMS:
        rights = Right.CALL if form.name in _UNHASHABLE else Right.CALL | Right.HASHABLE
        before = rows[form.name].signatures if form.name in rows else ()
        rows[form.name] = Row(form.name, int(rights), (*before, Signature(form.args)))
    return rows


#: What :func:`loads` judges with. No class in it may be instantiated, and no name may stand as a value.
PLAIN: AllowTable = MappingProxyType(_rows())


class _Disagreement(Exception):  # noqa: N818 - never leaves this module
    """The stream does what the judge does not let through."""


class _Name:
    """Where a name stands on the stack, or a tuple with one in it: good for a call or for being dropped again."""

    __slots__ = ("dotted",)

    def __init__(self, dotted: str) -> None:
        self.dotted = dotted


class _Run:
    """The state of one run.

    Args:
        data: The stream.
        buffers: Out-of-band buffers.
    """

    __slots__ = ("buffers", "data", "memo", "outer", "stack")

    def __init__(self, data: bytes, buffers: Sequence[object]) -> None:
        self.data = data
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []  # one stack for each open mark
        self.memo: list[Any] = []
        self.buffers = iter(buffers)

    def push(self, value: object) -> None:
        """Put a value on the stack that is current now."""
        self.stack.append(value)

    def take(self, count: int) -> list[Any]:
        """The top values, the last one on top; they may not pass a mark."""
        if count > len(self.stack):
            raise _Disagreement("stack underflow")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def since_mark(self) -> list[Any]:
        """The values above the last mark, which is taken too."""
        if not self.outer:
            raise _Disagreement("no mark")
        values, self.stack = self.stack, self.outer.pop()
        return values

    def top(self) -> Any:
        """The value on top, which stays."""
        if not self.stack:
            raise _Disagreement("stack underflow")
        return self.stack[-1]

    def target(self, kind: type) -> Any:
        """The container on top, which stays."""
        found = self.top()
        if type(found) is not kind:
            raise _Disagreement(f"items for something that is no {kind.__name__}")
        return found

    def make(self, name: object, args: object) -> None:
        """Push what a call of the shapes above says."""
        maker = None
        if type(name) is _Name and type(args) is tuple:
            maker = _MAKERS.get((name.dotted, tuple(map(type, args))))
        if maker is None:
            raise _Disagreement("a call")
        self.push(maker(*args))  # type: ignore[misc]


def _plain(values: list[Any]) -> list[Any]:
    """The same values, none of which is a name."""
    if _Name in map(type, values):
        raise _Disagreement("a name as a value")
    return values


def _pairs(values: list[Any]) -> zip[tuple[Any, Any]]:
    if len(values) & 1:
        raise _Disagreement("a key without a value")
    return zip(_plain(values)[::2], values[1::2], strict=True)


# One step for each opcode that a canonical stream of plain data has: ``step(run, at, start, stop)``, where the
# argument lies between ``start`` and ``stop``. Codes and literals come from the one table.
_Step = Callable[[_Run, int, int, int], None]
_CODES = {row.name: row.code for row in OPCODES}
_STOP = _CODES["STOP"]


def _literal(run: _Run, at: int, *_: int) -> None:
    run.push(value_at(run.data, at))


_STEPS: dict[int, _Step] = {row.code: _literal for row in OPCODES if row.literal}


def _op(*names: str) -> Callable[[_Step], _Step]:
    def register(step: _Step) -> _Step:
        _STEPS.update((_CODES[name], step) for name in names)
        return step

    return register


@_op("MARK")
def _mark(run: _Run, *_: int) -> None:
    run.outer.append(run.stack)
    run.stack = []


@_op("POP")
def _pop(run: _Run, *_: int) -> None:
    # As in CPython: with nothing above it, POP takes the mark.
    if run.stack:
        run.stack.pop()
    else:
        run.since_mark()


@_op("POP_MARK")
def _pop_mark(run: _Run, *_: int) -> None:
    run.since_mark()


@_op("DUP")
def _dup(run: _Run, *_: int) -> None:
    run.push(run.top())


@_op("EMPTY_LIST")
def _empty_list(run: _Run, *_: int) -> None:
    run.push([])


@_op("EMPTY_DICT")
def _empty_dict(run: _Run, *_: int) -> None:
    run.push({})


@_op("EMPTY_SET")
def _empty_set(run: _Run, *_: int) -> None:
    run.push(set())


def _push_tuple(run: _Run, values: list[Any]) -> None:
    run.push(_Name("") if _Name in map(type, values) else tuple(values))


@_op("EMPTY_TUPLE")
def _empty_tuple(run: _Run, *_: int) -> None:
    _push_tuple(run, [])


@_op("TUPLE1", "TUPLE2", "TUPLE3")
def _short_tuple(run: _Run, at: int, *_: int) -> None:
    _push_tuple(run, run.take(run.data[at] - _CODES["TUPLE1"] + 1))


@_op("TUPLE")
def _tuple(run: _Run, *_: int) -> None:
    _push_tuple(run, run.since_mark())


@_op("LIST")
def _list(run: _Run, *_: int) -> None:
    run.push(_plain(run.since_mark()))


@_op("DICT")
def _dict(run: _Run, *_: int) -> None:
    run.push(dict(_pairs(run.since_mark())))


@_op("FROZENSET")
def _frozenset(run: _Run, *_: int) -> None:
    run.push(frozenset(_plain(run.since_mark())))


@_op("APPEND")
def _append(run: _Run, *_: int) -> None:
    values = _plain(run.take(1))
    run.target(list).extend(values)


@_op("APPENDS")
def _appends(run: _Run, *_: int) -> None:
    values = _plain(run.since_mark())
    run.target(list).extend(values)


@_op("SETITEM")
def _setitem(run: _Run, *_: int) -> None:
    pairs = _pairs(run.take(2))
    run.target(dict).update(pairs)


@_op("SETITEMS")
def _setitems(run: _Run, *_: int) -> None:
    pairs = _pairs(run.since_mark())
    run.target(dict).update(pairs)


@_op("ADDITEMS")
def _additems(run: _Run, *_: int) -> None:
    values = _plain(run.since_mark())
    run.target(set).update(values)


@_op("MEMOIZE")
def _memoize(run: _Run, *_: int) -> None:
    run.memo.append(run.top())


@_op("BINGET", "LONG_BINGET")
def _get(run: _Run, _: int, start: int, stop: int) -> None:
    index = int.from_bytes(run.data[start:stop], "little")
    if index >= len(run.memo):
        raise _Disagreement("a memo entry that was not written")
    run.push(run.memo[index])


@_op("STACK_GLOBAL")
def _stack_global(run: _Run, *_: int) -> None:
    module, name = run.take(2)
    if type(module) is not str or type(name) is not str:
        raise _Disagreement("a computed name")
    run.push(_Name(f"{module}:{name}"))


@_op("REDUCE")
def _reduce(run: _Run, *_: int) -> None:
    run.make(*run.take(2))


@_op("INST")
def _inst(run: _Run, _: int, start: int, stop: int) -> None:
    dotted = run.data[start:stop].decode("ascii").replace("\n", ":")
    run.make(_Name(dotted), tuple(run.since_mark()))


@_op("OBJ")
def _obj(run: _Run, *_: int) -> None:
    name, *args = run.since_mark() or [None]
    run.make(name, tuple(args))


@_op("NEXT_BUFFER")
def _next_buffer(run: _Run, *_: int) -> None:
    for buffer in run.buffers:
        run.push(buffer)
        return
    raise _Disagreement("more buffers than there are")


@_op("READONLY_BUFFER")
def _readonly_buffer(run: _Run, *_: int) -> None:
    view = memoryview(run.top())
    if not view.readonly:
        run.stack[-1] = view.toreadonly()


def construct(canonical: bytes, buffers: Sequence[object] = ()) -> object:
    """Build the plain data of a canonical stream.

    Args:
        canonical: ``Verdict.canonical`` of a verdict under :data:`PLAIN`, or under a smaller table.
        buffers: As many out-of-band buffers as the verdict was asked for.

    Returns:
        The value.

    Raises:
        Malformed: ``LOAD_DISAGREED`` for what the judge does not let through (our bug); ``BUILD_FAILED`` for the few
            values that only making them can refuse, such as ``_codecs.encode`` of what is not Latin-1.
    """
    run = _Run(canonical, buffers)
    try:
        _loop(run)
        if len(run.stack) != 1 or run.outer:
            raise _Disagreement("more or less than one value")
        for _ in run.buffers:
            raise _Disagreement("a buffer that nobody asked for")
        value: object = _plain(run.stack)[0]
    except _Disagreement as error:
        raise Malformed(Reason.LOAD_DISAGREED, None, str(error)) from None
    except (TypeError, ValueError, RecursionError) as error:
        # The type alone: the text may hold parts of the message.
        raise Malformed(Reason.BUILD_FAILED, None, type(error).__name__) from None
    return value


def _loop(run: _Run) -> None:
    data, end = run.data, len(run.data)
    if data[:1] != b"\x80":
        raise _Disagreement("no PROTO")
    at = 2
    while at < end:
        if data[at] == _STOP:
            if at + 1 != end:
                raise _Disagreement("bytes after STOP")
            return
        step = _STEPS.get(data[at])
        span = argument_span(data, at, end) if step is not None else None
        if step is None or span is None:
            raise _Disagreement("an opcode that builds no plain data, or that does not fit")
        step(run, at, span[0], span[1])
        at = span[2]
    raise _Disagreement("no STOP")


def _usable(buffer: object) -> object:
    try:
        memoryview(buffer)  # type: ignore[arg-type]
    except TypeError:
        raise Malformed(Reason.BUFFER_MISUSE, None, "a buffer is bytes, or another object with a buffer") from None
    return buffer


def loads(data: bytes, *, limits: Limits | None = None, buffers: Iterable[object] = ()) -> object:
    """Read plain data from a pickle of any protocol; no class, function or other name is ever involved.

    Args:
        data: One whole pickle, first opcode to ``STOP``, at most ``limits.max_bytes`` bytes. Nobody needs to have
            signed it: what it can make is bounded by ``limits`` and by the list below.
        limits: Inclusive ceilings.
        buffers: The out-of-band buffers that come with it (protocol 5), all of which must be used. They are the
            caller's own objects and stand in the value as they are, behind a read-only view where the stream says so.

    Returns:
        ``None``, ``bool``, ``int``, ``float``, ``str``, ``bytes``, ``bytearray``, ``tuple``, ``list``, ``dict``,
        ``set``, ``frozenset`` and the given buffers, of exactly these types; shared and recursive structure is what
        CPython's unpickler would make.

    Raises:
        Malformed: The bytes break pickle's grammar or pass a ceiling. ``offset`` is the opcode's.
        Forbidden: They name anything but the builtins by which protocols below 5 spell sets and bytes.

    Time is linear in the input, and in ``limits``.

    >>> import pickle
    >>> loads(pickle.dumps({"tea": (1, 2.5, b"x", {3})}, 0))
    {'tea': (1, 2.5, b'x', {3})}
    """
    # The package picks the machine's build and imports this module, so it is asked when it is whole.
    from safeserial.minipickle import verify

    given = tuple(map(_usable, buffers))
    try:
        verdict = verify(data, allow=PLAIN, limits=limits, buffers=len(given))
    except Forbidden as refusal:
        # Its detail names the line of a policy that would admit this; here is no policy to write it into.
        forbidden = Forbidden(refusal.reason, refusal.offset, "only plain data is read here")
        forbidden.opcode, forbidden.global_name = refusal.opcode, refusal.global_name
        raise forbidden from None
    return construct(verdict.canonical, given)
