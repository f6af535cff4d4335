"""The abstract stack machine: it tracks what each value would be, never the value.

A stack slot is one integer. Negative: the constant whose opcode stands at byte ``~slot``, so strings are compared in
place. Otherwise an index into parallel tables (kind, flags, depth, weight, row), one line for each container, global,
instance and long constant (which weighs as much as it is long: a call may copy what it is given). The memo holds
slots, so a container that grows after it was memoized is seen by every later GET.

While it reads, the machine writes the canonical stream: input that is canonical already is copied by spans, the rest
is replaced. ``starts`` remembers where in the *output* the code of each stack value begins; folding
``getattr(Class, "const")`` or a name's operands is cutting the output back to that place and writing the short form.

Two promises need the finished graph: depth and weight of something that grew after another value already held it.
An honest pickler writes that for cycles only. The first such growth stops the run (``run`` returns False); it is
done again with ``careful``, which records edges and measures the graph at STOP and wherever it is hashed.

This file is one machine, hence its length. It is plain Python and compiles unchanged; no recursion, and nothing is
allocated from a claimed size. Offsets in refusals are those of the opcode that is refused.
"""

# ruff: noqa: PLR1714, PLR0917 - comparisons with literals become one C switch, and calls stay positional there
from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from safeserial.allow import Kind
from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.minipickle.literals import (
    decimal_text,
    emit_bytes,
    emit_int,
    emit_str,
    float_text,
    string_text,
    value_at,
)  # fmt: skip
from safeserial.minipickle.match import accepts, kind_of, state_fits, wanted
from safeserial.minipickle.names import is_dotted_name, modern_name
from safeserial.minipickle.opcodes import BY_CODE, KEY_CLASS
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import MutableSequence

    from safeserial.allow import AllowTable, Row
    from safeserial.limits import Limits

__all__ = ["COMPILED", "Machine"]

#: The same file is compiled under another name.
COMPILED = __name__.endswith("_machine_c")

# Node kinds (bits of allow.Kind, and two more), as plain ints: an enum member costs a call at each use.
K_INT, K_STR, K_BYTES, K_BYTEARRAY = 4, 16, 32, 64
K_TUPLE, K_LIST, K_DICT, K_SET, K_FROZENSET, K_INSTANCE = 128, 256, 512, 1024, 2048, 4096
K_CONTAINERS = K_TUPLE | K_LIST | K_DICT | K_SET | K_FROZENSET
K_GLOBAL, K_SPECIAL = 1 << 14, 1 << 15

_SIZED_KINDS = (K_STR, K_BYTES, K_BYTEARRAY, K_STR)

# Node flags.
F_TAINT = 1  # a class or function stands as a value in it
F_BARE = 2  # one of those may not be referenced: only a call's own arguments may hold it
F_UNHASHABLE = 4  # a list, dict, set, or something that holds one where hashing would look
F_INSTANCE = 8  # an instance, a frozenset, or a container with one in it: its hash is not ours to compute
F_CALL = 16  # the result of a call, or a container that alone holds one
F_HELD = 32  # some other value holds it
F_OPEN = 64  # a fresh instance: items and state may follow
F_BUILT = 128  # its state is set
F_SEALED = 256  # it is some instance's state: growing it would set attributes unseen
F_NODES = 512  # holds more than constants
INHERITED = F_TAINT | F_BARE | F_UNHASHABLE | F_INSTANCE
_CONTAINER_INHERITS = F_TAINT | F_INSTANCE

# Rights, as plain ints.
R_REFERENCE, R_CALL, R_NEW, R_BUILD, R_SETSTATE, R_FRESH = 1, 2, 4, 8, 16, 32
R_LIST, R_DICT, R_SET, R_CLASS, R_HASHABLE, R_HASHES = 64, 128, 256, 512, 1024, 2048

