"""The allow table: the plain data in which a policy tells a judge what may be built.

It stands below both, so that ``minipickle`` never needs to know a Policy and ``policy`` never needs to know an opcode.
Nothing here resolves, imports or calls anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag
from typing import NamedTuple, TypeAlias

__all__ = ["EMPTY", "AllowTable", "Arg", "Kind", "Right", "Row", "Signature"]


class Right(IntFlag):
    """What a listed name may be used for. Each right is granted apart; a row with none is useless."""

    REFERENCE = 1  # may stand as a value: a default_factory, a class inside an argument, state or container
    CALL = 2  # REDUCE, INST, OBJ
    NEW = 4  # NEWOBJ, NEWOBJ_EX (classes only)
    BUILD = 8  # a fresh instance takes plain attribute state; the class has no __setattr__ or __setstate__ of its own
    SETSTATE = 16  # the class's own __setstate__ may be run on a fresh instance (the entry says so)
    FRESH = 32  # calling it returns a new object that nobody else holds: BUILD and item opcodes may follow
    LIST = 64  # a fresh instance takes APPEND, APPENDS (a subclass of list or deque)
    DICT = 128  # a fresh instance takes SETITEM, SETITEMS (a subclass of dict)
    SET = 256  # a fresh instance takes ADDITEMS (a subclass of set)
    CLASS = 512  # it is a class, not a function
    HASHABLE = 1024  # what it makes may be a dict key or set member, at a cost linear in what it was made from
    HASHES = 2048  # its constructor makes members of a list that it is given (set, frozenset and their subclasses)


class Kind(IntFlag):
    """Kinds of value an argument pattern can ask for."""

    NONE = 1
    BOOL = 2
    INT = 4
    FLOAT = 8
    STR = 16
    BYTES = 32
    BYTEARRAY = 64
    TUPLE = 128
    LIST = 256
    DICT = 512
    SET = 1024
    FROZENSET = 2048
    INSTANCE = 4096  # made in this stream by NEW or CALL of a listed name
    BUFFER = 8192


class Arg(NamedTuple):
    """One argument pattern. ``op`` says which of the other fields count.

    op:
        ``"data"``: any value with no class or function as a value anywhere inside.
        ``"any"``: any value at all, listed references included.
        ``"const"``: exactly ``value``, same type and equal.
        ``"global"``: exactly the listed name ``value`` (``"module:qualname"``).
        ``"reference"``: any listed name that holds ``Right.REFERENCE``.
        ``"kind"``: one of ``kinds``, with no class or function inside; ``low``/``high`` bound an int's
            value, a text's or byte string's length in bytes, a container's item count (inclusive, None = free).
        ``"chars"``: a str of at most ``high`` bytes, every character of which is in the str ``value``.
        ``"made-by"``: an instance made in this stream by one of the listed names in the tuple ``value``.
        ``"tuple"``: a tuple whose items match the Args in the tuple ``value``, one by one.
        ``"array-call"``: speaks about *all* arguments of a call together, so it is the only Arg of its signature.
            ``value`` says of which: ``"dtype"``, ``numpy.dtype(name, False, True)`` of a plain type; ``"blank"``,
            ``_reconstruct(ndarray, (0,), b"b")``; ``"scalar"``, ``scalar(dtype, data)`` with exactly the bytes of one
            item; ``"buffer"``, ``_frombuffer(data, dtype, shape, order)`` with exactly the bytes of the shape, and
            ``_frombuffer(data, dtype, shape, "K", axes)`` with a permutation of the axes besides.
        ``"array-state"``: only in ``Row.state``, because it looks at the instance too. ``value`` is ``"dtype"``: the
            state that numpy writes for the type that the instance was made as, byte for byte; or ``"array"``:
            ``(1, shape, dtype, order, data)`` with a dtype that has its state and ``itemsize x product(shape) ==
            len(data)``, or, if the dtype is that of objects, a list of ``product(shape)`` items. The instance may not
            be in use yet. Both are matched in :mod:`safeserial.minipickle.arrays`.
        ``"constants"``: only in ``Row.state``: a dict whose keys are among the texts in the tuple ``value`` and whose
            values are numbers, text and the like: nothing that holds or was made from something else.
    """

    op: str
    kinds: int = 0
    low: int | None = None
    high: int | None = None
    value: object = None


class Signature(NamedTuple):
    """What a call's positional arguments may be: ``args`` in order, then any number that match ``rest``.

    ``optional`` counts how many of the last ``args`` may be missing.
    """

    args: tuple[Arg, ...] = ()
    rest: Arg | None = None
    optional: int = 0


class Row(NamedTuple):
    """What one listed name may be used for.

    Attributes:
        name: ``"module:qualname"`` as Python 3 spells it; the judge maps older spellings before it looks.
        rights: Bits of :class:`Right`.
        signatures: Accepted shapes of the positional arguments of CALL and NEW, any of which may match.
            Empty means the default: any number of ``Arg("data")``.
        keywords: Whether NEWOBJ_EX may pass keyword arguments (``str`` keys, data only).
        slots: Names of real member descriptors that slot state may set.
        state: Patterns that BUILD's state may match, any of them; empty means a dict with ``str`` keys that are
            no dunders (and slot state within ``slots``), with data-only values unless ``state_references``.
        state_references: Whether instance state may hold listed references.
        reserved: Attribute names that instance state may not set: C members whose readers trust what is in them.
        dunders: The dunder names that instance state may set all the same.
        cost: What one call weighs beyond its arguments, where it makes much out of little.
        work: Where that depends on what it is given. ``"path"``: it splits text; ``"fraction"``: it computes with all
            the digits of its numbers. See ``match.work_of``.
        hashing: What an instance's hash follows from. ``"free"``: nobody can choose it (identity, or text and bytes,
            whose hash has a key). ``"arguments"``: it is that of the tuple of arguments. ``"number"``, ``"tuple"``: of
            the one argument. ``"decimal"``, ``"fraction"``, ``"timedelta"``: of the number that the arguments say.
            ``"uuid"``: of the one in its state. ``"moment"``, ``"network"``, ``"interface"``: of the number that the
            text or bytes say, unless it is a moment without a zone. ``"few"``: it is not known, but few can share it.
            ``""``: not known, so it is taken to be the same for all.
    """

    name: str
    rights: int
    signatures: tuple[Signature, ...] = ()
    keywords: bool = False
    slots: frozenset[str] = frozenset()
    state: tuple[Arg, ...] = ()
    state_references: bool = False
    reserved: frozenset[str] = frozenset()
    dunders: frozenset[str] = frozenset()
    cost: int = 0
    work: str = ""
    hashing: str = ""


AllowTable: TypeAlias = Mapping[str, Row]

EMPTY: AllowTable = {}
