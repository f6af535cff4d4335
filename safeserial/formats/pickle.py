"""Pickle, in two independent layers: MiniPickle judges the whole stream, then CPython's unpickler loads what it wrote.

The second layer believes nothing: it resolves names from a table of objects fixed when the policy was loaded, in
exactly the order the judge recorded, and never imports. Should it ever be asked for another name, the two layers
disagree, which is a bug that refuses the message instead of building it.
"""

from __future__ import annotations

import copyreg
import functools
import pickle
from types import MappingProxyType
from typing import TYPE_CHECKING

from safeserial.errors import Malformed, Reason, Refused
from safeserial.formats.base import Judged
from safeserial.minipickle import is_plain, verify
from safeserial.minipickle.reserved import charge_reserved
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from safeserial.limits import Limits
    from safeserial.policy import Policy

__all__ = ["FORMS", "PROTOCOL", "PickleCodec", "RestrictedUnpickler", "load_verified"]

#: Written by :class:`PickleCodec`. Protocol 5 differs from 4 by bytearrays and out-of-band buffers only.
PROTOCOL = 5

#: Names that need no policy because the judge admits them in one place only: copyreg's reconstructors, whose class
#: must be listed, the built-in base they are given, and the partial that stands for NEWOBJ_EX below protocol 4.
FORMS: Mapping[str, object] = MappingProxyType(
    {
        "copyreg:_reconstructor": copyreg._reconstructor,  # type: ignore[attr-defined]  # noqa: SLF001 - protocols 0 and 1 name it
        "copyreg:__newobj__": copyreg.__newobj__,  # type: ignore[attr-defined]
        "copyreg:__newobj_ex__": copyreg.__newobj_ex__,  # type: ignore[attr-defined]
        "functools:partial": functools.partial,
        **{
            f"builtins:{cls.__name__}": cls
            for cls in (
                object, int, float, str, bytes, bytearray, complex, tuple, list, dict,
            )
        },
    }
)  # fmt: skip


class _Disagreement(Exception):  # noqa: N818 - never leaves this module
    """The stream asked for what the judge did not record."""


class _Stream:
    """Canonical bytes as the file that CPython's unpickler wants: the first look ahead shows it all, without a copy.

    What a look ahead shows is used from where it stands, so nothing is ever read unless the bytes end too early; then
    there is nothing more. The functions are attributes of each stream, because a bound method would be made anew at
    each load.
    """

    __slots__ = ("content", "peek", "read", "readinto", "readline")

    def __init__(self) -> None:
        #: What the next look ahead shows, once.
        self.content: list[bytes] = []
        self.peek = self._show(self.content)
        self.read = lambda _size: b""
        self.readline = lambda: b""
        self.readinto = None

    @staticmethod
    def _show(content: list[bytes]) -> Callable[[int], bytes]:
        def peek(_size: int) -> bytes:
            return content.pop() if content else b""

        return peek


#: Up to this many bytes, looking at all of them takes less time than making an unpickler.
_SMALL = 512

#: Streams that nobody uses. One is taken for each load and belongs to it alone: a load may run code that loads.
_IDLE: list[_Stream] = []


def _filled(canonical: bytes) -> _Stream:
    try:
        stream = _IDLE.pop()
    except IndexError:
        stream = _Stream()
    stream.content.append(canonical)
    return stream


class NamelessUnpickler(pickle.Unpickler):
    """CPython's unpickler for streams in which the judge found no name: it finds none."""

    __slots__ = ()

    def find_class(self, module_name: str, global_name: str, /) -> object:
        """Refuse: nothing was recorded."""
        raise _Disagreement(f"{module_name}:{global_name}")


class RestrictedUnpickler(pickle.Unpickler):
    """CPython's unpickler over canonical bytes, which finds only the names it was told, in their order.

    Made by :func:`load_verified`, which sets what is expected. A persistent id is refused by the base class, which
    has nobody to ask.

    Attributes:
        names: The names that the judge recorded, in order.
        objects: The object behind each name, from the policy.
        found: How many of the names were asked for so far.
    """

    __slots__ = ("found", "names", "objects")

    names: Sequence[str]
    objects: Mapping[str, object]
    found: int

    def find_class(self, module_name: str, global_name: str, /) -> object:
        """The object for the next recorded name; anything else is a disagreement."""
        wanted = f"{module_name}:{global_name}"
        at = self.found
        if at >= len(self.names) or self.names[at] != wanted:
            raise _Disagreement(wanted)
        self.found = at + 1
        found = self.objects.get(wanted, _MISSING)
        if found is _MISSING:
            found = FORMS.get(wanted, _MISSING)
        if found is _MISSING and wanted.endswith(".__new__"):
            # Only ever inside of a partial, and with that class as its first argument.
            owner = self.objects.get(wanted.removesuffix(".__new__"))
            found = owner.__new__ if isinstance(owner, type) else _MISSING
        if found is _MISSING:
            raise _Disagreement(wanted)
        return found


