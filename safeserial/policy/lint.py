"""What no policy should list, and what its owner should know about what it does list.

This is a seat belt for start-up, not the security boundary: a listed name is trusted to be harmless with any data,
and no table can prove that. It catches the entries that are known to turn data into code, and says what to write
instead. The boundary is that nothing is built which is not listed.
"""

from __future__ import annotations

import _compat_pickle
import inspect
import types
from enum import Enum
from typing import TYPE_CHECKING

from safeserial.errors import Misconfigured
from safeserial.policy.grammar import shown
from safeserial.policy.model import Finding

if TYPE_CHECKING:
    from safeserial.policy.grammar import Entry

__all__ = ["refuse_name", "refuse_object", "static", "warn"]

# Modules whose functions and classes act on names, code, files, processes or callables. What pickles as plain data
# from them is exempt: exceptions, enum members, named tuples.
_ACTING_MODULE_NAMES = """
    _asyncio _ctypes _functools _io _operator _pickle _posixsubprocess _socket _thread _weakref ast asyncio atexit bdb
    cloudpickle cmd code codecs codeop compileall concurrent contextlib copy copyreg cProfile ctypes dill dis
    distutils doctest fileinput ftplib functools gc glob http idlelib imaplib imp importlib inspect io itertools
    joblib jsonpickle lib2to3 linecache logging marshal mmap multiprocessing nt ntpath numbers operator os pdb pickle
    pip pipes pkg_resources pkgutil platform poplib posix posixpath profile pstats pty py_compile pydoc queue readline
    resource runpy sched select setuptools shelve shlex shutil signal site smtplib socket socketserver sqlite3 ssl
    subprocess symtable sys tarfile telnetlib tempfile threading timeit tkinter trace traceback tracemalloc types
    typing unittest urllib venv warnings weakref webbrowser winreg wsgiref xml xmlrpc yaml zipapp zipfile zipimport
"""
_ACTING_MODULES = frozenset(_ACTING_MODULE_NAMES.split())

_ARRAY_MODULES = frozenset({"numpy", "pandas", "polars", "pyarrow", "scipy", "torch"})
# What to list instead of their raw names.
_ARRAY_PRESETS = {"numpy": "numpy@1", "pandas": "pandas@1"}

# Classes that are called with names or callables, or that hand out everything.
_ACTING_BUILTINS = frozenset(
    {
        "classmethod", "enumerate", "filter", "map", "memoryview", "object", "property", "reversed", "staticmethod",
        "super", "type", "zip",
    }
)  # fmt: skip

_CODE_TYPES = (
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.CodeType,
    types.BuiltinFunctionType,
    types.GeneratorType,
    type,
)

# Parameters by which a function says that it takes a name, code or a callable.
_ACTING_PARAMETER_NAMES = """
    callable callback cmd code command dotted_path expr expression fn func function handler import_name import_path
    import_string method_name model_id module_name script shell source typename
"""
_ACTING_PARAMETERS = frozenset(_ACTING_PARAMETER_NAMES.split())

_CONTAINER_METHODS = ("append", "extend", "add", "__setitem__")


def refuse_name(entry: Entry) -> None:
    """Refuse an entry for its name alone, before anything is imported.

    Raises:
        Misconfigured: Says what to write instead.
    """
    key = (entry.module, entry.qualname)
    if key in _compat_pickle.NAME_MAPPING or entry.module in _compat_pickle.IMPORT_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING.get(
            key, (_compat_pickle.IMPORT_MAPPING.get(entry.module, entry.module), entry.qualname)
        )
        raise _wrong(entry, f"a Python 2 name, which pickle rewrites before it looks: write {module}:{name}")
    top = entry.module.partition(".")[0]
    if top in _ARRAY_MODULES:
        raise _raw(entry, top)
    if any(part.startswith("__") and part.endswith("__") for part in entry.qualname.split(".")):
        raise _wrong(entry, "a special method or attribute: list the class itself, package.module:Class")


