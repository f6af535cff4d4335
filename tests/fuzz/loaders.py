"""Three ways to load what was judged, for the harness only: none imports, and each notes what it was asked to do.

``Recording`` is CPython's C unpickler over canonical bytes. ``Original`` is the same over the input, with CPython's own
mapping of old names. ``Watching`` is CPython's pure-Python unpickler with an eye on every opcode that does something:
it checks each effect against the table on the *real* objects, so it shares no code and no model with the judge.
"""

from __future__ import annotations

import functools
import io
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from typing import TYPE_CHECKING, Any

from fuzz import rights
from fuzz.compare import parts
from fuzz.rights import Broken, Made

from safeserial.allow import Right
from safeserial.formats.pickle import FORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fuzz.zoo import Profile

__all__ = ["Original", "Recording", "Watching", "mapped"]


def mapped(module: str, name: str, protocol: int) -> tuple[str, str]:
    """A name as CPython's ``Unpickler.find_class`` looks it up; checked against it by :class:`Original`."""
    if protocol < 3:
        if (module, name) in NAME_MAPPING:
            return NAME_MAPPING[module, name]
        return IMPORT_MAPPING.get(module, module), name
    return module, name


def resolved(dotted: str, objects: Mapping[str, object]) -> object:
    """The object behind a name that the judge admits; ``None`` for any other.

    Beside what is listed that is a listed class's ``__new__``, which is good for nothing but a partial.
    """
    if dotted in objects:
        return objects[dotted]
    owner = objects.get(dotted.removesuffix(".__new__")) if dotted.endswith(".__new__") else None
    return owner.__new__ if isinstance(owner, type) else FORMS.get(dotted)


class Recording(pickle.Unpickler):
    """The C unpickler over canonical bytes."""

    def __init__(self, data: bytes, profile: Profile, buffers: Iterable[object] | None) -> None:
        super().__init__(io.BytesIO(data), fix_imports=False, buffers=buffers)
        self.objects = profile.objects
        self.seen: list[str] = []

    def find_class(self, module: str, name: str, /) -> Any:
        dotted = f"{module}:{name}"
        self.seen.append(dotted)
        found = resolved(dotted, self.objects)
        if found is None:
            raise Broken("sound", f"canonical bytes ask for {dotted!a}, which nobody listed")
        return found

    def persistent_load(self, pid: object, /) -> object:
        raise Broken("sound", "canonical bytes hold a persistent id")


class Original(pickle.Unpickler):
    """The C unpickler over the input itself, which was accepted: nothing else is ever given to it."""

    def __init__(self, data: bytes, reach: dict[str, object], buffers: Iterable[object] | None) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self.protocol = data[1] if data[:1] == b"\x80" else 0
        self.reach = reach

    def find_class(self, module: str, name: str, /) -> Any:
        dotted = ":".join(mapped(module, name, self.protocol))
        found = resolved(dotted, self.reach)
        if found is None:
            raise Broken("sound", f"the input reaches {dotted!a}, which nobody listed")
        # A dotted name below protocol 4 is one that CPython does not find at all; aliases of other Pythons, neither.
        if ("." not in name or self.protocol >= 4) and not dotted.startswith("pathlib._local:"):
            theirs = super().find_class(module, name)
            if theirs is not found and theirs != found:
                raise Broken("sound", f"CPython finds another object than {dotted!a}")
        return found

    def persistent_load(self, pid: object, /) -> object:
        raise Broken("sound", "an accepted input holds a persistent id")


# -- the watching one -------------------------------------------------------------------------------------------------