_MISSING = object()


def load_verified(
    canonical: bytes,
    names: Sequence[str],
    objects: Mapping[str, object],
    *,
    buffers: Iterable[object] | None = None,
) -> object:
    """Build what ``verify`` accepted.

    Args:
        canonical: ``Verdict.canonical``.
        names: The names of ``Verdict.names``, in order.
        objects: ``policy.makers``: the object behind each listed name.
        buffers: As many out-of-band buffers as the verdict was asked for.

    Returns:
        The value.

    Raises:
        Refused: ``LOAD_DISAGREED`` if the loader met anything the verdict did not record (our bug);
            ``BUILD_FAILED`` if an allowed constructor raised.
    """
    try:
        if names or buffers is not None:
            stream = _filled(canonical)
            # Our bytes are mapped already; mapping them again would change a name after it was judged.
            loader = RestrictedUnpickler(stream, fix_imports=False, buffers=buffers)
            loader.names, loader.objects, loader.found = names, objects, 0
            value: object = loader.load()
            if loader.found != len(names):
                raise Malformed(Reason.LOAD_DISAGREED, None, "names were recorded that nobody asked for")
        elif is_plain is not None and len(canonical) <= _SMALL and is_plain(canonical):
            # No opcode in it can ask for a name; making an unpickler to refuse one would double the time.
            return pickle.loads(canonical)  # noqa: S301 - judged, and looked at once more
        else:
            stream = _filled(canonical)
            value = NamelessUnpickler(stream).load()
    except _Disagreement as error:
        raise Malformed(Reason.LOAD_DISAGREED, None, safe_repr(str(error))) from None
    except Refused:
        # A constructor that opens messages of its own may refuse; that is its answer, and typed already.
        raise
    except (pickle.UnpicklingError, EOFError) as error:
        raise Malformed(Reason.LOAD_DISAGREED, None, type(error).__name__) from None
    except Exception as error:  # noqa: BLE001 - whatever an allowed constructor raises is its failure, not ours
        # The type alone: the text may hold parts of the message.
        raise Malformed(Reason.BUILD_FAILED, None, safe_repr(type(error).__name__)) from None
    _IDLE.append(stream)
    return value


class PickleCodec:
    """The ``pickle`` format; see :class:`safeserial.formats.base.Codec`."""

    @property
    def name(self) -> str:
        """``"pickle"``."""
        return "pickle"

    def dumps(self, value: object, policy: Policy | None) -> bytes:
        """Write one value, and refuse to write what a reader under ``policy`` would refuse.

        Args:
            value: What to write. Pickling runs its ``__reduce__`` and the like: never write what a message built.
            policy: The readers' policy; ``None`` skips the check.

        Raises:
            Refused: ``NOT_REPRESENTABLE`` if pickle itself cannot write it; otherwise the judge's own reason.
        """
        try:
            data = pickle.dumps(value, PROTOCOL)
        except Refused:
            raise
        except Exception as error:
            raise Refused(Reason.NOT_REPRESENTABLE, None, safe_repr(type(error).__name__)) from error
        if policy is not None:
            self.judge(data, policy, policy.limits)
        return data

    def judge(self, data: bytes, policy: Policy, limits: Limits) -> Judged:
        """Judge one body; nothing is built or imported."""
        # The wire's ceiling was charged before decompression; what counts here is the body's.
        verdict = verify(data, allow=policy.table, limits=limits, max_bytes=limits.max_raw_bytes)
        charge_reserved(verdict, limits)
        names = tuple([name for _, name in verdict.names]) if verdict.names else ()
        return Judged("pickle", verdict.canonical, names)

    def build(self, judged: Judged, policy: Policy, limits: Limits) -> object:  # noqa: ARG002 - the judge charged them
        """Build the value of a judged body."""
        return load_verified(judged.data, judged.names, policy.makers)
