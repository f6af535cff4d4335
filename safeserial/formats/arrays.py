"""numpy's plain arrays, scalars and dtypes, where the policy has the preset ``numpy@1``.

numpy is never imported here: its types are recognised by their names, and made by the functions that the preset looked
up. On the wire an array is ``[dtype, shape, order, writeable, data]`` and a scalar ``[dtype, data]``: the dtype in
numpy's own short spelling with its byte order (``"<f8"``, ``">M8[ns]"``, ``"|S3"``), the data as raw bytes (in JSON,
base64). What numpy would misread is refused before it sees it: types that are not plain, shapes that are not exactly as
long as the data, text beyond Unicode. See :mod:`safeserial.minipickle.arrays`, whose list of types this is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from safeserial.allow import Right
from safeserial.errors import Forbidden, Reason, Refused
from safeserial.formats.handler import Context, Handler, bad, refuse_value
from safeserial.limits import charge
from safeserial.minipickle.arrays import MAX_DIMENSIONS, area_of, item_size

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ARRAYS", "KINDS"]

# As the preset lists them; the first also says whether there is a numpy.
_NDARRAY, _DTYPE = "numpy:ndarray", "numpy:dtype"
_SCALAR, _BUFFER = "numpy._core.multiarray:scalar", "numpy._core.numeric:_frombuffer"
_HOW = 'add the preset "numpy@1"'

# Byte order, type, and the unit of dates and spans, as numpy itself spells them: no order for what has none, no [1s].
_SPELLING = re.compile(r"([<>|])([a-zA-Z][0-9]{1,8})(?:\[(?:[2-9]|[1-9][0-9]{1,8})?(?:[YMWDhms]|ms|us|ns|ps|fs|as)\])?")


def _is_numpy(cls: Any, name: str) -> bool:
    return isinstance(cls, type) and any(
        base.__module__ == "numpy" and base.__qualname__ == name for base in cls.__mro__
    )


def _is_array(cls: Any) -> bool:
    # Subclasses (matrix, recarray, masked arrays) have state of their own.
    return isinstance(cls, type) and cls.__module__ == "numpy" and cls.__qualname__ == "ndarray"


def _is_scalar(cls: Any) -> bool:
    return _is_numpy(cls, "generic")


def _is_dtype(cls: Any) -> bool:
    return _is_numpy(cls, "dtype")


def _type_of(text: object, tag: str) -> tuple[str, int]:
    """Byte order and size of one item of a type that is spelled as numpy spells a plain one."""
    found = _SPELLING.fullmatch(text) if type(text) is str else None
    size = item_size(found[2]) if found else None
    if found is None or size is None or ("[" in found[0] and found[2] not in ("M8", "m8")):
        raise bad(tag, "no plain type of numpy")
    if (found[1] == "|") is not (found[2] in ("b1", "i1", "u1") or found[2].startswith("S")):
        raise bad(tag, "no plain type of numpy, as numpy spells it")
    return found[1], size


def _granted(name: str, ctx: Context) -> bool:
    row = ctx.policy.table.get(name)
    return row is not None and bool(row.rights & Right.CALL) and name in ctx.policy.objects


def _check_granted(name: str, ctx: Context, tag: str) -> None:
    if not _granted(name, ctx):
        raise Forbidden(Reason.TYPE_NOT_ALLOWED, None, f"{tag}: {_HOW}")
    ctx.names.append(name)


def _made_dtype(text: str, ctx: Context, tag: str) -> Any:
    make: Any = ctx.policy.objects[_DTYPE]
    made = make(text)
    if made.str != text:
        raise bad(tag, "not its canonical spelling")
    return made


def _spelled(dtype: Any, value: object, ctx: Context) -> str:
    """The spelling of a dtype from which the same one can be made."""
    text = dtype.str
    try:
        _type_of(text, "dtype")
    except Refused as error:
        raise refuse_value(value, "only numpy's plain types: no objects, structures, void or long double") from error
    if dtype.metadata is not None:
        raise refuse_value(value, "has metadata, which would be lost")
    if _made_dtype(text, ctx, "dtype").char != dtype.char:
        # Two C types of one size: numpy compares them as equal, but their scalars are of two classes.
        raise refuse_value(value, f'its C type has the same spelling as another one: use astype("{text}")')
    return str(text)


def _is_text(data: bytes, order: str) -> bool:
    """Whether four bytes each are a character; numpy copies them into a str as they are."""
    try:
        data.decode("utf-32-be" if order == ">" else "utf-32-le", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _check_data(text: str, order: str, data: bytes, tag: str) -> None:
    if text[1] == "U" and not _is_text(data, order):
        raise bad(tag, "text beyond Unicode")
    if text[1] == "b" and data.translate(None, b"\0\1"):
        raise bad(tag, "a bool that is neither")


# -- arrays -----------------------------------------------------------------------------------------------------


def _encode_array(value: Any, ctx: Context) -> list[object]:
    if not _granted(_BUFFER, ctx) or ctx.policy.objects.get(_NDARRAY) is not type(value):
        raise refuse_value(value, _HOW)
    text = _spelled(value.dtype, value, ctx)
    # Before any byte is copied: an array may claim far more than it holds (numpy.broadcast_to).
    charge(Reason.STRING_TOO_LONG, value.nbytes, ctx.limits.max_string_bytes)
    shape = list(value.shape)
    if len(shape) > MAX_DIMENSIONS or not value.itemsize or area_of(value.shape, value.itemsize) < 0:
        raise refuse_value(value, "too many dimensions, items of no size, or too wide for an array without items")
    flags = value.flags
    order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    data = value.tobytes(order)
    try:
        # A view of other memory may hold what no reader takes.
        _check_data(text, text[0], data, "ndarray")
    except Refused as error:
        raise refuse_value(value, "holds text beyond Unicode, or a bool that is neither") from error
    return [text, shape, order, bool(flags.writeable), ctx.wire.blob(data)]


def _check_array(payload: Any, ctx: Context) -> None:
    if type(payload) is not list or len(payload) != 5:
        raise bad("ndarray")
    text, shape, order, writeable, blob = payload
    byte_order, size = _type_of(text, "ndarray")
    if type(shape) is not list or len(shape) > MAX_DIMENSIONS or order not in ("C", "F") or type(writeable) is not bool:
        raise bad("ndarray")
    # The sizes are multiplied as ints and compared with the bytes that are there; numpy allocates nothing for them.
    if not size or not all(type(count) is int and count >= 0 for count in shape):
        raise bad("ndarray", "a shape that is none, or items of no size")
    _check_granted(_BUFFER, ctx, "ndarray")
    data = ctx.wire.unblob(blob)
    if area_of(tuple(shape), size) != len(data):
        raise bad("ndarray", "its data is not as long as its shape says")
    _check_data(text, byte_order, data, "ndarray")


def _decode_array(payload: Any, ctx: Context) -> object:
    text, shape, order, writeable, blob = payload
    data = ctx.wire.unblob(blob)
    make: Any = ctx.policy.objects[_BUFFER]
    # An array over bytes is read-only and shares them; one over a bytearray, the one copy made here, is not.
    return make(bytearray(data) if writeable else data, _made_dtype(text, ctx, "ndarray"), tuple(shape), order)


# -- scalars and dtypes -----------------------------------------------------------------------------------------


def _encode_scalar(value: Any, ctx: Context) -> list[object]:
    if not _granted(_SCALAR, ctx):
        raise refuse_value(value, _HOW)
    text = _spelled(value.dtype, value, ctx)
    charge(Reason.STRING_TOO_LONG, value.nbytes, ctx.limits.max_string_bytes)
    # numpy gives an empty text a byte or four that it does not have.
    data = value.tobytes()[: value.dtype.itemsize]
    make: Any = ctx.policy.objects[_SCALAR]
    made = make(_made_dtype(text, ctx, "npscalar"), data)
    if type(made) is not type(value) or made.dtype != value.dtype or made.tobytes() != value.tobytes():
        raise refuse_value(value, "numpy does not give it back from its bytes (text that ends in NUL is cut there)")
    return [text, ctx.wire.blob(data)]


def _check_scalar(payload: Any, ctx: Context) -> None:
    if type(payload) is not list or len(payload) != 2:
        raise bad("npscalar")
    byte_order, size = _type_of(payload[0], "npscalar")
    _check_granted(_SCALAR, ctx, "npscalar")
    data = ctx.wire.unblob(payload[1])
    if size != len(data):
        raise bad("npscalar", "its data is not as long as its type says")
    _check_data(payload[0], byte_order, data, "npscalar")


def _decode_scalar(payload: Any, ctx: Context) -> object:
    make: Any = ctx.policy.objects[_SCALAR]
    made: object = make(_made_dtype(payload[0], ctx, "npscalar"), ctx.wire.unblob(payload[1]))
    return made


def _encode_dtype(value: Any, ctx: Context) -> str:
    if not _granted(_DTYPE, ctx):
        raise refuse_value(value, _HOW)
    return _spelled(value, value, ctx)


def _check_dtype(payload: Any, ctx: Context) -> None:
    _type_of(payload, "dtype")
    _check_granted(_DTYPE, ctx, "dtype")


_ARRAY = Handler("ndarray", 43, None, _encode_array, _check_array, _decode_array, hashable=False, cost=20)
_NPSCALAR = Handler("npscalar", 44, None, _encode_scalar, _check_scalar, _decode_scalar, cost=12)
_NPDTYPE = Handler(
    "dtype", 45, None, _encode_dtype, _check_dtype, lambda payload, ctx: _made_dtype(payload, ctx, "dtype"), cost=12
)

ARRAYS: tuple[Handler, ...] = (_ARRAY, _NPSCALAR, _NPDTYPE)

#: As :data:`safeserial.formats.listed.KINDS`.
KINDS: tuple[tuple[Callable[[Any], bool], Handler], ...] = (
    (_is_array, _ARRAY),
    (_is_scalar, _NPSCALAR),
    (_is_dtype, _NPDTYPE),
)