def refuse_object(entry: Entry, target: object) -> None:
    """Refuse an entry for what its name turned out to be.

    Args:
        entry: The entry.
        target: The object it names.

    Raises:
        Misconfigured: Says what to write instead.
    """
    if isinstance(target, type):
        _refuse_class(entry, target)
    elif isinstance(target, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        _refuse_function(entry, target)
    elif callable(target):
        raise _wrong(entry, f"a callable {type(target).__name__}: list a class, or a function that takes data only")
    elif entry.words != {"only=refer"}:
        raise _wrong(entry, "neither a class nor a function: add only=refer, if messages carry this value by its name")


def _refuse_class(entry: Entry, cls: type) -> None:
    if issubclass(cls, (BaseException, Enum, types.SimpleNamespace)) or _is_record(cls):
        # Plain data wherever it is defined; but an exception that ends the process is not a value.
        if issubclass(cls, BaseException) and not issubclass(cls, Exception):
            raise _wrong(entry, "raising it ends the process that reads it: list classes derived from Exception only")
        return
    top = cls.__module__.partition(".")[0]
    if issubclass(cls, _CODE_TYPES) or (cls.__module__ == "builtins" and cls.__qualname__ in _ACTING_BUILTINS):
        raise _wrong(entry, "it is made from names, code or callables: list the class that messages really carry")
    if top in _ACTING_MODULES and entry.words != {"only=refer"}:
        raise _wrong(entry, f"classes of {top} act on what they are given: list a class that holds data only")
    if top in _ARRAY_MODULES:
        raise _raw(entry, top)
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        if package in _ARRAY_MODULES:
            # It inherits a constructor that takes buffers and strides, and a __setstate__ that believes what it gets.
            raise _raw(entry, package, f"its base {base.__qualname__} is {package}'s, and ")
    if "<locals>" in cls.__qualname__:
        raise _wrong(entry, "a class made inside a function: define it at module level")


def _refuse_function(entry: Entry, function: types.FunctionType | types.BuiltinFunctionType | types.MethodType) -> None:
    name = getattr(function, "__qualname__", "")
    if "<lambda>" in name or "<locals>" in name:
        raise _wrong(entry, "a lambda or a function made inside another: define it at module level")
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, (type, types.ModuleType)):
        raise _wrong(entry, "a method bound to one object: list a class, or a function that takes data only")
    module = getattr(function, "__module__", None) or getattr(owner, "__module__", "") or ""
    top = str(module).partition(".")[0]
    if top == "builtins" or entry.module == "builtins":
        raise _wrong(
            entry, "builtin functions take names or callables, or act: list the class that messages really carry"
        )
    if top in _ACTING_MODULES:
        raise _wrong(
            entry, f"functions of {top} act on names, code or callables: list the class that messages really carry"
        )
    if top in _ARRAY_MODULES:
        raise _raw(entry, top)
    if entry.signature is None and entry.words != {"only=refer"}:
        for parameter in _parameters(function):
            if parameter in _ACTING_PARAMETERS:
                raise _wrong(
                    entry,
                    f'it takes "{parameter}", which reads like a name, code or a callable: say which, '
                    f'{entry.name}("the one value")',
                )


def _parameters(function: object) -> tuple[str, ...]:
    try:
        return tuple(inspect.signature(function).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ()  # a C function may have no signature to read


def _is_record(cls: type) -> bool:
    # Named tuples, and the C twin of them that os and time use.
    return issubclass(cls, tuple) and cls is not tuple


def _raw(entry: Entry, package: str, before: str = "") -> Misconfigured:
    preset = _ARRAY_PRESETS.get(package)
    plain = "send plain data (tolist(), to_dict(), bytes)"
    instead = f'use presets = ["{preset}"], which checks every size, or {plain}' if preset else plain
    return _wrong(entry, f"{before}raw {package} names let a message corrupt memory or run code: {instead}")


def _wrong(entry: Entry, problem: str) -> Misconfigured:
    return Misconfigured(f"{shown(entry.text)}: {problem}", key="allow")


_MISSING = object()


def static(cls: type, name: str) -> object:
    """What ``cls`` or a base other than ``object`` defines as ``name``, without running a descriptor; else ``None``."""
    for base in type.__getattribute__(cls, "__mro__"):
        if base is not object and name in vars(base):
            return vars(base)[name]
    return None


def warn(name: str, cls: type) -> tuple[Finding, ...]:
    """What the owner of a policy should know about one listed class. Nothing is refused because of it."""
    found: list[Finding] = []

    def tell(code: str, message: str) -> None:
        found.append(Finding(name, code, message))

    if cls.__module__ == "builtins" or issubclass(cls, Enum):
        return ()
    real = f"{cls.__module__}:{cls.__qualname__}"
    if real != name:
        tell("alias", f"pickles made today spell it {real}; this entry matches only those that say {name}")
    python = [base for base in cls.__mro__ if base.__flags__ & _HEAPTYPE]
    for method in ("__reduce__", "__reduce_ex__", "__getstate__"):
        if any(isinstance(vars(base).get(method), types.FunctionType) for base in python):
            tell(
                "own-reduce",
                f"its {method} decides what a copy is made from; an instance built from a message may ask for other "
                "calls: never pickle again what was built",
            )
            break
    if static(cls, "__del__") is not None:
        tell("own-del", "its __del__ runs on whatever state a message gave it")
    if type(cls).__call__ is not type.__call__:
        tell("metaclass-call", f"its metaclass {type(cls).__name__} decides what calling it returns")
    if not issubclass(cls, (list, dict, set, frozenset, bytearray)) and not _is_deque(cls):
        methods = [method for method in _CONTAINER_METHODS if static(cls, method) is not None]
        if methods:
            tell(
                "container-methods",
                f"it has {', '.join(methods)} but is no list, deque, dict or set: a message cannot add items to it",
            )
    return tuple(found)


_HEAPTYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or by a newer C extension


def _is_deque(cls: type) -> bool:
    from collections import deque

    return issubclass(cls, deque)
