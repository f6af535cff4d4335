"""Plain data that nobody signed becomes typed values: one value by an annotation, or a call by a function's signature.

What a name may be is said by the reader's own code, looked at once (:class:`Arguments`, :class:`Typed`); nothing on
the wire names a type. Each reads in two steps, so that they can run in two processes: ``check`` judges and runs no code
of the user's, ``build`` judges again and makes the values, constructors and all. A refusal names the place
(``order.lines[3].qty``) and what may stand there, never what stood there.

>>> def charge(order_id: int, *, note: str | None = None) -> None: ...
>>> Arguments(charge).build([7], {"note": "gift"})
([7], {'note': 'gift'})
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from safeserial.errors import Malformed, Misconfigured, Reason, Refused
from safeserial.limits import Limits
from safeserial.schema.annotations import WIRES, Compiler
from safeserial.schema.classes import hints_of, shown
from safeserial.schema.readers import How, Mismatch, shows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from safeserial.schema.readers import Reader

__all__ = ["Arguments", "Typed", "convert"]

T = TypeVar("T")
_MAX_INSTANCES = Limits.untrusted().max_instances
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _refusal(wrong: Mismatch, root: str, reason: Reason) -> Refused:
    return Malformed(wrong.reason or reason, None, f"{wrong.where(root)}: {wrong.what}")


def _too_deep(root: str) -> Refused:
    return Malformed(Reason.TOO_DEEP, None, f"{root}: nested deeper than this process can follow")


class Typed(Generic[T]):
    """One value that plain data is read as.

    Args:
        annotation: A type, as an annotation says it: ``Order``, ``list[int]``, ``Annotated[str, ...]``.

    Raises:
        Misconfigured: It does not say what plain data looks like, or neither msgspec nor pydantic is installed.
    """

    def __init__(self, annotation: type[T] | Any) -> None:
        self._readers = {wire: Compiler(wire, "type").compile(shown(annotation), annotation) for wire in WIRES}

    def check(self, value: object, *, wire: str = "json", max_instances: int = _MAX_INSTANCES) -> None:
        """Judge plain data; no code of the user's runs.

        Args:
            value: From a strict parser (:func:`safeserial.formats.json.load_untrusted_json`).
            wire: The format it came in, ``"json"`` or ``"msgpack"``: bytes and keys differ.
            max_instances: How many objects it may have.

        Raises:
            Refused: ``SCHEMA_MISMATCH``, with the place.
        """
        self._read(value, wire, How(build=False, max_instances=max_instances))

    def build(self, value: object, *, wire: str = "json", max_instances: int = _MAX_INSTANCES) -> T:
        """Judge plain data and make the value.

        Args:
            value: As for :meth:`check`.
            wire: As for :meth:`check`.
            max_instances: As for :meth:`check`.

        Raises:
            Refused: ``SCHEMA_MISMATCH``, with the place; also where a constructor raised.
        """
        made: T = self._read(value, wire, How(build=True, max_instances=max_instances))
        return made

    def _read(self, value: object, wire: str, how: How) -> Any:
        try:
            return self._readers[wire].read(value, how)
        except Mismatch as wrong:
            raise _refusal(wrong, "value", Reason.SCHEMA_MISMATCH) from None
        except RecursionError:
            raise _too_deep("value") from None


@functools.lru_cache(maxsize=256)
def _typed(annotation: Any) -> Typed[Any]:
    return Typed(annotation)


def convert(value: object, into: type[T] | Any, *, wire: str = "json", max_instances: int = _MAX_INSTANCES) -> T:
    """Read plain data as a type: :meth:`Typed.build` for a type that is looked at when it is first asked for.

    Args:
        value: From a strict parser.
        into: The type, as an annotation says it.
        wire: ``"json"`` or ``"msgpack"``.
        max_instances: How many objects it may have.

    Raises:
        Refused: ``SCHEMA_MISMATCH``, with the place.
        Misconfigured: As :class:`Typed`.

    >>> convert({"at": "2027-01-01"}, dict[str, __import__("datetime").date])
    {'at': datetime.date(2027, 1, 1)}
    """
    try:
        typed = _typed(into)  # type: ignore[arg-type]  # asked here
    except TypeError:  # metadata that has no hash
        typed = Typed(into)
    made: T = typed.build(value, wire=wire, max_instances=max_instances)
    return made


class _Parameters:
    """The readers of a function's parameters, for one format."""

    def __init__(
        self, parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any], wire: str, place: str
    ) -> None:
        compiler = Compiler(wire, place)
        readers = {one.name: compiler.compile(one.name, hints[one.name]) for one in parameters}
        self.positional = [(one.name, readers[one.name]) for one in parameters if one.kind in _POSITIONAL]
        self.named = {one.name: readers[one.name] for one in parameters if one.kind in _NAMED}
        self.required = [
            one.name for one in parameters if one.default is one.empty and one.kind in (*_POSITIONAL, *_NAMED)
        ]
        self.rest = self._star(parameters, readers, inspect.Parameter.VAR_POSITIONAL)
        self.others = self._star(parameters, readers, inspect.Parameter.VAR_KEYWORD)

    @staticmethod
    def _star(parameters: Sequence[inspect.Parameter], readers: Mapping[str, Reader], kind: Any) -> Reader | None:
        return next((readers[one.name] for one in parameters if one.kind is kind), None)


