"""Makes pickles: mostly valid programs over the opcode table.

Uniform bytes die at the first opcode. :class:`Program` keeps an abstract stack (kinds, marks, memo), so that most of what
it writes is judged to the end; now and then it breaks a rule on purpose. Every choice comes from a
:class:`~fuzz.source.Source`. Relatives of pickles that exist are made by ``mutation.py``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from fuzz import zoo
from fuzz.calls import Calls
from fuzz.material import FILL, FLOAT_TEXTS, NUMBERS, STRINGS, UNICODES, u4, u8

from safeserial.minipickle.opcodes import OPCODES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuzz.source import Source

__all__ = ["Program", "generate"]

#: Names that grant something and not what is next to it.
_TOUCHY = (
    "lend", "lend_basket", "lend_basket", "Color", "Single", "Tag", "Gauge", "give_class", "Sleeper", "Appender", "Proxy", "Initial",
    "NewOnly", "CallOnly", "Plain", "Basket", "fresh", "make",
)  # fmt: skip


class Program(Calls):
    """One program: honest steps, shared and recursive values, noise, and what each rule exists to stop."""

    # -- odd things ---------------------------------------------------------------------------------------------------

    def noise(self) -> None:
        """Something that leaves the stack as it was."""
        s = self.s
        kind = s.below(6)
        if kind == 0:
            self.scalar()
            self.take(b"0", 1, None)
        elif kind == 1:
            self.mark()
            for _ in range(s.below(3)):
                self.scalar()
            self.close(b"1", None)
        elif kind == 2:
            self.mark()
            self.emit(b"0")
            self.marks.pop()
        elif kind == 3 and self.stack:
            self.emit(b"2")
            self.emit(b"0")
        elif kind == 4 and self.stack:
            self.put()
        elif self.stack:
            self.emit(b"2")
            self.stack.append(self.stack[-1])
            self.take(b"0", 1, None)

    def share(self) -> None:
        """Something that grows after it was put elsewhere: a cycle, or a shared container."""
        s = self.s
        kind = s.pick(("list", "dict", "list", "set"))
        self.empty(kind)
        self.put()
        key = list(self.memo)[-1]
        fetch = b"h" + bytes([key]) if key < 256 else b"j" + u4(key)
        step = s.below(4)
        if step == 0 and kind != "set":
            # Into itself.
            self.text(b"self") if kind == "dict" else None
            self.emit(fetch)
            self.stack.append(kind)
            self.take(b"s" if kind == "dict" else b"a", 2 if kind == "dict" else 1, None)
        elif step == 1:
            # Into a tuple, and then it grows.
            self.take(b"\x85", 1, "tuple")
            self.emit(fetch)
            self.stack.append(kind)
            self.items([lambda: self.value(1, "hashable")] * (2 if kind == "dict" else 1), kind)
            self.take(b"\x86", 2, "tuple")
        elif step == 2 and self.table:
            # A reduce whose arguments hold what is being made: pickle writes POP and GET for it.
            self.global_(self.name())
            self.emit(fetch)
            self.stack.append(kind)
            self.take(b"\x85", 1, "tuple")
            self.take(b"R", 2, "instance ?")
            self.items([lambda: self.value(1)], "list") if kind == "list" else None
            self.take(b"\x86", 2, "tuple")
        else:
            self.value(2)
            for _ in range(s.pick((1, 3, 12, 40))):
                self.emit(b"2")
                self.stack.append("?")
                self.take(b"\x86", 2, "tuple")
            self.take(b"\x86", 2, "tuple")
            if s.chance(30):
                self.emit(b"}")
                self.stack.append("dict")
                self.emit(b"2")
                self.stack.append("dict")
                self.emit(b"0")
                self.stack.pop()
                self.take(b"\x86", 2, "tuple")

    def kept(self) -> bytes:
        """Memoize the top of the stack; the opcode that fetches it again."""
        self.put()
        key = list(self.memo)[-1]
        return b"h" + bytes([key]) if key < 256 else b"j" + u4(key)

    def fetch(self, code: bytes) -> None:
        self.emit(code)
        self.stack.append("?")

    def abuse(self) -> None:
        """What each rule exists to stop, done almost right: the least step beyond what is granted."""
        s = self.s
        kind = s.below(12)
        if kind == 0:
            self.abuse_given()
        elif kind == 1:
            self.abuse_state()
        elif kind == 2:
            # Something is done to whatever was made before.
            self.get()
            self.value(1)
            self.take(s.pick((b"b", b"a", b"R", b"\x81")), 2, "?")
        elif kind in (3, 8, 9):
            # The same to the object that was just made, or to a name.
            touchy = f"{zoo.HOME}:{s.pick(_TOUCHY)}" if s.chance(70) else self.name()
            self.global_(touchy)
            if s.chance(70):
                self.emit(b")")
                self.stack.append("tuple")
                self.take(s.pick((b"R", b"R", b"\x81")), 2, "instance ?")
            code = s.pick((b"b", b"b", b"a", b"s", b"R"))
            if code == b"b":
                self.attributes((b"a", b"x"), 0, None)
            else:
                self.items([self.scalar] * (2 if code == b"s" else 1), "dict" if code == b"s" else "list")
                return
            self.take(code, 1, None)
        elif kind == 10:
            self.abuse_late_items()
        elif kind == 11:
            self.abuse_fold()
        elif kind == 4:
            # A call that nobody keeps.
            self.instance(1)
            if s.chance(50):
                self.take(b"\x85", 1, "tuple")
            if s.chance(30):
                self.kept()
            self.take(b"0", 1, None)
        elif kind == 5:
            self.abuse_name()
        elif kind == 6:
            self.abuse_key()
        else:
            # An instance of which the judge may not know what hashing it would cost.
            self.emit(b"}")
            self.stack.append("dict")
            self.instance(2)
            if s.chance(50):
                self.take(b"\x85", 1, "tuple")
            self.scalar()
            self.take(b"s", 2, None)

    def abuse_given(self) -> None:
        """A container is given to a call as data, and grows afterwards."""
        s = self.s
        kind = s.pick(("list", "dict", "set"))
        self.global_(s.pick(("fuzz.zoo:make", "fuzz.zoo:fresh", "fuzz.zoo:Point", "fuzz.zoo:Frozen", "builtins:set")))
        self.empty(kind)
        again = self.kept()
        if s.chance(30):
            self.take(b"\x85", 1, "tuple")
        self.take(b"\x85", 1, "tuple")
        self.take(b"R", 2, "instance ?")
        self.fetch(again)
        steps = [lambda: self.global_("fuzz.zoo:Tag")] if s.chance(70) else [lambda: self.value(1, "hashable")]
        self.items([lambda: self.value(0, "hashable"), *steps] if kind == "dict" else steps, kind)
        self.take(b"\x86", 2, "tuple")

    def abuse_state(self) -> None:
        """State grows, or is shared, after it was set."""
        s = self.s
        name = s.pick(("Plain", "Mixed", "Holder", "Wakeful", "Keyed", "Basket", "Oops", "fresh"))
        self.global_(f"{zoo.HOME}:{name}")
        self.emit(b")")
        self.stack.append("tuple")
        self.take(b"R" if name == "fresh" or s.chance(30) else b"\x81", 2, f"instance {name}")
        self.emit(b"}")
        self.stack.append("dict")
        again = self.kept()
        if s.chance(30):
            self.emit(b"}")
            self.stack.append("dict")
            self.take(b"\x86", 2, "tuple")
        self.take(b"b", 1, None)
        self.fetch(again)
        self.text(s.pick((b"a", b"__class__", b"__setstate__", b"append")))
        self.global_("fuzz.zoo:Tag") if s.chance(40) else self.scalar()
        self.take(b"s", 2, None)
        self.take(b"\x86", 2, "tuple")

    def abuse_late_items(self) -> None:
        """Items after state, which may have planted an ``append``; or half a pair."""
        s = self.s
        name, kind = s.pick(
            (("Basket", "list"), ("Ledger", "dict"), ("Crowd", "set"), ("Queue", "list"), ("Default", "dict"))
        )
        self.global_(f"{zoo.HOME}:{name}")
        self.emit(b")")
        self.stack.append("tuple")
        self.take(b"\x81", 2, f"instance {name}")
        if s.chance(70):
            self.attributes((b"append", b"extend", b"add", b"update", b"a"), 0, None)
            self.take(b"b", 1, None)
        if s.chance(20):
            self.mark()
            for _ in range(s.below(4)):
                self.scalar()
            self.close(FILL[kind][1], None)
        else:
            self.items([self.scalar] * (2 if kind == "dict" else 1), kind)

    def abuse_fold(self) -> None:
        """``getattr`` of a class and a constant, with something done in between, or of more than that."""
        s = self.s
        self.global_("builtins:getattr")
        if s.chance(20):
            self.kept()
        owner, name = s.pick(
            (("Zone", b"Inner"), ("Zone", b"_unpickle"), ("Zone", b"trap"), ("Plain", b"__init__"), ("Color", b"RED"))
        )
        self.mark()
        if s.chance(25):
            # What is folded away takes these with it.
            self.empty("list")
            again = self.kept()
            self.scalar() if s.chance(50) else self.instance(0)
            self.take(b"a", 1, None)
            self.take(b"0", 1, None)
        self.global_(f"{zoo.HOME}:{owner}")
        again = self.kept() if s.chance(60) else b""
        self.text(name)
        if s.chance(20):
            self.noise()
        self.close(b"t", "tuple")
        self.take(b"R", 2, "global ?")
        if again and s.chance(70):
            self.fetch(again)
            self.take(b"\x86", 2, "tuple")

    def abuse_name(self) -> None:
        """A name whose operands are not simply there."""
        s = self.s
        self.text(b"fuzz.zoo")
        module = self.kept()
        if s.chance(50):
            self.take(b"0", 1, None)
            self.fetch(module)
        if s.chance(50):
            self.noise()
        step = s.below(4)
        if step == 0:
            self.instance(1)
            self.take(b"0", 1, None)
        elif step == 1:
            self.emit(b"]")
            self.stack.append("list")
            self.scalar()
            self.take(b"a", 1, None)
            self.take(b"0", 1, None)
        self.text(b"Tag") if s.chance(80) else self.get()
        self.take(b"\x93", 2, "global fuzz.zoo:Tag")

    def abuse_key(self) -> None:
        """A key that is deep, heavy or unhashable somewhere inside."""
        s = self.s
        into = s.pick(("dict", "set", "frozenset", "call"))
        if into == "call":
            self.global_(s.pick(("builtins:set", "builtins:frozenset", "fuzz.zoo:Crowd", "fuzz.zoo:Frost")))
            self.empty("list")
            self.mark()
        elif into == "frozenset":
            self.mark()
        else:
            self.empty(into)
            self.mark()
        self.value(0, s.pick(("hashable", "hashable", "list", "frozenset", "instance")))
        for _ in range(s.pick((0, 1, 2, 7, 8, 9, 12))):
            if s.chance(30):
                self.fetch(b"2")
                self.take(b"\x86", 2, "tuple")
            else:
                self.take(b"\x85", 1, "tuple")
        if into == "dict":
            self.scalar()
        if into == "frozenset":
            self.close(b"\x91", "frozenset")
        else:
            self.close(FILL["list" if into == "call" else into][1], None)
        if into == "call":
            self.take(b"\x85", 1, "tuple")
            self.take(b"R", 2, "instance set")

    def crowd(self) -> None:
        """Many members or keys, some of them of one hash; or a set that a call makes of a list."""
        s = self.s
        kind = s.pick(("set", "dict", "list"))
        by_call = kind == "list" and bool(self.table) and s.chance(60)
        if by_call:
            makers = ("builtins:set", "builtins:frozenset", "fuzz.zoo:Crowd", "fuzz.zoo:Frost", "collections:deque")
            self.global_(s.pick(makers))
        self.empty(kind)
        step = s.pick(((1 << 61) - 1, 1, 1 << 32))
        self.mark()
        for i in range(s.pick((3, 10, 70, 200))):
            value = i * step
            size = value.bit_length() // 8 + 1
            self.emit(b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True))
            self.stack.append("int")
            if s.chance(3):
                self.emit(b"\x85")
            if kind == "dict":
                self.emit(b"N")
                self.stack.append("None")
        self.close(FILL[kind][1], None)
        if by_call:
            self.take(b"\x85", 1, "tuple")
            self.take(b"R", 2, "instance set")

    def junk(self) -> None:
        """One opcode without a look at what it needs."""
        s = self.s
        row = s.pick(OPCODES)
        code = bytes([row.code])
        form = row.argument
        if form in ("line", "lines"):
            code += s.pick((*NUMBERS, *FLOAT_TEXTS, *STRINGS, *UNICODES)).replace(b"\n", b"") + b"\n"
            if form == "lines":
                code += b"Plain\n"
        elif form[:1] in ("s", "t") and form:
            raw = s.raw(s.below(4))
            code += len(raw).to_bytes(int(form[1]), "little") + raw
        elif form:
            code += s.raw(int(form[1]))
        self.emit(code)
        self.stack = [*self.stack, "?"] if row.literal else self.stack[:-1]

    def statement(self) -> None:
        """One step at the outermost level."""
        s = self.s
        if self.breaks():
            self.junk()
            return
        choice = s.below(100)
        if choice < 30 or not self.table:
            self.value(3)
        elif choice < 60:
            self.instance(2)
        elif choice < 72:
            self.abuse()
        elif choice < 80:
            self.share()
        elif choice < 82:
            self.crowd()
        elif choice < 90:
            self.noise()
        elif choice < 94:
            self.get()
        else:
            self.scalar()

    def finish(self) -> bytes:
        """Wrap what is left on the stack into one value, and stop."""
        s = self.s
        if not self.breaks():
            while self.buffers > 0:
                self.buffer()
        if not self.breaks():
            if not self.stack and not self.marks:
                self.none()
            while self.marks and len(self.marks) < 50:
                self.close(b"t", "tuple")
            if len(self.stack) > 1 or s.chance(20):
                while 1 < len(self.stack) <= 3 and s.chance(50):
                    size = len(self.stack)
                    self.take(bytes([0x84 + size]), size, "tuple")
                while len(self.stack) > 1:
                    size = min(len(self.stack), 3)
                    self.take(bytes([0x84 + size]), size, "tuple")
        self.emit(b".")
        if self.breaks():
            self.emit(s.pick((b"N.", b"\n", b"\x80\x04N.")))
        return bytes(self.out)


def framed(source: Source, data: bytes, starts: Sequence[int], wild: bool) -> bytes:
    """Put frames around runs of opcodes, as protocol 4 writes them; with ``wild``, not quite."""
    first = 2 if data[:1] == b"\x80" else 0
    bounds = [at for at in starts if at > first]
    cuts = sorted({first, *(source.pick(bounds) for _ in range(source.below(3)) if bounds), len(data)})
    out = bytearray(data[:first])
    for low, high in pairwise(cuts):
        size = high - low
        if wild and source.chance(40):
            size = max(0, source.pick((size - 1, size + 1, 0, 1 << 40, (1 << 64) - 1, size // 2)))
        if source.chance(85):
            out += b"\x95" + u8(size)
        out += data[low:high]
    return bytes(out)


def generate(source: Source, profile: zoo.Profile) -> bytes:
    """One program."""
    wild = source.pick((0, 0, 1, 1, 3, 10))
    program = Program(source, dict(profile.table), profile.buffers, wild)
    for _ in range(1 + source.below(source.pick((1, 2, 4, 12)))):
        program.statement()
        if len(program.out) > 20_000:
            break
    data = program.finish()
    if program.protocol >= 4 and source.chance(30):
        data = framed(source, data, program.starts, wild > 1 and source.chance(30))
    return data
