"""The abstract stack machine: it tracks what each value would be, never the value.

A stack slot is one integer. Negative: the constant whose opcode stands at byte ``~slot``, so strings are compared in
place. Otherwise an index into parallel tables (head, depth, weight, entry, where, first, count), one line for each
container, global, instance and long constant (which weighs as much as it is long: a call may copy what it is given).
The memo holds slots, so a container that grows after it was memoized is seen by every later GET.

While it reads, the machine writes the canonical stream, forwards only: input that is canonical already is copied by
spans, the rest is replaced. A name that only leads to another one (``getattr`` and the class it is given, when the
listed name is the attribute) becomes ``None`` there, and the call that folds them drops both and names the result.

Two promises need the finished graph: depth and weight of something that grew after another value already held it.
An honest pickler writes that for cycles only. The first such growth stops the run (``run`` returns False); it is
done again with ``careful``, which records edges and measures the graph at STOP and wherever it is hashed.

This file is one machine, hence its length. It is plain Python, and compiles to C with the types of ``machine.pxd``:
tables are lists here and arrays of machine integers there. Where ``COMPILED`` is asked, the two ask the same question
in the words that are fast for them. No recursion, and nothing is allocated from a claimed size. Offsets in refusals
are those of the opcode that is refused.
"""

# ruff: noqa: PLR1714, PLR0917, SIM110 - comparisons with literals become one C switch, calls stay positional there
from __future__ import annotations

import struct
import sys
from array import array
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias, cast

from safeserial import build
from safeserial.allow import EMPTY, Kind
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.minipickle.arrays import call_fits
from safeserial.minipickle.constants import (
    ALL_BITS,
    BY_COPY,
    BY_WORK,
    BYTES_FOR_ONE,
    CEILING,
    COMPILED,
    DEEP_KEY,
    DEEPEST_TOKEN,
    F_BARE,
    F_BUILT,
    F_CALL,
    F_HELD,
    F_INSTANCE,
    F_NODES,
    F_OPEN,
    F_SEALED,
    F_TAINT,
    F_UNHASHABLE,
    FEW_ARGUMENTS,
    FEW_DIGITS,
    FREE_LIST,
    GROWN_INHERITED,
    HIGH_BITS,
    INHERITED,
    K_BOOL,
    K_BYTEARRAY,
    K_BYTES,
    K_CONSTANTS,
    K_CONTAINERS,
    K_DICT,
    K_FROZENSET,
    K_GLOBAL,
    K_INSTANCE,
    K_INT,
    K_LIST,
    K_NAMES,
    K_RAW,
    K_SET,
    K_SPECIAL,
    K_STR,
    K_TUPLE,
    KINDS,
    LARGE_TABLE,
    LONG_SPAN,
    LONGEST_ESCAPE,
    LOW_HALF,
    LOW_TURNED,
    MADE_COST,
    MANY_SPELLINGS,
    MAX_NAME_BYTES,
    P_ANY,
    P_CHARS,
    P_DATA,
    P_KIND,
    PART_COST,
    PATTERN_INTS,
    R_BUILD,
    R_CALL,
    R_CLASS,
    R_DATA_STATE,
    R_DICT,
    R_FLAT_STATE,
    R_FRESH,
    R_HASHABLE,
    R_HASHES,
    R_LIST,
    R_NEW,
    R_PLAIN_STATE,
    R_REFERENCE,
    R_SET,
    R_SETSTATE,
    SATURATED,
    SHORT_FLOAT,
    SHORT_TEXT,
    SLACK,
    SLOW_COMPARISON,
    SLOWEST,
    SMALL_SPARE_BYTES,
    SMALL_TABLE,
    SP_BASE,
    SP_GETATTR,
    SP_HOLDER,
    SP_MAKER,
    SP_NEWOBJ,
    SP_NEWOBJ_EX,
    SP_PARTIAL,
    SP_READY,
    SP_RECONSTRUCTOR,
    SP_UNSET,
    SPARE_BYTES,
    SPARE_RUNS,
    TEXT_COST,
    TOKEN_COST,
    TUPLE_LANE,
    TUPLE_START,
    TUPLE_TURNED,
)
from safeserial.minipickle.hashing import UNKNOWABLE, Hashed, hash_like, network_hash
from safeserial.minipickle.literals import (
    decimal_text,
    emit_bytes,
    emit_int,
    emit_str,
    float_text,
    string_text,
    value_at,
)  # fmt: skip
from safeserial.minipickle.match import fits, state_fits, wanted, work_for, work_of
from safeserial.minipickle.names import is_dotted_name, modern_name
from safeserial.minipickle.opcodes import BY_CODE, KEY_CLASS, LITERAL_KIND, PLAIN_FORM
from safeserial.minipickle.rules import COPIES, holders_of, rule_of
from safeserial.probing import DOUBTFUL, FINE, UNKNOWN
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

    from safeserial import probing
    from safeserial.allow import AllowTable, Arg, Row
    from safeserial.limits import Limits
else:
    probing = build.engine("safeserial", "probing")

__all__ = ["COMPILED", "Machine", "Outcome", "is_plain", "run_over"]

_SIZED_KINDS = (K_STR, K_BYTES, K_BYTEARRAY, K_STR)

_SPECIAL = {
    "builtins:getattr": SP_GETATTR,
    "copyreg:_reconstructor": SP_RECONSTRUCTOR,
    "copyreg:__newobj__": SP_NEWOBJ,
    "copyreg:__newobj_ex__": SP_NEWOBJ_EX,
    "functools:partial": SP_PARTIAL,
}
#: What copyreg._reconstructor may get as base, and the kinds that its state then may have.
BASES: dict[str, int] = {
    "builtins:object": int(Kind.NONE),
    "builtins:int": int(Kind.INT),
    "builtins:float": int(Kind.FLOAT),
    "builtins:str": int(Kind.STR),
    "builtins:bytes": int(Kind.BYTES),
    "builtins:bytearray": int(Kind.BYTEARRAY | Kind.BYTES),
    "builtins:complex": int(Kind.INSTANCE),
    "builtins:tuple": int(Kind.TUPLE),
    "builtins:list": int(Kind.LIST),
    "builtins:dict": int(Kind.DICT),
}
_BASE_RIGHTS = {"builtins:list": R_LIST, "builtins:dict": R_DICT}

# hash(n) == n modulo this: ints below it never share a hash with each other (but -1 and -2).
_HASH_MODULUS = (1 << 61) - 1
# Keys of the tables below are numbers that the stream has a say in: numbers of nodes and memo entries, offsets, hashes.
# Mixed with one that nobody outside knows, and that is another in each process, they lie where nobody put them.
_SALT = hash("safeserial.minipickle") & ((1 << 60) - 1)
# Where ``Row.hashing`` says that arguments have to be read first, and where few can share a hash that is not known.
_MADE = frozenset({"uuid", "moment", "network", "interface", "few"})
_RARE = frozenset({"moment", "few"})
# Where state may be what is hashed; a UUID is hashed by nothing else, so it has no hash before.
_STATED = frozenset({"network", "interface"})
_DAYS_BEFORE = (0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)  # of each month, in a year of 365
_WIDE = 64  # pure build: values that are held at once from here on may well be the same few
_RUN = 64  # pure build: so many one-byte GETs in a row are taken at once
_GETS = b"\x68" * _RUN
_DOUBLE = struct.Struct(">d").unpack_from
_LITTLE_ENDIAN = sys.byteorder == "little"
_NO_WORDS = memoryview(array("Q"))
_UNKNOWN = object()  # what a key of unknown value is equal to: nothing

#: names, canonical bytes, opcodes, values, depth, weight, protocol
Outcome: TypeAlias = "tuple[tuple[tuple[int, str], ...], bytes, int, int, int, int, int]"

# The machine of the last run, compiled build only: its tables cost more than a small run, and the system's time for the
# pages of new ones would be a third of a large run's. Taking it is one step for all other threads, because nothing of
# Python's runs in between; whoever finds none makes one.
_SPARE: list[Machine | None] = [None]


class _Careful(Exception):  # noqa: N818 - never leaves this module
    """Only a careful run can measure this."""


def _table(size: int, fill: int = 0, wide: bool = False) -> MutableSequence[int]:
    """A table of integers. Lists are fastest in Python; compiled code wants machine integers, as short as will do."""
    return array("q" if wide else "i", [fill]) * size if COMPILED else [fill] * size


def _doubled(table: MutableSequence[int], fill: int = 0) -> MutableSequence[int]:
    """A table twice as long, with the same beginning."""
    if COMPILED:
        old = memoryview(table)  # type: ignore[arg-type]
        grown = array(old.format, [fill]) * (2 * len(table))
        memoryview(grown)[: len(table)] = old
        return grown
    return [*table, *[fill] * len(table)]