class Arguments:
    """How the arguments of a function are read.

    Args:
        function: A function, method or other callable. Of a bound method, ``self`` is not a parameter.
        name: What it is called in error messages.

    Raises:
        Misconfigured: A parameter has no annotation, or one that does not say what plain data looks like; or neither
            msgspec nor pydantic is installed. Names the parameter.
    """

    def __init__(self, function: Callable[..., Any], *, name: str = "") -> None:
        place = name or shown(function)
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except Exception as error:
            raise Misconfigured("its signature cannot be read", key=place) from error
        hints = _annotations(function, parameters, place)
        self._wires = {wire: _Parameters(parameters, hints, wire, place) for wire in WIRES}
        self._given = _given(function) - {one.name for one in parameters}

    def check(self, args: Sequence[object], kwargs: Mapping[str, object], *, wire: str = "json") -> None:
        """Judge the arguments of a call; no code of the user's runs.

        Args:
            args: Plain data.
            kwargs: Plain data.
            wire: The format they came in, ``"json"`` or ``"msgpack"``: bytes and keys differ.

        Raises:
            Refused: ``ARGUMENTS_MISMATCH``, with the place.
        """
        self._read(args, kwargs, wire, How(build=False, max_instances=_MAX_INSTANCES))

    def build(
        self, args: Sequence[object], kwargs: Mapping[str, object], *, wire: str = "json"
    ) -> tuple[list[Any], dict[str, Any]]:
        """Judge the arguments of a call and make them; call this where the function runs.

        Args:
            args: As for :meth:`check`.
            kwargs: As for :meth:`check`.
            wire: As for :meth:`check`.

        Returns:
            The arguments, to be passed on as ``function(*args, **kwargs)``.

        Raises:
            Refused: ``ARGUMENTS_MISMATCH``, with the place; also where a constructor raised.
        """
        return self._read(args, kwargs, wire, How(build=True, max_instances=_MAX_INSTANCES))

    def _read(
        self, args: Sequence[object], kwargs: Mapping[str, object], wire: str, how: How
    ) -> tuple[list[Any], dict[str, Any]]:
        known = self._wires[wire]
        self._bind(known, args, kwargs, self._given)
        made_args: list[Any] = []
        made_kwargs: dict[str, Any] = {}
        root = ""
        try:
            for at, value in enumerate(args):
                root = f"args[{at}]"
                reader = known.positional[at][1] if at < len(known.positional) else known.rest
                assert reader is not None
                made_args.append(reader.read(value, how))
            for at, (name, value) in enumerate(kwargs.items()):
                root = _keyword(name, at, known)
                reader = known.named.get(name, known.others)
                assert reader is not None
                made_kwargs[name] = reader.read(value, how)
        except Mismatch as wrong:
            raise _refusal(wrong, root, Reason.ARGUMENTS_MISMATCH) from None
        except RecursionError:
            raise _too_deep(root) from None
        return made_args, made_kwargs

    @staticmethod
    def _bind(
        known: _Parameters, args: Sequence[object], kwargs: Mapping[str, object], given: AbstractSet[str]
    ) -> None:
        """Compare number and names of the arguments with the signature, before any is looked at."""
        if len(args) > len(known.positional) and known.rest is None:
            raise _mismatch(f"args[{len(known.positional)}]: one more than the signature has")
        by_place = {name for name, _ in known.positional[: len(args)]}
        for at, name in enumerate(kwargs):
            if name in known.named:
                if name in by_place:
                    raise _mismatch(f"{name}: given twice")
            elif known.others is None or name in given:
                raise _mismatch(f"{_keyword(name, at, known)}: no such parameter")
        for name in known.required:
            if name not in by_place and not (name in known.named and name in kwargs):
                raise _mismatch(f"{name}: missing")


def _mismatch(detail: str) -> Refused:
    return Malformed(Reason.ARGUMENTS_MISMATCH, None, detail)


def _keyword(name: object, at: int, known: _Parameters) -> str:
    """A keyword as it is shown: one that nobody knows may be data."""
    return str(name) if name in known.named or shows(name) else f"kwargs[key {at}]"


def _defined(function: Any) -> Any:
    """The function that a call ends up in."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isclass(function):
        return function.__init__
    return function if inspect.isroutine(function) else type(function).__call__


def _given(function: Any) -> set[str]:
    """Parameters that have their value before the call, such as ``self``: a keyword of that name is no other one."""
    inner = _defined(function)
    try:
        parameters = inspect.signature(getattr(inner, "__func__", inner)).parameters.values()
    except Exception:  # noqa: BLE001 - of something written in C, which does not tell
        return set()
    return {one.name for one in parameters if one.kind in _NAMED}


def _annotations(function: Any, parameters: Sequence[inspect.Parameter], place: str) -> dict[str, Any]:
    try:
        hints = hints_of(_defined(function))
    except Misconfigured as error:
        raise Misconfigured(error.problem, key=place) from error
    for one in parameters:
        if one.name not in hints and one.annotation is not one.empty and not isinstance(one.annotation, str):
            hints[one.name] = one.annotation
        if one.name not in hints:
            raise Misconfigured(
                f"the parameter {one.name} has no annotation, and unsigned arguments are read by annotations", key=place
            )
    return hints
