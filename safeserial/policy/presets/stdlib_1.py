"""``stdlib@1``: the standard library's data types, each with the arguments that CPython's own pickles of it have.

The patterns are not style. A constructor whose arguments are free is a bomb: ``bytearray(2**33)`` allocates 8 GiB,
``Fraction("1e400000000")`` computes for hours, ``deque(range(2**31))`` does both. So every entry says exactly which
shapes honest pickles of protocols 0 to 5 have, on CPython 3.10 to 3.13, and bounds what scales.

Left out on purpose:
    ``re:_compile``: a short hostile pattern compiles for seconds and matches for ever (see ``regex@1``).
    ``decimal:Context``: takes lists of classes, and nobody's message carries one.
    ``SystemExit``, ``KeyboardInterrupt``, ``GeneratorExit``: a result that is one ends the process that raises it.
    ``os``, ``functools``, ``operator`` objects: they call what they are given.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ELSEWHERE", "ENTRIES", "OPTIONAL"]

# Protocols below 3 have no bytes: they call _codecs.encode(text, "latin1"). A judge takes the result for bytes of the
# text's length, so a pattern for bytes holds for it too.
_BUILTINS = (
    '_codecs:encode(str, "latin1")',
    "builtins:bytes() refer",
    "builtins:bytearray()",
    "builtins:bytearray(bytes)",
    'builtins:bytearray(str, "latin-1")',
    "builtins:set() refer",
    "builtins:set(list)",
    "builtins:frozenset() refer",
    "builtins:frozenset(list)",
    "builtins:complex(float|int, float|int)",
    "builtins:range(int, int, int)",
    "builtins:slice(data, data, data)",
    "types:SimpleNamespace()",
    # Values that have a name instead of a constructor.
    "builtins:Ellipsis only=refer",
    "builtins:NotImplemented only=refer",
    # What a defaultdict may call for a missing key. Neither is called by a pickle.
    "builtins:bool only=refer",
    "builtins:dict only=refer",
    "builtins:float only=refer",
    "builtins:int only=refer",
    "builtins:list only=refer",
    "builtins:str only=refer",
    "builtins:tuple only=refer",
)

_FACTORIES = """
    builtins:bool builtins:bytes builtins:dict builtins:float builtins:frozenset builtins:int builtins:list builtins:set
    builtins:str builtins:tuple collections:Counter collections:OrderedDict collections:defaultdict collections:deque
    decimal:Decimal
"""

_COLLECTIONS = (
    # Counter and OrderedDict would also take lists of pairs, whose keys no judge has counted as keys.
    "collections:Counter() refer",
    "collections:Counter(dict)",
    "collections:OrderedDict() refer",
    "collections:defaultdict() refer",
    "collections:defaultdict(None)",
    *(f"collections:defaultdict({factory})" for factory in _FACTORIES.split()),
    "collections:deque() refer",
    "collections:deque(tuple|list)",
    "collections:deque(tuple|list, None)",
    "collections:deque(tuple|list, int[0..9223372036854775807])",
    'array:array(str[..1 of "bBuwhHiIlLqQfd"], list)',
    'array:array(str[..1 of "uw"], str)',
    'array:_array_reconstructor(array:array, str[..1 of "bBuwhHiIlLqQfd"], int[0..21], bytes)',
)

_ZONE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/"

_TIME = (
    "datetime:date(bytes[4..4])",
    "datetime:time(bytes[6..6])",
    "datetime:time(bytes[6..6], instance)",
    "datetime:datetime(bytes[10..10])",
    "datetime:datetime(bytes[10..10], instance)",
    "datetime:timedelta(int[-999999999..999999999], int[0..86399], int[0..999999])",
    "datetime:timezone(instance)",
    "datetime:timezone(instance, str[..256])",
    # IANA keys have no dots, so none of them can name a package or leave the database's folder.
    f'zoneinfo:ZoneInfo._unpickle(str[..64 of "{_ZONE_LETTERS}"], int[0..1])',
    f'zoneinfo:ZoneInfo._unpickle(str[..64 of "{_ZONE_LETTERS}"], bool)',
)

_NUMBERS = (
    # An exponent costs nothing here: libmpdec keeps it apart. Digits do, linearly.
    'decimal:Decimal(str[..8192 of "0123456789+-.EINafinsty"]) refer',
    "fractions:Fraction(int, int)",
    # No "e" and no ".": Fraction("1e400000000") is a number of 400 million digits.
    'fractions:Fraction(str[..8602 of "0123456789-/"])',
)

_PATHS = tuple(
    f"{module}:{name}(*str[..4096])"
    for module in ("pathlib", "pathlib._local")  # 3.13 moved the classes, 3.14 moved them back
    for name in ("PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath")
)

_NETWORK = (
    "ipaddress:IPv4Address(int[0..4294967295])",
    'ipaddress:IPv4Address(str[..15 of "0123456789."])',
    "ipaddress:IPv6Address(int[0..340282366920938463463374607431768211455])",
    "ipaddress:IPv6Address(str[..128])",
    'ipaddress:IPv4Network(str[..18 of "0123456789./"])',
    'ipaddress:IPv4Interface(str[..18 of "0123456789./"])',
    "ipaddress:IPv6Network(str[..128])",
    "ipaddress:IPv6Interface(str[..128])",
    "uuid:UUID() state=uuid",
    "uuid:SafeUUID(int[-1..0])",
    "uuid:SafeUUID(None)",
)

_EXCEPTION_NAMES = """
    Exception ArithmeticError AssertionError AttributeError BlockingIOError BrokenPipeError BufferError BytesWarning
    ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError
    DeprecationWarning EOFError EncodingWarning ExceptionGroup FileExistsError FileNotFoundError FloatingPointError
    FutureWarning ImportError ImportWarning IndentationError IndexError InterruptedError IsADirectoryError KeyError
    LookupError MemoryError ModuleNotFoundError NameError NotADirectoryError NotImplementedError OSError OverflowError
    PendingDeprecationWarning PermissionError ProcessLookupError PythonFinalizationError RecursionError ReferenceError
    ResourceWarning RuntimeError RuntimeWarning StopAsyncIteration StopIteration SyntaxError SyntaxWarning SystemError
    TabError TimeoutError TypeError UnboundLocalError UnicodeDecodeError UnicodeEncodeError UnicodeError
    UnicodeTranslateError UnicodeWarning UserWarning ValueError Warning ZeroDivisionError
"""

ENTRIES: tuple[str, ...] = (
    *_BUILTINS,
    *_COLLECTIONS,
    *_TIME,
    *_NUMBERS,
    *_PATHS,
    *_NETWORK,
    *(f"builtins:{name}" for name in _EXCEPTION_NAMES.split()),
)

ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        f"pathlib._local:{name}": f"pathlib:{name}"
        for name in ("PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath")
    }
)

OPTIONAL = frozenset({"builtins:ExceptionGroup", "builtins:PythonFinalizationError"})