class Machine:
    """One run over one stream.

    Args:
        data: The whole stream.
        allow: What each name may be used for.
        limits: Ceilings.
        buffers: How many out-of-band buffers the caller passes.
        careful: Record edges and measure the finished graph.
        trace: Gets ``(offset, stack size, top slots, marks)`` before each opcode, for the disassembler.
    """

    def __init__(
        self,
        data: bytes,
        allow: AllowTable,
        limits: Limits,
        buffers: int,
        careful: bool = False,
        trace: list[tuple[int, int, tuple[int, ...], int]] | None = None,
    ) -> None:
        # The stack, the marks in it, and the memo by order of writing.
        self.cap = self.marks_cap = self.memo_cap = SMALL_TABLE
        self.stack = _table(SMALL_TABLE)
        self.marks = _table(SMALL_TABLE)
        self.memo = _table(SMALL_TABLE)
        self.sparse: dict[int, int] = {}  # key -> order, once a key was not the next number
        # The nodes. Fresh lines are those of an empty container.
        self.node_cap = SMALL_TABLE
        self.nodes = 0
        self.head = _table(SMALL_TABLE)
        self.depth = _table(SMALL_TABLE, 1)
        self.weight = _table(SMALL_TABLE, 1)
        self.entry = _table(SMALL_TABLE)
        self.where = _table(SMALL_TABLE)
        self.first = _table(SMALL_TABLE)
        self.count = _table(SMALL_TABLE)
        # What tuples hold, one after the other, and the keys of dicts: a run is its predecessor's place, its length
        # and the keys; a dict's ``first`` is one more than the place of its last run.
        self.items_cap = SMALL_TABLE
        self.items_used = 0
        self.items = _table(SMALL_TABLE if COMPILED else 0)
        # Careful runs only: the nodes that each node holds, as chains of edges (from 1 on), and how many constants were
        # put into it; and what a walk over them keeps of each node it has seen.
        self.edges_cap = self.walks = 0
        self.edges_used = 1
        self.edge_to = _table(0)
        self.edge_gap = _table(0)  # 0: arguments and state are an instance's own level
        self.edge_next = _table(0)
        self.edge_first = _table(0)
        self.edge_last = _table(0)
        self.loose = _table(0)
        self.seen_in = _table(0)
        self.seen_depth = _table(0)
        self.seen_weight = _table(0, wide=True)
        self.path = _table(0)
        self.turn = _table(0)
        # Once a node is hashed: by node, its hash, and the way down to where that is computed.
        self.hashed_cap = self.climb_cap = 0
        self.hashed = _table(0, wide=True)
        self.climb = _table(0)
        self.climbed = _table(0)
        self.let_go: set[int] = set()  # instances that were rightly discarded
        # The rows in use, and for each its rights, what it makes, what that weighs, and where its patterns start.
        self.rows: list[Row] = []
        self.rows_cap = self.codes_cap = SMALL_TABLE
        self.codes_used = 0
        self.rights = _table(SMALL_TABLE, wide=True)
        self.made = _table(SMALL_TABLE, wide=True)
        self.cost = _table(SMALL_TABLE, wide=True)
        self.code_at = _table(SMALL_TABLE, wide=True)
        self.codes = _table(SMALL_TABLE, wide=True)
        self.patterns: list[Arg] = []
        self.letters: list[bytes] = []
        self.even_keys: set[int] = set()  # pure build: strings and ints that were keys already
        self.good_keys: dict[int, Sequence[int]] = {}  # pure build: the last attribute names that a row accepted
        self.row_index: dict[str, int] = {}
        # Globals by the bytes that name them, or by the slots that do, and what is written for them.
        self.by_spelling: dict[bytes | tuple[int, ...], tuple[int, bytes]] = {}
        # What was looked at is not looked at again, wherever else it stands: constants by pattern, states by row,
        # arguments by row, values of constants that are spelled as text, and hashes of tuples of constants.
        self.fitted: dict[tuple[int, int], bool] = {}
        self.states_fitted: set[tuple[int, int]] = set()
        self.flat_keys: set[tuple[int, int]] = set()  # by row, keys of state that is constants
        self.accepted: set[tuple[int, int]] = set()
        self.texts: dict[int, object] = {}
        self.offsets: dict[int, tuple[int, int, int] | None] = {}  # of zones
        self.states: dict[int, int] = {}  # state of each instance for which it took a look at patterns
        self.special: dict[int, tuple[int, str]] = {}  # node -> what it is, its name
        self.partials: dict[int, tuple[int, int, int, int, int]] = {}  # what each partial was set to call
        self.holders: frozenset[str] | None = None  # names that listed names go through, once one is asked for
        self.hashes: dict[int, int | set[int]] = {}  # long ints of the stream, by hash
        self.buckets: dict[int, dict[int, int]] = {}  # numbers, tuples and instances in one container, by hash
        self.int_key = CEILING  # a constant that is the text "int", once one was looked at
        self.large: list[int] = []  # dicts, sets and instances of many keys
        self.grown: dict[int, int] = {}  # by instance, the last run of keys that were put into it
        self.given: dict[int, int] = {}  # by instance that items were put into, how many it was made from
        self.lone: dict[int, int] = {}  # by dict, the number that was put into it first, with one more value at most
        self.flat_states: dict[int, int] = {}  # by instance, its state of constants
        self.looked_at: dict[int, int] = {}  # by list, how long it was when a call made a set of it
        self.first_keys: dict[int, int] = {}  # tuple or float that is its container's only one; it meets no other
        self.opaque: dict[int, int] = {}  # instances of unknown hash in one container
        self.dense: dict[int, int] = {}  # frozensets whose members are compared with many, and what comparing one takes
        self.vague = False  # whether the hash that was computed last is one of few, but not the interpreter's
        # Careful runs only: values of keys, by container and by node.
        self.keys_seen: dict[int, set[object]] = {}
        self.key_values: dict[int, object] = {}
        self.args_of: dict[int, int] = {}  # by dict, what it has under "args"
        # The output.
        self.pieces: list[bytes | memoryview] = []
        self.out = bytearray(SMALL_TABLE if COMPILED else 0)
        self.out_cap = SMALL_TABLE
        self.out_used = 0  # compiled build only
        self.out_bytes = memoryview(self.out if COMPILED else b"")
        self.words = _NO_WORDS  # compiled build: a long stream once more, for looking at eight bytes at a time
        self.words_count = 0
        self.number = 0  # what read_digits read
        self.names: list[tuple[int, str]] = []
        self.canonical = b""
        self.unlisted = ""  # the name that a refusal is about, for the audit log
        self.idle = 0  # compiled build only: short runs since the last one that needed tables as large as these
        self.limits: Limits | None = None
        self.begin(data, allow, limits, buffers, careful, trace)

    @staticmethod
    def judge(data: bytes, allow: AllowTable, limits: Limits, buffers: int) -> Outcome:
        """One run over one stream; see :func:`run_over`."""
        return run_over(data, allow, limits, buffers)

    def outcome(self) -> Outcome:
        """What an accepting run found."""
        root = self.stack[0]
        return (
            tuple(self.names),
            self.canonical,
            self.opcodes,
            self.values,
            self.depth[root] if root >= 0 else 0,
            self.weight[root] if root >= 0 else 1,
            self.protocol,
        )

    def begin(
        self,
        data: bytes,
        allow: AllowTable,
        limits: Limits,
        buffers: int,
        careful: bool,
        trace: list[tuple[int, int, tuple[int, ...], int]] | None,
    ) -> None:
        """Start a run: every table is as after ``__init__``, the counters are not."""
        self.total = len(data)
        if self.total >= CEILING:
            raise Malformed(Reason.TOO_LARGE, None, f"{self.total} bytes; a pickle has less than {CEILING}")
        # Each opcode but STOP may look at the byte behind it without asking, if the last byte is a STOP.
        self.data = data if self.total and data[self.total - 1] == 0x2E else data + bytes(SLACK)
        if COMPILED and self.total >= LONG_SPAN and _LITTLE_ENDIAN:
            self.words_count = self.total >> 3
            self.words = memoryview(self.data)[: 8 * self.words_count].cast("Q")
        self.allow = allow
        if limits is not self.limits:
            self.limits = limits
            self.max_nodes = min(limits.max_nodes, CEILING)
            self.max_depth = min(limits.max_depth, CEILING)
            self.max_weight = min(limits.max_weight, CEILING)
            self.max_hash_cost = min(limits.max_hash_cost, CEILING)
            self.max_key_depth = min(limits.max_key_depth, CEILING)
            self.max_string = min(limits.max_string_bytes, CEILING)
            self.max_stack = min(limits.max_stack_items, CEILING)
            self.max_memo = min(limits.max_memo_entries, CEILING)
            self.max_calls = min(limits.max_calls, CEILING)
            self.max_instances = min(limits.max_instances, CEILING)
            self.max_opcodes = min(limits.max_opcodes, CEILING)
            self.max_bits = min(limits.max_int_bits, CEILING)
            self.no_nan = not limits.allow_nan
        self.buffers = buffers
        self.careful = careful
        if careful and not self.edges_cap:
            self.begin_edges()
        self.trace = trace
        self.unlisted = ""
        self.marks_used = self.memo_used = 0
        self.is_sparse = False
        # Two opcodes in one step are counted together, which is exact only where the ceiling cannot be reached.
        self.may_fuse = trace is None and self.total <= self.max_opcodes
        self.values = self.opcodes = self.instances = self.calls = self.call_weight = self.hash_cost = 0
        self.giants = self.dense_total = 0  # what comparing a decimal with each long int takes; all of ``dense``
        self.copied = 0
        self.int_key = CEILING
        self.has_bytearray = self.odd_keys = False
        self.protocol = self.used_buffers = 0

    def begin_edges(self) -> None:
        """Make the tables of careful runs."""
        self.edges_cap = SMALL_TABLE
        self.edge_to, self.edge_gap, self.edge_next = _table(SMALL_TABLE), _table(SMALL_TABLE), _table(SMALL_TABLE)
        size = self.node_cap
        self.edge_first, self.edge_last, self.loose = _table(size), _table(size), _table(size)
        self.seen_in, self.seen_depth = _table(size), _table(size)
        self.seen_weight = _table(size, wide=True)
        self.path, self.turn = _table(size), _table(size)

    def begin_hashed(self) -> None:
        """Make the tables of hashes."""
        self.hashed_cap = self.node_cap
        self.hashed = _table(self.node_cap, UNKNOWN, wide=True)
        self.climb_cap = SMALL_TABLE
        self.climb, self.climbed = _table(SMALL_TABLE), _table(SMALL_TABLE)

    def forget(self) -> None:
        """Make everything that was written as it was; compiled build only, where machines are used again."""
        if COMPILED:
            for i in range(self.nodes):
                self.depth[i] = self.weight[i] = 1
                self.first[i] = self.count[i] = 0
            if self.careful:
                for i in range(self.nodes):
                    self.edge_first[i] = self.loose[i] = self.seen_in[i] = 0
                for i in range(self.edges_used):
                    self.edge_next[i] = 0
                self.edges_used = 1
                self.walks = 0
                self.keys_seen.clear()
                self.args_of.clear()
            if self.hashed_cap:
                for i in range(self.nodes):
                    self.hashed[i] = UNKNOWN
            self.nodes = self.items_used = 0
            if self.words_count:
                self.words_count = 0
                self.words = _NO_WORDS
            self.data = self.canonical = b""
            self.allow = EMPTY
            self.out_used = 0
            if self.pieces:
                self.pieces.clear()
            if self.names or self.rows:
                # Nothing of a row is there without a name, or the row of one that was refused.
                self.names.clear()
                self.rows.clear()
                self.codes_used = 0
                self.patterns.clear()
                self.letters.clear()
                self.row_index.clear()
                self.states.clear()
                self.fitted.clear()
                self.states_fitted.clear()
                self.flat_keys.clear()
                self.accepted.clear()
            if self.special:
                self.special.clear()
                self.partials.clear()
            self.holders = None
            if self.sparse:
                self.sparse.clear()
            if self.texts:
                self.texts.clear()
            if self.offsets:
                self.offsets.clear()
            if self.by_spelling:
                self.by_spelling.clear()
            if self.let_go:
                self.let_go.clear()
            if self.hashes:
                self.hashes.clear()
            if self.dense:
                self.dense.clear()
            if self.buckets:
                self.buckets.clear()
            if self.first_keys:
                self.first_keys.clear()
            if self.large:
                self.large.clear()
            if self.grown:
                self.grown.clear()
            if self.given:
                self.given.clear()
            if self.lone:
                self.lone.clear()
            if self.flat_states:
                self.flat_states.clear()
            if self.looked_at:
                self.looked_at.clear()
            if self.key_values:
                self.key_values.clear()
            if self.opaque:
                self.opaque.clear()

    def is_kept(self) -> bool:
        """Whether another run may have these tables: small ones always, large ones while streams are that long."""
        ints = 7 * self.node_cap + self.items_cap + self.memo_cap + self.cap + self.marks_cap
        if self.edges_cap:
            ints += 9 * self.node_cap + 3 * self.edges_cap
        if self.hashed_cap:
            ints += 2 * self.hashed_cap
        size = 4 * ints + self.out_cap
        if size <= SMALL_SPARE_BYTES:
            return True
        # A byte of a stream may be a value, and be put on the stack, into the memo and among the items.
        self.idle = self.idle + 1 if BYTES_FOR_ONE * self.total < size else 0
        return size <= SPARE_BYTES and self.idle < SPARE_RUNS

    # -- output ---------------------------------------------------------------------------------------------------

    def replace(self, start: int, stop: int, new: bytes) -> None:
        """Write ``new`` instead of the input from ``start`` to ``stop``."""
        if COMPILED:
            self.catch_up(start, stop, len(new))
            for i in range(len(new)):
                self.out_bytes[self.out_used + i] = new[i]
            self.out_used += len(new)
        else:
            if start - self.copied >= LONG_SPAN:
                self.pieces += (bytes(self.out), memoryview(self.data)[self.copied : start])
                self.out = bytearray()
            elif self.copied < start:
                self.out += self.data[self.copied : start]
            self.out += new
            self.copied = stop

    def catch_up(self, start: int, stop: int, more: int) -> None:  # pragma: no cover - compiled build only
        """Copy what stands before ``start``, skip what follows up to ``stop``, and make room."""
        if start - self.copied >= LONG_SPAN:
            self.pieces += (self.written(), memoryview(self.data)[self.copied : start])
            self.out_used = 0
            self.copied = start
        used = self.out_used
        if used + start - self.copied + more > self.out_cap:
            self.grow_out(used + start - self.copied + more)
        for i in range(self.copied, start):
            self.out_bytes[used] = self.data[i]
            used += 1
        self.out_used = used
        self.copied = stop

    def grow_out(self, size: int) -> None:  # pragma: no cover - compiled build only
        """Make the output hold at least ``size`` bytes."""
        while self.out_cap < size:
            self.out_cap *= 2
        self.out = self.out + bytes(self.out_cap - len(self.out))
        self.out_bytes = memoryview(self.out)

    def written(self) -> bytes:
        """The output since the last long span."""
        if COMPILED:
            return bytes(self.out[: self.out_used]) if self.out_used else b""
        return bytes(self.out)

    def replace_op(self, start: int, stop: int, op: int) -> None:
        """Write one byte instead of the input from ``start`` to ``stop``."""
        if COMPILED:
            self.catch_up(start, stop, 1)
            self.out_bytes[self.out_used] = op
            self.out_used += 1
        else:
            self.replace(start, stop, bytes((op,)))

    def replace_int(self, start: int, stop: int, value: int) -> None:
        """Write an int in its shortest form instead of the input from ``start`` to ``stop``."""
        if COMPILED and 0 <= value < 0x10000:
            self.catch_up(start, stop, 3)
            used = self.out_used
            self.out_bytes[used + 1] = value & 0xFF
            if value < 0x100:
                self.out_bytes[used] = 0x4B
                self.out_used = used + 2
            else:
                self.out_bytes[used] = 0x4D
                self.out_bytes[used + 2] = value >> 8
                self.out_used = used + 3
        else:
            self.replace(start, stop, emit_int(value))

    def replace_get(self, start: int, stop: int, order: int) -> None:
        """Write the shortest GET of a memo entry instead of the input from ``start`` to ``stop``."""
        if COMPILED and order < 0x100:
            self.catch_up(start, stop, 2)
            self.out_bytes[self.out_used] = 0x68
            self.out_bytes[self.out_used + 1] = order
            self.out_used += 2
        else:
            self.replace(start, stop, bytes((0x68, order)) if order < 0x100 else b"j" + order.to_bytes(4, "little"))

    def replace_sized(self, start: int, stop: int, place: int, length: int, is_text: bool) -> None:
        """Write the str or bytes that stand at ``place`` in the input instead of it from ``start`` to ``stop``."""
        if COMPILED and length < 0x100:
            self.catch_up(start, stop, 2 + length)
            used = self.out_used
            self.out_bytes[used] = 0x8C if is_text else 0x43
            self.out_bytes[used + 1] = length
            used += 2
            for i in range(place, place + length):
                self.out_bytes[used] = self.data[i]
                used += 1
            self.out_used = used
        else:
            raw = self.data[place : place + length]
            self.replace(start, stop, emit_str(raw) if is_text else emit_bytes(raw))

    # -- growing --------------------------------------------------------------------------------------------------

    def stack_room(self, sp: int, at: int) -> int:
        """Check and make room for one more; returns the size up to which nobody need ask again."""
        if sp + self.marks_used > self.max_stack:
            raise Malformed(Reason.STACK_TOO_LARGE, at, f"the limit is {self.max_stack}")
        if sp >= self.cap:
            self.stack = _doubled(self.stack)
            self.cap *= 2
        return min(self.cap, self.max_stack + 1 - self.marks_used)

    def grow_nodes(self) -> None:
        """Double the node tables."""
        self.head = _doubled(self.head)
        self.depth = _doubled(self.depth, 1)
        self.weight = _doubled(self.weight, 1)
        self.entry = _doubled(self.entry)
        self.where = _doubled(self.where)
        self.first = _doubled(self.first)
        self.count = _doubled(self.count)
        self.node_cap *= 2
        if self.hashed_cap:
            self.hashed = _doubled(self.hashed, UNKNOWN)
            self.hashed_cap = self.node_cap
        if self.edges_cap:
            self.edge_first = _doubled(self.edge_first)
            self.edge_last = _doubled(self.edge_last)
            self.loose = _doubled(self.loose)
            self.seen_in = _doubled(self.seen_in)
            self.seen_depth = _doubled(self.seen_depth)
            self.seen_weight = _doubled(self.seen_weight)
            self.path = _doubled(self.path)
            self.turn = _doubled(self.turn)

    def add_edge(self, n: int, child: int, gap: int) -> None:
        """Say that node ``n`` holds node ``child``, ``gap`` levels below its own; careful runs only."""
        edge = self.edges_used
        if edge == self.edges_cap:
            self.edge_to = _doubled(self.edge_to)
            self.edge_gap = _doubled(self.edge_gap)
            self.edge_next = _doubled(self.edge_next)
            self.edges_cap *= 2
        self.edges_used = edge + 1
        self.edge_to[edge] = child
        self.edge_gap[edge] = gap
        if self.edge_first[n]:
            self.edge_next[self.edge_last[n]] = edge
        else:
            self.edge_first[n] = edge
        self.edge_last[n] = edge

    def grow_marks(self) -> None:
        """Double the marks."""
        self.marks = _doubled(self.marks)
        self.marks_cap *= 2

    def grow_items(self) -> None:
        """Double the items; compiled build only."""
        if COMPILED:
            self.items = _doubled(self.items)
            self.items_cap *= 2

    def node(self, head: int, depth: int, weight: int, at: int) -> int:
        """A new line in the tables."""
        n = self.nodes
        if n == self.node_cap:
            self.grow_nodes()
        self.nodes = n + 1
        self.head[n] = head
        self.depth[n] = depth
        self.weight[n] = weight
        self.where[n] = at
        return n

    def empty(self, head: int) -> int:
        """A new container: depth and weight are what the tables are filled with."""
        n = self.nodes
        if n == self.node_cap:
            self.grow_nodes()
        self.nodes = n + 1
        self.head[n] = head
        return n

    def keep(self, low: int, high: int, step: int) -> int:
        """Copy every ``step``-th slot of the stack from ``low`` to ``high`` to the items; returns where they start."""
        start = self.items_used
        if COMPILED:
            while start + (high - low) > self.items_cap:
                self.grow_items()
            i, place = low, start
            while i < high:
                self.items[place] = self.stack[i]
                place += 1
                i += step
            self.items_used = place
        else:
            self.keep_span(low, high, step)
        return start

    def keep_span(self, low: int, high: int, step: int) -> None:
        """:meth:`keep` in the pure build."""
        self.items.extend(self.stack[low:high:step])
        self.items_used = len(self.items)

    def remember_keys(self, n: int, low: int, high: int, step: int) -> None:
        """Every ``step``-th slot of the stack from ``low`` to ``high`` is a key of dict or member of set ``n``."""
        before = self.grown.get(n ^ _SALT, 0) if self.head[n] & K_INSTANCE else self.first[n]
        # The two words in front of the keys are put in through the items, too.
        if COMPILED:
            while self.items_used + 2 > self.items_cap:
                self.grow_items()
            self.items[self.items_used] = before
            self.items[self.items_used + 1] = (high - low) // step
            self.items_used += 2
        else:
            self.items += (before, (high - low) // step)
            self.items_used += 2
        last = self.keep(low, high, step) - 1
        if self.head[n] & K_INSTANCE:
            self.grown[n ^ _SALT] = last
        else:
            self.first[n] = last

    # -- what others may ask --------------------------------------------------------------------------------------

    def kind_of(self, slot: int) -> int:
        """The kind bits of one slot."""
        if slot >= 0:
            return self.head[slot] & KINDS
        at = ~slot
        kind = LITERAL_KIND[self.data[at]]
        if self.data[at] == 0x49 and self.data[at + 1] == 0x30 and self.data[at + 2] in (0x30, 0x31):
            return K_BOOL  # I00 and I01, and no other number that starts with a zero is one
        return kind

    def is_tainted(self, slot: int) -> bool:
        """Whether a class or function stands as a value in it."""
        return slot >= 0 and bool(self.head[slot] & F_TAINT)

    def is_bare(self, slot: int) -> bool:
        """Whether one of those may not be referenced."""
        return slot >= 0 and bool(self.head[slot] & F_BARE)

    def has_instance(self, slot: int) -> bool:
        """Whether an instance or a frozenset stands somewhere in a container."""
        return slot >= 0 and bool(self.head[slot] & F_INSTANCE)

    def args_kind(self, slot: int) -> int:
        """The kind bits of what a dict has under ``"args"``; values are looked at by careful runs alone."""
        if not self.careful:
            raise _Careful
        return self.kind_of(self.args_of[slot ^ _SALT]) if slot ^ _SALT in self.args_of else 0

    def is_nested(self, slot: int) -> bool:
        """Whether a container holds more than constants."""
        return slot >= 0 and bool(self.head[slot] & F_NODES)

    def is_held(self, slot: int) -> bool:
        """Whether some other value holds it already."""
        return slot >= 0 and bool(self.head[slot] & F_HELD)

    def offset_of(self, slot: int) -> int:
        """Where the opcode of a constant or name stands."""
        return self.where[slot] if slot >= 0 else ~slot

    def value_of(self, slot: int) -> object:
        """A constant's value; ``None`` for anything that is no constant."""
        if slot < 0:
            return self.constant(~slot)
        is_constant = self.head[slot] & K_CONSTANTS and not self.head[slot] & K_INSTANCE
        return self.constant(self.where[slot]) if is_constant else None

    def constant(self, place: int) -> object:
        """The value of the constant whose opcode stands there; text is read once."""
        data = self.data
        op = data[place]
        if op == 0x4B:  # BININT1
            return data[place + 1]
        if op == 0x43:  # SHORT_BINBYTES
            return data[place + 2 : place + 2 + data[place + 1]]
        if op == 0x4A:  # BININT
            return int.from_bytes(data[place + 1 : place + 5], "little", signed=True)
        if op == 0x8C:  # SHORT_BINUNICODE
            return self.text_at(place, place + 2, data[place + 1])
        if op == 0x58:  # BINUNICODE
            size = data[place + 1] | data[place + 2] << 8 | data[place + 3] << 16 | data[place + 4] << 24
            return self.text_at(place, place + 5, size)
        if op == 0x4D:  # BININT2
            return data[place + 1] | data[place + 2] << 8
        if op == 0x8A:  # LONG1
            return int.from_bytes(data[place + 2 : place + 2 + data[place + 1]], "little", signed=True)
        if op == 0x47:  # BINFLOAT
            return _DOUBLE(data, place + 1)[0]
        if op == 0x46:  # FLOAT, in the spelling that float_text admitted
            stop = data.index(10, place)
            if stop - place < SHORT_FLOAT:
                return float(data[place + 1 : stop])
        if op == 0x49 or op == 0x4C:  # INT, LONG
            if self.read_digits(place, self.total):
                return self.number
            stop = data.index(10, place)
            if stop - place < FEW_DIGITS and not (op == 0x49 and data[place + 1] == 0x30):
                return int(data[place + 1 : stop - 1 if data[stop - 1] == 0x4C else stop])
        if op == 0x46 or op == 0x49 or op == 0x4C or op == 0x53 or op == 0x56:  # longer ones, bools, STRING, UNICODE
            if place ^ _SALT not in self.texts:
                self.texts[place ^ _SALT] = value_at(data, place)
            return self.texts[place ^ _SALT]
        return value_at(data, place)

    def text_at(self, place: int, start: int, size: int) -> object:
        """Text of so many bytes of UTF-8, of the opcode at ``place``; what takes long to decode is decoded once."""
        if size < SHORT_TEXT:
            return self.data[start : start + size].decode("utf-8", "surrogatepass")
        found = self.texts.get(place ^ _SALT)
        if found is None:
            text = self.data[start : start + size].decode("utf-8", "surrogatepass")
            if not text.isascii():
                self.texts[place ^ _SALT] = text
            return text
        return found

    def count_of(self, slot: int) -> int:
        """How many values a node holds, twice as many as a dict has keys; how many an instance was made from."""
        if self.head[slot] & K_INSTANCE and self.given:
            return self.given.get(slot ^ _SALT, self.count[slot])
        return self.count[slot]

    def row_of(self, slot: int) -> Row:
        """The row of a listed name, or of what was made by one."""
        return self.rows[self.entry[slot]]

    def name_of(self, slot: int) -> str:
        """The name behind a global or instance."""
        return self.special[slot][1] if self.head[slot] & K_SPECIAL else self.rows[self.entry[slot]].name

    def items_of(self, slot: int) -> list[int]:
        """What a tuple holds, or what an instance was made from."""
        return self.slots(self.first[slot], self.count_of(slot))

    def keys_of(self, slot: int) -> list[int]:
        """The keys of a dict, the last run first."""
        found: list[int] = []
        at = self.first[slot]
        while at:
            found += self.slots(at + 1, self.items[at])
            at = self.items[at - 1]
        return found

    def slots(self, base: int, k: int) -> list[int]:
        """Items by place."""
        return [self.items[i] for i in range(base, base + k)]

    # -- what values hold -----------------------------------------------------------------------------------------

    def absorb(self, n: int, low: int, high: int, at: int) -> bool:
        """Let node ``n`` hold the stack from ``low`` to ``high``. False: only a careful run can measure this."""
        k = high - low
        self.values += k
        if self.values > self.max_nodes:
            raise Malformed(Reason.TOO_MANY_NODES, at, f"the limit is {self.max_nodes}")
        mine = self.head[n]
        if mine & F_HELD and k and not self.careful:
            return False
        weight = self.weight[n] + k
        if weight > self.max_weight:
            raise self.too_heavy(at)
        if mine & K_INSTANCE:
            # Its items stand where it was made; what is put into it is counted, and stands nowhere.
            self.given.setdefault(n ^ _SALT, self.count[n])
        self.count[n] += k
        if not COMPILED and k > 3 and not self.careful and self.are_constants(low, high, 1):
            self.weight[n] = weight  # constants alone
            return True
        gained = depth = shared = 0
        if not COMPILED and k > _WIDE and not self.careful:
            # A few values that many places refer to are looked at once each.
            low, weight = self.fold_shared(low, high, weight)
        for i in range(low, high):
            slot = self.stack[i]
            if slot >= 0:
                shared = 1
                theirs = self.head[slot]
                gained |= theirs
                if theirs & F_HELD == 0 and slot != n:  # what holds only itself is held by nobody
                    mine |= theirs & F_CALL
                    self.head[slot] = theirs | F_HELD
                weight += self.weight[slot] - 1
                if weight > self.max_weight:
                    raise self.too_heavy(at)
                below = self.depth[slot]
                if below > depth:  # noqa: PLR1730 - a call costs the pure build more than all this
                    depth = below
        if shared:
            if depth >= self.depth[n]:
                if depth >= self.max_depth:
                    raise Malformed(Reason.TOO_DEEP, at, f"the limit is {self.max_depth}")
                self.depth[n] = depth + 1
            if depth or gained & INHERITED:
                mine |= F_NODES
            if mine & K_TUPLE:
                mine |= gained & INHERITED
            else:
                if gained & F_TAINT:
                    self.check_references(low, high, at, mine)
                mine |= gained & GROWN_INHERITED
            self.head[n] = mine
        if self.careful:
            for i in range(low, high):
                if self.stack[i] >= 0:
                    self.add_edge(n, self.stack[i], 1)
                    k -= 1
            self.loose[n] += k
            if mine & (K_LIST | K_INSTANCE) == K_LIST and high > low:
                self.remember_keys(n, low, high, 1)  # a call may make a set of it
        self.weight[n] = weight
        return True

    def fold_shared(self, low: int, high: int, weight: int) -> tuple[int, int]:
        """Move one of each node to the end of a wide span, and weigh the others; pure build only.

        Returns:
            Where those start, and the weight with the others in it.
        """
        seen = Counter(self.stack[low:high])
        nodes = [slot for slot in seen if slot >= 0]
        if 2 * len(nodes) < high - low:
            for slot in nodes:
                weight += (seen[slot] - 1) * (self.weight[slot] - 1)
            low = high - len(nodes)
            self.stack[low:high] = nodes
        return low, weight

    def are_constants(self, low: int, high: int, step: int) -> bool:
        """Whether there is nothing but constants there; pure build only."""
        return max(self.stack[low:high:step]) < 0

    def too_heavy(self, at: int) -> Malformed:
        """The refusal for a value that would be too large without sharing."""
        return Malformed(Reason.TOO_HEAVY, at, f"the limit is {self.max_weight}")

    def check_references(self, low: int, high: int, at: int, holder: int) -> None:
        """A list, dict or set gets classes or functions: refuse those that may not be referenced."""
        for i in range(low, high):
            slot = self.stack[i]
            if slot >= 0 and self.head[slot] & F_BARE:
                raise self.not_a_value(slot, at)
        if holder & F_HELD:
            # Whoever holds it may have been promised plain data.
            raise Forbidden(Reason.REFERENCE_NOT_ALLOWED, at, "a class put into a container that is in use")

    def not_a_value(self, slot: int, at: int) -> Refused:
        """The refusal for a class or function that stands where only data may."""
        if self.head[slot] & K_SPECIAL:
            special, name = self.special[slot]
            if special in (SP_BASE, SP_HOLDER):
                detail = f'allow = ["{safe_repr(name)} refer"] would be needed'
            else:
                detail = f"{safe_repr(name)} is only ever called, and on a listed class"
            self.unlisted = name
            return Forbidden(Reason.GLOBAL_NOT_ALLOWED, self.where[slot], detail)
        if self.head[slot] & K_GLOBAL:
            name = safe_repr(self.rows[self.entry[slot]].name)
            return Forbidden(Reason.REFERENCE_NOT_ALLOWED, at, f'as a value it needs allow = ["{name} refer"]')
        return Forbidden(Reason.REFERENCE_NOT_ALLOWED, at, "a tuple of a call's arguments holds a class")

    def make_tuple(self, low: int, high: int, at: int) -> int:
        """A tuple of the stack from ``low`` to ``high``."""
        n = self.empty(K_TUPLE)
        if high > low:
            self.first[n] = self.keep(low, high, 1)
            self.values += 1  # like any container, it counts where it is made and where it is held; () is always there
            self.absorb(n, low, high, at)
        return n

    def own_instance(self, slot: int, right: int, at: int, what: str) -> None:
        """Check that items may be put into this instance."""
        if slot < 0 or self.head[slot] & K_INSTANCE == 0:
            raise Forbidden(Reason.MUTATION_NOT_ALLOWED, at, f"the target is no {what}")
        index = self.entry[slot]
        if not self.rights[index] & right:
            raise Forbidden(
                Reason.MUTATION_NOT_ALLOWED,
                at,
                f"{safe_repr(self.rows[index].name)} is not listed as a class with {what} items",
            )
        head = self.head[slot]
        if not head & F_OPEN or head & F_BUILT:
            # State may have planted an append or __setitem__ of its own on the instance.
            raise Forbidden(Reason.MUTATION_NOT_ALLOWED, at, "items may follow only the making of an instance")

    def may_grow(self, slot: int, at: int, plain: int, right: int) -> None:
        """Check that items may be put into ``slot``, which is no container that is nobody's state."""
        if slot < 0 or self.head[slot] & KINDS != plain:
            self.own_instance(slot, right, at, "list" if plain == K_LIST else "dict" if plain == K_DICT else "set")
        else:
            raise Forbidden(Reason.MUTATION_NOT_ALLOWED, at, "the target is an instance's state already")

    def add_items(self, slot: int, low: int, high: int, at: int) -> bool:
        """APPEND(S): put the stack from ``low`` to ``high`` into the list ``slot``."""
        if slot < 0 or self.head[slot] & (KINDS | F_SEALED) != K_LIST:
            self.may_grow(slot, at, K_LIST, R_LIST)
        return self.absorb(slot, low, high, at)

    def add_pairs(self, slot: int, low: int, high: int, at: int) -> bool:
        """SETITEM(S): put the pairs on the stack from ``low`` to ``high`` into the dict ``slot``."""
        if slot < 0 or self.head[slot] & (KINDS | F_SEALED) != K_DICT:
            self.may_grow(slot, at, K_DICT, R_DICT)
        if (high - low) & 1:
            raise Malformed(Reason.STACK_UNDERFLOW, at, "a key without a value")
        if high > low and (COMPILED or not self.quick_keys(slot, low, high)):
            self.check_keys(slot, low, high, 2, at)
            self.remember_keys(slot, low, high, 2)
        if high - low <= 4 and high > low and not self.count[slot] and self.kind_of(self.stack[low + 1]) & K_INT:
            self.lone[slot ^ _SALT] = self.stack[low + 1]
        if self.careful:
            self.check_once(slot, low, high, at)
        return self.absorb_keys(slot, low, high, 2 * LARGE_TABLE, at)

    def absorb_keys(self, slot: int, low: int, high: int, large: int, at: int) -> bool:
        """:meth:`absorb` for a dict or set; one that got many keys is looked at in the end."""
        done = self.absorb(slot, low, high, at)
        if self.count[slot] > large and self.count[slot] - (high - low) <= large:
            self.large.append(slot)
        return done

    def quick_keys(self, n: int, low: int, high: int) -> bool:
        """Take strings and short ints as keys of a dict in one step; pure build only. False where they need a look."""
        if high - low == 2:
            key = self.stack[low]
            if key >= 0 or KEY_CLASS[self.data[~key]] or not self.head[n] & K_DICT:
                return False
            cost = self.hash_cost + 1
            if cost > self.max_hash_cost:
                return False
            self.hash_cost = cost
            self.items += (self.first[n], 1, key)
            self.first[n] = self.items_used + 1
            self.items_used += 3
            return True
        keys = self.stack[low:high:2]
        cost = self.hash_cost + len(keys)
        if max(keys) >= 0 or cost > self.max_hash_cost or not self.head[n] & K_DICT:
            return False
        if self.odd_keys and not self.even_keys.issuperset(keys):
            data = self.data
            for slot in keys:
                if KEY_CLASS[data[~slot]]:
                    return False
            self.even_keys.update(keys)
        self.hash_cost = cost
        items, used = self.items, self.items_used
        items += (self.first[n], len(keys), *keys)
        self.first[n] = used + 1
        self.items_used = len(items)
        return True

    def check_once(self, n: int, low: int, high: int, at: int) -> None:
        """Refuse a key of dict ``n`` that it has already; careful runs only.

        What stood there is lost then, and with it what may have closed a cycle: the value would be deeper than the
        graph that is measured. No pickler writes a key twice. Whether two instances are equal cannot be said.
        """
        seen = self.keys_seen.setdefault(n ^ _SALT, set())
        for i in range(low, high, 2):
            slot = self.stack[i]
            if slot >= 0 and self.depth[slot] > DEEPEST_TOKEN:
                detail = f"nested deeper than {DEEPEST_TOKEN}, in a container that grows while it is held"
                raise Malformed(Reason.BAD_KEY, at, detail)
            value = self.key_value(slot)
            if (_SALT, value) in seen:
                raise Malformed(Reason.BAD_KEY, at, "the dict has this key already")
            if value is not _UNKNOWN:
                seen.add((_SALT, value))
                if value == "args":
                    self.args_of[n ^ _SALT] = self.stack[i + 1]

    def key_value(self, slot: int) -> object:
        """What a key is equal to; ``_UNKNOWN`` where there is an instance or name in it. It is not deep."""
        if slot >= 0 and slot ^ _SALT in self.key_values:
            return self.key_values[slot ^ _SALT]
        value: object = _UNKNOWN
        if slot < 0:
            value = self.constant(~slot)
            if type(value) is float and value != value:  # noqa: PLR0124 - NaN equals only the very same object
                value = complex(~slot, 1)  # no constant is a complex
            return value
        if self.head[slot] & K_CONSTANTS and not self.head[slot] & K_INSTANCE:
            value = self.constant(self.where[slot])
        elif self.head[slot] & (K_TUPLE | K_FROZENSET) and not self.head[slot] & K_INSTANCE:
            parts = [self.key_value(part) for part in self.items_of(slot)]
            if _UNKNOWN not in parts:
                value = tuple(parts) if self.head[slot] & K_TUPLE else frozenset(parts)
        self.key_values[slot ^ _SALT] = value
        return value

    def add_members(self, slot: int, low: int, high: int, at: int) -> bool:
        """ADDITEMS: put the stack from ``low`` to ``high`` into the set ``slot``."""
        if slot < 0 or self.head[slot] & (KINDS | F_SEALED) != K_SET:
            self.may_grow(slot, at, K_SET, R_SET)
        if high > low:
            self.check_keys(slot, low, high, 1, at)
            self.remember_keys(slot, low, high, 1)
        return self.absorb_keys(slot, low, high, LARGE_TABLE, at)

    # -- keys -----------------------------------------------------------------------------------------------------

    def charge_hash(self, cost: int, at: int) -> None:
        """Pay for hashing and comparing."""
        self.hash_cost += cost
        if self.hash_cost > self.max_hash_cost:
            raise self.too_costly(at)

    def too_costly(self, at: int) -> Malformed:
        """The refusal for keys that cost too much."""
        return Malformed(Reason.HASH_COST, at, f"the limit is {self.max_hash_cost}")

    def check_keys(self, n: int, low: int, high: int, step: int, at: int) -> None:
        """Every ``step``-th slot from ``low`` to ``high`` becomes a key or member of ``n``."""
        self.hash_cost += (high - low) if step == 1 else (high - low) >> 1
        if self.hash_cost > self.max_hash_cost:
            raise self.too_costly(at)
        # Strings and short ints alone need no look; compiled code looks as fast as it asks.
        i = high if not COMPILED and not self.odd_keys and self.are_constants(low, high, step) else low
        while i < high:
            slot = self.stack[i]
            i += step
            if slot >= 0:
                self.check_key(n, slot, at)
                continue
            op = self.data[~slot]
            if op == 0x47 or op == 0x46:  # BINFLOAT, FLOAT
                self.check_float(n, ~slot, at)
            elif op == 0x96 or op == 0x97:  # BYTEARRAY8, NEXT_BUFFER
                raise self.unhashable(at)

    def check_kept(self, last: int, as_set: bool, at: int) -> None:
        """:meth:`check_table` for what :meth:`remember_keys` kept, by the place of the last run."""
        if not self.are_text(last):
            hashes = self.hashes_in(last, at)
            said = probing.slow_set(hashes) if as_set else probing.slow_dict(hashes)
            if said == DOUBTFUL:
                hashes = self.unlike(self.kept(last), hashes, at)
                said = probing.slow_set(hashes, True) if as_set else probing.slow_dict(hashes, True)
            if said != FINE:
                raise self.crowded(at)

    def check_table(self, slots: list[int], as_set: bool, at: int) -> None:
        """Refuse keys or members that make a table slow together, though no two of them need have one hash."""
        hashes = self.hashes_of(slots, at)
        said = probing.slow_set(hashes) if as_set else probing.slow_dict(hashes)
        if said == DOUBTFUL:
            hashes = self.unlike(slots, hashes, at)
            said = probing.slow_set(hashes, True) if as_set else probing.slow_dict(hashes, True)
        if said != FINE:
            raise self.crowded(at)

    def unlike(self, slots: list[int], hashes: MutableSequence[int], at: int) -> MutableSequence[int]:
        """The hashes of those keys that are not surely equal to one before."""
        # What stands there again is equal, and need not be looked at.
        places: set[int] = set()
        once: set[int] = set()
        again: set[int] = set()
        for i in range(len(slots)):
            (again if hashes[i] ^ _SALT in once else once).add(hashes[i] ^ _SALT)
        seen: set[object] = set()
        different = _table(len(slots), wide=True)
        k = 0
        for i in range(len(slots)):
            if slots[i] ^ _SALT in places:
                continue
            places.add(slots[i] ^ _SALT)
            if hashes[i] ^ _SALT in again:
                # Text stands there once for all of it: nobody chose where.
                if slots[i] >= 0:
                    self.charge_hash(TOKEN_COST * self.weight[slots[i]], at)
                token = (_SALT, self.token(slots[i]))
                if token in seen:
                    continue
                seen.add(token)
            different[k] = hashes[i]
            k += 1
        return different[:k]

    def unhashable(self, at: int) -> Malformed:
        """The refusal for what is never a key, and never a member of a set that a call makes of a list."""
        return Malformed(Reason.BAD_KEY, at, "a bytearray or buffer cannot be hashed")

    def crowded(self, at: int) -> Malformed:
        """The refusal for keys on one path."""
        return Malformed(Reason.HASH_COST, at, "keys that were chosen to meet in one place of a table")

    def are_text(self, last: int) -> bool:
        """Whether nothing but text and bytes was kept."""
        while last:
            for i in range(last + 1, last + 1 + self.items[last]):
                slot = self.items[i]
                if slot >= 0 or not self.kind_of(slot) & (K_STR | K_BYTES):
                    return False
            last = self.items[last - 1]
        return True

    def runs_to(self, last: int) -> list[int]:
        """The places of all runs of what was kept, the last one first."""
        runs: list[int] = []
        while last:
            runs.append(last)
            last = self.items[last - 1]
        return runs

    def hashes_in(self, last: int, at: int) -> MutableSequence[int]:
        """The hashes of what was kept, in order; see :meth:`slot_hash`."""
        runs = self.runs_to(last)
        place = 0
        for base in runs:
            place += self.items[base]
        hashes = _table(place, wide=True)
        place = 0
        while runs:
            base = runs.pop()
            for i in range(base + 1, base + 1 + self.items[base]):
                hashes[place] = self.slot_hash(self.items[i], at)
                place += 1
        return hashes

    def hashes_of(self, slots: list[int], at: int) -> MutableSequence[int]:
        """The hashes of keys; see :meth:`slot_hash`."""
        hashes = _table(len(slots), wide=True)
        for i in range(len(slots)):
            hashes[i] = self.slot_hash(slots[i], at)
        return hashes

    def token(self, slot: int) -> object:
        """Something that is equal for two keys of one hash if they are surely equal."""
        head = self.head[slot] if slot >= 0 else 0
        if head & K_INSTANCE and self.rows[self.entry[slot]].hashing == "uuid":
            return None, slot
        if slot >= 0 and self.depth[slot] > DEEPEST_TOKEN:
            return None, slot  # no recursion further than that
        if head & (K_TUPLE | K_INSTANCE):
            name = self.name_of(slot) if head & K_INSTANCE else ""
            return name, tuple([self.token(part) for part in self.items_of(slot)])
        if slot < 0 and (self.data[~slot] == 0x96 or self.data[~slot] == 0x97):  # BYTEARRAY8, NEXT_BUFFER
            return None, slot  # inside an instance that is hashed by what it is, and not by what is in it
        if slot < 0 or head & K_CONSTANTS:
            return self.key_value(slot)
        return None, slot  # what is in a frozenset is kept by careful runs alone

    def check_frozenset(self, low: int, high: int, at: int) -> None:
        """:meth:`check_table` for the stack from ``low`` to ``high``."""
        slots: list[int] = []
        for i in range(low, high):
            slots.append(self.stack[i])  # noqa: PERF401 - in C, a comprehension is a function
        self.check_table(slots, True, at)

    def check_large(self, at: int) -> None:
        """Look at all dicts, sets and instances of many keys."""
        for n in self.large:
            head = self.head[n]
            if not head & K_INSTANCE:
                self.check_kept(self.first[n], head & K_SET != 0, at)
                continue
            last = self.grown.get(n ^ _SALT, 0)
            self.check_kept(last, False, at)
            self.check_kept(last, True, at)

    def kept(self, last: int) -> list[int]:
        """What :meth:`remember_keys` kept, in order, by the place of the last run."""
        runs = self.runs_to(last)
        slots: list[int] = []
        while runs:
            base = runs.pop()
            for i in range(base + 1, base + 1 + self.items[base]):
                slots.append(self.items[i])  # noqa: PERF401 - in C, a comprehension is a function
        return slots

    def slot_hash(self, slot: int, at: int) -> int:
        """The hash of a key as CPython computes it; ``UNKNOWN`` where nobody can choose it, as that of text."""
        place = ~slot
        if slot < 0:
            if self.kind_of(slot) & (K_STR | K_BYTES):
                return UNKNOWN
            if KEY_CLASS[self.data[place]] == 2:
                raise self.unhashable(at)
            return self.constant_hash(place)
        head = self.head[slot]
        if head & K_INSTANCE:
            how = self.rows[self.entry[slot]].hashing
            if how == "free":
                return UNKNOWN
            if how in _MADE:
                known = self.made_hash(slot, how, at)
                return UNKNOWN if known is None else known
        elif head & K_TUPLE and not head & F_INSTANCE:
            return self.tuple_hash(slot, at)
        elif head & K_CONSTANTS:
            return UNKNOWN if head & (K_STR | K_BYTES) else self.node_hash(slot, at)
        if not head & (K_TUPLE | K_FROZENSET | K_INSTANCE):
            return UNKNOWN
        known = self.known_hash(slot, at)
        return UNKNOWN if known is None else known

    def constant_hash(self, place: int) -> int:
        """The hash of the constant whose opcode stands there; ``UNKNOWN`` for NaN, which hashes by identity."""
        data = self.data
        op = data[place]
        if op == 0x4B:  # BININT1
            return data[place + 1]
        if op == 0x4D:  # BININT2
            return data[place + 1] | data[place + 2] << 8
        if op == 0x4A:  # BININT
            low = data[place + 1] | data[place + 2] << 8 | data[place + 3] << 16
            high = data[place + 4]
            low += (high - 256 if high >= 128 else high) * 0x1000000  # no shift: of what is negative, C has none
            return low if low != -1 else -2
        if op == 0x8A and data[place + 1] < 8:  # LONG1
            low = 0
            for i in range(data[place + 1]):
                low |= data[place + 2 + i] << (8 * i)
            high = data[place + 1]
            if high and data[place + 1 + high] >= 128:
                low -= 1 << (8 * high)
            return low if low != -1 else -2
        value = self.constant(place)
        return hash(value) if value == value else UNKNOWN  # noqa: PLR0124

    def node_hash(self, slot: int, at: int) -> int:
        """The hash of a name, which hashes by identity, of a long constant, or of a tuple that was hashed before."""
        if not self.hashed_cap:
            self.begin_hashed()
        if self.hashed[slot] == UNKNOWN:
            head = self.head[slot]
            if head & K_NAMES:
                self.hashed[slot] = hash(self.name_of(slot))  # however often it is looked up
            elif head & K_BYTEARRAY:
                raise self.unhashable(at)
            else:
                self.hashed[slot] = hash(self.constant(self.where[slot]))
        return self.hashed[slot]

    def made_hash(self, slot: int, how: str, at: int) -> int | None:
        """The hash of an instance whose arguments are no numbers, but say one; ``UNKNOWN`` if nobody can choose it.

        Args:
            slot: The instance.
            how: Its ``Row.hashing``, one of ``_MADE``.
            at: Offset of what asks.

        Returns:
            ``None`` if it was not made as pickles make it, or has a zone that takes a look into files.
        """
        if not self.hashed_cap:
            self.begin_hashed()
        if self.hashed[slot] != UNKNOWN:
            return self.hashed[slot]
        value = None
        if how == "moment":
            value = self.moment_hash(slot)
        elif how == "uuid":
            value = self.uuid_hash(slot)
        elif how != "few" and self.count_of(slot) == 1 and not self.head[slot] & F_BUILT:
            value = network_hash(self.value_of(self.items[self.first[slot]]), how == "interface")
        if value is not None and value != UNKNOWN:
            self.charge_hash(MADE_COST, at)
            self.hashed[slot] = value
        return value

    def moment_hash(self, slot: int) -> int | None:
        """The hash of a datetime or time: with a fixed offset, that of how long it is after the beginning."""
        if not self.count_of(slot):
            return None
        first = self.items[self.first[slot]]
        raw: object = None
        if first >= 0 and self.head[first] & K_INSTANCE:
            # Below protocol 3, bytes are _codecs.encode(text, "latin1").
            if self.count_of(first) != 2 or self.kind_of(self.items[self.first[first]]) != K_STR:
                return None
            if self.count_of(slot) > 1:
                raw = cast("str", self.value_of(self.items[self.first[first]])).encode("latin-1", "replace")
        elif self.kind_of(first) != K_BYTES:
            return None
        elif self.count_of(slot) > 1:
            raw = self.value_of(first)
        if not isinstance(raw, bytes):
            return UNKNOWN  # no zone
        offset = self.fixed_offset(self.items[self.first[slot] + 1])
        if offset is None:
            return None
        day, at = 0, len(raw) - 6
        if at == 4:
            # The month's first bit says which of two equal times is meant, or the hour's where there is no date.
            year, month = (raw[0] << 8 | raw[1]) - 1, raw[2] & 127
            if not 0 < month < 13:
                return None
            day = year * 365 + year // 4 - year // 100 + year // 400 + _DAYS_BEFORE[month] + raw[3]
            if month > 2 and (year % 4 == 3 and (year % 100 != 99 or year % 400 == 399)):
                day += 1
        elif at:
            return None
        hour = raw[at] if at else raw[0] & 127
        # Divided so that nothing is below zero, of which C and Python have different remainders.
        micros = (raw[at + 3] << 16 | raw[at + 4] << 8 | raw[at + 5]) - offset[2] + 1_000_000
        seconds = hour * 3600 + raw[at + 1] * 60 + raw[at + 2] - offset[1] + micros // 1_000_000 - 1 + 86_400
        return hash((day - offset[0] + seconds // 86_400 - 1, seconds % 86_400, micros % 1_000_000))

    def fixed_offset(self, slot: int) -> tuple[int, int, int] | None:
        """Days, seconds and microseconds of a ``datetime.timezone``."""
        if slot < 0 or not self.head[slot] & K_INSTANCE:
            return None
        if slot ^ _SALT not in self.offsets:
            numbers: list[int] = []
            span = self.items[self.first[slot]] if self.count_of(slot) else -1
            if (
                span >= 0
                and self.head[span] & K_INSTANCE
                and self.name_of(slot) == "datetime:timezone"
                and self.name_of(span) == "datetime:timedelta"
            ):
                numbers = [value for value in map(self.value_of, self.items_of(span)) if isinstance(value, int)]
            plain = (
                len(numbers) == 3 and 0 <= numbers[1] < 86_400 and 0 <= numbers[2] < 1_000_000 and -2 < numbers[0] < 2
            )
            self.offsets[slot ^ _SALT] = (numbers[0], numbers[1], numbers[2]) if plain else None
        return self.offsets[slot ^ _SALT]

    def uuid_hash(self, slot: int) -> int | None:
        """The hash of a UUID, which is that of the number in its state; ``None`` if it is not where pickles have it."""
        state = self.flat_states.get(slot ^ _SALT, -1)
        if state < 0 or state ^ _SALT not in self.lone or self.count[state] > 4:
            return None
        keys = self.kept(self.first[state])
        if not self.is_int_key(keys[0]) or (len(keys) > 1 and self.is_int_key(keys[1])):
            return None
        return hash(self.value_of(self.lone[state ^ _SALT]))

    def is_int_key(self, slot: int) -> bool:
        """Whether a key is the text ``int``: of many UUIDs, it is the very same one."""
        if slot == self.int_key:
            return True
        if self.key_value(slot) != "int":
            return False
        self.int_key = slot
        return True

    def check_float(self, n: int, place: int, at: int) -> None:
        """A float becomes a key of ``n``: it may share its hash with ints and other floats."""
        if self.data[place] == 0x46:  # FLOAT: read from its text each time
            self.charge_hash(TEXT_COST, at)
        if n ^ _SALT not in self.first_keys and n ^ _SALT not in self.buckets:
            self.first_keys[n ^ _SALT] = ~place
        else:
            value = self.constant_hash(place)
            if value != UNKNOWN:
                self.collide(n, value, 1, at)

    def collide(self, n: int, value: int, weight: int, at: int) -> None:
        """One more key of this hash in container ``n``: it is compared with all before it."""
        bucket = self.buckets.get(n ^ _SALT)
        if bucket is None:
            bucket = self.buckets[n ^ _SALT] = {}
            if n ^ _SALT in self.first_keys:
                first = self.first_keys[n ^ _SALT]
                bucket[(self.tuple_hash(first, at) if first >= 0 else self.constant_hash(~first)) ^ _SALT] = 1
        before = bucket.get(value ^ _SALT, 0)
        bucket[value ^ _SALT] = before + 1
        if before:
            # Whatever long ints there are may stand in these keys, and meet a decimal there.
            self.charge_hash(before * (weight + self.giants), at)

    def check_key(self, n: int, slot: int, at: int) -> None:
        """A container, instance, global or long constant becomes a key of ``n``."""
        head = self.head[slot]
        if head & F_UNHASHABLE:
            raise Malformed(Reason.BAD_KEY, at, "a list, dict, set or class without a listed hash")
        depth, weight = self.depth[slot], self.weight[slot]
        if self.careful and head & F_INSTANCE:
            self.survey(slot, at)
            depth, weight = self.seen_depth[slot], self.seen_weight[slot]
        if depth > self.max_key_depth:
            raise Malformed(Reason.BAD_KEY, at, f"nested deeper than {self.max_key_depth}")
        # Hashed once, and compared at least once where the key is there already. What is deep may be tuples of one, and
        # the interpreter's collector walks each of them again and again.
        self.charge_hash(2 * weight + (depth * min(depth, DEEPEST_TOKEN) if depth > DEEP_KEY else 0), at)
        if head & K_TUPLE and not head & F_INSTANCE:
            if self.has_bytearray or self.used_buffers or n ^ _SALT in self.first_keys or n ^ _SALT in self.buckets:
                self.collide(n, self.tuple_hash(slot, at), weight, at)
            else:
                self.first_keys[n ^ _SALT] = slot
        elif head & (K_TUPLE | K_FROZENSET | K_INSTANCE):
            self.check_made_key(n, slot, weight, at)
        elif head & K_INT and (self.head[n] & K_FROZENSET or n ^ _SALT in self.buckets):
            self.collide(n, self.node_hash(slot, at), min((weight * weight) >> 3, SLOWEST), at)

    def note_dense(self, n: int, low: int, high: int) -> None:
        """Remember what comparing a frozenset of the stack from ``low`` to ``high`` with another of its hash takes."""
        if self.dense or n ^ _SALT in self.buckets or n ^ _SALT in self.opaque:
            cost = 0
            for i in range(low, high):
                cost += self.comparing(self.stack[i]) if self.stack[i] >= 0 else 1
            self.keep_dense(n, cost)

    def note_made(self, n: int, base: int, k: int) -> None:
        """:meth:`note_dense` for what a call makes of lists among ``k`` items from place ``base`` on; careful runs."""
        cost = self.weight[n]
        for slot in self.slots(base, k):
            if slot >= 0 and self.head[slot] & (KINDS | F_NODES) == K_LIST | F_NODES:
                for part in self.kept(self.first[slot]):
                    cost += self.comparing(part) if part >= 0 else 0
        self.keep_dense(n, cost)

    def keep_dense(self, n: int, cost: int) -> None:
        """Each member of one set is looked up in the other, and compared with all that have its hash there."""
        bucket = self.buckets.get(n ^ _SALT)
        # A number that is short enough to stand in no bucket may share the hash of those in one.
        most = self.opaque.get(n ^ _SALT, 0) + (max(bucket.values()) + 1 if bucket is not None else 0)
        if most > 1 or self.dense:
            cost = min(min(cost, SLOWEST) * max(most, 1), SLOWEST)
            self.dense[n ^ _SALT] = cost
            self.dense_total = min(self.dense_total + cost, SLOWEST)

    def comparing(self, slot: int) -> int:
        """What comparing a node with another of its hash takes, with the frozensets in it."""
        known = self.dense.get(slot ^ _SALT)
        if known is not None:
            return known
        weight = self.weight[slot]
        if self.head[slot] & K_INSTANCE == 0 or self.rows[self.entry[slot]].hashing:
            # Comparing an instance runs code of its own, or makes one of the other value.
            weight = min(weight, SLOWEST) * (SLOW_COMPARISON if self.head[slot] & F_INSTANCE else 1)
        if not self.dense:
            pass
        elif self.head[slot] & F_BUILT or (self.given and slot ^ _SALT in self.given):
            weight += self.dense_total  # its state may be anything, and so may what was put into it
        elif self.head[slot] & F_INSTANCE and self.head[slot] & (K_TUPLE | K_INSTANCE):
            # Its own weight was charged when it became a key, and this takes no more steps.
            open_ends = [slot]
            while open_ends:
                for child in self.items_of(open_ends.pop()):
                    if child < 0:
                        continue
                    if child ^ _SALT in self.dense:
                        weight += self.dense[child ^ _SALT]
                    elif self.head[child] & F_BUILT or (self.given and child ^ _SALT in self.given):
                        weight += self.dense_total
                    elif self.head[child] & (K_TUPLE | K_INSTANCE) and self.head[child] & F_INSTANCE:
                        open_ends.append(child)
        return min(weight, SLOWEST)

    def check_made_key(self, n: int, slot: int, weight: int, at: int) -> None:
        """Pay for comparing an instance, a frozenset, or a tuple that holds one, with other keys of ``n``."""
        # Of some instances nobody can make many that share a hash.
        how = self.rows[self.entry[slot]].hashing if self.head[slot] & K_INSTANCE else ""
        if how != "free":
            self.vague = False
            value = self.made_hash(slot, how, at) if how in _MADE else self.known_hash(slot, at)
            if self.vague or (value is None and how in _RARE):
                # Few of them are equal, but each may walk past all before it. Eight thousand pass.
                before = self.opaque.get(n ^ _SALT, 0)
                self.opaque[n ^ _SALT] = before + 1
                self.charge_hash(before >> 4, at)
            elif value is not None:
                if value ^ _SALT in self.hashes:
                    self.charge_hash(self.giants, at)  # an int of its hash may stand beside it
                if value != UNKNOWN:
                    self.collide(n, value, self.comparing(slot), at)
            else:
                # Its hash is unknown; should they all be the same, inserting is quadratic. A thousand pass.
                before = self.opaque.get(n ^ _SALT, 0)
                self.opaque[n ^ _SALT] = before + 1
                if before and not self.careful and self.is_hashing(slot):
                    raise _Careful  # only then it is known what is in a list that a call made a set of
                cost = before * (self.comparing(slot) if self.dense else weight)
                # It may be a number, and whatever long ints there are may have its hash.
                self.charge_hash((cost >> 2) + self.giants, at)

    def tuple_hash(self, slot: int, at: int) -> int:
        """The hash of a tuple of constants and such tuples, as CPython computes it. Its weight was charged before."""
        if not self.hashed_cap:
            self.begin_hashed()
        if self.hashed[slot] != UNKNOWN:
            return self.hashed[slot]
        while self.depth[slot] >= self.climb_cap:
            self.climb, self.climbed = _doubled(self.climb), _doubled(self.climbed)
            self.climb_cap *= 2
        # Post-order with a stack of our own; what was hashed once is not looked into again.
        top = 0
        self.climb[0], self.climbed[0] = slot, self.first[slot]
        while top >= 0:
            node = self.climb[top]
            i, stop = self.climbed[top], self.first[node] + self.count[node]
            if self.head[node] & F_NODES:
                while i < stop:
                    child = self.items[i]
                    if child >= 0 and self.head[child] & K_TUPLE and self.hashed[child] == UNKNOWN:
                        break
                    i += 1
                if i < stop:
                    self.climbed[top] = i + 1
                    top += 1
                    self.climb[top], self.climbed[top] = child, self.first[child]
                    continue
            self.hashed[node] = self.sum_of(self.first[node], stop, at)
            top -= 1
        return self.hashed[slot]

    def sum_of(self, start: int, stop: int, at: int) -> int:
        """The hash of a tuple of the items from place ``start`` to ``stop``; of tuples among them it is known."""
        if COMPILED:
            return self.mixed(start, stop, at)
        parts: list[object] = []
        for child in self.items[start:stop]:
            if child >= 0:
                parts.append(Hashed(self.node_hash(child, at)))
            elif KEY_CLASS[self.data[~child]] == 2:
                raise self.unhashable(at)
            else:
                value = self.constant(~child)
                # NaN hashes by identity: its own place will do.
                parts.append(value if value == value else ~child)  # noqa: PLR0124
        return hash(tuple(parts))

    def mixed(self, start: int, stop: int, at: int) -> int:  # pragma: no cover - compiled build only
        """:meth:`sum_of` without a tuple: the steps of ``tuplehash`` of CPython 3.8 and later, on 64 bits."""
        total = TUPLE_START
        for i in range(start, stop):
            child = self.items[i]
            if child >= 0:
                value = self.node_hash(child, at)
            elif KEY_CLASS[self.data[~child]] == 2:
                raise self.unhashable(at)
            else:
                value = self.constant_hash(~child)
                if value == UNKNOWN:
                    value = ~child
            total = self.times_plus(value & ALL_BITS, TUPLE_LANE, total)
            total = self.times_plus((total & LOW_TURNED) << 31 | total >> 33, TUPLE_TURNED, 0)
        total = self.times_plus(1, (stop - start) ^ TUPLE_START ^ 3527539, total)
        if total == ALL_BITS:
            return 1546275796  # a hash of -1 means an error
        if total >> 63 == 0:
            return total
        value = ALL_BITS - total
        return -1 - value

    def times_plus(self, one: int, other: int, more: int) -> int:  # pragma: no cover - compiled build only
        """The lower 64 bits of ``one * other + more``, in halves: what overflows is an error here."""
        low = (one & LOW_HALF) * (other & LOW_HALF)
        high = ((one >> 32) * (other & LOW_HALF) & LOW_HALF) + ((one & LOW_HALF) * (other >> 32) & LOW_HALF)
        high += (low >> 32) + (more >> 32)
        low = (low & LOW_HALF) + (more & LOW_HALF)
        high = high + (low >> 32) & LOW_HALF
        return high << 32 | low & LOW_HALF

    def known_hash(self, slot: int, at: int) -> int | None:
        """The hash of a tuple or instance, as CPython computes it; ``None`` if something in it has an unknown one."""
        if self.head[slot] & (K_INSTANCE | K_FROZENSET) and (
            not self.head[slot] & K_INSTANCE or not self.rows[self.entry[slot]].hashing
        ):
            return None
        if not self.hashed_cap:
            self.begin_hashed()
        if self.hashed[slot] != UNKNOWN:
            return self.hashed[slot]
        # Post-order with a stack of our own: each frame is a node and what its parts hash like.
        frames: list[tuple[int, list[object]]] = [(slot, [])]
        walked: dict[int, object] = {}  # what was computed on this way and is not remembered for another
        unknown = vague = False
        self.charge_hash(PART_COST, at)
        while True:
            node, done = frames[len(frames) - 1]
            if len(done) == self.count_of(node):
                frames.pop()
                value: object = tuple(done)
                if self.head[node] & K_INSTANCE:
                    value = hash_like(self.rows[self.entry[node]].hashing, done)
                    unknown = unknown or value is UNKNOWABLE
                if not unknown and not vague:
                    # Wherever else it is a part, it is not looked into again.
                    self.hashed[node] = hash(value)
                    value = Hashed(self.hashed[node])
                else:
                    value = walked[node ^ _SALT] = Hashed(hash(value))
                if not frames:
                    self.vague = vague and not unknown
                    return None if unknown or vague else hash(value)
                frames[len(frames) - 1][1].append(value)
                continue
            child = self.items[self.first[node] + len(done)]
            self.charge_hash(PART_COST, at)
            if child < 0:
                if KEY_CLASS[self.data[~child]] == 2:
                    raise self.unhashable(at)
                done.append(self.constant(~child))
            elif self.hashed[child] != UNKNOWN and self.head[child] & (K_TUPLE | K_INSTANCE):
                done.append(Hashed(self.hashed[child]))
            elif child ^ _SALT in walked:
                done.append(walked[child ^ _SALT])
            elif self.head[child] & K_NAMES:
                done.append(self.name_of(child))  # it hashes by identity, however often it is looked up
            elif self.head[child] & K_INSTANCE:
                how = self.rows[self.entry[child]].hashing
                made = self.made_hash(child, how, at) if how in _MADE else UNKNOWN
                if made is not None and made != UNKNOWN:
                    done.append(Hashed(made))
                elif made is None:
                    # Few can share the hash of a moment, though it is not known; of the others it can be chosen.
                    if how in _RARE:
                        vague = True
                    else:
                        unknown = True
                    done.append(None)
                elif how and self.count_of(child):
                    # Of what nobody can choose, anything will do that equal ones share.
                    frames.append((child, []))
                else:
                    unknown = True  # what is behind it may still be no key at all
                    done.append(None)
            elif self.head[child] & K_TUPLE:
                frames.append((child, []))
            elif self.head[child] & K_BYTEARRAY:
                raise self.unhashable(at)
            elif self.head[child] & K_CONSTANTS:
                if self.hashed[child] == UNKNOWN or self.head[node] & K_INSTANCE:
                    # A number may be read from it, digit by digit.
                    self.charge_hash(2 * PART_COST * self.weight[child], at)
                if self.head[node] & K_INSTANCE:
                    done.append(self.constant(self.where[child]))
                else:
                    done.append(Hashed(self.node_hash(child, at)))
            else:
                unknown = True
                done.append(None)

    # -- constants that need a look -------------------------------------------------------------------------------

    def cut_off(self, at: int, end: int) -> Malformed:
        """The refusal for an argument that passes the end of its frame or of the data."""
        if end == self.total:
            return Malformed(Reason.TRUNCATED, at, "an argument passes the end of the data")
        return Malformed(Reason.BAD_FRAME, at, "an argument passes the end of its frame")

    def check_text(self, start: int, stop: int, at: int) -> None:
        """Refuse what is not UTF-8 (lone surrogates are: CPython writes and reads them)."""
        try:
            self.data[start:stop].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise Malformed(Reason.BAD_LITERAL, at, "text is not valid UTF-8") from None

    def too_long(self, at: int) -> Malformed:
        """The refusal for a string above its ceiling."""
        return Malformed(Reason.STRING_TOO_LONG, at, f"the limit is {self.max_string} bytes")

    def push_long(self, kind: int, length: int, at: int, sp: int) -> None:
        """Push a string; one that is not short weighs something."""
        if length < 256:
            self.stack[sp] = ~at
        else:
            self.stack[sp] = self.node(kind | F_UNHASHABLE if kind == K_BYTEARRAY else kind, 0, 1 + (length >> 6), at)

    def sized(self, at: int, end: int, width: int, codes: int, sp: int) -> int:
        """A string opcode with a 4- or 8-byte length: check, normalise and push it; returns where it ends.

        ``codes``: 0 str, 1 bytes, 2 bytearray, 3 Python 2's str.
        """
        data = self.data
        start = at + 1 + width
        if start > end:
            raise self.cut_off(at, end)
        length = data[at + 1] | data[at + 2] << 8 | data[at + 3] << 16 | data[at + 4] << 24
        if width == 8 and (data[at + 5] or data[at + 6] or data[at + 7] or data[at + 8]):
            raise self.cut_off(at, end)
        if codes == 3 and length >> 31:
            raise Malformed(Reason.BAD_LITERAL, at, "a negative length")
        if length > end - start:
            raise self.cut_off(at, end)
        if length > self.max_string:
            raise self.too_long(at)
        stop = start + length
        if codes == 3:
            self.python2_text(data[start:stop], at)
            self.replace_sized(at, stop, start, length, True)
        elif codes == 2:
            self.has_bytearray = self.odd_keys = True
        else:
            if codes == 0:
                if COMPILED and length < 256:
                    self.scan_text(start, stop, at)
                else:
                    self.check_text(start, stop, at)
            if length < 256 or width == 8:
                self.replace_sized(at, stop, start, length, codes == 0)
        self.push_long(_SIZED_KINDS[codes], length, at, sp)
        return stop

    def python2_text(self, raw: bytes, at: int) -> None:
        """Refuse a Python 2 str that is not ASCII, as CPython does by default."""
        if not raw.isascii():
            raise Malformed(Reason.BAD_LITERAL, at, "a str of Python 2 that is not ASCII")

    def long_int(self, at: int, end: int, sp: int) -> int:
        """LONG1, LONG4: check, normalise and push; returns where it ends."""
        data = self.data
        width = 1 if data[at] == 0x8A else 4
        start = at + 1 + width
        if start > end:
            raise self.cut_off(at, end)
        size = data[at + 1] if width == 1 else int.from_bytes(data[at + 1 : start], "little")
        if width == 4 and size >> 31:
            raise Malformed(Reason.BAD_LITERAL, at, "a negative length")
        if size > end - start:
            raise self.cut_off(at, end)
        if size > (self.max_bits >> 3) + 8:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {self.max_bits} bits")
        stop = start + size
        if COMPILED and size < 8 and self.max_bits >= 64:
            return self.small_long(at, start, stop, sp)
        value = int.from_bytes(data[start:stop], "little", signed=True)
        extension = 0xFF if size > 1 and data[stop - 2] >= 0x80 else 0
        if 8 <= size < 256 and width == 1 and data[stop - 1] != extension and self.max_bits >= 64:
            # No byte too many: it is spelled as it should be.
            if size == 8 and -_HASH_MODULUS < value < _HASH_MODULUS:
                self.stack[sp] = ~at
            else:
                self.push_giant(value, at, sp)
        else:
            self.push_int(value, at, stop, sp)
        return stop

    def small_long(self, at: int, start: int, stop: int, sp: int) -> int:  # pragma: no cover - compiled build only
        """:meth:`long_int` of less than eight bytes."""
        data = self.data
        value = shift = 0
        for i in range(start, stop):
            part = data[i]
            value |= part << shift
            shift += 8
        part = 1  # typed, so that shifting it does not overflow
        if shift and value >> (shift - 1):
            value -= part << shift
        self.stack[sp] = ~at
        if shift >= 40:
            part <<= shift - 9  # from here on it takes all of its bytes
        if shift < 40 or -part <= value < part or data[at] != 0x8A:
            self.replace_int(at, stop, value)
        return stop

    def push_int(self, value: int, at: int, stop: int, sp: int) -> None:
        """Push an int that was not in one of the short forms, and write it in the shortest."""
        bits = value.bit_length()
        if bits > self.max_bits:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {self.max_bits} bits")
        short = emit_int(value)
        if self.data[at:stop] != short:
            self.replace(at, stop, short)
        if -_HASH_MODULUS < value < _HASH_MODULUS:
            self.stack[sp] = ~at
        else:
            self.push_giant(value, at, sp)

    def push_giant(self, value: int, at: int, sp: int) -> None:
        """Push an int that may share its hash with another."""
        bits = value.bit_length()
        if bits > self.max_bits:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {self.max_bits} bits")
        # Each *distinct* one pays for those before it, wherever they stand, because a list of them may become a set,
        # and a field of an instance its hash.
        family = self.hashes.setdefault(hash(value) ^ _SALT, value)
        if isinstance(family, int):
            if family != value:
                self.hashes[hash(value) ^ _SALT] = {family, value}
        else:
            family.add(value)
            self.charge_hash(8 * len(family), at)
        self.giants = min(self.giants + ((bits >> 6) * (bits >> 6) >> 3), SLOWEST)
        self.stack[sp] = self.node(K_INT, 0, 1 + (bits >> 6), at)

    def read_digits(self, at: int, end: int) -> int:
        """Read a number of at most 18 digits, in its one spelling, behind the opcode at ``at``, into ``number``.

        Returns:
            Where the line ends, or 0 for anything else.
        """
        data = self.data
        i = at + 1
        negative = i < end and data[i] == 0x2D
        if negative:
            i += 1
        start = i
        stop = min(end, start + 18)
        value = 0
        while i < stop and 0x30 <= data[i] <= 0x39:
            value = 10 * value + data[i] - 0x30
            i += 1
        if i == start or (data[start] == 0x30 and (i > start + 1 or negative)):
            return 0
        if i < end and data[i] == 0x4C and data[at] == 0x4C:  # LONG ends with an L
            i += 1
        if i >= end or data[i] != 0x0A:
            return 0
        self.number = -value if negative else value
        return i + 1

    def short_line(self, at: int, end: int) -> int:  # pragma: no cover - compiled build only
        """Write a STRING or UNICODE that is short and ASCII.

        Returns:
            Where its line ends, or 0 for one that has to be looked at more closely.
        """
        data = self.data
        is_string = data[at] == 0x53
        quote = data[at + 1]
        start = i = at + 2 if is_string else at + 1
        longest = min(255, self.max_string)
        stop = min(end - 1, start + 4 * longest + 1)
        if is_string and quote != 0x22 and quote != 0x27:
            stop = 0
        length = escapes = 0
        while i < stop and data[i] != (quote if is_string else 0x0A):
            width = 1
            if data[i] == 0x5C:
                escapes += 1
                width = self.escape_width(i, stop) if is_string else 0
            if width == 0 or data[i] >= 0x80 or data[i] == 0x0A:
                return 0
            i += width
            length += 1
        if i >= stop or length > longest or (is_string and data[i + 1] != 0x0A):
            return 0
        stop = i + 2 if is_string else i + 1
        if escapes:
            self.write_escaped(at, stop, start, length)
        else:
            self.replace_sized(at, stop, start, length, True)
        return stop

    def is_short_float(self, at: int, stop: int) -> bool:  # pragma: no cover - compiled build only
        """Whether a FLOAT is digits with a point between them, as ``repr`` writes most."""
        data = self.data
        i = at + 2 if data[at + 1] == 0x2D else at + 1
        if stop - i > 24 or i >= stop or (data[i] == 0x30 and i + 1 < stop and data[i + 1] != 0x2E):
            return False
        points = 0
        start = i
        while i < stop:
            if data[i] == 0x2E:
                points += 1
                if points > 1 or i == start or i + 1 == stop:
                    return False
            elif not 0x30 <= data[i] <= 0x39:
                return False
            i += 1
        return True

    def escape_width(self, i: int, stop: int) -> int:  # pragma: no cover - compiled build only
        """How long an escape in a STRING is; 0 for one that is not ASCII or that repr does not write."""
        data = self.data
        if i + 3 < stop and data[i + 1] == 0x78:  # \xhh
            last = data[i + 3]
            is_hex = 0x30 <= last <= 0x39 or 0x61 <= last <= 0x66
            return 4 if is_hex and 0x30 <= data[i + 2] <= 0x37 else 0
        return 2 if i + 1 < stop and data[i + 1] in b"\\'\"nrt" else 0

    def write_escaped(self, at: int, stop: int, i: int, length: int) -> None:  # pragma: no cover - compiled build only
        """Write a STRING of ``length`` characters, whose content starts at ``i``."""
        data = self.data
        self.catch_up(at, stop, 2 + length)
        used = self.out_used
        self.out_bytes[used] = 0x8C
        self.out_bytes[used + 1] = length
        self.out_used = used + 2 + length
        for place in range(used + 2, used + 2 + length):
            letter = data[i]
            i += 1
            if letter == 0x5C:
                letter = data[i]
                i += 1
                if letter == 0x78:  # \xhh
                    letter = 16 * (data[i] - 0x30) + data[i + 1] - (0x30 if data[i + 1] <= 0x39 else 0x57)
                    i += 2
                elif letter == 0x6E:
                    letter = 0x0A
                elif letter == 0x72:
                    letter = 0x0D
                elif letter == 0x74:
                    letter = 0x09
            self.out_bytes[place] = letter

    def text_literal(self, at: int, end: int, sp: int) -> int:
        """INT, LONG, FLOAT, STRING, UNICODE: read up to the newline, push, and write the binary form."""
        data = self.data
        op = data[at]
        self.stack[sp] = ~at
        if op == 0x49 or op == 0x4C:
            stop = self.read_digits(at, end) if self.max_bits >= 64 else 0
            if stop:
                self.replace_int(at, stop, self.number)
                return stop
        elif COMPILED and op != 0x46:  # pragma: no cover - compiled build only
            stop = self.short_line(at, end)
            if stop:
                return stop
        newline = data.find(b"\n", at + 1, end)
        if newline < 0:
            raise self.cut_off(at, end)
        if newline - at > LONGEST_ESCAPE * self.max_string + 16:
            raise self.too_long(at)  # however it is escaped
        raw = data[at + 1 : newline]
        stop = newline + 1
        if op == 0x49 and raw in (b"00", b"01"):  # the bools of protocols 0 and 1
            new = b"\x88" if raw == b"01" else b"\x89"
        elif op == 0x49 or op == 0x4C:
            if op == 0x4C:
                raw = raw.removesuffix(b"L")
            self.push_int(decimal_text(raw, at, self.max_bits), at, stop, sp)
            return stop
        elif op == 0x46:
            number = float(raw) if COMPILED and self.is_short_float(at, newline) else float_text(raw, at)
            if self.no_nan and not number - number == 0:
                raise Malformed(Reason.NOT_FINITE, at)
            self.odd_keys = True
            new = b"G" + struct.pack(">d", number)
        else:
            if op == 0x53:
                text = string_text(raw, at)
                self.python2_text(text, at)
            else:
                try:
                    text = raw.decode("raw-unicode-escape").encode("utf-8", "surrogatepass")
                except UnicodeDecodeError:
                    raise Malformed(Reason.BAD_LITERAL, at, "not raw-unicode-escape") from None
            if len(text) > self.max_string:
                raise self.too_long(at)
            new = emit_str(text)
            self.push_long(K_STR, len(text), at, sp)
        self.replace(at, stop, new)
        return stop

    # -- memo -----------------------------------------------------------------------------------------------------

    def put(self, key: int, slot: int, at: int) -> None:
        """Any memo write that is not simply the next number."""
        used = self.memo_used
        # One more than the ceiling allows a key that starts at 1, as Python 2 writes them.
        if used >= self.max_memo or key > 16 * self.max_memo:
            raise Malformed(Reason.MEMO_TOO_LARGE, at, f"the limit is {self.max_memo}")
        if key != used and not self.is_sparse:
            self.is_sparse = True
            self.sparse = {order ^ _SALT: order for order in range(used)}
        if self.is_sparse:
            if key ^ _SALT in self.sparse:
                raise Malformed(Reason.MEMO_MISUSE, at, f"entry {key} is written twice")
            self.sparse[key ^ _SALT] = used
        if used == self.memo_cap:
            self.memo = _doubled(self.memo)
            self.memo_cap *= 2
        self.memo[used] = slot
        self.memo_used = used + 1

    def line_end(self, at: int, end: int) -> int:
        """Where the line of a PUT or GET ends."""
        for i in range(at + 1, min(end, at + 21)):  # which hold no longer number
            if self.data[i] == 0x0A:
                return i + 1
        stop = self.data.find(b"\n", at + 1, end) + 1
        if not stop:
            raise self.cut_off(at, end)
        return stop

    def memo_room(self) -> int:
        """How far the memo can be written without :meth:`put`; 0 once its keys are not simply counted."""
        return 0 if self.is_sparse or not self.may_fuse else min(self.memo_cap, self.max_memo)

    def put_line(self, at: int, stop: int, slot: int) -> None:
        """PUT, BINPUT, LONG_BINPUT: all become MEMOIZE."""
        self.put(self.memo_key(at, stop), slot, at)
        self.replace_op(at, stop, 0x94)

    def memo_key(self, at: int, stop: int) -> int:
        """The number in any PUT or GET."""
        data = self.data
        if data[at] == 0x68 or data[at] == 0x71:
            return data[at + 1]
        if data[at] == 0x6A or data[at] == 0x72:
            return data[at + 1] | data[at + 2] << 8 | data[at + 3] << 16 | data[at + 4] << 24
        if self.read_digits(at, stop):
            key = self.number
        else:
            # Nothing is kept under a number that is longer than those that are read at once.
            key = max(-1, min(decimal_text(data[at + 1 : stop - 1], at, 64), SATURATED))
        if key < 0:
            raise Malformed(Reason.MEMO_MISUSE, at, "a negative number")
        return key

    def get(self, at: int, stop: int) -> int:
        """GET, BINGET, LONG_BINGET: the slot; writes the shortest GET of the dense memo."""
        key = self.memo_key(at, stop)
        order = self.sparse.get(key ^ _SALT, -1) if self.is_sparse else key
        if not 0 <= order < self.memo_used:
            raise Malformed(Reason.MEMO_MISUSE, at, f"entry {safe_repr(key)} was not written")
        width = 2 if order < 256 else 5
        if order != key or stop - at != width or self.data[at] == 0x67:
            self.replace_get(at, stop, order)
        return self.memo[order]

    # -- names ----------------------------------------------------------------------------------------------------

    def get_runs(self, at: int, end: int, sp: int, cap: int, used: int) -> int:
        """Push what the next one-byte GETs fetch, ``_RUN`` of them at a time; pure build only. Returns how many."""
        memo, first = self.memo, sp
        stop = at + 2 * _RUN
        while stop <= end and sp + _RUN <= cap and self.data[at:stop:2] == _GETS:
            keys = self.data[at + 1 : stop : 2]
            if max(keys) >= used:
                break
            self.stack[sp : sp + _RUN] = list(map(memo.__getitem__, keys))
            sp += _RUN
            at, stop = stop, stop + 2 * _RUN
        return sp - first

    def text(self, slot: int) -> str:
        """The value of a constant str."""
        return cast("str", self.value_of(slot))

    def spell_global(self, n: int) -> bytes:
        """What pushes global ``n``: nothing but a placeholder, if it only leads to another name."""
        if self.head[n] & K_SPECIAL and self.special[n][0] <= SP_HOLDER:
            return b"N"
        module, _, name = self.name_of(n).partition(":")
        return emit_str(module.encode()) + emit_str(name.encode()) + b"\x93"

    def resolve(self, module: str, name: str, at: int) -> int:
        """The node of a global, by the names as the stream spells them."""
        module, name = modern_name(module, name, self.protocol)
        if not (is_dotted_name(module) and is_dotted_name(name)):
            raise Malformed(Reason.BAD_NAME, at, safe_repr(f"{module}:{name}"))
        if max(len(module.encode()), len(name.encode())) > MAX_NAME_BYTES:
            raise Malformed(Reason.BAD_NAME, at, f"longer than {MAX_NAME_BYTES} bytes")
        return self.global_node(f"{module}:{name}", at)

    def global_node(self, dotted: str, at: int) -> int:
        """The node of a global by its ``module:qualname``."""
        special = _SPECIAL.get(dotted, 0)
        if not special:
            index = self.row_index.get(dotted, -1)
            if index < 0:
                row = self.allow.get(dotted)
                if row is not None:
                    index = self.row_index[dotted] = self.use_row(row)
            if index >= 0:
                referable = self.rights[index] & R_REFERENCE
                n = self.node(K_GLOBAL | F_TAINT if referable else K_GLOBAL | F_TAINT | F_BARE, 0, 1, at)
                self.entry[n] = index
                return n
            if dotted in BASES:
                special = SP_BASE
            elif dotted.endswith(".__new__") and self.is_instantiable(dotted.removesuffix(".__new__")):
                special = SP_MAKER
            elif self.is_holder(dotted):
                # Not listed itself, but a listed name goes through it: getattr may fold it into that name.
                special = SP_HOLDER
            else:
                self.unlisted = dotted
                raise Forbidden(Reason.GLOBAL_NOT_ALLOWED, at, f'allow = ["{safe_repr(dotted)}"] would admit it')
        n = self.node(K_SPECIAL | F_TAINT | F_BARE, 0, 1, at)
        self.special[n] = (special, dotted)
        return n

    def is_instantiable(self, dotted: str) -> bool:
        """Whether a name is listed as a class to instantiate, with keywords."""
        row = self.allow.get(dotted)
        return row is not None and bool(row.rights & R_NEW) and row.keywords

    def use_row(self, row: Row) -> int:
        """Put a row into the tables; returns its index."""
        rule = rule_of(row)
        index = len(self.rows)
        if index == self.rows_cap:
            self.grow_rows()
        self.rows.append(row)
        self.rights[index] = rule.rights
        self.made[index] = rule.made
        self.cost[index] = BY_WORK if row.work else BY_COPY if row.name in COPIES else row.cost
        self.code_at[index] = place = self.codes_used
        codes = rule.codes(len(self.patterns), len(self.letters))
        while place + len(codes) > self.codes_cap:
            self.grow_codes()
        for code in codes:
            self.codes[place] = code
            place += 1
        self.codes_used = place
        if rule.patterns:
            self.patterns += rule.patterns
            self.letters += rule.letters
        return index

    def grow_rows(self) -> None:
        """Double the tables of rows."""
        self.rights = _doubled(self.rights)
        self.made = _doubled(self.made)
        self.cost = _doubled(self.cost)
        self.code_at = _doubled(self.code_at)
        self.rows_cap *= 2

    def grow_codes(self) -> None:
        """Double the codes."""
        self.codes = _doubled(self.codes)
        self.codes_cap *= 2

    def is_holder(self, dotted: str) -> bool:
        """Whether some listed name goes through this one. The table is walked once, when the first name asks."""
        if self.holders is None:
            self.holders = holders_of(self.allow)
        return dotted in self.holders

    def lines_end(self, at: int, end: int) -> int:
        """Where the two lines after GLOBAL or INST end."""
        middle = self.data.find(b"\n", at + 1, end)
        stop = self.data.find(b"\n", middle + 1, end) if middle >= 0 else -1
        if stop < 0:
            raise self.cut_off(at, end)
        return stop + 1

    def name_lines(self, at: int, stop: int) -> tuple[str, str]:
        """The two lines after GLOBAL or INST."""
        try:
            module, _, name = self.data[at + 1 : stop - 1].decode("utf-8").partition("\n")
        except UnicodeDecodeError:
            raise Malformed(Reason.BAD_NAME, at, "not UTF-8") from None
        return module, name

    def global_lines(self, at: int, stop: int) -> int:
        """GLOBAL: the name that two lines spell."""
        lines = self.data[at:stop]
        found = self.by_spelling.get(lines)
        if found is None:
            module, name = self.name_lines(at, stop)
            n = self.resolve(module, name, at)
            new = self.spell_global(n)
            self.keep_spelling(lines, n, new)
        else:
            n, new = found
            if self.head[n] & K_SPECIAL:
                n = self.same_special(n, at)
        self.replace(at, stop, new)
        self.note_name(n, at)
        return n

    def keep_spelling(self, key: bytes | tuple[int, ...], n: int, new: bytes) -> None:
        """Remember what names global ``n``; some slots never meet again, so no more than a few of them are kept."""
        if len(self.by_spelling) < MANY_SPELLINGS:
            self.by_spelling[key] = n, new

    def same_special(self, n: int, at: int) -> int:
        """Another node for a name that is of use in one place only: a refusal says where it stands."""
        twin = self.node(K_SPECIAL | F_TAINT | F_BARE, 0, 1, at)
        self.special[twin] = self.special[n]
        return twin

    def note_name(self, n: int, at: int) -> None:
        """Global ``n`` is looked up here, unless it only leads to another name."""
        if self.head[n] & K_GLOBAL or self.special[n][0] > SP_HOLDER:
            self.names.append((at, self.name_of(n)))

    def name_key(self, module: int, name: int, at: int) -> bytes | tuple[int, int]:
        """What names a global without a look at it: the bytes, if its two strings stand right before STACK_GLOBAL."""
        data = self.data
        first, second = ~module, ~name
        if module < 0 and name < 0 and data[first] == 0x8C and data[second] == 0x8C and first < second:
            stop = first + 2 + data[first + 1]
            if stop + (data[stop] == 0x94) == second or stop == second:
                stop = second + 2 + data[second + 1]
                if stop + (data[stop] == 0x94) == at or stop == at:
                    return data[first:at]
        return module, name

    def stack_global(self, at: int, sp: int) -> int:
        """STACK_GLOBAL over the two top slots."""
        module_slot, name_slot = self.stack[sp - 2], self.stack[sp - 1]
        key = self.name_key(module_slot, name_slot, at)
        found = self.by_spelling.get(key)
        if found is None:
            if self.kind_of(module_slot) != K_STR or self.kind_of(name_slot) != K_STR:
                raise Malformed(Reason.COMPUTED_NAME, at, "an operand is not a constant str")
            module, name = self.text(module_slot), self.text(name_slot)
            dotted = f"{module}:{name}"
            if self.protocol >= 3 and dotted in self.allow:
                # Listed as it is spelled: there is nothing to map, to check or to replace.
                n = self.global_node(dotted, at)
            else:
                n = self.resolve(module, name, at)
            # The operands stay where they are, fetched from the memo or not; what must not be looked up is dropped.
            new = b""
            if (self.head[n] & K_SPECIAL and self.special[n][0] <= SP_HOLDER) or self.name_of(n) != dotted:
                new = b"00" + self.spell_global(n)
            self.keep_spelling(key, n, new)
        else:
            n, new = found
            if self.head[n] & K_SPECIAL:
                n = self.same_special(n, at)
        if new:
            self.values += 2
            self.replace(at, at + 1, new)
        self.note_name(n, at)
        return n

    # -- calls ----------------------------------------------------------------------------------------------------

    def instance(self, index: int, args: int, at: int, flags: int) -> int:
        """A node for what a call or NEWOBJ makes from the tuple ``args``."""
        if not self.rights[index] & R_HASHABLE:
            flags |= F_UNHASHABLE
        weight, cost = self.weight[args], self.cost[index]
        if cost == BY_COPY:
            cost = weight * 3  # a text weighs one for 64 characters, and the copy is as long
        elif cost == BY_WORK:
            cost = self.work_at(index, self.first[args], self.count[args])
        self.charge_call(weight + cost, at)
        n = self.node(self.made[index] | flags | F_CALL | F_INSTANCE, self.depth[args], weight, at)
        self.entry[n] = index
        self.first[n] = self.first[args]
        self.count[n] = self.count[args]
        self.head[args] |= F_HELD
        if self.careful:
            self.add_edge(n, args, 0)
        return n

    def work_at(self, index: int, base: int, k: int) -> int:
        """What a call weighs that depends on what it is given: ``k`` items from place ``base`` on."""
        row = self.rows[index]
        size = 0
        for i in range(base, base + k):
            slot = self.items[i]
            if slot >= 0 or self.kind_of(slot) != K_STR:
                return min(row.cost + work_of(self, row.work, self.slots(base, k)), CEILING)
            size += self.short_size(~slot, K_STR)
        return row.cost + work_for(row.work, size)

    def charge_call(self, weight: int, at: int) -> None:
        """A constructor may hash, compare or copy all it gets, however often it is shared."""
        self.call_weight += weight
        if self.call_weight > self.max_weight:
            raise Malformed(Reason.TOO_HEAVY, at, f"what calls are given: the limit is {self.max_weight}")

    def count_call(self, at: int) -> None:
        """Charge one call."""
        self.calls += 1
        if self.calls > self.max_calls:
            raise Malformed(Reason.TOO_MANY_CALLS, at, f"the limit is {self.max_calls}")

    def count_instance(self, at: int) -> None:
        """Charge one instance."""
        self.instances += 1
        if self.instances > self.max_instances:
            raise Malformed(Reason.TOO_MANY_INSTANCES, at, f"the limit is {self.max_instances}")

    def check_arguments(self, index: int, base: int, k: int, at: int) -> None:
        """Refuse arguments that the row has no pattern for: ``k`` items from place ``base`` on."""
        if k < FEW_ARGUMENTS:
            if not self.accepts(index, base, k):
                raise self.bad_arguments(index, base, k, at)
        elif (index ^ _SALT, base) not in self.accepted:
            if not self.accepts(index, base, k):
                raise self.bad_arguments(index, base, k, at)
            if self.are_flat(base, k):
                self.accepted.add((index ^ _SALT, base))

    def are_flat(self, base: int, k: int) -> bool:
        """Whether no item is a container: of anything else all stays true that was said once."""
        return all(slot < 0 or not self.head[slot] & K_CONTAINERS for slot in self.slots(base, k))

    def bad_arguments(self, index: int, base: int, k: int, at: int) -> Refused:
        """The refusal for arguments that no pattern describes."""
        slots = self.slots(base, k)
        for slot in slots:
            if slot >= 0 and self.head[slot] & K_SPECIAL:
                return self.not_a_value(slot, at)
        return Forbidden(Reason.BAD_ARGUMENTS, at, f"{wanted(self, self.rows[index].name, slots)} would admit them")

    def accepts(self, index: int, base: int, k: int) -> bool:
        """Whether a call of this row may have ``k`` items from place ``base`` on as its positional arguments."""
        c = self.code_at[index]
        left = self.codes[c]
        if left == 0:
            for i in range(base, base + k):
                slot = self.items[i]
                if slot >= 0 and self.head[slot] & F_TAINT:
                    return False
            return True
        c += 1
        while left:
            left -= 1
            fixed, least, rest = self.codes[c], self.codes[c + 1], self.codes[c + 2]
            c += 3
            if fixed < 0:
                if call_fits(self, self.patterns[least], self.slots(base, k)):
                    return True
                continue
            if least <= k and (rest or k <= fixed):
                i = 0
                while i < k and self.fits(self.items[base + i], c + PATTERN_INTS * min(i, fixed)):
                    i += 1
                if i == k:
                    return True
            c += PATTERN_INTS * (fixed + rest)
        return False

    def fits(self, slot: int, c: int) -> bool:
        """Whether a value is one that the pattern at place ``c`` of the codes describes."""
        op = self.codes[c]
        if op == P_DATA:
            return slot < 0 or not self.head[slot] & F_TAINT
        if op == P_ANY:
            return slot < 0 or not self.head[slot] & F_BARE
        if op == P_KIND and slot >= 0 and not self.codes[c + 2]:
            return bool(self.head[slot] & self.codes[c + 1]) and not self.head[slot] & F_TAINT
        if op == P_KIND and slot < 0:
            kind = self.kind_of(slot)
            if not kind & self.codes[c + 1]:
                return False
            if not self.codes[c + 2] or not kind & (K_INT | K_STR | K_RAW):
                return True
            size = self.short_size(~slot, kind)
            return self.codes[c + 3] <= size <= self.codes[c + 4]
        if op == P_CHARS and slot < 0 and (self.data[~slot] == 0x8C or self.data[~slot] == 0x58):
            # SHORT_BINUNICODE, or BINUNICODE of less than 256 bytes: else it would be a node.
            start = ~slot + 2 if self.data[~slot] == 0x8C else ~slot + 5
            size = self.data[~slot + 1]
            if size > self.codes[c + 4]:
                return False
            letters = self.letters[self.codes[c + 5]]
            if COMPILED:
                for i in range(start, start + size):
                    if not letters[self.data[i]]:
                        return False
                return True
            return not self.data[start : start + size].translate(None, letters[256:])
        pattern = self.patterns[self.codes[c + 5] if op != P_CHARS else self.codes[c + 2]]
        if pattern.op == "global":
            return slot >= 0 and self.head[slot] & K_GLOBAL != 0 and self.rows[self.entry[slot]].name == pattern.value
        if slot >= 0 and (not self.head[slot] & K_CONSTANTS or self.head[slot] & K_INSTANCE):
            return fits(self, slot, pattern)
        found = self.fitted.get((c ^ _SALT, slot))
        if found is None:
            found = self.fitted[c ^ _SALT, slot] = fits(self, slot, pattern)
        return found

    def short_size(self, at: int, kind: int) -> int:
        """What bounds say of a constant that is no node: an int's value, or the length of a string."""
        data = self.data
        op = data[at]
        if op == 0x8C or op == 0x43 or op == 0x4B or op == 0x58 or op == 0x42:  # short text, bytes or int
            return data[at + 1]
        if op == 0x4D:  # BININT2
            return data[at + 1] | data[at + 2] << 8
        if kind == K_INT:
            return cast("int", self.constant(at))
        value = self.constant(at)
        return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else len(cast("bytes", value))

    def as_tuple(self, slot: int, at: int) -> int:
        """Check that a slot is an exact tuple."""
        if slot < 0 or not self.head[slot] & K_TUPLE:
            raise Malformed(Reason.BAD_ARGUMENTS, at, "the arguments are no tuple")
        return slot

    def call(self, function: int, args: int, at: int, stop: int) -> int:
        """REDUCE. Returns the result's node."""
        if function >= 0 and self.head[function] & K_SPECIAL:
            return self.call_special(function, self.as_tuple(args, at), at, stop)
        if function < 0 or not self.head[function] & K_GLOBAL:
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, "only a listed name is ever called")
        args = self.as_tuple(args, at)
        index = self.entry[function]
        rights = self.rights[index]
        if not rights & R_CALL:
            name = safe_repr(self.rows[index].name)
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, f"{name} is listed, but its entry does not let it be called")
        self.count_call(at)
        base, k = self.first[args], self.count[args]
        self.check_arguments(index, base, k, at)
        if not rights & R_HASHES:
            return self.instance(index, args, at, F_OPEN if rights & R_FRESH else 0)
        return self.instance_of_members(index, base, k, args, at, F_OPEN if rights & R_FRESH else 0)

    def check_members(self, base: int, k: int, at: int) -> None:
        """A set is made by a call: what is in the list becomes its members, though no opcode says so."""
        for slot in self.slots(base, k):
            if slot < 0 or not self.head[slot] & (K_CONTAINERS | F_NODES):
                continue
            if self.count[slot] > FREE_LIST and not self.careful:
                raise _Careful
            # Each member takes a place in a table up to five times as long, and the same list may be given again.
            self.charge_call(7 * self.count[slot], at)
            if self.head[slot] & F_NODES:
                self.check_nodes(slot, at)
            elif self.careful:
                self.check_floats(slot, self.nodes, at)
            if self.count[slot] > FREE_LIST and not self.head[slot] & K_INSTANCE:
                # The same list may be given again and again; it is looked at once, unless it has grown.
                if self.looked_at.get(slot ^ _SALT) == self.count[slot]:
                    continue
                self.looked_at[slot ^ _SALT] = self.count[slot]
                if self.head[slot] & (K_LIST | K_DICT | K_SET):
                    self.check_kept(self.first[slot], False, at)
                    self.check_kept(self.first[slot], True, at)
                else:
                    self.check_table(self.items_of(slot), False, at)
                    self.check_table(self.items_of(slot), True, at)

    def instance_of_members(self, index: int, base: int, k: int, args: int, at: int, flags: int) -> int:
        """:meth:`instance` of a row that makes members of what its ``k`` items from place ``base`` on hold."""
        self.check_members(base, k, at)
        n = self.instance(index, args, at, flags)
        if self.careful and (self.dense or n ^ _SALT in self.buckets or n ^ _SALT in self.opaque):
            self.note_made(n, base, k)
        return n

    def is_hashing(self, slot: int) -> bool:
        """Whether a call made members of a list, for this instance."""
        return self.head[slot] & K_INSTANCE != 0 and self.rights[self.entry[slot]] & R_HASHES != 0

    def check_nodes(self, slot: int, at: int) -> None:
        """What is no constant in this container becomes a member of a set."""
        if not self.careful:
            raise _Careful  # only then it is known what the list holds
        # The number of the instance that is about to be made, whose line is asked what it is: nothing yet.
        n = self.nodes
        if n == self.node_cap:
            self.grow_nodes()
        self.head[n] = 0
        edge = self.edge_first[slot]
        while edge:
            self.check_key(n, self.edge_to[edge], at)
            edge = self.edge_next[edge]
        self.check_floats(slot, n, at)

    def check_floats(self, slot: int, n: int, at: int) -> None:
        """The floats of a list become members of ``n``; careful runs only, which keep what lists hold."""
        if self.head[slot] & KINDS == K_LIST:
            for part in self.kept(self.first[slot]):
                if part < 0 and (self.data[~part] == 0x47 or self.data[~part] == 0x46):  # BINFLOAT, FLOAT
                    self.check_float(n, ~part, at)

    def call_special(self, function: int, args: int, at: int, stop: int) -> int:
        """REDUCE of getattr, which is folded, or of one of copyreg's reconstructors."""
        special, dotted = self.special[function]
        base, k = self.first[args], self.count[args]
        if special == SP_GETATTR:
            return self.fold(base, k, at, stop)
        if special == SP_RECONSTRUCTOR:
            return self.reconstruct(base, k, args, at)
        if special == SP_NEWOBJ and k:
            return self.new(self.items[base], base + 1, k - 1, args, at)
        if special == SP_NEWOBJ_EX and k == 3:
            return self.new_ex(self.items[base], self.items[base + 1], self.items[base + 2], args, at)
        if special == SP_PARTIAL and k == 1 and self.special_of(self.items[base]) == SP_MAKER:
            n = self.node(K_SPECIAL | F_TAINT | F_BARE, 0, 1, at)
            self.special[n] = (SP_UNSET, self.special[self.items[base]][1])
            return n
        if special == SP_READY and k == 0:
            cls, place, count, keywords, whole = self.partials[function]
            return self.new_with(self.listed_class(cls, at), place, count, keywords, whole, at)
        if special in (SP_BASE, SP_HOLDER):
            self.unlisted = dotted
            raise Forbidden(
                Reason.GLOBAL_NOT_ALLOWED, self.where[function], f'allow = ["{safe_repr(dotted)}"] is needed'
            )
        raise Forbidden(Reason.BAD_ARGUMENTS, at, f"{safe_repr(dotted)} with {k} arguments")

    def fold(self, base: int, k: int, at: int, stop: int) -> int:
        """``getattr(Class, "const")`` is the dotted name, and judged as that."""
        owner = self.items[base] if k == 2 else -1
        if owner < 0 or not self.head[owner] & K_NAMES:
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, "getattr of anything but a listed class and a constant")
        if self.head[owner] & K_SPECIAL and self.special[owner][0] not in (SP_HOLDER, SP_BASE):
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, "getattr of what is not listed")
        attribute = self.items[base + 1]
        # What stands for getattr and its arguments is dropped, and the name takes its place.
        self.values += 2
        found = self.by_spelling.get((owner, attribute, 0))
        if found is not None:
            self.replace(at, stop, found[1])
            self.note_name(found[0], at)
            return found[0]
        if self.kind_of(attribute) != K_STR:
            raise Malformed(Reason.COMPUTED_NAME, at, "the attribute is not a constant str")
        name = self.text(attribute)
        if not name.isidentifier():
            raise Malformed(Reason.BAD_NAME, at, safe_repr(name))
        dotted = f"{self.name_of(owner)}.{name}"
        if len(dotted.encode()) > MAX_NAME_BYTES:
            raise Malformed(Reason.BAD_NAME, at, f"longer than {MAX_NAME_BYTES} bytes")
        n = self.global_node(dotted, at)
        new = b"00" + self.spell_global(n)
        self.replace(at, stop, new)
        self.note_name(n, at)
        if self.head[n] & K_GLOBAL:
            self.keep_spelling((owner, attribute, 0), n, new)
        return n

    def special_of(self, slot: int) -> int:
        """Which of the globals with rules of their own a slot is; 0 for anything else."""
        return self.special[slot][0] if slot >= 0 and self.head[slot] & K_SPECIAL else 0

    def set_partial(self, target: int, state: int, at: int) -> bool:
        """BUILD of ``functools.partial(cls.__new__)``: the state must call just that, with data."""
        parts = self.items_of(state) if state >= 0 and self.head[state] & K_TUPLE else []
        maker = self.special[target][1]
        if (
            len(parts) != 4
            or self.special_of(parts[0]) != SP_MAKER
            or self.special[parts[0]][1] != maker
            or self.kind_of(parts[1]) != K_TUPLE
            or not self.count[parts[1]]
            or self.kind_of(parts[2]) != K_DICT
            or self.kind_of(parts[3]) != 1  # None
        ):
            raise Forbidden(Reason.BAD_STATE, at, "functools.partial of anything but a listed class's own __new__")
        place = self.first[parts[1]]
        cls = self.items[place]
        if cls < 0 or not self.head[cls] & K_GLOBAL or f"{self.name_of(cls)}.__new__" != maker:
            raise Forbidden(Reason.BAD_STATE, at, "__new__ of one class and an instance of another")
        self.seal(state)
        self.head[state] |= F_HELD
        self.special[target] = (SP_READY, maker)
        self.partials[target] = (cls, place + 1, self.count[parts[1]] - 1, parts[2], state)
        return True

    def listed_class(self, slot: int, at: int) -> int:
        """The row index of a class that may be instantiated."""
        if slot < 0 or not self.head[slot] & K_GLOBAL:
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, "only a listed class is ever instantiated")
        index = self.entry[slot]
        if not self.rights[index] & R_NEW:
            name = safe_repr(self.rows[index].name)
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, f"{name} is listed, but not as a class to instantiate")
        return index

    def new(self, cls: int, base: int, k: int, args: int, at: int) -> int:
        """NEWOBJ: ``cls.__new__(cls, *items)``, ``k`` items from place ``base`` on."""
        index = self.listed_class(cls, at)
        self.count_instance(at)
        self.check_arguments(index, base, k, at)
        if self.rights[index] & R_HASHES:
            return self.made_from(self.instance_of_members(index, base, k, args, at, F_OPEN), base, k)
        return self.made_from(self.instance(index, args, at, F_OPEN), base, k)

    def made_from(self, n: int, base: int, k: int) -> int:
        """Say which items an instance is made from, where its class stands among them."""
        self.first[n] = base
        self.count[n] = k
        return n

    def new_ex(self, cls: int, args: int, keywords: int, whole: int, at: int) -> int:
        """NEWOBJ_EX: ``cls.__new__(cls, *args, **keywords)``; ``whole`` is a tuple that holds both."""
        args = self.as_tuple(args, at)
        if keywords < 0 or self.head[keywords] & KINDS != K_DICT:
            raise Malformed(Reason.BAD_ARGUMENTS, at, "the keyword arguments are no dict")
        return self.new_with(self.listed_class(cls, at), self.first[args], self.count[args], keywords, whole, at)

    def new_with(self, index: int, base: int, k: int, keywords: int, whole: int, at: int) -> int:
        """``cls.__new__(cls, *items, **keywords)``, ``k`` items from place ``base`` on."""
        row = self.rows[index]
        if self.count[keywords]:
            if not row.keywords:
                raise Forbidden(Reason.BAD_ARGUMENTS, at, f"{safe_repr(row.name)} takes no keyword arguments")
            for name in self.keys_of(keywords):
                if self.kind_of(name) != K_STR:
                    raise Malformed(Reason.BAD_ARGUMENTS, at, "a keyword is no str")
            if self.head[keywords] & F_TAINT:
                raise Forbidden(Reason.BAD_ARGUMENTS, at, "a class or function as keyword argument")
        self.count_instance(at)
        self.check_arguments(index, base, k, at)
        if self.rights[index] & R_HASHES:
            made = self.instance_of_members(index, base, k, whole, at, F_OPEN)
        else:
            made = self.instance(index, whole, at, F_OPEN)
        # Keywords are part of what it is made from.
        return made if self.count[keywords] else self.made_from(made, base, k)

    def reconstruct(self, place: int, k: int, args: int, at: int) -> int:
        """``copyreg._reconstructor(cls, base, state)``: protocols 0 and 1 of what NEWOBJ makes later."""
        if k != 3:
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"copyreg._reconstructor with {k} arguments")
        index = self.listed_class(self.items[place], at)
        base, state = self.items[place + 1], self.items[place + 2]
        name = self.name_of(base) if base >= 0 and self.head[base] & K_NAMES else ""
        if name not in BASES:
            raise Forbidden(Reason.BAD_ARGUMENTS, at, "a base that is not object or a built-in type")
        if not self.kind_of(state) & BASES[name] or (state >= 0 and self.head[state] & F_TAINT):
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"state that is no plain {name[9:]}")
        if self.kind_is_instance(state) and self.name_of(state) not in (name, "_codecs:encode"):
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"state that is no plain {name[9:]}")
        needed = _BASE_RIGHTS.get(name, 0)
        if needed and not self.rights[index] & needed:
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"{safe_repr(self.rows[index].name)} is no {name[9:]}")
        if self.rows[index].signatures and name != "builtins:complex":
            # What NEWOBJ would be given for the same object; patterns hold whatever the protocol. (A complex is
            # given whole here, and in two parts there.)
            self.check_arguments(index, place + 2, 0 if name == "builtins:object" else 1, at)
        self.count_instance(at)
        plain = name == "builtins:object"
        return self.made_from(self.instance(index, args, at, F_OPEN), place + 2, 0 if plain else 1)

    def kind_is_instance(self, slot: int) -> bool:
        """Whether a slot is something that a call made."""
        return slot >= 0 and bool(self.head[slot] & K_INSTANCE)

    def make_old(self, cls: int, low: int, sp: int, at: int) -> int:
        """INST and OBJ: a call if there are arguments, NEWOBJ if there are none."""
        args = self.make_tuple(low, sp, at)
        if cls >= 0 and self.head[cls] & K_GLOBAL and low == sp and self.rights[self.entry[cls]] & R_CLASS:
            if not self.rights[self.entry[cls]] & R_CALL:
                # CPython calls a class that has __getinitargs__, and makes an instance of any other.
                name = safe_repr(self.rows[self.entry[cls]].name)
                raise Forbidden(
                    Reason.CALL_NOT_ALLOWED, at, f"{name} is listed, but its entry does not let it be called"
                )
            return self.new(cls, 0, 0, args, at)
        if cls >= 0 and self.head[cls] & K_SPECIAL:
            raise self.not_a_value(cls, at)
        return self.call(cls, args, at, at)

    def old_instance(self, at: int, end: int, low: int, sp: int) -> tuple[int, int]:
        """INST: the node and where the opcode ends. It stays what it is, with today's name."""
        stop = self.lines_end(at, end)
        module, name = self.name_lines(at, stop)
        n = self.resolve(module, name, at)
        if self.head[n] & K_SPECIAL:
            raise self.not_a_value(n, at)
        dotted = self.name_of(n)
        if not dotted.isascii():
            raise Malformed(Reason.BAD_NAME, at, "INST takes ASCII names")
        self.names.append((at, dotted))
        made = self.make_old(n, low, sp, at)
        new = b"i" + dotted.replace(":", "\n").encode("ascii") + b"\n"
        if new != self.data[at:stop]:
            self.replace(at, stop, new)
        return made, stop

    def build(self, target: int, state: int, at: int) -> bool:
        """BUILD. False: only a careful run can measure this."""
        if self.special_of(target) == SP_UNSET:
            return self.set_partial(target, state, at)
        if target < 0 or not self.head[target] & K_INSTANCE:
            raise Forbidden(Reason.BUILD_NOT_ALLOWED, at, "the target is no instance made in this stream")
        index = self.entry[target]
        flags = self.head[target]
        rights = self.rights[index]
        if not flags & F_OPEN:
            name = safe_repr(self.rows[index].name)
            raise Forbidden(
                Reason.BUILD_NOT_ALLOWED, at, f'is the result fresh? then allow = ["{name} returns=fresh"] says so'
            )
        if flags & F_BUILT:
            raise Forbidden(Reason.BUILD_NOT_ALLOWED, at, "the instance has its state already")
        if self.hashed_cap and self.hashed[target] != UNKNOWN and self.rows[index].hashing in _STATED:
            raise Forbidden(
                Reason.BUILD_NOT_ALLOWED, at, "the instance is a key or in one, and its state may be its hash"
            )
        if not rights & (R_BUILD | R_SETSTATE):
            name = safe_repr(self.rows[index].name)
            if rights & R_FRESH:
                advice = f'if its own __setstate__ is safe: allow = ["{name} state=setstate"]'
            else:
                advice = f'if making one always gives a new object: allow = ["{name} returns=fresh"]'
            raise Forbidden(Reason.BUILD_NOT_ALLOWED, at, advice)
        if rights & R_DATA_STATE and (state < 0 or not self.head[state] & F_TAINT):
            pass
        elif rights & R_FLAT_STATE:
            self.flat_states[target ^ _SALT] = state
            if not self.is_flat_state(index, state):
                self.check_state(index, target, state, at)
        elif not (rights & R_PLAIN_STATE and self.is_plain_state(index, state)):
            self.check_state(index, target, state, at)
        self.head[target] |= F_BUILT
        if flags & F_HELD and not self.careful:
            return False
        self.values += 1
        if state >= 0:
            if self.head[state] & K_TUPLE:
                self.seal(state)
            # What holds only itself is held by nobody.
            self.head[state] |= F_SEALED if state == target else F_HELD | F_SEALED
            if self.careful:
                self.add_edge(target, state, 0)
            self.depth[target] = max(self.depth[target], self.depth[state])
            weight = self.weight[target]
            weight += self.weight[state]
            if weight > self.max_weight:
                raise self.too_heavy(at)
            self.weight[target] = weight
            self.charge_call(self.weight[state], at)
        return True

    def check_state(self, index: int, target: int, state: int, at: int) -> None:
        """Refuse state that the row has no pattern for."""
        row = self.rows[index]
        # State that an instance has already grows no more, so what was said of it stays true; but some patterns look
        # at the instance too.
        again = not row.state and state >= 0 and self.head[state] & F_SEALED != 0
        if not again or (index ^ _SALT, state) not in self.states_fitted:
            why = state_fits(self, row, state, target)
            if why:
                raise Forbidden(Reason.BAD_STATE, at, f"{safe_repr(row.name)}: {why}")
            if not row.state:
                self.states_fitted.add((index ^ _SALT, state))
            elif self.rights[index] & R_FLAT_STATE:
                self.flat_keys.update([(index ^ _SALT, key) for key in self.keys_of(state)])
        self.states[target] = state

    def seal(self, state: int) -> None:
        """Nothing of an instance's state grows any more: the state, and what stands in tuples of it."""
        open_ends = [state]
        while open_ends:
            slot = open_ends.pop()
            if not self.head[slot] & F_SEALED:
                self.head[slot] |= F_SEALED
                if self.head[slot] & K_TUPLE:
                    open_ends += [part for part in self.items_of(slot) if part >= 0]

    def is_plain_state(self, index: int, state: int) -> bool:
        """Whether state is a dict of plain data whose keys are short strings and no dunders; what most state is."""
        if state < 0 or self.head[state] & (KINDS | F_TAINT) != K_DICT:
            return False
        run = self.first[state]
        if run == 0:
            return True
        if self.items[run - 1] != 0:
            return False  # more than one run
        stop = run + 1 + self.items[run]
        if COMPILED:
            for i in range(run + 1, stop):
                slot = self.items[i]
                if slot >= 0 or (self.data[~slot] != 0x8C and self.data[~slot] != 0x58):
                    return False
                place = ~slot + 2 if self.data[~slot] == 0x8C else ~slot + 5  # SHORT_BINUNICODE, BINUNICODE
                if self.data[place] == 0x5F and self.data[place + 1] == 0x5F:
                    return False
            return True
        return self.is_known(index, run + 1, stop)

    def is_flat_state(self, index: int, state: int) -> bool:
        """Whether state is a dict of constants whose keys, these very ones, were looked at before for this row."""
        if state < 0 or self.head[state] & (KINDS | F_TAINT | F_NODES) != K_DICT:
            return False
        run = self.first[state]
        if run == 0 or self.items[run - 1] != 0:
            return False  # none, or more than one run
        for i in range(run + 1, run + 1 + self.items[run]):
            if (index ^ _SALT, self.items[i]) not in self.flat_keys:
                return False
        return True

    def is_known(self, index: int, start: int, stop: int) -> bool:
        """Whether these are the keys that were looked at last time for this row; pure build only."""
        keys = self.items[start:stop]
        if keys == self.good_keys.get(index):
            return True
        self.good_keys[index] = keys if self.are_plain_names(keys) else ()
        return bool(self.good_keys[index])

    def are_plain_names(self, keys: Sequence[int]) -> bool:
        """Whether these are short strings and no dunders."""
        data = self.data
        for slot in keys:
            if slot >= 0 or (data[~slot] != 0x8C and data[~slot] != 0x58):
                return False
            place = ~slot + 2 if data[~slot] == 0x8C else ~slot + 5
            if data[place] == 0x5F and data[place + 1] == 0x5F:
                return False
        return True

    # -- taking away ----------------------------------------------------------------------------------------------

    def discard(self, low: int, sp: int, at: int) -> None:
        """POP, POP_MARK: never of the only reference to what a call made. What is dropped was made, and counts."""
        self.values += sp - low
        for i in range(low, sp):
            slot = self.stack[i]
            if slot < 0:
                continue
            head = self.head[slot]
            if head & F_CALL and not head & F_HELD:
                if not self.replaced(slot, at):
                    raise Forbidden(Reason.DISCARDED_CALL, at)
                self.let_go.add(slot)
                if self.careful:
                    # What it was made from may have grown since it was weighed, and no one will weigh it again.
                    self.survey(slot, at)
                    self.charge_call(self.seen_weight[slot], at)

    def replaced(self, slot: int, at: int) -> bool:
        """Whether the next opcode gets another instance of the same row, made from the same arguments' shape.

        CPython writes that for an object that holds itself through its own constructor's arguments.
        """
        data = self.data
        op = data[at + 1]
        if op == 0x68:
            key = data[at + 2]
        elif op == 0x6A:
            key = int.from_bytes(data[at + 2 : at + 6], "little")
        elif op == 0x67:
            text = data[at + 2 : max(data.find(b"\n", at + 2, at + 16), at + 2)]
            if not text.isdigit():
                return False
            key = int(text)
        else:
            return False
        order = self.sparse.get(key ^ _SALT, -1) if self.is_sparse else key
        if not 0 <= order < self.memo_used:
            return False
        other = self.memo[order]
        return (
            self.kind_is_instance(other)
            and self.kind_is_instance(slot)
            and self.entry[other] == self.entry[slot]
            and self.count[other] == self.count[slot]
        )

    # -- the finished graph ---------------------------------------------------------------------------------------

    def survey(self, root: int, at: int) -> None:
        """Measure what hangs on ``root`` now, without the edges that close cycles: ``seen_depth``, ``seen_weight``.

        Depth first, as whatever walks the value later would go: an edge back into the path being walked ends there.
        """
        self.walks = walk = self.walks + 1
        self.seen_in[root] = walk
        self.seen_depth[root] = -1  # on the path
        self.seen_weight[root] = self.own_weight(root)
        self.path[0] = root
        self.turn[0] = self.edge_first[root]
        top = steps = 0
        while top >= 0:
            node = self.path[top]
            edge = self.turn[top]
            if edge:
                self.turn[top] = self.edge_next[edge]
                steps += 1
                child = self.edge_to[edge]
                if self.seen_in[child] != walk:
                    self.seen_in[child] = walk
                    self.seen_depth[child] = -1
                    self.seen_weight[child] = self.own_weight(child)
                    top += 1
                    self.path[top] = child
                    self.turn[top] = self.edge_first[child]
                elif self.seen_depth[child] >= 0:
                    self.seen_weight[node] = min(self.seen_weight[node] + self.seen_weight[child], SATURATED)
                continue
            top -= 1
            steps += 1
            deepest = 1 if self.head[node] & (K_INSTANCE | K_CONTAINERS) else 0
            if self.head[node] & (K_TUPLE | K_INSTANCE) and not self.head[node] & F_UNHASHABLE:
                # As deep as when it was made, whichever way it was reached: hashing goes down there in one breath.
                deepest = self.depth[node]
            edge = self.edge_first[node]
            while edge:
                # Minus one level: it is on the path, so this edge closes a cycle.
                if self.seen_depth[self.edge_to[edge]] >= 0:
                    deepest = max(deepest, self.seen_depth[self.edge_to[edge]] + self.edge_gap[edge])
                edge = self.edge_next[edge]
            self.seen_depth[node] = deepest
            if top >= 0:
                above = self.path[top]
                self.seen_weight[above] = min(self.seen_weight[above] + self.seen_weight[node], SATURATED)
        if self.seen_weight[root] > self.max_weight:
            raise Malformed(Reason.TOO_HEAVY, at, f"the limit is {self.max_weight}")
        if self.seen_depth[root] > self.max_depth:
            raise Malformed(Reason.TOO_DEEP, at, f"the limit is {self.max_depth}")
        # The walk itself is paid for like the hashing it stands for.
        self.charge_hash(steps, at)

    def check_reach(self, root: int, at: int) -> None:
        """Refuse what was made by a call and is held by nothing but a cycle that was discarded with it."""
        self.walks = walk = self.walks + 1
        top = -1
        if root >= 0:
            self.seen_in[root] = walk
            self.path[0] = root
            top = 0
        while top >= 0:
            edge = self.edge_first[self.path[top]]
            top -= 1
            while edge:
                child = self.edge_to[edge]
                if self.seen_in[child] != walk:
                    self.seen_in[child] = walk
                    top += 1
                    self.path[top] = child
                edge = self.edge_next[edge]
        for node in range(self.nodes):
            if self.head[node] & K_INSTANCE and self.seen_in[node] != walk and node not in self.let_go:
                raise Forbidden(Reason.DISCARDED_CALL, at, f"made at byte {self.where[node]}, and lost with a cycle")

    def own_weight(self, node: int) -> int:
        """Weight of a node without the nodes it holds: itself and its constants."""
        return 1 + self.loose[node] if self.head[node] & (K_INSTANCE | K_CONTAINERS) else self.weight[node]

    def finish(self, at: int, sp: int) -> None:
        """STOP: exactly one value, nothing behind, everything used."""
        if sp != 1 or self.marks_used:
            raise Malformed(Reason.BAD_STOP, at, f"{sp} values and {self.marks_used} marks are left")
        if at + 1 != self.total:
            raise Malformed(Reason.TRAILING_BYTES, at + 1, f"{self.total - at - 1} bytes")
        if self.used_buffers != self.buffers:
            raise Malformed(Reason.BUFFER_MISUSE, at, f"{self.buffers} buffers passed, {self.used_buffers} used")
        root = self.stack[0]
        if root >= 0 and self.head[root] & F_BARE:
            raise self.not_a_value(root, at)
        if self.careful:
            self.check_reach(root, at)
            if root >= 0:
                self.survey(root, at)
                self.depth[root], self.weight[root] = self.seen_depth[root], self.seen_weight[root]
        if self.large:
            self.check_large(at)
        self.values += 1
        if self.values > self.max_nodes:
            raise Malformed(Reason.TOO_MANY_NODES, at, f"the limit is {self.max_nodes}")
        header = b"\x80\x05" if self.buffers or self.has_bytearray else b"\x80\x04"
        written = self.written()
        if self.total - self.copied < LONG_SPAN and not self.pieces:
            rest = self.data[self.copied : self.total]
            self.canonical = header + written + rest if written else header + rest
        else:
            self.canonical = b"".join((header, *self.pieces, written, memoryview(self.data)[self.copied : self.total]))

    # -- the loop -------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Read the whole stream.

        Returns:
            True when it was accepted; False when only a careful run can say.

        Raises:
            Refused: With the offset of the opcode.
        """
        try:
            return self.loop()
        except _Careful:
            return False

    def loop(self) -> bool:
        """The loop over the opcodes; see :meth:`run`."""
        data, total = self.data, self.total
        stack, marks, memo = self.stack, self.marks, self.memo
        trace = self.trace
        max_string, max_stack = self.max_string, self.max_stack
        narrow = self.max_bits < 32
        no_nan = self.no_nan
        cap = 0 if trace is not None else min(self.cap, max_stack + 1)
        pos = floor = sp = mp = at = used = fused = 0
        end = total
        framed = False
        dense = True
        if total >= 2 and data[0] == 0x80:
            self.protocol = data[1]
            if self.protocol > 5:
                raise Malformed(Reason.BAD_PROTOCOL, 0, f"protocol {self.protocol}")
            pos = self.copied = 2
            if trace is not None:
                trace.append((0, 0, (), 0))
        room = self.memo_room()
        marks_room = self.marks_cap
        n = k = 0
        void = -1
        for ops in range(1 if pos == 0 else 2, self.max_opcodes + 1):
            if pos >= end:
                if pos >= total:
                    raise Malformed(Reason.TRUNCATED, pos, "there is no STOP")
                end = total
                framed = False
            if sp >= cap:
                # The opcode before this one pushed too much, or the tables are full.
                self.marks_used = mp
                cap = self.stack_room(sp, at)
                stack = self.stack
                if trace is not None:
                    cap = 0
                    trace.append((pos, sp, self.top(sp), mp))
            at = pos
            op = data[at]
            pos = at + 1
            if op >= 0x80:
                if op == 0x8C:  # SHORT_BINUNICODE
                    n = data[pos]
                    pos = at + 2 + n
                    if pos > end:
                        raise self.cut_off(at, end)
                    if n > max_string:
                        raise self.too_long(at)
                    if COMPILED:
                        self.scan_text(at + 2, pos, at)
                    elif not data[at + 2 : pos].isascii():
                        self.check_text(at + 2, pos, at)
                    stack[sp] = ~at
                    sp += 1
                    if used < room and pos < end and data[pos] == 0x94:
                        memo[used] = ~at
                        used += 1
                        pos += 1
                        fused += 1
                elif op == 0x94:  # MEMOIZE
                    if sp <= floor:
                        raise self.underflow(mp, at)
                    if used >= room:
                        self.memo_used = used
                        self.put(used, stack[sp - 1], at)
                        used, memo, room = self.memo_used, self.memo, self.memo_room()
                    else:
                        memo[used] = stack[sp - 1]
                        used += 1
                elif op == 0x85 or op == 0x86 or op == 0x87:  # TUPLE1, TUPLE2, TUPLE3
                    k = sp - (op - 0x84)
                    if k < floor:
                        raise self.underflow(mp, at)
                    stack[k] = self.make_tuple(k, sp, at)
                    sp = k + 1
                elif op == 0x81:  # NEWOBJ
                    if sp - 2 < floor:
                        raise self.underflow(mp, at)
                    k = self.as_tuple(stack[sp - 1], at)
                    stack[sp - 2] = self.new(stack[sp - 2], self.first[k], self.count[k], k, at)
                    sp -= 1
                elif op == 0x88 or op == 0x89:  # NEWTRUE, NEWFALSE
                    stack[sp] = ~at
                    sp += 1
                elif op == 0x93:  # STACK_GLOBAL
                    if sp - 2 < floor:
                        raise self.underflow(mp, at)
                    stack[sp - 2] = self.stack_global(at, sp)
                    sp -= 1
                elif op == 0x90:  # ADDITEMS
                    if not mp:
                        raise self.no_mark(at)
                    mp -= 1
                    k = marks[mp]
                    floor = marks[mp - 1] if mp else 0
                    if k <= floor:
                        raise self.underflow(mp, at)
                    if not self.add_members(stack[k - 1], k, sp, at):
                        return False
                    sp = k
                elif op == 0x8F:  # EMPTY_SET
                    stack[sp] = self.empty(K_SET | F_UNHASHABLE)
                    sp += 1
                elif op == 0x91:  # FROZENSET
                    if not mp:
                        raise self.no_mark(at)
                    mp -= 1
                    k = marks[mp]
                    floor = marks[mp - 1] if mp else 0
                    n = self.empty(K_FROZENSET | F_INSTANCE)
                    if sp > k:
                        self.check_keys(n, k, sp, 1, at)
                        if sp - k > LARGE_TABLE:
                            self.check_frozenset(k, sp, at)
                        if self.careful:
                            self.first[n] = self.keep(k, sp, 1)
                        if self.buckets or self.opaque or self.dense:
                            self.note_dense(n, k, sp)
                        self.absorb(n, k, sp, at)  # last: in Python, it may put other slots there (fold_shared)
                    stack[k] = n
                    sp = k + 1
                elif op == 0x95:  # FRAME
                    pos = at + 9
                    if framed:
                        raise Malformed(Reason.BAD_FRAME, at, "a frame within a frame")
                    if pos > total:
                        raise Malformed(Reason.TRUNCATED, at, "a frame without its length")
                    end = self.frame_end(at, pos)
                    framed = True
                    if self.copied == at:
                        self.copied = pos
                    else:
                        self.replace(at, pos, b"")
                elif op == 0x8A or op == 0x8B:  # LONG1, LONG4
                    pos = self.long_int(at, end, sp)
                    sp += 1
                elif op == 0x92:  # NEWOBJ_EX
                    if sp - 3 < floor:
                        raise self.underflow(mp, at)
                    k = self.bundle(sp, at)
                    stack[sp - 3] = self.new_ex(stack[sp - 3], stack[sp - 2], stack[sp - 1], k, at)
                    sp -= 2
                elif op == 0x8D:  # BINUNICODE8
                    pos = self.sized(at, end, 8, 0, sp)
                    sp += 1
                elif op == 0x8E:  # BINBYTES8
                    pos = self.sized(at, end, 8, 1, sp)
                    sp += 1
                elif op == 0x96:  # BYTEARRAY8
                    pos = self.sized(at, end, 8, 2, sp)
                    sp += 1
                elif op == 0x97:  # NEXT_BUFFER
                    if self.used_buffers >= self.buffers:
                        raise Malformed(Reason.BUFFER_MISUSE, at, f"the caller passed {self.buffers}")
                    self.used_buffers += 1
                    self.odd_keys = True
                    stack[sp] = ~at
                    sp += 1
                elif op == 0x98:  # READONLY_BUFFER
                    if sp <= floor:
                        raise self.underflow(mp, at)
                    if stack[sp - 1] >= 0 or data[~stack[sp - 1]] != 0x97:
                        raise Malformed(Reason.BUFFER_MISUSE, at, "the top of the stack is no buffer")
                elif op == 0x80:  # PROTO
                    if pos >= total:
                        raise self.cut_off(at, end)
                    raise Malformed(Reason.BAD_PROTOCOL, at, "PROTO may only be first")
                elif op == 0x82 or op == 0x83 or op == 0x84:  # EXT1, EXT2, EXT4
                    raise Forbidden(Reason.EXTENSION_CODE, at)
                else:
                    raise self.unknown(op, at)
            elif op == 0x68:  # BINGET
                while True:
                    k = data[pos]
                    pos = at + 2
                    if pos > end:
                        raise self.cut_off(at, end)
                    if k < used and dense:
                        stack[sp] = memo[k]
                    else:
                        self.memo_used = used
                        stack[sp] = self.get(at, pos)
                    sp += 1
                    if pos >= end or sp >= cap or not room or data[pos] != 0x68:
                        break
                    if not COMPILED and pos + 2 * _RUN < end and data[pos + 2 * _RUN - 2] == 0x68:
                        k = self.get_runs(pos, end, sp, cap, used) if dense else 0
                        pos += 2 * k
                        sp += k
                        fused += k
                        at = pos - 2  # the last that was taken, for whoever says where the stack was full
                        if sp >= cap or pos >= end or data[pos] != 0x68:
                            break
                    at = pos
                    pos += 1
                    fused += 1
            elif op == 0x4B:  # BININT1
                pos = at + 2
                if pos > end:
                    raise self.cut_off(at, end)
                if narrow:
                    self.check_narrow(at)
                stack[sp] = ~at
                sp += 1
            elif op == 0x28:  # MARK
                if sp + mp >= max_stack:
                    raise Malformed(Reason.STACK_TOO_LARGE, at, f"the limit is {max_stack}")
                if mp == marks_room:
                    self.grow_marks()
                    marks = self.marks
                    marks_room = self.marks_cap
                marks[mp] = sp
                mp += 1
                floor = sp
                if cap > max_stack + 1 - mp:  # noqa: PLR1730
                    cap = max_stack + 1 - mp
            elif op == 0x7D:  # EMPTY_DICT
                stack[sp] = self.empty(K_DICT | F_UNHASHABLE)
                self.values += 1
                sp += 1
                if used < room and pos < end and data[pos] == 0x94:
                    memo[used] = stack[sp - 1]
                    used += 1
                    pos += 1
                    fused += 1
                    if pos < end and data[pos] == 0x28 and sp < cap and mp < marks_room and sp + mp < max_stack:
                        marks[mp] = sp
                        mp += 1
                        floor = sp
                        if cap > max_stack + 1 - mp:  # noqa: PLR1730
                            cap = max_stack + 1 - mp
                        pos += 1
                        fused += 1
            elif op == 0x75:  # SETITEMS
                if not mp:
                    raise self.no_mark(at)
                mp -= 1
                k = marks[mp]
                floor = marks[mp - 1] if mp else 0
                if k <= floor:
                    raise self.underflow(mp, at)
                if not self.add_pairs(stack[k - 1], k, sp, at):
                    return False
                sp = k
            elif op == 0x47:  # BINFLOAT
                pos = at + 9
                if pos > end:
                    raise self.cut_off(at, end)
                if no_nan and data[at + 1] & 0x7F == 0x7F and data[at + 2] >= 0xF0:
                    raise Malformed(Reason.NOT_FINITE, at)
                if not COMPILED:
                    self.odd_keys = True
                stack[sp] = ~at
                sp += 1
            elif op == 0x5D:  # EMPTY_LIST
                stack[sp] = self.empty(K_LIST | F_UNHASHABLE)
                self.values += 1
                sp += 1
                if used < room and pos < end and data[pos] == 0x94:
                    memo[used] = stack[sp - 1]
                    used += 1
                    pos += 1
                    fused += 1
                    if pos < end and data[pos] == 0x28 and sp < cap and mp < marks_room and sp + mp < max_stack:
                        marks[mp] = sp
                        mp += 1
                        floor = sp
                        if cap > max_stack + 1 - mp:  # noqa: PLR1730
                            cap = max_stack + 1 - mp
                        pos += 1
                        fused += 1
            elif op == 0x65:  # APPENDS
                if not mp:
                    raise self.no_mark(at)
                mp -= 1
                k = marks[mp]
                floor = marks[mp - 1] if mp else 0
                if k <= floor:
                    raise self.underflow(mp, at)
                n = stack[k - 1]
                if n < 0 or self.head[n] & (KINDS | F_SEALED) != K_LIST:
                    self.may_grow(n, at, K_LIST, R_LIST)
                if not self.absorb(n, k, sp, at):
                    return False
                sp = k
            elif op == 0x4D:  # BININT2
                pos = at + 3
                if pos > end:
                    raise self.cut_off(at, end)
                if narrow:
                    self.check_narrow(at)
                if not data[at + 2]:
                    self.replace_int(at, pos, data[at + 1])
                stack[sp] = ~at
                sp += 1
            elif op == 0x4E:  # NONE
                stack[sp] = ~at
                sp += 1
            elif op == 0x4A:  # BININT
                pos = at + 5
                if pos > end:
                    raise self.cut_off(at, end)
                if narrow:
                    self.check_narrow(at)
                if not data[at + 3] and not data[at + 4]:
                    self.replace_int(at, pos, data[at + 1] | data[at + 2] << 8)
                stack[sp] = ~at
                sp += 1
            elif op == 0x62:  # BUILD
                if sp - 2 < floor:
                    raise self.underflow(mp, at)
                if not self.build(stack[sp - 2], stack[sp - 1], at):
                    return False
                sp -= 1
            elif op == 0x52:  # REDUCE
                if sp - 2 < floor:
                    raise self.underflow(mp, at)
                stack[sp - 2] = self.call(stack[sp - 2], stack[sp - 1], at, pos)
                sp -= 1
            elif op == 0x6A:  # LONG_BINGET
                pos = at + 5
                if pos > end:
                    raise self.cut_off(at, end)
                self.memo_used = used
                stack[sp] = self.get(at, pos)
                sp += 1
            elif op == 0x43 or op == 0x55:  # SHORT_BINBYTES, SHORT_BINSTRING
                n = data[pos]
                pos = at + 2 + n
                if pos > end:
                    raise self.cut_off(at, end)
                if n > max_string:
                    raise self.too_long(at)
                if op == 0x55:
                    self.python2_text(data[at + 2 : pos], at)
                    self.replace_sized(at, pos, at + 2, n, True)
                stack[sp] = ~at
                sp += 1
            elif op == 0x29:  # EMPTY_TUPLE
                if void < 0:
                    void = self.empty(K_TUPLE)
                stack[sp] = void  # nothing tells one from another
                sp += 1
            elif op == 0x74:  # TUPLE
                if not mp:
                    raise self.no_mark(at)
                mp -= 1
                k = marks[mp]
                floor = marks[mp - 1] if mp else 0
                stack[k] = self.make_tuple(k, sp, at)
                sp = k + 1
            elif op == 0x58:  # BINUNICODE
                pos = self.sized(at, end, 4, 0, sp)
                sp += 1
            elif op == 0x71:  # BINPUT
                pos = at + 2
                if pos > end:
                    raise self.cut_off(at, end)
                if sp <= floor:
                    raise self.underflow(mp, at)
                if used >= room or data[at + 1] != used:
                    self.memo_used = used
                    self.put_line(at, pos, stack[sp - 1])
                    used, memo, room, dense = self.memo_used, self.memo, self.memo_room(), not self.is_sparse
                else:
                    memo[used] = stack[sp - 1]
                    used += 1
                    self.replace_op(at, pos, 0x94)
            elif op == 0x61:  # APPEND
                if sp - 2 < floor:
                    raise self.underflow(mp, at)
                if not self.add_items(stack[sp - 2], sp - 1, sp, at):
                    return False
                sp -= 1
            elif op == 0x73:  # SETITEM
                if sp - 3 < floor:
                    raise self.underflow(mp, at)
                if not self.add_pairs(stack[sp - 3], sp - 2, sp, at):
                    return False
                sp -= 2
            elif op == 0x2E:  # STOP
                if end != total:
                    raise Malformed(Reason.BAD_FRAME, at, "STOP within a frame that goes on")
                self.opcodes = ops + fused
                self.marks_used = mp
                self.finish(at, sp)
                return True
            elif op == 0x42:  # BINBYTES
                pos = self.sized(at, end, 4, 1, sp)
                sp += 1
            elif op == 0x72:  # LONG_BINPUT
                pos = at + 5
                if pos > end:
                    raise self.cut_off(at, end)
                if sp <= floor:
                    raise self.underflow(mp, at)
                self.memo_used = used
                self.put_line(at, pos, stack[sp - 1])
                used, memo, room, dense = self.memo_used, self.memo, self.memo_room(), not self.is_sparse
            elif op == 0x54:  # BINSTRING
                pos = self.sized(at, end, 4, 3, sp)
                sp += 1
            elif op == 0x49 or op == 0x4C or op == 0x46 or op == 0x53 or op == 0x56:
                # INT, LONG, FLOAT, STRING, UNICODE
                pos = self.text_literal(at, end, sp)
                sp += 1
            elif op == 0x63:  # GLOBAL
                pos = self.lines_end(at, end)
                stack[sp] = self.global_lines(at, pos)
                sp += 1
            elif op == 0x67:  # GET
                pos = self.line_end(at, end)
                self.memo_used = used
                stack[sp] = self.get(at, pos)
                sp += 1
            elif op == 0x70:  # PUT
                pos = self.line_end(at, end)
                if sp <= floor:
                    raise self.underflow(mp, at)
                self.memo_used = used
                self.put_line(at, pos, stack[sp - 1])
                used, memo, room, dense = self.memo_used, self.memo, self.memo_room(), not self.is_sparse
            elif op == 0x6C or op == 0x64:  # LIST, DICT
                if not mp:
                    raise self.no_mark(at)
                mp -= 1
                k = marks[mp]
                floor = marks[mp - 1] if mp else 0
                self.values += 1
                if op == 0x6C:
                    n = self.empty(K_LIST | F_UNHASHABLE)
                    self.absorb(n, k, sp, at)
                else:
                    n = self.empty(K_DICT | F_UNHASHABLE)
                    self.add_pairs(n, k, sp, at)
                stack[k] = n
                sp = k + 1
            elif op == 0x69:  # INST
                if not mp:
                    raise self.no_mark(at)
                mp -= 1
                k = marks[mp]
                floor = marks[mp - 1] if mp else 0
                n, pos = self.old_instance(at, end, k, sp)
                stack[k] = n
                sp = k + 1
            elif op == 0x6F:  # OBJ
                if not mp:
                    raise self.no_mark(at)
                mp -= 1
                k = marks[mp]
                floor = marks[mp - 1] if mp else 0
                if k >= sp:
                    raise self.underflow(mp, at)
                stack[k] = self.make_old(stack[k], k + 1, sp, at)
                sp = k + 1
            elif op == 0x30:  # POP
                if mp and sp == floor:
                    # As in CPython: with nothing above it, POP takes the mark.
                    mp -= 1
                    floor = marks[mp - 1] if mp else 0
                else:
                    if sp <= floor:
                        raise self.underflow(mp, at)
                    self.memo_used = used
                    self.discard(sp - 1, sp, at)
                    sp -= 1
            elif op == 0x31:  # POP_MARK
                if not mp:
                    raise self.no_mark(at)
                mp -= 1
                k = marks[mp]
                floor = marks[mp - 1] if mp else 0
                self.memo_used = used
                self.discard(k, sp, at)
                sp = k
            elif op == 0x32:  # DUP
                if sp <= floor:
                    raise self.underflow(mp, at)
                stack[sp] = stack[sp - 1]
                sp += 1
            elif op == 0x50 or op == 0x51:  # PERSID, BINPERSID
                raise Forbidden(Reason.PERSISTENT_ID, at)
            else:
                raise self.unknown(op, at)
        raise Malformed(Reason.TOO_MANY_OPCODES, pos, f"the limit is {self.max_opcodes}")

    def scan_text(self, start: int, stop: int, at: int) -> None:  # pragma: no cover - compiled build only
        """Check text that is nearly always ASCII: eight bytes at a time where that pays."""
        if COMPILED and stop > start:
            first = start >> 3
            last = (stop - 1) >> 3
            if last < self.words_count:
                # Of the last word the bytes before ``stop``, and of the first those from ``start`` on; a shift to the
                # right drops what comes first, for words are only there where the first byte is the lowest.
                found = self.words[last] & (HIGH_BITS >> (56 - 8 * ((stop - 1) & 7)))
                if first == last:
                    found = found >> 8 * (start & 7)
                else:
                    found |= (self.words[first] >> 8 * (start & 7)) & HIGH_BITS
                    for i in range(first + 1, last):
                        found |= self.words[i] & HIGH_BITS
                if found:
                    self.check_text(start, stop, at)
            else:
                for i in range(start, stop):
                    if self.data[i] >= 0x80:
                        self.check_text(start, stop, at)
                        break

    def top(self, sp: int) -> tuple[int, ...]:
        """The upmost slots, for whoever watches."""
        return tuple([self.stack[i] for i in range(max(0, sp - 4), sp)])

    def frame_end(self, at: int, start: int) -> int:
        """Where the frame of the opcode at ``at`` ends."""
        data = self.data
        length = data[at + 1] | data[at + 2] << 8 | data[at + 3] << 16 | data[at + 4] << 24
        more = data[at + 5] | data[at + 6] | data[at + 7] | data[at + 8]
        if more or length > self.total - start:
            raise Malformed(Reason.BAD_FRAME, at, "a frame longer than the data")
        return start + length

    def bundle(self, sp: int, at: int) -> int:
        """A tuple node over the arguments and keywords of NEWOBJ_EX, for what they weigh together."""
        n = self.node(K_TUPLE, 1, 1, at)
        self.first[n] = self.keep(sp - 2, sp, 1)
        weight = 1
        for i in range(sp - 2, sp):
            slot = self.stack[i]
            if slot >= 0:
                self.head[slot] |= F_HELD
                self.depth[n] = max(self.depth[n], self.depth[slot])
                weight += self.weight[slot]
                if weight > self.max_weight:
                    raise self.too_heavy(at)
                self.weight[n] = weight
                if self.careful:
                    self.add_edge(n, slot, 0)
        return n

    def check_narrow(self, at: int) -> None:
        """A short int under a limit below 32 bits."""
        if cast("int", value_at(self.data, at)).bit_length() > self.max_bits:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {self.max_bits} bits")

    def underflow(self, marks: int, at: int) -> Malformed:
        """The refusal for taking more than is there."""
        if marks:
            return Malformed(Reason.MARK_MISUSE, at, "it would take a mark for a value")
        return Malformed(Reason.STACK_UNDERFLOW, at)

    def no_mark(self, at: int) -> Malformed:
        """The refusal for an opcode whose mark is missing."""
        return Malformed(Reason.MARK_MISUSE, at, "there is no mark")

    def unknown(self, op: int, at: int) -> Malformed:
        """The refusal for a byte that is no opcode."""
        assert op not in BY_CODE
        return Malformed(Reason.UNKNOWN_OPCODE, at, f"0x{op:02x}")


def run_over(data: bytes, allow: AllowTable, limits: Limits, buffers: int) -> Outcome:
    """One run over one stream, done again with care where it must be; see :class:`verify.Verdict` for the parts.

    Raises:
        Refused: With the offset of the opcode, and the global that it is about.
    """
    machine = _SPARE[0]
    if machine is None:
        machine = Machine(data, allow, limits, buffers)
    else:
        _SPARE[0] = None
        machine.begin(data, allow, limits, buffers, False, None)
    try:
        if not machine.run():
            machine = with_care(machine, data, allow, limits, buffers)
            machine.run()
        outcome = machine.outcome()
    except Refused as refusal:
        refusal.global_name = machine.unlisted or None
        put_back(machine)
        raise
    put_back(machine)
    return outcome


def with_care(machine: Machine, data: bytes, allow: AllowTable, limits: Limits, buffers: int) -> Machine:
    """The machine for the run that is done again."""
    if not COMPILED:
        return Machine(data, allow, limits, buffers, True)
    machine.forget()
    machine.begin(data, allow, limits, buffers, True, None)
    return machine


def put_back(machine: Machine) -> None:
    """Keep a machine whose run has ended for the next one, whichever way it ended: hostile streams cost no more."""
    if COMPILED and machine.is_kept():
        machine.forget()
        _SPARE[0] = machine


def is_plain(data: bytes) -> bool:
    """Whether a canonical stream has nothing but opcodes of plain data in it: no name, call, instance or state.

    A second look with a table of its own, for loaders that resolve nothing: it decides nothing about limits or keys.
    """
    total = len(data)
    pos = 2
    while pos < total:
        form = PLAIN_FORM[data[pos]]
        pos += 1
        if form < 16:
            pos += form
        elif form == 16:
            if pos >= total:
                return False
            pos += 1 + data[pos]
        elif form == 17:
            if pos + 4 > total:
                return False
            pos += 4 + (data[pos] | data[pos + 1] << 8 | data[pos + 2] << 16 | data[pos + 3] << 24)
        else:
            return form == 32 and pos == total
    return False