class Watching(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """The pure-Python unpickler, which checks what each opcode is about to do.

    Attributes:
        op: The opcode that is running, for telling whose an exception is.
        with_instance: Whether that opcode hashes an instance: its ``__hash__`` may raise as it likes.
    """

    def __init__(self, data: bytes, profile: Profile, buffers: Iterable[object] | None) -> None:
        self.file = io.BytesIO(data)
        self.given = None if buffers is None else list(buffers)
        super().__init__(self.file, fix_imports=False, buffers=self.given)
        self.profile = profile
        self.op = ""
        self.with_instance = False
        self.resolved: dict[int, str] = {}
        self.made: dict[int, list[Made]] = {}
        self.partials: dict[int, tuple[Any, Any, Any] | None] = {}  # what each calls, once it was set
        self.own: set[int] = set()  # lists, dicts and sets that opcodes of this stream made
        self.sealed: set[int] = set()  # those of them that are some instance's state
        self.kept: list[object] = []
        self.holders: list[Any] = []
        self.dropped: list[object] = []
        self.promised: list[object] = []  # data when a call or state got it, so data for ever
        self.seen: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        dotted = f"{module}:{name}"
        self.seen.append(dotted)
        found = resolved(dotted, self.profile.objects)
        if found is None:
            raise Broken("sound", f"nobody listed {dotted!a}")
        self.resolved[id(found)] = dotted
        self.kept.append(found)
        return found

    def persistent_load(self, pid: object) -> object:
        raise Broken("sound", "a persistent id")

    # What each step checks before, and notes afterwards.

    def row_of(self, target: object, what: str) -> Any:
        if self.made.get(id(target)):
            raise Broken("rights", f"{what}: of what a call made")
        name = self.resolved.get(id(target))
        if name is None:
            raise Broken("rights", f"{what}: of something that no name resolved to")
        row = self.profile.table.get(name)
        if row is None and name not in FORMS:
            raise Broken("rights", f"{what}: {name} is not listed")
        return row

    def check_arguments(self, row: Any, args: object, what: str) -> None:
        if type(args) is not tuple:
            raise Broken("rights", f"{what}: the arguments are a {type(args).__name__}")
        if not rights.accepts(row, args, self):
            raise Broken("rights", f"{what}: {row.name} got arguments that no pattern admits")
        self.holders.append(args)
        self.promised += [one for one in args if rights.is_data(one, self)]

    def note_made(self, value: object, row: Any, fresh: bool, given: object) -> None:
        self.kept += (value, given)
        self.made.setdefault(id(value), []).append(Made(row, fresh, given=given))

    def call(self, function: object, args: Any, run: Callable[[], object]) -> None:
        """REDUCE and its old spellings."""
        if id(function) in self.partials:
            ready = self.partials[id(function)]
            if ready is None or type(args) is not tuple or args:
                raise Broken("rights", "call: of a partial that is not ready, or with arguments of its own")
            self.new(*ready, run)
            return
        row = self.row_of(function, "call")
        if row is None and function is functools.partial:
            if type(args) is not tuple or len(args) != 1 or not self.names_new(args[0]):
                raise Broken("rights", "call: partial of anything but a listed class's __new__")
            run()
            self.kept.append(self.stack[-1])
            self.partials[id(self.stack[-1])] = None
            return
        if row is None:
            row = self.reconstructor(function, args)
            run()
            self.note_made(self.stack[-1], row, True, args)
            return
        if not row.rights & Right.CALL:
            raise Broken("rights", f"call: {row.name} may not be called")
        self.check_arguments(row, args, "call")
        run()
        self.note_made(self.stack[-1], row, bool(row.rights & Right.FRESH), args)

    def names_new(self, function: object) -> str:
        """The listed class whose ``__new__`` this is, or nothing."""
        name = self.resolved.get(id(function), "")
        return name.removesuffix(".__new__") if name.endswith(".__new__") else ""

    def set_partial(self, target: Any, state: Any, run: Callable[[], object]) -> None:
        """BUILD of a partial: what it will call is all in the state."""
        if type(state) is not tuple or len(state) != 4 or state[0] is not target.func or state[3] is not None:
            raise Broken("rights", "build: a partial of another function")
        _, args, keywords, _ = state
        if type(args) is not tuple or not args or self.resolved.get(id(args[0])) != self.names_new(state[0]):
            raise Broken("rights", "build: a partial that makes an instance of another class")
        self.sealed |= {id(part) for part in state}
        self.holders.append(state)
        self.partials[id(target)] = (args[0], args[1:], keywords)
        run()

    def reconstructor(self, function: object, args: Any) -> Any:
        name = self.resolved[id(function)]
        if (
            name not in ("copyreg:_reconstructor", "copyreg:__newobj__", "copyreg:__newobj_ex__")
            or type(args) is not tuple
        ):
            raise Broken("rights", f"call: {name} is for reconstructors only")
        row = self.row_of(args[0], "reconstruct")
        self.holders.append(args)
        if row is None or not row.rights & Right.NEW:
            raise Broken("rights", "reconstruct: of a class that may not be instantiated")
        if name.endswith("_reconstructor"):
            if len(args) != 3 or not any(args[1] is base for base in rights.BASES):
                raise Broken("rights", "reconstruct: on a base that is none")
            if args[1] is not object and not isinstance(args[2], (args[1], bytes)):
                raise Broken("rights", "reconstruct: state of another type")
        else:
            self.check_arguments(row, args[1:] if name.endswith("newobj__") else args[1], "reconstruct")
        return row

    def new(self, cls: object, args: object, keywords: object, run: Callable[[], object]) -> None:
        row = self.row_of(cls, "new")
        if row is None or not row.rights & Right.NEW:
            raise Broken("rights", "new: of a class that may not be instantiated")
        self.check_arguments(row, args, "new")
        if (
            type(keywords) is not dict
            or any(type(key) is not str for key in keywords)
            or (keywords and not row.keywords)
        ):
            raise Broken("rights", "new: keywords that the row does not admit")
        if not all(rights.is_data(one, self) for one in keywords.values()):
            raise Broken("rights", "new: a class or function as keyword argument")
        run()
        self.note_made(self.stack[-1], row, True, (args, keywords))

    def build(self, target: object, state: object, run: Callable[[], object]) -> None:
        if id(target) in self.partials and self.partials[id(target)] is None:
            self.set_partial(target, state, run)
            return
        records = self.made.get(id(target), [])
        if not records or id(target) in self.resolved:
            raise Broken("rights", "build: the target is nothing that this stream made")
        for record in records:
            if not record.fresh or record.built:
                raise Broken("rights", f"build: {record.row.name} is shared, or has its state already")
            record.built = True
            rights.check_state(record.row, target, state, self)
        for part in (state, *(state if type(state) is tuple else ())):
            self.sealed.add(id(part))
        self.promised += [state] if rights.is_data(state, self) else []
        plain = state[0] if type(state) is tuple and len(state) == 2 else state
        if type(plain) is dict and not plain and not hasattr(target, "__setstate__"):
            target.__dict__  # noqa: B018 - the C unpickler asks for it even if there is nothing to set
        run()

    def grow(self, target: object, kind: type, right: Right, keys: Iterable[object], run: Callable[[], object]) -> None:
        self.with_instance = any(rights.holds_instance(key) for key in keys)
        if type(target) is kind and id(target) in self.own:
            if id(target) in self.sealed:
                raise Broken("rights", "items: into what is an instance's state already")
        else:
            records = self.made.get(id(target), [])
            if not records or id(target) in self.resolved:
                raise Broken("rights", f"items: into a {type(target).__name__} that is nobody's")
            if any(not one.row.rights & right or not one.fresh or one.built for one in records):
                raise Broken("rights", f"items: {records[-1].row.name} takes none, or no more")
            # The class's own methods run, and may raise.
            self.with_instance = True
        run()

    def drop(self, values: list[object], rest: list[object], follows_get: bool) -> None:
        """POP: note what a call made and is dropped, alone or within something that nothing else holds."""
        if follows_get or not self.made:
            return
        lost = {id(one): one for value in values for one in self.reach(value)}
        made = [one for one in lost.values() if id(one) in self.made and type(one).__module__ == "fuzz.zoo"]
        made = [one for one in made if not isinstance(one, (int, str, float, bytes, tuple))]
        if not made:
            return
        instances = [one for one in self.kept if id(one) in self.made]
        outside = [held for held in (*self.holders, *instances) if id(held) not in lost]
        held = {id(one) for holder in outside for one in self.inner(holder)}
        held |= {id(one) for value in rest for one in self.reach(value)}
        self.dropped += [one for one in made if id(one) not in held]

    def check_dropped(self, value: object) -> None:
        """STOP: what was dropped with all that held it has been fetched again, and the result is made of it."""
        kept = {id(one) for one in self.reach(value, given=True)}
        for one in self.dropped:
            if id(one) not in kept:
                raise Broken("rights", f"pop: discards what {self.made[id(one)][-1].row.name} made")

    def inner(self, value: object) -> list[object]:
        """What a container or an instance holds."""
        return list(rights.direct(value)) if type(value) in rights.HOLD else parts(value)

    def reach(self, value: object, *, given: bool = False) -> list[object]:
        """All that hangs on a value; with ``given``, also what was passed where something of it was made."""
        todo, found, seen = [value], [], set()
        while todo:
            one = todo.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            found.append(one)
            if type(one) in rights.HOLD or id(one) in self.made:
                todo += self.inner(one)
            if given:
                todo += [made.given for made in self.made.get(id(one), ())]
        return found


def _mark_items(self: Watching) -> tuple[Any, list[Any]]:
    """The object below the mark, and what is above it."""
    return self.metastack[-1][-1], self.stack


def _reduce(self: Watching, run: Any) -> None:
    self.call(self.stack[-2], self.stack[-1], run)


def _old(self: Watching, cls: object, args: list[object], run: Any) -> None:
    row = self.row_of(cls, "instance")
    if not args and isinstance(cls, type) and row is not None and row.rights & Right.CLASS:
        if hasattr(cls, "__getinitargs__") and not row.rights & Right.CALL:
            raise Broken("rights", f"instance: {row.name} is called, and may not be")
        self.new(cls, (), {}, run)
    else:
        self.call(cls, tuple(args), run)


def _obj(self: Watching, run: Any) -> None:
    _old(self, self.stack[0], self.stack[1:], run)


def _inst(self: Watching, run: Any) -> None:
    at = self.file.tell()
    module, name = (self.file.readline()[:-1].decode("ascii") for _ in range(2))
    self.file.seek(at)
    cls = self.find_class(module, name)
    self.seen.pop()
    _old(self, cls, self.stack, run)


def _newobj(self: Watching, run: Any) -> None:
    self.new(self.stack[-2], self.stack[-1], {}, run)


def _newobj_ex(self: Watching, run: Any) -> None:
    self.new(self.stack[-3], self.stack[-2], self.stack[-1], run)


def _build(self: Watching, run: Any) -> None:
    self.build(self.stack[-2], self.stack[-1], run)


def _append(self: Watching, run: Any) -> None:
    self.grow(self.stack[-2], list, Right.LIST, (), run)


def _appends(self: Watching, run: Any) -> None:
    self.grow(_mark_items(self)[0], list, Right.LIST, (), run)


def _setitem(self: Watching, run: Any) -> None:
    self.grow(self.stack[-3], dict, Right.DICT, (self.stack[-2],), run)


def _setitems(self: Watching, run: Any) -> None:
    target, items = _mark_items(self)
    self.grow(target, dict, Right.DICT, items[::2], run)


def _additems(self: Watching, run: Any) -> None:
    target, items = _mark_items(self)
    self.grow(target, set, Right.SET, items, run)


def _follows_get(self: Watching) -> bool:
    at = self.file.tell()
    code = self.file.read(1)
    self.file.seek(at)
    return code in (b"h", b"j")


def _below(self: Watching) -> list[object]:
    """What is on the stack below the last mark."""
    return [one for part in self.metastack for one in part]


def _pop(self: Watching, run: Any) -> None:
    if self.stack:
        self.drop([self.stack[-1]], [*self.stack[:-1], *_below(self)], _follows_get(self))
    run()


def _pop_mark(self: Watching, run: Any) -> None:
    self.drop(list(self.stack), _below(self), _follows_get(self))
    run()


def _frozenset(self: Watching, run: Any) -> None:
    self.with_instance = any(rights.holds_instance(one) for one in self.stack)
    run()
    self.holders.append(self.stack[-1])


def _dict(self: Watching, run: Any) -> None:
    self.with_instance = any(rights.holds_instance(one) for one in self.stack[::2])
    _made(self, run)


def _made(self: Watching, run: Any) -> None:
    run()
    value = self.stack[-1]
    self.kept.append(value)
    self.own.add(id(value))
    self.holders.append(value)


_EYES: dict[int, Any] = {
    ord(code): eye
    for code, eye in {
        "R": _reduce, "o": _obj, "i": _inst, "\x81": _newobj, "\x92": _newobj_ex, "b": _build, "a": _append, "e": _appends,
        "s": _setitem, "u": _setitems, "\x90": _additems, "0": _pop, "1": _pop_mark, "\x91": _frozenset, "]": _made, "}": _made,
        "\x8f": _made, "l": _made, "d": _dict, "t": _made, "\x85": _made, "\x86": _made, "\x87": _made,
    }.items()
}  # fmt: skip


def _watched(code: int, step: Any) -> Any:
    eye = _EYES.get(code)

    def run(self: Watching) -> None:
        self.op, self.with_instance = chr(code), False
        if eye is None:
            step(self)
        else:
            eye(self, lambda: step(self))

    return run


Watching.dispatch = {code: _watched(code, step) for code, step in pickle._Unpickler.dispatch.items()}  # type: ignore[attr-defined]