#: Globals with rules of their own. They are no policy: what they make is judged by the row of the class they get.
SP_GETATTR, SP_HOLDER, SP_BASE = 1, 2, 3
SP_RECONSTRUCTOR, SP_NEWOBJ, SP_NEWOBJ_EX = 4, 5, 6
_SPECIAL = {
    "builtins:getattr": SP_GETATTR,
    "copyreg:_reconstructor": SP_RECONSTRUCTOR,
    "copyreg:__newobj__": SP_NEWOBJ,
    "copyreg:__newobj_ex__": SP_NEWOBJ_EX,
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
#: What a call of these makes, beside an instance. Below protocol 4 sets and bytes are calls.
_RESULT_KINDS = {
    "_codecs:encode": int(Kind.BYTES),
    "builtins:bytes": int(Kind.BYTES),
    "builtins:bytearray": int(Kind.BYTEARRAY),
    "builtins:set": int(Kind.SET),
    "builtins:frozenset": int(Kind.FROZENSET),
}
# They hash what they are given, whatever a table says of them; their subclasses are known by Right.HASHES.
_HASHES_ITS_LIST = frozenset({"builtins:set", "builtins:frozenset"})
# A set may be made of a list that costs no more than this at the very worst; else its members are looked at.
_FREE_MEMBERS = 16_384

# hash(n) == n modulo this: ints below it never share a hash with each other (but -1 and -2).
_HASH_MODULUS = (1 << 61) - 1
_SLACK = 16  # zero bytes behind the data, so that fixed-width arguments can be read before the end is checked
_MAX_NAME_BYTES = 255  # SHORT_BINUNICODE


class _Careful(Exception):  # noqa: N818 - never leaves this module
    """Only a careful run can measure this."""


def _table(size: int, fill: int = 0) -> MutableSequence[int]:
    """A table of integers. Lists are fastest in Python; compiled code wants machine integers."""
    return array("q", [fill]) * size if COMPILED else [fill] * size


def _grow(table: MutableSequence[int], fill: int = 0) -> None:
    """Double a table in place."""
    table.extend([fill] * len(table))


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
        self.data = data + bytes(_SLACK)
        self.total = len(data)
        self.allow = allow
        self.limits = limits
        self.buffers = buffers
        self.max_nodes = limits.max_nodes
        self.max_depth = limits.max_depth
        self.max_weight = limits.max_weight
        self.max_hash_cost = limits.max_hash_cost
        self.careful = careful
        self.trace = trace
        # The stack, and where in the output each value's code starts.
        self.cap = 64
        self.stack = _table(64)
        self.starts = _table(64)
        self.marks: list[int] = []
        # The memo, by order of writing. ``places`` is negative for what was cut out of the output.
        self.memo = _table(64)
        self.places = _table(64)
        self.memo_cap = 64
        self.memo_used = 0
        self.sparse: dict[int, int] = {}  # key -> order, once a key was not the next number
        self.is_sparse = False
        self.renumbered = False  # whether any GET may need another number than it has
        self.cut_ends: list[int] = []  # order numbers after which the numbering shifts ...
        self.cut_sums: list[int] = []  # ... by so much
        self.respelled = 0
        # The nodes.
        self.node_cap = 64
        self.nodes = 0
        self.kind = _table(64)
        self.flags = _table(64)
        self.depth = _table(64, 1)  # as an empty container has
        self.weight = _table(64, 1)
        self.entry = _table(64)
        self.where = _table(64)
        self.first = _table(64)
        self.count = _table(64)
        self.items: list[int] = []  # what tuples hold, one after the other
        self.keys: dict[int, list[int]] = {}  # keys of each dict that has any
        self.edges: dict[int, list[int]] = {}  # careful runs only
        self.rows: list[Row] = []
        self.rights: list[int] = []  # of each row, as a plain int
        self.made: list[int] = []  # kind of what each row makes
        self.row_index: dict[str, int] = {}
        self.special: dict[int, tuple[int, str]] = {}  # node -> what it is, its name
        self.holders: set[str] | None = None  # names that listed names go through, once one is asked for
        # Charges.
        self.values = 0
        self.opcodes = 0
        self.instances = 0
        self.calls = 0
        self.call_weight = 0
        self.hash_cost = 0
        self.hashes: dict[int, int | set[int]] = {}  # long ints of the stream, by hash
        self.buckets: dict[int, dict[int, int]] = {}  # numbers and tuples in one container, by hash
        self.opaque: dict[int, int] = {}  # instances in one container
        # The output.
        self.out = bytearray(b"\x80\x04")
        self.copied = 0
        self.shift = 2
        self.names: list[tuple[int, str]] = []
        self.name_places: list[int] = []
        self.effect = -1  # place of the last opcode that did more than push
        self.has_bytearray = False
        self.protocol = 0
        self.used_buffers = 0
        self.unlisted = ""  # the name that a refusal is about, for the audit log

    # -- output ---------------------------------------------------------------------------------------------------

    def replace(self, start: int, stop: int, new: bytes) -> int:
        """Write ``new`` instead of the input from ``start`` to ``stop``; returns the shift from input to output."""
        out = self.out
        if self.copied < start:
            out += self.data[self.copied : start]
        out += new
        self.copied = stop
        self.shift = len(out) - stop
        return self.shift

    def rewind(self, place: int, resume: int) -> None:
        """Forget the output from ``place`` on, and with it its names and memo entries; go on at input ``resume``."""
        out = self.out
        if place >= len(out):
            out += self.data[self.copied : place - self.shift]
        else:
            del out[place:]
        self.copied = resume
        self.shift = len(out) - resume
        while self.name_places and self.name_places[-1] >= place:
            self.name_places.pop()
            self.names.pop()
        places = self.places
        used = at = self.memo_used
        cut = 0
        while at:
            before = places[at - 1]
            if before < 0:
                at = ~before  # the whole run was cut already
            elif before >= place:
                at -= 1
                cut += 1
                places[at] = ~at
            else:
                break
        if cut:
            places[used - 1] = ~at  # so that this run is passed in one step next time
            # Its first element keeps a negative mark of its own: every cut entry must read as cut.
            self.renumbered = True
            self.cut_ends.append(used)
            self.cut_sums.append(cut + (self.cut_sums[-1] if self.cut_sums else 0))

    # -- growing --------------------------------------------------------------------------------------------------

    def grow_stack(self) -> None:
        """Double the stack."""
        _grow(self.stack)
        _grow(self.starts)
        self.cap *= 2

    def grow_nodes(self) -> None:
        """Double the node tables."""
        for table in (self.kind, self.flags, self.entry, self.where, self.first, self.count):
            _grow(table)
        _grow(self.depth, 1)
        _grow(self.weight, 1)
        self.node_cap *= 2

    def node(self, kind: int, flags: int, depth: int, weight: int, at: int) -> int:
        """A new line in the tables."""
        n = self.nodes
        if n == self.node_cap:
            self.grow_nodes()
        self.nodes = n + 1
        self.kind[n] = kind
        self.flags[n] = flags
        self.depth[n] = depth
        self.weight[n] = weight
        self.where[n] = at
        return n

    def empty(self, kind: int) -> int:
        """A new list, dict or set: depth and weight are what the tables are filled with."""
        n = self.nodes
        if n == self.node_cap:
            self.grow_nodes()
        self.nodes = n + 1
        self.kind[n] = kind
        self.flags[n] = F_UNHASHABLE
        return n

    # -- what values hold -----------------------------------------------------------------------------------------

    def absorb(self, n: int, low: int, high: int, at: int) -> bool:
        """Let node ``n`` hold the stack from ``low`` to ``high``. False: only a careful run can measure this."""
        flags = self.flags
        k = high - low
        self.values += k
        if self.values > self.max_nodes:
            raise Malformed(Reason.TOO_MANY_NODES, at, f"the limit is {self.max_nodes}")
        mine = flags[n]
        if mine & F_HELD and k and not self.careful:
            return False
        weight = self.weight[n] + k
        if weight > self.max_weight:
            raise Malformed(Reason.TOO_HEAVY, at, f"the limit is {self.max_weight}")
        gained = depth = shared = 0
        for slot in self.stack[low:high]:
            if slot >= 0:
                theirs = flags[slot]
                gained |= theirs
                shared = 1
                if theirs & F_HELD == 0:
                    mine |= theirs & F_CALL
                    flags[slot] = theirs | F_HELD
                weight += self.weight[slot] - 1
                depth = max(depth, self.depth[slot])
        if shared:
            if weight > self.max_weight:
                raise Malformed(Reason.TOO_HEAVY, at, f"the limit is {self.max_weight}")
            if depth >= self.depth[n]:
                if depth >= self.max_depth:
                    raise Malformed(Reason.TOO_DEEP, at, f"the limit is {self.max_depth}")
                self.depth[n] = depth + 1
            if depth or gained:
                mine |= F_NODES
            if self.kind[n] == K_TUPLE:
                mine |= gained & INHERITED
            else:
                if gained & F_TAINT:
                    self.check_references(low, high, at, mine)
                mine |= gained & _CONTAINER_INHERITS
            if self.careful:
                self.edges.setdefault(n, []).extend(slot for slot in self.stack[low:high] if slot >= 0)
            mine |= flags[n] & F_HELD  # it may have been put into itself just now
            flags[n] = mine
        self.weight[n] = weight
        self.count[n] += k
        return True

    def check_references(self, low: int, high: int, at: int, holder: int) -> None:
        """A list, dict or set gets classes or functions: refuse those that may not be referenced."""
        for slot in self.stack[low:high]:
            if slot >= 0 and self.flags[slot] & F_BARE:
                raise self.not_a_value(slot, at)
        if holder & F_HELD:
            # Whoever holds it may have been promised plain data.
            raise Forbidden(Reason.REFERENCE_NOT_ALLOWED, at, "a class put into a container that is in use")

    def not_a_value(self, slot: int, at: int) -> Refused:
        """The refusal for a class or function that stands where only data may."""
        if self.kind[slot] == K_SPECIAL:
            special, name = self.special[slot]
            if special in (SP_BASE, SP_HOLDER):
                detail = f'allow = ["{safe_repr(name)} refer"] would be needed'
            else:
                detail = f"{safe_repr(name)} is only ever called, and on a listed class"
            self.unlisted = name
            return Forbidden(Reason.GLOBAL_NOT_ALLOWED, self.where[slot], detail)
        if self.kind[slot] == K_GLOBAL:
            name = safe_repr(self.rows[self.entry[slot]].name)
            return Forbidden(Reason.REFERENCE_NOT_ALLOWED, at, f'as a value it needs allow = ["{name} refer"]')
        return Forbidden(Reason.REFERENCE_NOT_ALLOWED, at, "a tuple of a call's arguments holds a class")

    def make_tuple(self, low: int, high: int, at: int) -> int:
        """A tuple of the stack from ``low`` to ``high``."""
        n = self.empty(K_TUPLE)
        self.flags[n] = 0
        self.first[n] = len(self.items)
        self.items.extend(self.stack[low:high])
        self.absorb(n, low, high, at)
        return n

    def own_instance(self, slot: int, right: int, at: int, what: str) -> None:
        """Check that items may be put into this instance."""
        if slot < 0 or self.kind[slot] & K_INSTANCE == 0:
            raise Forbidden(Reason.MUTATION_NOT_ALLOWED, at, f"the target is no {what}")
        row = self.rows[self.entry[slot]]
        if not row.rights & right:
            raise Forbidden(
                Reason.MUTATION_NOT_ALLOWED, at, f"{safe_repr(row.name)} is not listed as a class with {what} items"
            )
        flags = self.flags[slot]
        if not flags & F_OPEN or flags & F_BUILT:
            # State may have planted an append or __setitem__ of its own on the instance.
            raise Forbidden(Reason.MUTATION_NOT_ALLOWED, at, "items may follow only the making of an instance")

    def extend(self, slot: int, low: int, high: int, at: int, plain: int, right: int) -> bool:
        """APPEND(S), SETITEM(S), ADDITEMS: put the stack from ``low`` to ``high`` into ``slot``."""
        if slot < 0 or self.kind[slot] != plain:
            self.own_instance(slot, right, at, "list" if plain == K_LIST else "dict" if plain == K_DICT else "set")
        elif self.flags[slot] & F_SEALED:
            raise Forbidden(Reason.MUTATION_NOT_ALLOWED, at, "the dict is an instance's state already")
        self.effect = at + self.shift
        if plain == K_LIST:
            return self.absorb(slot, low, high, at)
        if plain == K_DICT:
            if (high - low) & 1:
                raise Malformed(Reason.STACK_UNDERFLOW, at, "a key without a value")
            self.check_keys(slot, low, high, 2, at)
        else:
            self.check_keys(slot, low, high, 1, at)
        return self.absorb(slot, low, high, at)

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
        data = self.data
        keys = list(self.stack[low:high:step])
        self.hash_cost += len(keys)
        if self.hash_cost > self.max_hash_cost:
            raise self.too_costly(at)
        for slot in keys:
            if slot >= 0:
                self.check_key(n, slot, at)
            elif KEY_CLASS[data[~slot]]:
                if KEY_CLASS[data[~slot]] == 2:
                    raise Malformed(Reason.BAD_KEY, at, "a bytearray or buffer cannot be hashed")
                number = value_at(data, ~slot)
                if number == number:  # noqa: PLR0124 - NaN hashes by identity
                    self.collide(n, hash(number), 1, at)
        if step == 2:
            known = self.keys.get(n)
            if known is None:
                self.keys[n] = keys
            else:
                known.extend(keys)

    def collide(self, n: int, value: int, weight: int, at: int) -> None:
        """One more key of this hash in container ``n``: it is compared with all before it."""
        bucket = self.buckets.setdefault(n, {})
        before = bucket.get(value, 0)
        bucket[value] = before + 1
        self.charge_hash(before * weight, at)

    def check_key(self, n: int, slot: int, at: int) -> None:
        """A container, instance, global or long int becomes a key of ``n``."""
        flags = self.flags[slot]
        if flags & F_UNHASHABLE:
            raise Malformed(Reason.BAD_KEY, at, "a list, dict, set or class without a listed hash")
        depth, weight = self.depth[slot], self.weight[slot]
        if self.careful and flags & F_INSTANCE:
            depth, weight = self.survey(slot, at)
        if depth > self.limits.max_key_depth:
            raise Malformed(Reason.BAD_KEY, at, f"nested deeper than {self.limits.max_key_depth}")
        # Hashed once, and compared at least once where the key is there already.
        self.charge_hash(2 * weight, at)
        if self.kind[slot] == K_TUPLE and not flags & F_INSTANCE:
            self.collide(n, self.tuple_hash(slot, at), weight, at)
        elif self.kind[slot] & (K_TUPLE | K_FROZENSET | K_INSTANCE):
            # Its hash is unknown; should they all be the same, inserting is quadratic, at a thirtieth of a unit
            # for each comparison. Thousands pass, a hundred thousand do not.
            before = self.opaque.get(n, 0)
            self.opaque[n] = before + 1
            self.charge_hash((before * weight) >> 5, at)

    def tuple_hash(self, slot: int, at: int) -> int:
        """The hash of a tuple of constants, as CPython computes it. Its weight was charged before."""
        # Post-order with a stack of our own: each frame is (node, next child, hashes so far).
        frames: list[tuple[int, list[object]]] = [(slot, [])]
        while True:
            node, done = frames[-1]
            if len(done) == self.count[node]:
                frames.pop()
                value = tuple(done)
                if not frames:
                    return hash(value)
                frames[-1][1].append(value)
                continue
            child = self.items[self.first[node] + len(done)]
            if child >= 0 and self.kind[child] == K_TUPLE:
                frames.append((child, []))
            elif child >= 0:
                # A global hashes by identity; its number stands for it.
                done.append(
                    child if self.kind[child] & (K_GLOBAL | K_SPECIAL) else value_at(self.data, self.where[child])
                )
            elif KEY_CLASS[self.data[~child]] == 2:
                raise Malformed(Reason.BAD_KEY, at, "a bytearray or buffer cannot be hashed")
            else:
                done.append(value_at(self.data, ~child))

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
        return Malformed(Reason.STRING_TOO_LONG, at, f"the limit is {self.limits.max_string_bytes} bytes")

    def push_long(self, kind: int, length: int, at: int, sp: int) -> None:
        """Push a string; one that is not short weighs something."""
        if length < 256:
            self.stack[sp] = ~at
        else:
            flags = F_UNHASHABLE if kind == K_BYTEARRAY else 0
            self.stack[sp] = self.node(kind, flags, 0, 1 + (length >> 6), at)

    def sized(self, at: int, end: int, width: int, codes: int, sp: int) -> int:
        """A string opcode with a 4- or 8-byte length: check, normalise and push it; returns where it ends.

        ``codes``: 0 str, 1 bytes, 2 bytearray, 3 Python 2's str.
        """
        data = self.data
        start = at + 1 + width
        if start > end:
            raise self.cut_off(at, end)
        length = int.from_bytes(data[at + 1 : start], "little")
        if codes == 3 and length >> 31:
            raise Malformed(Reason.BAD_LITERAL, at, "a negative length")
        if length > end - start:
            raise self.cut_off(at, end)
        if length > self.limits.max_string_bytes:
            raise self.too_long(at)
        stop = start + length
        if codes == 3:
            self.python2_text(data[start:stop], at)
            self.replace(at, stop, emit_str(data[start:stop]))
        elif codes == 2:
            self.has_bytearray = True
        else:
            if codes == 0 and not data[start:stop].isascii():
                self.check_text(start, stop, at)
            if length < 256 or width == 8:
                self.replace(at, stop, emit_bytes(data[start:stop]) if codes else emit_str(data[start:stop]))
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
        size = int.from_bytes(data[at + 1 : start], "little")
        if width == 4 and size >> 31:
            raise Malformed(Reason.BAD_LITERAL, at, "a negative length")
        if size > end - start or start > end:
            raise self.cut_off(at, end)
        if size > (self.limits.max_int_bits >> 3) + 8:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {self.limits.max_int_bits} bits")
        stop = start + size
        value = int.from_bytes(data[start:stop], "little", signed=True)
        self.push_int(value, at, stop, sp)
        return stop

    def push_int(self, value: int, at: int, stop: int, sp: int) -> None:
        """Push an int that was not in one of the short forms, and write it in the shortest."""
        bits = value.bit_length()
        if bits > self.limits.max_int_bits:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {self.limits.max_int_bits} bits")
        short = emit_int(value)
        if self.data[at:stop] != short:
            self.replace(at, stop, short)
        if -_HASH_MODULUS < value < _HASH_MODULUS:
            self.stack[sp] = ~at
            return
        # It may share its hash with others: each *distinct* one pays for those before it, wherever they stand,
        # because a list of them may become a set, and a field of an instance its hash.
        family = self.hashes.setdefault(hash(value), value)
        if isinstance(family, int):
            if family != value:
                self.hashes[hash(value)] = {family, value}
        else:
            if len(family) < 64:
                family.add(value)
            self.charge_hash(8 * len(family), at)
        self.stack[sp] = self.node(K_INT, 0, 0, 1 + (bits >> 6), at)

    def text_literal(self, at: int, end: int, sp: int) -> int:
        """INT, LONG, FLOAT, STRING, UNICODE: read up to the newline, push, and write the binary form."""
        data = self.data
        op = data[at]
        newline = data.find(b"\n", at + 1, end)
        if newline < 0:
            raise self.cut_off(at, end)
        if newline - at > 2 * self.limits.max_string_bytes + 16:
            raise self.too_long(at)
        raw = data[at + 1 : newline]
        stop = newline + 1
        self.stack[sp] = ~at
        if op == 0x49 and raw in (b"00", b"01"):  # the bools of protocols 0 and 1
            new = b"\x88" if raw == b"01" else b"\x89"
        elif op == 0x49 or op == 0x4C:
            if op == 0x4C:
                raw = raw.removesuffix(b"L")
            self.push_int(decimal_text(raw, at, self.limits.max_int_bits), at, stop, sp)
            return stop
        elif op == 0x46:
            number = float_text(raw, at)
            if not self.limits.allow_nan and not number - number == 0:
                raise Malformed(Reason.NOT_FINITE, at)
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
            if len(text) > self.limits.max_string_bytes:
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
        if used >= self.limits.max_memo_entries or key > 16 * self.limits.max_memo_entries:
            raise Malformed(Reason.MEMO_TOO_LARGE, at, f"the limit is {self.limits.max_memo_entries}")
        if key != used and not self.is_sparse:
            self.is_sparse = self.renumbered = True
            self.sparse = {order: order for order in range(used)}
        if self.is_sparse:
            if key in self.sparse:
                raise Malformed(Reason.MEMO_MISUSE, at, f"entry {key} is written twice")
            self.sparse[key] = used
        if used == self.memo_cap:
            _grow(self.memo)
            _grow(self.places)
            self.memo_cap *= 2
        self.memo[used] = slot
        self.places[used] = at + self.shift
        self.memo_used = used + 1

    def memo_room(self) -> int:
        """How far the memo can be written without :meth:`put`; 0 once its keys are not simply counted."""
        return 0 if self.is_sparse else min(self.memo_cap, self.limits.max_memo_entries)

    def put_line(self, at: int, stop: int, slot: int) -> None:
        """PUT, BINPUT, LONG_BINPUT: all become MEMOIZE."""
        self.put(self.memo_key(at, stop), slot, at)
        self.replace(at, stop, b"\x94")

    def memo_key(self, at: int, stop: int) -> int:
        """The number in any PUT or GET."""
        if self.data[at] in (0x67, 0x70):
            return decimal_text(self.data[at + 1 : stop - 1], at, 64)
        return int.from_bytes(self.data[at + 1 : stop], "little")

    def get(self, at: int, stop: int) -> int:
        """GET, BINGET, LONG_BINGET: the slot; writes the shortest GET of the renumbered memo."""
        key = self.memo_key(at, stop)
        order = self.sparse.get(key, -1) if self.is_sparse else key
        if not 0 <= order < self.memo_used:
            raise Malformed(Reason.MEMO_MISUSE, at, f"entry {safe_repr(key)} was not written")
        slot = self.memo[order]
        if self.places[order] < 0:
            self.replace(at, stop, self.spell(slot, at))
            return slot
        if self.cut_ends:
            run = bisect_right(self.cut_ends, order)
            if run:
                order -= self.cut_sums[run - 1]
        new = bytes((0x68, order)) if order < 256 else b"j" + order.to_bytes(4, "little")
        if new != self.data[at:stop]:
            self.replace(at, stop, new)
        return slot

    def spell(self, slot: int, at: int) -> bytes:
        """Write once more what a memo entry held whose code was folded away."""
        if kind_of(self, slot) == K_STR:
            new = emit_str(self.text(slot).encode("utf-8", "surrogatepass"))
        elif slot >= 0 and self.kind[slot] == K_SPECIAL and self.special[slot][0] <= SP_HOLDER:
            new = b"N"
        elif slot >= 0 and self.kind[slot] & (K_GLOBAL | K_SPECIAL):
            dotted = self.special[slot][1] if self.kind[slot] == K_SPECIAL else self.rows[self.entry[slot]].name
            new = self.spell_name(dotted, at)
        else:
            raise Malformed(Reason.MEMO_MISUSE, at, "an entry of a folded call's arguments")
        self.respelled += len(new)
        if self.respelled > self.total + 65536:
            raise Malformed(Reason.TOO_LARGE, at, "names repeated through the memo")
        return new

    def text(self, slot: int) -> str:
        """The value of a constant str."""
        value = value_at(self.data, ~slot if slot < 0 else self.where[slot])
        assert isinstance(value, str)
        return value

    # -- names ----------------------------------------------------------------------------------------------------

    def spell_name(self, dotted: str, at: int) -> bytes:
        """STACK_GLOBAL with its operands; the name is noted."""
        module, _, name = dotted.partition(":")
        raw_module, raw_name = module.encode(), name.encode()
        self.names.append((at, dotted))
        self.name_places.append(at + self.shift)
        return emit_str(raw_module) + emit_str(raw_name) + b"\x93"

    def resolve(self, module: str, name: str, at: int) -> int:
        """The node of a global, by the names as the stream spells them."""
        module, name = modern_name(module, name, self.protocol)
        if not (is_dotted_name(module) and is_dotted_name(name)):
            raise Malformed(Reason.BAD_NAME, at, safe_repr(f"{module}:{name}"))
        if max(len(module.encode()), len(name.encode())) > _MAX_NAME_BYTES:
            raise Malformed(Reason.BAD_NAME, at, f"longer than {_MAX_NAME_BYTES} bytes")
        return self.global_node(f"{module}:{name}", at)

    def global_node(self, dotted: str, at: int) -> int:
        """The node of a global by its ``module:qualname``."""
        special = _SPECIAL.get(dotted, 0)
        if not special:
            index = self.row_index.get(dotted, -1)
            if index < 0:
                row = self.allow.get(dotted)
                if row is not None:
                    index = self.row_index[dotted] = len(self.rows)
                    self.rows.append(row)
                    self.rights.append(int(row.rights) | (R_HASHES if row.name in _HASHES_ITS_LIST else 0))
                    self.made.append(K_INSTANCE | _RESULT_KINDS.get(row.name, 0))
            if index >= 0:
                flags = F_TAINT if self.rows[index].rights & R_REFERENCE else F_TAINT | F_BARE
                n = self.node(K_GLOBAL, flags, 0, 1, at)
                self.entry[n] = index
                return n
            if dotted in BASES:
                special = SP_BASE
            elif self.is_holder(dotted):
                # Not listed itself, but a listed name goes through it: getattr may fold it into that name.
                special = SP_HOLDER
            else:
                self.unlisted = dotted
                raise Forbidden(Reason.GLOBAL_NOT_ALLOWED, at, f'allow = ["{safe_repr(dotted)}"] would admit it')
        n = self.node(K_SPECIAL, F_TAINT | F_BARE, 0, 1, at)
        self.special[n] = (special, dotted)
        return n

    def is_holder(self, dotted: str) -> bool:
        """Whether some listed name goes through this one. The table is walked once, when the first name asks."""
        if self.holders is None:
            self.holders = holders = set()
            for listed in self.allow:
                module, _, qualname = listed.partition(":")
                parts = qualname.split(".")[:-1]
                for stop in range(1, len(parts) + 1):
                    holders.add(f"{module}:{'.'.join(parts[:stop])}")
        return dotted in self.holders

    def write_global(self, n: int, at: int, stop: int) -> None:
        """Write global ``n`` instead of the input from ``at`` to ``stop``."""
        if self.kind[n] == K_SPECIAL and self.special[n][0] <= SP_HOLDER:
            # It leaves no trace but a placeholder, which is cut out when it is folded.
            new = b"N"
        else:
            new = self.spell_name(
                self.special[n][1] if self.kind[n] == K_SPECIAL else self.rows[self.entry[n]].name, self.where[n]
            )
        self.replace(at, stop, new)

    def name_lines(self, at: int, end: int) -> tuple[str, str, int]:
        """The two lines after GLOBAL or INST."""
        data = self.data
        middle = data.find(b"\n", at + 1, end)
        stop = data.find(b"\n", middle + 1, end) if middle >= 0 else -1
        if stop < 0:
            raise self.cut_off(at, end)
        try:
            return data[at + 1 : middle].decode("utf-8"), data[middle + 1 : stop].decode("utf-8"), stop + 1
        except UnicodeDecodeError:
            raise Malformed(Reason.BAD_NAME, at, "not UTF-8") from None

    def stack_global(self, at: int, sp: int) -> int:
        """STACK_GLOBAL over the two top slots."""
        data = self.data
        module_slot, name_slot = self.stack[sp - 2], self.stack[sp - 1]
        if kind_of(self, module_slot) != K_STR or kind_of(self, name_slot) != K_STR:
            raise Malformed(Reason.COMPUTED_NAME, at, "an operand is not a constant str")
        start = self.starts[sp - 2]
        if self.effect >= start:
            raise Malformed(Reason.COMPUTED_NAME, at, "something else is done between the operands")
        module, name = self.text(module_slot), self.text(name_slot)
        n = self.resolve(module, name, at)
        m, o = ~module_slot, ~name_slot
        inline = data[m] == 0x8C and data[o] == 0x8C and m + 2 + data[m + 1] == o and o + 2 + data[o + 1] == at
        if (
            inline
            and m + self.shift == start
            and self.kind[n] == K_GLOBAL
            and self.rows[self.entry[n]].name == f"{module}:{name}"
        ):
            # Canonical already: stays in the span that is copied.
            self.names.append((at, f"{module}:{name}"))
            self.name_places.append(start)
        else:
            self.rewind(start, at)
            self.write_global(n, at, at + 1)
        return n

    # -- calls ----------------------------------------------------------------------------------------------------

    def instance(self, row_index: int, args: int, at: int, flags: int) -> int:
        """A node for what a call or NEWOBJ makes from the tuple ``args``."""
        if not self.rights[row_index] & R_HASHABLE:
            flags |= F_UNHASHABLE
        weight = self.weight[args]
        self.charge_call(weight + self.rows[row_index].cost, at)
        n = self.node(self.made[row_index], flags | F_CALL | F_INSTANCE, self.depth[args], weight, at)
        self.entry[n] = row_index
        self.first[n] = self.first[args]
        self.count[n] = self.count[args]
        self.flags[args] |= F_HELD
        if self.careful:
            self.edges[n] = [args]
        return n

    def charge_call(self, weight: int, at: int) -> None:
        """A constructor may hash, compare or copy all it gets, however often it is shared."""
        self.call_weight += weight
        if self.call_weight > self.max_weight:
            raise Malformed(Reason.TOO_HEAVY, at, f"what calls are given: the limit is {self.max_weight}")

    def count_call(self, at: int) -> None:
        """Charge one call."""
        self.calls += 1
        if self.calls > self.limits.max_calls:
            raise Malformed(Reason.TOO_MANY_CALLS, at, f"the limit is {self.limits.max_calls}")

    def count_instance(self, at: int) -> None:
        """Charge one instance."""
        self.instances += 1
        if self.instances > self.limits.max_instances:
            raise Malformed(Reason.TOO_MANY_INSTANCES, at, f"the limit is {self.limits.max_instances}")

    def arguments(self, args: int) -> list[int]:
        """What a tuple node holds."""
        return self.items[self.first[args] : self.first[args] + self.count[args]]

    def check_arguments(self, row: Row, slots: list[int], at: int) -> None:
        """Refuse arguments that the row has no pattern for."""
        if not accepts(self, row, slots):
            for slot in slots:
                if slot >= 0 and self.kind[slot] == K_SPECIAL:
                    raise self.not_a_value(slot, at)
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"{wanted(self, row.name, slots)} would admit them")

    def as_tuple(self, slot: int, at: int) -> int:
        """Check that a slot is an exact tuple."""
        if slot < 0 or self.kind[slot] != K_TUPLE:
            raise Malformed(Reason.BAD_ARGUMENTS, at, "the arguments are no tuple")
        return slot

    def call(self, function: int, args: int, at: int, stop: int, place: int) -> int:
        """REDUCE; ``place`` is where the callable's code starts. Returns the result's node."""
        if function >= 0 and self.kind[function] == K_SPECIAL:
            return self.call_special(function, self.as_tuple(args, at), at, stop, place)
        if function < 0 or self.kind[function] != K_GLOBAL:
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, "only a listed name is ever called")
        args = self.as_tuple(args, at)
        index = self.entry[function]
        row = self.rows[index]
        if not self.rights[index] & R_CALL:
            raise Forbidden(
                Reason.CALL_NOT_ALLOWED, at, f"{safe_repr(row.name)} is listed, but its entry does not let it be called"
            )
        self.count_call(at)
        slots = self.arguments(args)
        self.check_arguments(row, slots, at)
        if self.rights[index] & R_HASHES:
            self.check_members(slots, at)
        self.effect = at + self.shift
        return self.instance(index, args, at, F_OPEN if self.rights[index] & R_FRESH else 0)

    def check_members(self, slots: list[int], at: int) -> None:
        """A set is made by a call: what is in the list becomes its members, though no opcode says so."""
        for slot in slots:
            if slot < 0 or not self.flags[slot] & F_NODES:
                continue
            if self.depth[slot] > self.limits.max_key_depth + 1:
                raise Malformed(Reason.BAD_KEY, at, f"nested deeper than {self.limits.max_key_depth}")
            if self.careful:
                # The number of the instance that is about to be made.
                n = self.nodes
                for child in self.edges.get(slot, ()):
                    self.check_key(n, child, at)
            else:
                # Should all their hashes be equal, each is compared with all before it.
                cost = (self.count[slot] * self.weight[slot]) >> 6
                if cost > _FREE_MEMBERS:
                    raise _Careful
                self.charge_hash(cost, at)

    def call_special(self, function: int, args: int, at: int, stop: int, place: int) -> int:
        """REDUCE of getattr, which is folded, or of one of copyreg's reconstructors."""
        special, dotted = self.special[function]
        slots = self.arguments(args)
        if special == SP_GETATTR:
            return self.fold(slots, at, stop, place)
        if special == SP_RECONSTRUCTOR:
            self.effect = at + self.shift
            return self.reconstruct(slots, args, at)
        if special == SP_NEWOBJ and slots:
            self.effect = at + self.shift
            return self.new(slots[0], slots[1:], args, at)
        if special == SP_NEWOBJ_EX and len(slots) == 3:
            self.effect = at + self.shift
            return self.new_ex(slots[0], slots[1], slots[2], args, at)
        if special in (SP_BASE, SP_HOLDER):
            self.unlisted = dotted
            raise Forbidden(
                Reason.GLOBAL_NOT_ALLOWED, self.where[function], f'allow = ["{safe_repr(dotted)}"] is needed'
            )
        raise Forbidden(Reason.BAD_ARGUMENTS, at, f"{safe_repr(dotted)} with {len(slots)} arguments")

    def fold(self, slots: list[int], at: int, stop: int, place: int) -> int:
        """``getattr(Class, "const")`` is the dotted name, and judged as that."""
        if len(slots) != 2 or slots[0] < 0 or not self.kind[slots[0]] & (K_GLOBAL | K_SPECIAL):
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, "getattr of anything but a listed class and a constant")
        owner = slots[0]
        if self.kind[owner] == K_SPECIAL and self.special[owner][0] not in (SP_HOLDER, SP_BASE):
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, "getattr of what is not listed")
        if kind_of(self, slots[1]) != K_STR:
            raise Malformed(Reason.COMPUTED_NAME, at, "the attribute is not a constant str")
        if self.effect >= place:
            raise Malformed(Reason.COMPUTED_NAME, at, "something else is done between the arguments")
        name = self.text(slots[1])
        if not name.isidentifier():
            raise Malformed(Reason.BAD_NAME, at, safe_repr(name))
        base = self.special[owner][1] if self.kind[owner] == K_SPECIAL else self.rows[self.entry[owner]].name
        dotted = f"{base}.{name}"
        if len(dotted.encode()) > _MAX_NAME_BYTES:
            raise Malformed(Reason.BAD_NAME, at, f"longer than {_MAX_NAME_BYTES} bytes")
        n = self.global_node(dotted, at)
        self.rewind(place, at)
        self.write_global(n, at, stop)
        return n

    def listed_class(self, slot: int, at: int) -> int:
        """The row index of a class that may be instantiated."""
        if slot < 0 or self.kind[slot] != K_GLOBAL:
            raise Forbidden(Reason.CALL_NOT_ALLOWED, at, "only a listed class is ever instantiated")
        row = self.rows[self.entry[slot]]
        if not row.rights & R_NEW:
            raise Forbidden(
                Reason.CALL_NOT_ALLOWED, at, f"{safe_repr(row.name)} is listed, but not as a class to instantiate"
            )
        return self.entry[slot]

    def new(self, cls: int, slots: list[int], args: int, at: int) -> int:
        """NEWOBJ: ``cls.__new__(cls, *slots)``."""
        index = self.listed_class(cls, at)
        self.count_instance(at)
        self.check_arguments(self.rows[index], slots, at)
        if self.rights[index] & R_HASHES:
            self.check_members(slots, at)
        return self.instance(index, args, at, F_OPEN)

    def new_ex(self, cls: int, args: int, keywords: int, whole: int, at: int) -> int:
        """NEWOBJ_EX: ``cls.__new__(cls, *args, **keywords)``; ``whole`` is a tuple that holds both."""
        args = self.as_tuple(args, at)
        if keywords < 0 or self.kind[keywords] != K_DICT:
            raise Malformed(Reason.BAD_ARGUMENTS, at, "the keyword arguments are no dict")
        index = self.listed_class(cls, at)
        row = self.rows[index]
        names = self.keys.get(keywords, [])
        if names:
            if not row.keywords:
                raise Forbidden(Reason.BAD_ARGUMENTS, at, f"{safe_repr(row.name)} takes no keyword arguments")
            if any(kind_of(self, name) != K_STR for name in names):
                raise Malformed(Reason.BAD_ARGUMENTS, at, "a keyword is no str")
            if self.flags[keywords] & F_TAINT:
                raise Forbidden(Reason.BAD_ARGUMENTS, at, "a class or function as keyword argument")
        self.count_instance(at)
        positional = self.arguments(args)
        self.check_arguments(row, positional, at)
        if self.rights[index] & R_HASHES:
            self.check_members(positional, at)
        return self.instance(index, whole, at, F_OPEN)

    def reconstruct(self, slots: list[int], args: int, at: int) -> int:
        """``copyreg._reconstructor(cls, base, state)``: protocols 0 and 1 of what NEWOBJ makes later."""
        if len(slots) != 3:
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"copyreg._reconstructor with {len(slots)} arguments")
        index = self.listed_class(slots[0], at)
        base, state = slots[1], slots[2]
        name = ""
        if base >= 0 and self.kind[base] == K_SPECIAL:
            name = self.special[base][1]
        elif base >= 0 and self.kind[base] == K_GLOBAL:
            name = self.rows[self.entry[base]].name
        if name not in BASES:
            raise Forbidden(Reason.BAD_ARGUMENTS, at, "a base that is not object or a built-in type")
        if not kind_of(self, state) & BASES[name] or (state >= 0 and self.flags[state] & F_TAINT):
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"state that is no plain {name[9:]}")
        if self.kind_is_instance(state) and self.rows[self.entry[state]].name not in (name, "_codecs:encode"):
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"state that is no plain {name[9:]}")
        row = self.rows[index]
        needed = _BASE_RIGHTS.get(name, 0)
        if needed and not row.rights & needed:
            raise Forbidden(Reason.BAD_ARGUMENTS, at, f"{safe_repr(row.name)} is no {name[9:]}")
        if row.signatures and name != "builtins:complex":
            # What NEWOBJ would be given for the same object; patterns hold whatever the protocol. (A complex is
            # given whole here, and in two parts there.)
            self.check_arguments(row, [] if name == "builtins:object" else [state], at)
        self.count_instance(at)
        return self.instance(index, args, at, F_OPEN)

    def kind_is_instance(self, slot: int) -> bool:
        """Whether a slot is something that a call made."""
        return slot >= 0 and bool(self.kind[slot] & K_INSTANCE)

    def make_old(self, cls: int, low: int, sp: int, at: int) -> int:
        """INST and OBJ: a call if there are arguments, NEWOBJ if there are none."""
        args = self.make_tuple(low, sp, at)
        if cls >= 0 and self.kind[cls] == K_GLOBAL and low == sp and self.rows[self.entry[cls]].rights & R_CLASS:
            self.effect = at + self.shift
            return self.new(cls, [], args, at)
        if cls >= 0 and self.kind[cls] == K_SPECIAL:
            raise self.not_a_value(cls, at)
        return self.call(cls, args, at, at, 0)

    def old_instance(self, at: int, end: int, low: int, sp: int) -> tuple[int, int]:
        """INST: the node and where the opcode ends. It stays what it is, with today's name."""
        module, name, stop = self.name_lines(at, end)
        n = self.resolve(module, name, at)
        if self.kind[n] == K_SPECIAL:
            raise self.not_a_value(n, at)
        dotted = self.rows[self.entry[n]].name
        if not dotted.isascii():
            raise Malformed(Reason.BAD_NAME, at, "INST takes ASCII names")
        self.names.append((at, dotted))
        self.name_places.append(at + self.shift)
        made = self.make_old(n, low, sp, at)
        new = b"i" + dotted.replace(":", "\n").encode("ascii") + b"\n"
        if new != self.data[at:stop]:
            self.replace(at, stop, new)
        return made, stop

    def build(self, target: int, state: int, at: int) -> bool:
        """BUILD. False: only a careful run can measure this."""
        if target < 0 or not self.kind[target] & K_INSTANCE:
            raise Forbidden(Reason.BUILD_NOT_ALLOWED, at, "the target is no instance made in this stream")
        row = self.rows[self.entry[target]]
        name = safe_repr(row.name)
        flags = self.flags[target]
        if not flags & F_OPEN:
            raise Forbidden(
                Reason.BUILD_NOT_ALLOWED, at, f'is the result fresh? then allow = ["{name} returns=fresh"] says so'
            )
        if flags & F_BUILT:
            raise Forbidden(Reason.BUILD_NOT_ALLOWED, at, "the instance has its state already")
        if not row.rights & (R_BUILD | R_SETSTATE):
            raise Forbidden(
                Reason.BUILD_NOT_ALLOWED, at, f'if its own __setstate__ is safe: allow = ["{name} state=setstate"]'
            )
        why = state_fits(self, row, state)
        if why:
            raise Forbidden(Reason.BAD_STATE, at, f"{name}: {why}")
        self.effect = at + self.shift
        self.flags[target] |= F_BUILT
        if flags & F_HELD and not self.careful:
            return False
        self.values += 1
        if state >= 0:
            self.flags[state] |= F_HELD | F_SEALED
            if self.kind[state] == K_TUPLE:
                for part in self.arguments(state):
                    if part >= 0:
                        self.flags[part] |= F_SEALED
            if self.careful:
                self.edges[target].append(state)
            self.depth[target] = max(self.depth[target], self.depth[state])
            self.weight[target] += self.weight[state]
            if self.weight[target] > self.max_weight:
                raise Malformed(Reason.TOO_HEAVY, at, f"the limit is {self.max_weight}")
            self.charge_call(self.weight[state], at)
        return True

    # -- taking away ----------------------------------------------------------------------------------------------

    def discard(self, low: int, sp: int, at: int) -> None:
        """POP, POP_MARK: never of the only reference to what a call made."""
        for i in range(low, sp):
            slot = self.stack[i]
            if slot < 0:
                continue
            flags = self.flags[slot]
            if flags & F_CALL and not flags & F_HELD and not self.replaced(slot, at):
                raise Forbidden(Reason.DISCARDED_CALL, at)

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
        order = self.sparse.get(key, -1) if self.is_sparse else key
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

    def survey(self, root: int, at: int) -> tuple[int, int]:
        """Depth and weight of what hangs on ``root`` now, without the edges that close cycles.

        Depth first, as whatever walks the value later would go: an edge back into the path being walked ends there.
        """
        edges = self.edges
        nothing: list[int] = []
        depth: dict[int, int] = {root: -1}  # -1: on the path
        weight: dict[int, int] = {root: self.own_weight(root)}
        path, turn = [root], [0]
        steps = 0
        while path:
            node = path[-1]
            children = edges.get(node, nothing)
            i = turn[-1]
            if i < len(children):
                turn[-1] = i + 1
                child = children[i]
                if child not in depth:
                    depth[child] = -1
                    weight[child] = self.own_weight(child)
                    path.append(child)
                    turn.append(0)
                elif depth[child] >= 0:
                    weight[node] = min(weight[node] + weight[child], 1 << 62)
                continue
            path.pop()
            turn.pop()
            steps += 1 + len(children)
            deepest = 0
            for child in children:
                deepest = max(deepest, depth[child])
            if self.kind[node] & K_INSTANCE:
                depth[node] = max(deepest, 1)  # its arguments and state are its own level
            else:
                depth[node] = deepest + 1 if self.kind[node] & K_CONTAINERS else 0
            if path:
                weight[path[-1]] = min(weight[path[-1]] + weight[node], 1 << 62)
        if weight[root] > self.max_weight:
            raise Malformed(Reason.TOO_HEAVY, at, f"the limit is {self.max_weight}")
        if depth[root] > self.max_depth:
            raise Malformed(Reason.TOO_DEEP, at, f"the limit is {self.max_depth}")
        # The walk itself is paid for like the hashing it stands for.
        self.charge_hash(steps, at)
        return depth[root], weight[root]

    def own_weight(self, node: int) -> int:
        """Weight of a node without the nodes it holds: itself and its constants."""
        if self.kind[node] & K_INSTANCE:
            return 1
        if self.kind[node] & K_CONTAINERS:
            return 1 + self.count[node] - len(self.edges.get(node, ()))
        return self.weight[node]

    def finish(self, at: int, sp: int) -> None:
        """STOP: exactly one value, nothing behind, everything used."""
        if sp != 1 or self.marks:
            raise Malformed(Reason.BAD_STOP, at, f"{sp} values and {len(self.marks)} marks are left")
        if at + 1 != self.total:
            raise Malformed(Reason.TRAILING_BYTES, at + 1, f"{self.total - at - 1} bytes")
        if self.used_buffers != self.buffers:
            raise Malformed(Reason.BUFFER_MISUSE, at, f"{self.buffers} buffers passed, {self.used_buffers} used")
        root = self.stack[0]
        if root >= 0:
            if self.flags[root] & F_BARE:
                raise self.not_a_value(root, at)
            if self.careful:
                self.depth[root], self.weight[root] = self.survey(root, at)
        self.values += 1
        if self.values > self.max_nodes:
            raise Malformed(Reason.TOO_MANY_NODES, at, f"the limit is {self.max_nodes}")
        self.out += self.data[self.copied : self.total]
        if self.buffers or self.has_bytearray:
            self.out[1] = 5

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
        data, total, limits = self.data, self.total, self.limits
        stack, starts, marks, memo, places = self.stack, self.starts, self.marks, self.memo, self.places
        trace = self.trace
        max_string = limits.max_string_bytes
        max_stack = limits.max_stack_items
        narrow = limits.max_int_bits < 32
        no_nan = not limits.allow_nan
        cap = min(self.cap, max_stack + 1)
        pos = floor = sp = at = 0
        end = total
        framed = False
        shift = self.shift
        if total >= 2 and data[0] == 0x80:
            self.protocol = data[1]
            if self.protocol > 5:
                raise Malformed(Reason.BAD_PROTOCOL, 0, f"protocol {self.protocol}")
            pos = self.copied = 2
            shift = self.shift = 0
            if trace is not None:
                trace.append((0, 0, (), 0))
        room = self.memo_room()
        n = k = 0
        for ops in range(1 if pos == 0 else 2, limits.max_opcodes + 1):
            if pos >= end:
                if pos >= total:
                    raise Malformed(Reason.TRUNCATED, pos, "there is no STOP")
                end = total
                framed = False
            if sp >= cap:
                # The opcode before this one pushed too much, or the tables are full.
                if sp + len(marks) > max_stack:
                    raise Malformed(Reason.STACK_TOO_LARGE, at, f"the limit is {max_stack}")
                if sp >= self.cap:
                    self.grow_stack()
                cap = min(self.cap, max_stack + 1 - len(marks))
            at = pos
            op = data[at]
            if trace is not None:
                trace.append((at, sp, tuple(stack[max(0, sp - 4) : sp]), len(marks)))
            starts[sp] = at + shift
            pos = at + 1
            if op == 0x8C:  # SHORT_BINUNICODE
                n = data[pos]
                pos = at + 2 + n
                if pos > end:
                    raise self.cut_off(at, end)
                if n > max_string:
                    raise self.too_long(at)
                if not data[at + 2 : pos].isascii():
                    self.check_text(at + 2, pos, at)
                stack[sp] = ~at
                sp += 1
            elif op == 0x94:  # MEMOIZE
                if sp <= floor:
                    raise self.underflow(at)
                k = self.memo_used
                if k >= room:
                    self.put(k, stack[sp - 1], at)
                    room = self.memo_room()
                else:
                    memo[k] = stack[sp - 1]
                    places[k] = at + shift
                    self.memo_used = k + 1
            elif op == 0x68:  # BINGET
                k = data[pos]
                pos = at + 2
                if pos > end:
                    raise self.cut_off(at, end)
                if k < self.memo_used and not self.renumbered:
                    stack[sp] = memo[k]
                else:
                    stack[sp] = self.get(at, pos)
                    shift = self.shift
                sp += 1
            elif op == 0x4B:  # BININT1
                pos = at + 2
                if pos > end:
                    raise self.cut_off(at, end)
                if narrow:
                    self.check_narrow(at)
                stack[sp] = ~at
                sp += 1
            elif op == 0x28:  # MARK
                if sp + len(marks) >= max_stack:
                    raise Malformed(Reason.STACK_TOO_LARGE, at, f"the limit is {max_stack}")
                marks.append(sp)
                floor = sp
                cap = min(cap, max_stack + 1 - len(marks))
            elif op == 0x7D:  # EMPTY_DICT
                stack[sp] = self.empty(K_DICT)
                sp += 1
            elif op == 0x75:  # SETITEMS
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                if k <= floor:
                    raise self.underflow(at)
                if not self.extend(stack[k - 1], k, sp, at, K_DICT, R_DICT):
                    return False
                sp = k
            elif op == 0x85 or op == 0x86 or op == 0x87:  # TUPLE1, TUPLE2, TUPLE3
                k = sp - (op - 0x84)
                if k < floor:
                    raise self.underflow(at)
                stack[k] = self.make_tuple(k, sp, at)
                sp = k + 1
            elif op == 0x5D:  # EMPTY_LIST
                stack[sp] = self.empty(K_LIST)
                sp += 1
            elif op == 0x65:  # APPENDS
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                if k <= floor:
                    raise self.underflow(at)
                if not self.extend(stack[k - 1], k, sp, at, K_LIST, R_LIST):
                    return False
                sp = k
            elif op == 0x47:  # BINFLOAT
                pos = at + 9
                if pos > end:
                    raise self.cut_off(at, end)
                if no_nan and data[at + 1] & 0x7F == 0x7F and data[at + 2] >= 0xF0:
                    raise Malformed(Reason.NOT_FINITE, at)
                stack[sp] = ~at
                sp += 1
            elif op == 0x4D:  # BININT2
                pos = at + 3
                if pos > end:
                    raise self.cut_off(at, end)
                if narrow:
                    self.check_narrow(at)
                if not data[at + 2]:
                    shift = self.replace(at, pos, bytes((0x4B, data[at + 1])))
                stack[sp] = ~at
                sp += 1
            elif op == 0x4A:  # BININT
                pos = at + 5
                if pos > end:
                    raise self.cut_off(at, end)
                if narrow:
                    self.check_narrow(at)
                if not data[at + 3] and not data[at + 4]:
                    shift = self.replace(at, pos, emit_int(data[at + 1] | data[at + 2] << 8))
                stack[sp] = ~at
                sp += 1
            elif op == 0x4E or op == 0x88 or op == 0x89:  # NONE, NEWTRUE, NEWFALSE
                stack[sp] = ~at
                sp += 1
            elif op == 0x93:  # STACK_GLOBAL
                if sp - 2 < floor:
                    raise self.underflow(at)
                stack[sp - 2] = self.stack_global(at, sp)
                sp -= 1
                shift = self.shift
            elif op == 0x52:  # REDUCE
                if sp - 2 < floor:
                    raise self.underflow(at)
                stack[sp - 2] = self.call(stack[sp - 2], stack[sp - 1], at, pos, starts[sp - 2])
                sp -= 1
                shift = self.shift
            elif op == 0x81:  # NEWOBJ
                if sp - 2 < floor:
                    raise self.underflow(at)
                k = self.as_tuple(stack[sp - 1], at)
                self.effect = at + shift
                stack[sp - 2] = self.new(stack[sp - 2], self.arguments(k), k, at)
                sp -= 1
            elif op == 0x62:  # BUILD
                if sp - 2 < floor:
                    raise self.underflow(at)
                if not self.build(stack[sp - 2], stack[sp - 1], at):
                    return False
                sp -= 1
            elif op == 0x6A:  # LONG_BINGET
                pos = at + 5
                if pos > end:
                    raise self.cut_off(at, end)
                stack[sp] = self.get(at, pos)
                shift = self.shift
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
                    shift = self.replace(at, pos, emit_str(data[at + 2 : pos]))
                stack[sp] = ~at
                sp += 1
            elif op == 0x58:  # BINUNICODE
                pos = self.sized(at, end, 4, 0, sp)
                shift = self.shift
                sp += 1
            elif op == 0x71:  # BINPUT
                pos = at + 2
                if pos > end:
                    raise self.cut_off(at, end)
                if sp <= floor:
                    raise self.underflow(at)
                k = self.memo_used
                if k >= room or data[at + 1] != k:
                    self.put_line(at, pos, stack[sp - 1])
                    room = self.memo_room()
                    shift = self.shift
                else:
                    memo[k] = stack[sp - 1]
                    places[k] = at + shift
                    self.memo_used = k + 1
                    shift = self.replace(at, pos, b"\x94")
            elif op == 0x74:  # TUPLE
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                stack[k] = self.make_tuple(k, sp, at)
                sp = k + 1
            elif op == 0x29:  # EMPTY_TUPLE
                stack[sp] = self.make_tuple(sp, sp, at)
                sp += 1
            elif op == 0x61:  # APPEND
                if sp - 2 < floor:
                    raise self.underflow(at)
                if not self.extend(stack[sp - 2], sp - 1, sp, at, K_LIST, R_LIST):
                    return False
                sp -= 1
            elif op == 0x73:  # SETITEM
                if sp - 3 < floor:
                    raise self.underflow(at)
                if not self.extend(stack[sp - 3], sp - 2, sp, at, K_DICT, R_DICT):
                    return False
                sp -= 2
            elif op == 0x95:  # FRAME
                pos = at + 9
                if framed:
                    raise Malformed(Reason.BAD_FRAME, at, "a frame within a frame")
                if pos > total:
                    raise Malformed(Reason.TRUNCATED, at, "a frame without its length")
                n = int.from_bytes(data[at + 1 : pos], "little")
                if n > total - pos:
                    raise Malformed(Reason.BAD_FRAME, at, "a frame longer than the data")
                end = pos + n
                framed = True
                shift = self.replace(at, pos, b"")
            elif op == 0x2E:  # STOP
                if end != total:
                    raise Malformed(Reason.BAD_FRAME, at, "STOP within a frame that goes on")
                self.opcodes = ops
                self.finish(at, sp)
                return True
            elif op == 0x42:  # BINBYTES
                pos = self.sized(at, end, 4, 1, sp)
                shift = self.shift
                sp += 1
            elif op == 0x8F:  # EMPTY_SET
                stack[sp] = self.empty(K_SET)
                sp += 1
            elif op == 0x90:  # ADDITEMS
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                if k <= floor:
                    raise self.underflow(at)
                if not self.extend(stack[k - 1], k, sp, at, K_SET, R_SET):
                    return False
                sp = k
            elif op == 0x91:  # FROZENSET
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                n = self.node(K_FROZENSET, F_INSTANCE, 1, 1, at)
                self.check_keys(n, k, sp, 1, at)
                self.absorb(n, k, sp, at)
                stack[k] = n
                sp = k + 1
            elif op == 0x8A or op == 0x8B:  # LONG1, LONG4
                pos = self.long_int(at, end, sp)
                shift = self.shift
                sp += 1
            elif op == 0x72:  # LONG_BINPUT
                pos = at + 5
                if pos > end:
                    raise self.cut_off(at, end)
                if sp <= floor:
                    raise self.underflow(at)
                self.put_line(at, pos, stack[sp - 1])
                room = self.memo_room()
                shift = self.shift
            elif op == 0x92:  # NEWOBJ_EX
                if sp - 3 < floor:
                    raise self.underflow(at)
                self.effect = at + shift
                k = self.bundle(sp, at)
                stack[sp - 3] = self.new_ex(stack[sp - 3], stack[sp - 2], stack[sp - 1], k, at)
                sp -= 2
            elif op == 0x8D:  # BINUNICODE8
                pos = self.sized(at, end, 8, 0, sp)
                shift = self.shift
                sp += 1
            elif op == 0x8E:  # BINBYTES8
                pos = self.sized(at, end, 8, 1, sp)
                shift = self.shift
                sp += 1
            elif op == 0x96:  # BYTEARRAY8
                pos = self.sized(at, end, 8, 2, sp)
                sp += 1
            elif op == 0x54:  # BINSTRING
                pos = self.sized(at, end, 4, 3, sp)
                shift = self.shift
                sp += 1
            elif op == 0x49 or op == 0x4C or op == 0x46 or op == 0x53 or op == 0x56:
                # INT, LONG, FLOAT, STRING, UNICODE
                pos = self.text_literal(at, end, sp)
                shift = self.shift
                sp += 1
            elif op == 0x63:  # GLOBAL
                module, name, pos = self.name_lines(at, end)
                n = self.resolve(module, name, at)
                self.write_global(n, at, pos)
                shift = self.shift
                stack[sp] = n
                sp += 1
            elif op == 0x67:  # GET
                pos = data.find(b"\n", at + 1, end) + 1
                if not pos:
                    raise self.cut_off(at, end)
                stack[sp] = self.get(at, pos)
                shift = self.shift
                sp += 1
            elif op == 0x70:  # PUT
                pos = data.find(b"\n", at + 1, end) + 1
                if not pos:
                    raise self.cut_off(at, end)
                if sp <= floor:
                    raise self.underflow(at)
                self.put_line(at, pos, stack[sp - 1])
                room = self.memo_room()
                shift = self.shift
            elif op == 0x6C or op == 0x64:  # LIST, DICT
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                n = self.empty(K_LIST if op == 0x6C else K_DICT)
                self.extend(n, k, sp, at, self.kind[n], 0)
                stack[k] = n
                sp = k + 1
            elif op == 0x69:  # INST
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                stack[k], pos = self.old_instance(at, end, k, sp)
                shift = self.shift
                sp = k + 1
            elif op == 0x6F:  # OBJ
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                if k >= sp:
                    raise self.underflow(at)
                stack[k] = self.make_old(stack[k], k + 1, sp, at)
                sp = k + 1
            elif op == 0x30:  # POP
                if marks and sp == floor:
                    # As in CPython: with nothing above it, POP takes the mark.
                    marks.pop()
                    floor = marks[-1] if marks else 0
                else:
                    if sp <= floor:
                        raise self.underflow(at)
                    self.discard(sp - 1, sp, at)
                    sp -= 1
                self.effect = at + shift
            elif op == 0x31:  # POP_MARK
                if not marks:
                    raise self.no_mark(at)
                k = marks.pop()
                floor = marks[-1] if marks else 0
                self.discard(k, sp, at)
                self.effect = at + shift
                sp = k
            elif op == 0x32:  # DUP
                if sp <= floor:
                    raise self.underflow(at)
                stack[sp] = stack[sp - 1]
                sp += 1
            elif op == 0x97:  # NEXT_BUFFER
                if self.used_buffers >= self.buffers:
                    raise Malformed(Reason.BUFFER_MISUSE, at, f"the caller passed {self.buffers}")
                self.used_buffers += 1
                self.effect = at + shift
                stack[sp] = ~at
                sp += 1
            elif op == 0x98:  # READONLY_BUFFER
                if sp <= floor:
                    raise self.underflow(at)
                if stack[sp - 1] >= 0 or data[~stack[sp - 1]] != 0x97:
                    raise Malformed(Reason.BUFFER_MISUSE, at, "the top of the stack is no buffer")
                self.effect = at + shift
            elif op == 0x80:  # PROTO
                if pos >= total:
                    raise self.cut_off(at, end)
                raise Malformed(Reason.BAD_PROTOCOL, at, "PROTO may only be first")
            elif op == 0x82 or op == 0x83 or op == 0x84:  # EXT1, EXT2, EXT4
                raise Forbidden(Reason.EXTENSION_CODE, at)
            elif op == 0x50 or op == 0x51:  # PERSID, BINPERSID
                raise Forbidden(Reason.PERSISTENT_ID, at)
            else:
                assert op not in BY_CODE
                raise Malformed(Reason.UNKNOWN_OPCODE, at, f"0x{op:02x}")
        raise Malformed(Reason.TOO_MANY_OPCODES, pos, f"the limit is {limits.max_opcodes}")

    def bundle(self, sp: int, at: int) -> int:
        """A tuple node over the arguments and keywords of NEWOBJ_EX, for what they weigh together."""
        n = self.node(K_TUPLE, 0, 1, 1, at)
        self.first[n] = len(self.items)
        self.items.extend(self.stack[sp - 2 : sp])
        depth, weight = 1, 1
        for i in range(sp - 2, sp):
            slot = self.stack[i]
            if slot >= 0:
                self.flags[slot] |= F_HELD
                depth = max(depth, self.depth[slot])
                weight += self.weight[slot]
                if self.careful:
                    self.edges.setdefault(n, []).append(slot)
        self.depth[n] = depth
        self.weight[n] = weight
        return n

    def check_narrow(self, at: int) -> None:
        """A short int under a limit below 32 bits."""
        value = value_at(self.data, at)
        assert isinstance(value, int)
        if value.bit_length() > self.limits.max_int_bits:
            raise Malformed(Reason.NUMBER_OUT_OF_RANGE, at, f"more than {self.limits.max_int_bits} bits")

    def underflow(self, at: int) -> Malformed:
        """The refusal for taking more than is there."""
        if self.marks:
            return Malformed(Reason.MARK_MISUSE, at, "it would take a mark for a value")
        return Malformed(Reason.STACK_UNDERFLOW, at)

    def no_mark(self, at: int) -> Malformed:
        """The refusal for an opcode whose mark is missing."""
        return Malformed(Reason.MARK_MISUSE, at, "there is no mark")
