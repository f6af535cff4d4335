"""The middle of the generator: values, names, calls by every way there is, items and state that fit the row."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from fuzz import zoo
from fuzz.material import OLD, STDLIB, TEXTS, u4
from fuzz.writer import Writer

from safeserial.allow import Arg, Kind, Right, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuzz.source import Source

__all__ = ["ANY", "Calls"]

ANY = "any"
_BASES = (
    ("object", "None"), ("object", "None"), ("object", "None"), ("list", "list"), ("dict", "dict"), ("int", "int"), ("str", "str"),
    ("tuple", "tuple"), ("float", "float"), ("bytes", "bytes"), ("complex", "instance"), ("bytearray", "bytes"), ("type", "str"),
)  # fmt: skip


@cache
def _grouped(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the zoo, and the others."""
    ours = tuple(name for name in names if name.startswith(zoo.HOME))
    rest = tuple(name for name in names if name in STDLIB)
    return ours, rest


class Calls(Writer):
    """Values of any kind, names, calls, and what is done to what they make."""

    def __init__(self, source: Source, table: dict[str, Row], buffers: int, wild: int) -> None:
        super().__init__(source, table, buffers, wild)
        self.names = _grouped(tuple(table))

    # -- values of any kind -------------------------------------------------------------------------------------------

    def scalar(self) -> None:
        self.s.pick((self.integer, self.text, self.text, self.real, self.raw_bytes, self.none))()

    def none(self) -> None:
        self.emit(self.s.pick((b"N", b"\x88", b"\x89", b"N")))
        self.push("None")

    def value(self, depth: int, kind: str = ANY) -> None:
        """Push one value, most often of this kind."""
        s = self.s
        if self.breaks():
            kind = ANY
        if kind == "hashable":
            if depth > 0 and s.chance(20):
                self.tuple_(depth - 1, "hashable")
            elif depth > 0 and s.chance(8) and self.table:
                self.instance(depth - 1)
            elif s.chance(6):
                self.frozenset_(depth - 1)
            else:
                self.scalar()
            return
        makers: dict[str, Callable[[], None]] = {
            "int": self.integer, "float": self.real, "str": self.text, "bytes": self.raw_bytes, "bytearray": self.bytearray_,
            "None": self.none, "bool": lambda: self.constant(s.chance(50)), "tuple": lambda: self.tuple_(depth - 1),
            "list": lambda: self.container("list", depth - 1), "dict": lambda: self.container("dict", depth - 1),
            "set": lambda: self.container("set", depth - 1), "frozenset": lambda: self.frozenset_(depth - 1),
            "instance": lambda: self.instance(depth - 1), "buffer": self.buffer,
        }  # fmt: skip
        if kind in makers:
            makers[kind]()
            return
        if self.memo and s.chance(15):
            self.get()
        elif depth <= 0 or s.chance(45):
            self.scalar() if s.chance(95) else self.long_text()
        elif self.table and s.chance(35):
            self.instance(depth - 1)
        elif self.buffers and s.chance(20):
            self.buffer()
        else:
            makers[s.pick(("tuple", "list", "dict", "set", "frozenset", "list", "dict", "bytearray"))]()

    def tuple_(self, depth: int, kind: str = ANY) -> None:
        size = self.s.pick((0, 1, 2, 3, 1, 2, 4))
        if size == 0 and self.s.chance(70):
            self.emit(b")")
            self.push("tuple")
            return
        if size > 3 or size == 0 or self.s.chance(30):
            self.mark()
            for _ in range(size):
                self.value(depth, kind)
            self.close(b"t", "tuple")
        else:
            for _ in range(size):
                self.value(depth, kind)
            self.take(bytes([0x84 + size]), size, "tuple")

    def frozenset_(self, depth: int) -> None:
        self.mark()
        for _ in range(self.s.below(4)):
            self.value(depth, "hashable")
        self.close(b"\x91", "frozenset")

    def container(self, kind: str, depth: int) -> None:
        """A list, dict or set with some items, as old or new protocols write it."""
        s = self.s
        inner = {"list": [ANY], "dict": ["hashable", ANY], "set": ["hashable"]}[kind] * s.below(4)
        steps = [lambda one=one: self.value(depth, one) for one in inner]
        if kind != "set" and s.chance(12):
            self.mark()
            for step in steps:
                step()
            self.close(b"l" if kind == "list" else b"d", kind)
            return
        self.empty(kind)
        if s.chance(20):
            self.put()
        self.items(steps, kind)

    def buffer(self) -> None:
        self.emit(b"\x97")
        self.buffers -= 1
        self.push("buffer")
        if self.s.chance(30):
            self.emit(b"\x98")

    # -- names and calls ----------------------------------------------------------------------------------------------

    def name(self) -> str:
        """A listed name; now and then one that is not."""
        if self.breaks() or not self.table:
            return self.s.pick(zoo.UNLISTED)
        return self.s.pick(self.names[0 if self.s.chance(75) or not self.names[1] else 1])

    def global_(self, dotted: str) -> None:
        s = self.s
        module, _, qualname = dotted.partition(":")
        if "." in qualname and s.chance(30):
            # As protocols below 4 write it.
            holder, _, attribute = qualname.rpartition(".")
            self.global_("builtins:getattr")
            self.global_(f"{module}:{holder}")
            self.text(attribute.encode())
            self.take(b"\x86", 2, "tuple")
            self.take(b"R", 2, f"global {dotted}")
            return
        spelled = module.encode()
        if self.protocol < 3 or self.breaks():
            spelled = OLD.get(module, spelled)
        raw = qualname.encode()
        if self.protocol >= 4 or s.chance(10):
            for part in (spelled, raw):
                if len(part) < 256:
                    self.emit(b"\x8c" + bytes([len(part)]) + part)
                else:
                    self.emit(b"X" + u4(len(part)) + part)
                self.push("str")
                if s.chance(2):
                    self.noise()
            if s.chance(3):
                # Through the memo, as honest picklers write a module they wrote before.
                self.stack.pop()
                self.emit(b"0")
                self.get()
            self.take(b"\x93", 2, f"global {dotted}")
        else:
            self.emit(b"c" + spelled + b"\n" + raw + b"\n")
            self.push(f"global {dotted}")

    def argument(self, arg: Arg, depth: int) -> None:
        """Push something that fits a pattern, most of the time."""
        s = self.s
        if self.breaks():
            self.value(depth)
        elif arg.op == "const":
            self.constant(arg.value)
        elif arg.op in ("global", "reference"):
            self.global_(
                str(arg.value) if arg.op == "global" else s.pick(("fuzz.zoo:Tag", "fuzz.zoo:Color", "fuzz.zoo:Gauge"))
            )
        elif arg.op == "any" and s.chance(40):
            self.global_("fuzz.zoo:Tag")
        elif arg.op == "made-by":
            self.instance(depth, s.pick(arg.value))  # type: ignore[arg-type]
        elif arg.op == "chars":
            alphabet = str(arg.value)
            self.text("".join(s.pick(alphabet) for _ in range(s.below(4))).encode())
        elif arg.op == "tuple" and isinstance(arg.value, tuple):
            self.mark()
            for one in arg.value:
                self.argument(one, depth)
            self.close(b"t", "tuple")
        elif arg.op == "kind":
            self.of_kind(arg, depth)
        else:
            self.value(depth)

    def of_kind(self, arg: Arg, depth: int) -> None:
        names = [kind.name for kind in Kind if arg.kinds & kind]
        word = str(self.s.pick(names))
        low = arg.low or 0
        edge = low if self.s.chance(50) else min(arg.high if arg.high is not None else low + 3, low + 600)
        if word == "INT":
            self.constant(edge)
        elif word in ("BYTES", "STR"):
            size = min(abs(edge), 600)
            self.raw_bytes(b"a" * size) if word == "BYTES" else self.text(b"a" * size)
        else:
            spelled = {"NONE": "None", "BYTEARRAY": "bytearray"}.get(word, word.lower())
            self.value(depth, spelled)

    def arguments(self, dotted: str, depth: int) -> int:
        """Push a call's arguments; how many."""
        s = self.s
        row = self.table.get(dotted)
        honest = STDLIB.get(dotted)
        if honest is not None and s.chance(70):
            for one in honest:
                self.constant(one)
            return len(honest)
        if row is not None and row.signatures:
            signature = s.pick(row.signatures)
            patterns = list(signature.args)
            if signature.optional:
                del patterns[len(patterns) - s.below(signature.optional + 1) :]
            if signature.rest is not None:
                patterns += [signature.rest] * s.below(3)
            if self.breaks():
                patterns = patterns[:-1] if s.chance(50) else [*patterns, Arg("data")]
            for pattern in patterns:
                self.argument(pattern, depth)
            return len(patterns)
        count = s.pick((0, 0, 1, 2))
        for _ in range(count):
            self.global_(self.name()) if self.breaks() else self.value(depth)
        return count

    def instance(self, depth: int, dotted: str = "") -> None:
        """Make an instance by one of the ways there are, then give it items and state."""
        s = self.s
        dotted = dotted or self.name()
        row = self.table.get(dotted)
        rights = row.rights if row is not None else int(Right.CALL)
        if not rights & (Right.CALL | Right.NEW) and not self.breaks():
            self.global_(dotted)
            return
        ways = ["R"] * 3 if rights & Right.CALL else []
        if rights & Right.NEW:
            ways += ["\x81", "\x81", "\x92", "i", "o", "r", "n"]
        if rights & Right.CALL:
            ways += ["i", "o"]
        way = s.pick("R\x81\x92iorn") if not ways or self.breaks() else s.pick(ways)
        kind = f"instance {dotted}"
        if way == "i":
            self.mark()
            self.arguments(dotted, depth)
            module, _, qualname = dotted.partition(":")
            spelled = OLD.get(module, module.encode()) if self.protocol < 3 else module.encode()
            self.close(b"i" + spelled + b"\n" + qualname.encode() + b"\n", kind)
        elif way == "o":
            self.mark()
            self.global_(dotted)
            self.arguments(dotted, depth)
            self.close(b"o", kind)
        elif way == "r":
            base, state = s.pick(_BASES)
            self.global_("copyreg:_reconstructor")
            self.mark()
            self.global_(dotted)
            self.global_(f"builtins:{base}")
            self.value(0, state)
            self.close(b"t", "tuple")
            self.take(b"R", 2, kind)
        elif way == "n":
            with_keywords = s.chance(40)
            self.global_("copyreg:__newobj_ex__" if with_keywords else "copyreg:__newobj__")
            self.mark()
            self.global_(dotted)
            if with_keywords:
                self.packed(dotted, depth)
                self.keywords(depth)
            else:
                self.arguments(dotted, depth)
            self.close(b"t", "tuple")
            self.take(b"R", 2, kind)
        else:
            self.global_(dotted)
            self.packed(dotted, depth)
            if way == "\x92":
                self.keywords(depth)
            self.take(way.encode("latin-1"), 3 if way == "\x92" else 2, kind)
        self.furnish(rights, row, depth)

    def packed(self, dotted: str, depth: int) -> None:
        """The arguments as a tuple."""
        if self.s.chance(30):
            at = len(self.stack)
            count = self.arguments(dotted, depth)
            if 1 <= count <= 3 and len(self.stack) == at + count:
                self.take(bytes([0x84 + count]), count, "tuple")
                return
            if not count:
                self.emit(b")")
                self.push("tuple")
                return
            del self.stack[at:]
            self.stack += ["?"] * count
        self.mark()
        self.arguments(dotted, depth)
        self.close(b"t", "tuple")

    def keywords(self, depth: int) -> None:
        self.emit(b"}")
        self.push("dict")
        if self.s.chance(50):
            self.text(self.s.pick((b"x", b"key", b"self")))
            self.value(depth)
            self.take(b"s", 2, None)

    def furnish(self, rights: int, row: Row | None, depth: int) -> None:
        """Items and state for the fresh instance on top."""
        s = self.s
        wrong = self.breaks()
        for right, kind in ((Right.LIST, "list"), (Right.DICT, "dict"), (Right.SET, "set")):
            if (rights & right and s.chance(60)) or (wrong and s.chance(30)):
                inner = {"list": [ANY], "dict": ["hashable", ANY], "set": ["hashable"]}[kind] * s.pick((1, 2, 3))
                self.items([lambda one=one: self.value(depth, one) for one in inner], kind)
        if (rights & (Right.BUILD | Right.SETSTATE) and s.chance(55)) or wrong:
            self.state(row, depth)
            self.take(b"b", 1, None)
            if s.chance(2):
                self.state(row, depth)
                self.take(b"b", 1, None)

    def state(self, row: Row | None, depth: int) -> None:
        s = self.s
        if row is not None and row.state and not self.breaks():
            self.argument(s.pick(row.state), depth)
            return
        slotted = bool(row is not None and row.slots) or self.breaks()
        if slotted and s.chance(60):
            if s.chance(50):
                self.emit(b"N")
                self.push("None")
            else:
                self.attributes((b"a", b"b", b"x", b"name"), depth, row)
            self.attributes(
                tuple(name.encode() for name in sorted(row.slots)) if row is not None and row.slots else (b"a", b"p"),
                depth,
                row,
            )
            self.take(b"\x86", 2, "tuple")
        elif self.breaks():
            self.value(depth)
        else:
            self.attributes((b"a", b"x", b"y", b"name", b"append", b"code", b"args"), depth, row)

    def attributes(self, names: Sequence[bytes], depth: int, row: Row | None) -> None:
        """A dict of attributes."""
        self.emit(b"}")
        self.push("dict")
        count = self.s.below(3)
        steps: list[Callable[[], None]] = []
        for _ in range(count):
            name = self.s.pick(TEXTS) if self.breaks() else self.s.pick(names)
            steps.append(lambda name=name: self.text(name))
            if (row is not None and row.state_references and self.s.chance(50)) or self.breaks():
                steps.append(lambda: self.global_(self.s.pick(("fuzz.zoo:Tag", "fuzz.zoo:Plain", "fuzz.zoo:Gauge"))))
            else:
                steps.append(lambda: self.value(depth))
        self.items(steps, "dict")
