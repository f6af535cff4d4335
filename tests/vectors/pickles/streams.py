"""Benign streams that the CPython at hand did not write: other versions, Python 2, other languages, by hand.

``recorded.txt`` was written by the interpreters that it names, over the values that its keys name (Python 2's
OrderedDict is left out on purpose: it travels as a list of pairs, whose keys no judge has counted as keys).
"""

from __future__ import annotations

import pathlib
import pickle
import struct
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from typing import Any

__all__ = ["STREAMS", "Stream", "names_of"]

_WRITERS = {
    "py2c": "Python 2.7 cPickle", "py2": "Python 2.7 pickle.py", "py36": "CPython 3.6", "py310": "CPython 3.10", "py312": "CPython 3.12", "py313": "CPython 3.13",
}  # fmt: skip


@dataclass(frozen=True)
class Stream:
    """One stream.

    Attributes:
        key: Unique.
        data: The bytes.
        policy: Key of ``policies.TABLES``.
        source: Who wrote it.
        names: What it resolves, in order, if stated.
        value: What it makes, if stated: plain ``pickle.loads`` of an older Python cannot say.
        min_python: Oldest Python on which its classes exist.
        plain_python: Oldest Python whose own ``pickle.loads`` loads it.
    """

    key: str
    data: bytes
    policy: str
    source: str
    names: tuple[str, ...] | None = None
    value: object = None
    min_python: str = "3.10"
    plain_python: str = "3.10"


