"""What is declared about versions: which schema is at which, and what leads there from older ones.

Declaring happens while modules are imported, in any order, so it only collects; what does not fit together is told by
:meth:`SchemaRegistry.check`, at start-up, all of it at once and with what to write.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypeVar

from safeserial.errors import Misconfigured
from safeserial.schema.chain import UNDECLARED, Chain
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["MAX_VERSION", "Declared", "Kind", "SchemaRegistry", "declared_on", "default_registry", "schema", "upcast"]

#: What the envelope has room for.
MAX_VERSION = 0xFFFF
_MARK = "__safeserial_schema__"

#: A ``call`` has positional and keyword arguments; a ``value`` is one piece of plain data.
Kind: TypeAlias = Literal["call", "value"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Declared:
    """One schema, as it was declared.

    Attributes:
        name: Its name; empty where it is that of the task that is going to be made of the function.
        version: Its present version.
        compatible_from: From which version on messages are read as they are, if no upcaster stands there.
        target: The class, or the function or task whose parameters are the schema.
    """

    name: str
    version: int
    compatible_from: int
    target: Any

    @property
    def kind(self) -> Kind:
        """Whether it describes a call or a value."""
        # By the type of the object, and no attribute of it: a task that Celery has not made yet would be made by that.
        if not issubclass(type(self.target), type):
            return "call"
        return "call" if hasattr(self.target, "apply_async") and hasattr(self.target, "run") else "value"

    @property
    def place(self) -> str:
        """Where it stands, for a person."""
        return _place(self.target)


@dataclass(frozen=True, slots=True)
class _Upcaster:
    name: str
    from_version: int
    function: Callable[..., Any]

    @property
    def place(self) -> str:
        return _place(self.function)


def _root(target: Any) -> Any:
    """The function that was written, of a method or of what a decorator made; others as they are."""
    if type(target) is MethodType:
        target = target.__func__
    return inspect.unwrap(target) if type(target) is FunctionType else target


def _place(target: Any) -> str:
    target = _root(target)
    if not issubclass(type(target), (type, FunctionType)):
        return f"a {type(target).__name__}"
    code = getattr(target, "__code__", None)
    line = f" (line {code.co_firstlineno})" if code is not None else ""
    return f"{target.__module__}:{target.__qualname__}{line}"


def _is_same(one: Any, other: Any) -> bool:
    """Whether this is the same thing again: a module that was imported twice, or reloaded."""
    one, other = _root(one), _root(other)
    if one is other:
        return True
    both = all(issubclass(type(each), (type, FunctionType)) for each in (one, other))
    return both and _place(one) == _place(other)


def declared_on(function: Any) -> Declared | None:
    """What was declared on a function or method itself; nothing that it would inherit."""
    inner = getattr(function, "__func__", function)
    found = vars(inner).get(_MARK) if hasattr(inner, "__dict__") else None
    return found if isinstance(found, Declared) else None


class SchemaRegistry:
    """Schemas and upcasters by name.

    There is a default one, which the functions :func:`schema` and :func:`upcast` write to; an own instance is for
    tests, and for several applications in one process.

    >>> registry = SchemaRegistry()
    >>> @registry.schema("shop.price", version=2)
    ... class Price:
    ...     cents: int
    >>> @registry.upcast("shop.price", from_version=1)
    ... def cents(old):
    ...     return {"cents": round(old["price"] * 100)}
    >>> registry.check()
    >>> chain = registry.chain("shop.price")
    >>> chain.value(chain.begin(1), {"price": 4.5})
    {'cents': 450}
    """

    #: How often anything was declared in this process, by any registry: whoever keeps what follows from it compares.
    revision: ClassVar[int] = 0

    def __init__(self) -> None:
        self._declared: dict[str, list[Declared]] = {}
        self._upcasters: dict[str, list[_Upcaster]] = {}
        self._chains: dict[str, tuple[int, Chain]] = {}
        #: Declared on functions of which tasks are made, whose names only their app knows.
        self.unnamed: list[Declared] = []

    # -- declaring ----------------------------------------------------------------------------------------------

    def schema(self, name: str | None = None, *, version: int, compatible_from: int | None = None) -> Callable[[T], T]:
        """Declare a schema: on a class, or on a function whose parameters are it.

        Args:
            name: Its name, which is the message's type: for a task, the task's name. A function of which a task is made
                may leave it out, if this stands nearer to it than ``@app.task``.
            version: Its present version, from 1 on. One more whenever the type changes.
            compatible_from: Messages of this and of later versions can be read as they are, where no upcaster says how.
                ``safeserial schema check`` proves it. Without it every older version needs an upcaster.

        Raises:
            Misconfigured: These cannot be meant.
        """
        if name is not None:
            _check_name(name)
        _check_version("version", version)
        if compatible_from is not None:
            _check_version("compatible_from", compatible_from)
            if compatible_from > version:
                raise Misconfigured(f"compatible_from = {compatible_from} is beyond version = {version}", key="schema")

        def declare(target: T) -> T:
            declared = Declared(name or "", version, version if compatible_from is None else compatible_from, target)
            self._declare(declared)
            return target

        return declare

    def _declare(self, declared: Declared) -> None:
        target: Any = declared.target
        is_function = type(target) is FunctionType
        if not declared.name and not is_function:
            raise Misconfigured(
                f'{declared.place} needs a name: @schema("shop.charge", version={declared.version}); without one it '
                "stands on the function itself, below @app.task",
                key="schema",
            )
        if is_function:
            setattr(target, _MARK, declared)
        if declared.name:
            _put(self._declared.setdefault(declared.name, []), declared, lambda one: one.target)
        else:
            self.unnamed.append(declared)
        SchemaRegistry.revision += 1

    def upcast(self, name: str, *, from_version: int) -> Callable[[T], T]:
        """Declare how data of one version becomes that of the next.

        The function takes what the schema describes and returns the same of version ``from_version + 1``: for a task
        ``(args, kwargs)``, a list and a dict, for a class the plain data. It may change what it is given. It runs on
        messages that passed every check, before anything is made of their data, and should touch nothing else.

        Args:
            name: Name of the schema.
            from_version: The version that it takes.

        Raises:
            Misconfigured: These cannot be meant.
        """
        _check_name(name)
        _check_version("from_version", from_version)

        def register(function: T) -> T:
            if not callable(function):
                raise Misconfigured(f"an upcaster of {safe_repr(name)} is a function", key="upcast")
            upcasters = self._upcasters.setdefault(name, [])
            _put(upcasters, _Upcaster(name, from_version, function), lambda one: (one.function, one.from_version))
            SchemaRegistry.revision += 1
            return function

        return register

    # -- asking -------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Declared | None:
        """What is declared under a name."""
        found = self._declared.get(name)
        return found[-1] if found else None

    def names(self) -> list[str]:
        """All declared names."""
        return sorted(self._declared)

    def steps(self, name: str) -> dict[int, Callable[..., Any]]:
        """The upcasters of a schema, by the version that they take."""
        return {one.from_version: one.function for one in self._upcasters.get(name, ())}

    def chain(self, name: str, declared: Declared | None = None) -> Chain:
        """How messages of a schema are read.

        Args:
            name: Its name.
            declared: What is declared about it, if not what this registry knows. A schema that nobody declares is at
                version 1.
        """
        if declared is not None:
            return Chain(name, declared.version, self.steps(name), declared.compatible_from)
        # Kept until anything is declared anew; of undeclared names there may be any number, so they are not.
        made = self._chains.get(name)
        if made is not None and made[0] == SchemaRegistry.revision:
            return made[1]
        # Read first: what another thread declares meanwhile makes this one old.
        revision = SchemaRegistry.revision
        declared = self.find(name)
        if declared is None:
            return Chain(name, UNDECLARED)
        chain = self.chain(name, declared)
        self._chains[name] = revision, chain
        return chain

    # -- checking -----------------------------------------------------------------------------------------------

    def with_declared(self, more: Iterable[Declared]) -> SchemaRegistry:
        """A registry that knows these as well: those of an app, which gave its functions their names."""
        other = SchemaRegistry()
        other._declared = {name: list(found) for name, found in self._declared.items()}
        other._upcasters = self._upcasters
        for one in more:
            _put(other._declared.setdefault(one.name, []), one, lambda each: each.target)
        return other

    def problems(self) -> list[str]:
        """What does not fit together, each with what to write; empty if nothing."""
        found: list[str] = []
        for name in sorted({*self._declared, *self._upcasters}):
            declared = self._declared.get(name, [])
            if len(declared) > 1:
                places = " and ".join(f"version {one.version} on {one.place}" for one in declared)
                found.append(f"{_quoted(name)} is declared twice: {places}; keep one")
            upcasters = self._upcasters.get(name, [])
            if not declared:
                places = ", ".join(one.place for one in upcasters)
                found.append(
                    f"{_quoted(name)} has upcasters ({places}) and is declared nowhere: "
                    f"write @schema({_quoted(name)}, version={max(one.from_version for one in upcasters) + 1})"
                )
                continue
            found += self._step_problems(declared[-1], upcasters)
        return found

    def _step_problems(self, declared: Declared, upcasters: list[_Upcaster]) -> Iterable[str]:
        name, version = declared.name, declared.version
        by_step: dict[int, list[_Upcaster]] = {}
        for one in upcasters:
            by_step.setdefault(one.from_version, []).append(one)
        for step, several in sorted(by_step.items()):
            if len(several) > 1:
                places = " and ".join(one.place for one in several)
                yield f"{_quoted(name)} has two upcasters from version {step}: {places}; keep one"
            if step >= version:
                yield (
                    f"{_quoted(name)} has an upcaster from version {step} ({several[0].place}), and is at version "
                    f"{version}: write version={step + 1} where it is declared, or remove the upcaster"
                )
            wanted = 2 if declared.kind == "call" else 1
            if not _takes(several[0].function, wanted):
                what = "args and kwargs" if wanted == 2 else "the data"
                yield f"the upcaster of {_quoted(name)} from version {step} ({several[0].place}) must take {what}"
            if _is_awaited(several[0].function):
                yield (
                    f"the upcaster of {_quoted(name)} from version {step} ({several[0].place}) must be an ordinary "
                    "function: nobody awaits it or takes what it yields"
                )
        first = min([*by_step, declared.compatible_from])
        for step in range(first, version):
            if step not in by_step and step < declared.compatible_from:
                yield (
                    f"{_quoted(name)} has a gap: nothing leads from version {step} to {step + 1}: "
                    f"write @upcast({_quoted(name)}, from_version={step}), or remove what leads to version {step}"
                )

    def check(self) -> None:
        """Refuse what does not fit together: gaps, duplicates, upcasters that lead nowhere.

        Raises:
            Misconfigured: All of it, with what to write.
        """
        problems = self.problems()
        if problems:
            raise Misconfigured("; ".join(problems), key="schema")


def _put(items: list[T], item: T, identity: Callable[[Any], Any]) -> None:
    """Add an item, in place of one that is the same thing again."""

    def same(one: Any) -> bool:
        mine, other = identity(item), identity(one)
        if isinstance(mine, tuple):
            return mine[1:] == other[1:] and _is_same(mine[0], other[0])
        return _is_same(mine, other)

    items[:] = [one for one in items if not same(one)]
    items.append(item)


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # of something written in C, which does not tell
        return True
    return True


def _is_awaited(function: Callable[..., Any]) -> bool:
    """Whether calling it returns a promise, which would stand where the data should."""
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    return any(is_kind(function) for is_kind in kinds)


def _quoted(name: str) -> str:
    return f'"{safe_repr(name, 200)}"'


def _check_name(name: object) -> None:
    if type(name) is not str or not 0 < len(name.encode("utf-8", "replace")) <= 255 or not name.isprintable():
        raise Misconfigured("a schema's name is a text of 1 to 255 printable characters", key="schema")


def _check_version(what: str, version: object) -> None:
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise Misconfigured(f"{what} must be a whole number from 1 to {MAX_VERSION}", key="schema")


#: What :func:`schema` and :func:`upcast` write to, and what is read where nothing else is named.
default_registry = SchemaRegistry()


def schema(name: str | None = None, *, version: int, compatible_from: int | None = None) -> Callable[[T], T]:
    """:meth:`SchemaRegistry.schema` of the default registry."""
    return default_registry.schema(name, version=version, compatible_from=compatible_from)


def upcast(name: str, *, from_version: int) -> Callable[[T], T]:
    """:meth:`SchemaRegistry.upcast` of the default registry."""
    return default_registry.upcast(name, from_version=from_version)