class _Recorder(pickle.Unpickler):
    """CPython's unpickler, which notes the names that it is asked for, as Python 3 spells them.

    ``getattr(Class, "const")`` is noted as the dotted name, which is how protocol 4 spells the same thing.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(BytesIO(data))
        self.protocol = data[1] if data[:1] == b"\x80" else 0
        self.names: list[str] = []

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        module, name = module_name, global_name
        if self.protocol < 3:
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if (module, name) == ("builtins", "getattr"):
            return self._fold()
        self.names.append(f"{module}:{name}")
        return super().find_class(module_name, global_name)

    def _fold(self) -> Callable[[Any, str], Any]:
        def fold(owner: Any, attribute: str) -> Any:
            dotted = f"{owner.__module__}:{owner.__qualname__}"
            # The class is never looked up on the way to its attribute, unless it is listed itself.
            if self.names and self.names[-1] == dotted and attribute != "__new__":
                self.names.pop()
            self.names.append(f"{dotted}.{attribute}")
            return getattr(owner, attribute)

        return fold


def names_of(data: bytes) -> list[str]:
    """The names that a trusted stream resolves, in its order."""
    recorder = _Recorder(data)
    recorder.load()
    return recorder.names


def _recorded() -> Iterator[Stream]:
    for line in (pathlib.Path(__file__).parent / "recorded.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        key, writer, protocol, policy, data = line.split()
        raw = bytes.fromhex(data)
        if writer == "py313" and "path" in key:
            # 3.13 alone has pathlib._local; the value is stated, and the name is the one in the stream.
            cls, text = {
                "posix-path": ("PurePosixPath", "/srv/a.txt"),
                "path": ("PosixPath", "rel/x"),
                "windows-path": ("PureWindowsPath", "C:\\x"),
            }[key]
            value = getattr(pathlib, cls)(text)
            names = _path_names(raw, cls)
            yield Stream(
                f"{key}-{writer}-p{protocol}", raw, policy, _WRITERS[writer], names, value, plain_python="3.13"
            )
            continue
        yield Stream(
            f"{key}-{writer}-p{protocol}",
            raw,
            policy,
            _WRITERS[writer],
            min_python="3.11" if key == "exception-group" else "3.10",
        )


def _path_names(raw: bytes, cls: str) -> tuple[str, ...]:
    return (f"{'pathlib._local' if b'pathlib._local' in raw else 'pathlib'}:{cls}",)


def _frameless(value: object) -> bytes:
    """Protocol 4 as other languages write it: no frame."""
    data = pickle.dumps(value, 4)
    assert data[2] == 0x95
    return data[:2] + data[11:]


_U2 = struct.pack("<I", 2)
_HAND = "by hand"
_STREAMS = (
    Stream("no-memo", b"\x80\x03}(X\2\0\0\0idK\x11X\4\0\0\0tags](X\1\0\0\0aX\1\0\0\0beu.", "empty", "another language: protocol 3, no memo", ()),
    Stream("no-memo-set", b"\x80\x03cbuiltins\nset\n](K\1K\2e\x85R.", "stdlib", "another language: protocol 3, no memo", ("builtins:set",)),
    Stream("no-memo-decimal", b"\x80\x02cdecimal\nDecimal\nX\5\0\0\x0019.90\x85R.", "stdlib", "another language: protocol 2, no memo", ("decimal:Decimal",)),
    Stream("frameless", _frameless([1, {"a": ("x", None)}, {1, 2}]), "empty", "another language: protocol 4, no frame", ()),
    Stream("frameless-name", _frameless(Decimal("1.5")), "stdlib", "another language: protocol 4, no frame", ("decimal:Decimal",)),
    Stream("two-frames", b"\x80\x04\x95\2" + bytes(7) + b"](" + b"\x95\6" + bytes(7) + b"K\1K\2e.", "empty", _HAND, ()),
    Stream("empty-frame", b"\x80\x04\x95" + bytes(8) + b"N.", "empty", _HAND, ()),
    Stream("unframed-between", b"\x80\x04\x95\2" + bytes(7) + b"](K\1\x95\2" + bytes(7) + b"e.", "empty", _HAND, ()),
    Stream("late-frame", b"\x80\x04](K\1K\2\x95\2" + bytes(7) + b"e.", "empty", _HAND, ()),
    Stream("pop-and-dup", b"\x80\x02N0K\x012\x86.", "empty", _HAND, ()),
    Stream("pop-of-held", b"\x80\x04](cpickles.wares\nPoint\n)\x81\x94eh\x000.", "own", _HAND, ("pickles.wares:Point",)),
    Stream("pop-mark-of-held", b"\x80\x04](cpickles.wares\nPoint\n)\x81\x94e(h\x00N1.", "own", _HAND, ("pickles.wares:Point",)),
    Stream("pop-mark", b"\x80\x02(K\1K\2" b"1K\3.", "empty", _HAND, ()),
    Stream("dict-and-list", b"(I1\n(I2\nI3\nld.", "empty", _HAND, ()),
    Stream("memo-gaps", b"\x80\x02](X\1\0\0\0aq\x07h\x07r\0\1\0\0h\x07e.", "empty", _HAND, ()),
    Stream("long-memo-numbers", b"\x80\x02]q\0(K\1r\1\0\0\0j\1\0\0\0e.", "empty", _HAND, ()),
    Stream("wide-numbers", b"\x80\x02(J\1\0\0\0M\1\0\x8a\1\1\x8b\1\0\0\0\1t.", "empty", _HAND, ()),
    Stream("wide-strings", b"\x80\x04(\x8d\2" + bytes(7) + b"ab\x8e\2" + bytes(7) + b"abX" + _U2 + b"abB" + _U2 + b"abt.", "empty", _HAND, ()),
    Stream("text-numbers", b"(I01\nI00\nI-7\nL7L\nL7\nF1.5\nF-1e+16\nFinf\nt.", "empty", _HAND, ()),
    Stream("quoted", b"(S'a'\nS\"it's\"\nS'\\n\\t\\\\\\x41'\nV\\u20ac\nt.", "empty", _HAND, ()),
    Stream("short-python2", b"(U\2abT" + _U2 + b"abt.", "empty", _HAND, ()),
    Stream("inst", b"(ipickles.wares\nPoint\np0\n(dp1\nVx\nI1\nsVy\nI2\nsb.", "own", _HAND, ("pickles.wares:Point",)),
    Stream("obj", b"\x80\x02(cpickles.wares\nPoint\noq\0}q\1(X\1\0\0\0xK\1X\1\0\0\0yK\2ub.", "own", _HAND, ("pickles.wares:Point",)),
    Stream("obj-with-arguments", b"\x80\x02(cdecimal\nDecimal\nX\3\0\0\x001.5o.", "stdlib", _HAND, ("decimal:Decimal",)),
    Stream("old-newobj", b"ccopy_reg\n__newobj__\n(cpickles.wares\nPoint\ntR(dVx\nI1\nsVy\nI2\nsb.", "own", _HAND, ("copyreg:__newobj__", "pickles.wares:Point")),
    Stream("getattr-fold", b"\x80\x02c__builtin__\ngetattr\nczoneinfo\nZoneInfo\nX\x09\0\0\0_unpickle\x86RX\3\0\0\0UTCK\1\x86R.", "stdlib", _HAND, ("zoneinfo:ZoneInfo._unpickle",)),
    Stream("text-operands", b"\x80\x04S'decimal'\nVDecimal\n\x93\x8c\x031.5\x85R.", "stdlib", _HAND, ("decimal:Decimal",)),
    Stream("name-twice", b"\x80\x04](\x8c\x07decimal\x94\x8c\x07Decimal\x94\x93\x94\x8c\x011\x85Rh\x00h\x01\x93\x8c\x012\x85Re.", "stdlib", _HAND, ("decimal:Decimal", "decimal:Decimal")),
    Stream("protocol-0-in-5", b"\x80\x05(lp0\nI1\naVx\na.", "empty", _HAND, ()),
    Stream("protocol-5-bytearray", b"\x80\x05\x96\3" + bytes(7) + b"abc.", "empty", _HAND, ()),
    Stream("set-in-two-steps", b"\x80\x04\x8f(K\1\x90(K\2K\3\x90.", "empty", _HAND, ()),
)  # fmt: skip

STREAMS: tuple[Stream, ...] = (*_recorded(), *_STREAMS)
