"""What no policy should list, and what its owner should know about what it does list.

This is a seat belt for start-up, not the security boundary: a listed name is trusted to be harmless with any data,
and no table can prove that. It catches the entries that are known to turn data into code, and says what to write
instead. The boundary is that nothing is built which is not listed.
"""

from __future__ import annotations

import _compat_pickle
import builtins
import dis
import inspect
import sys
import types
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from safeserial.errors import Misconfigured
from safeserial.policy.grammar import shown
from safeserial.policy.model import Finding
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from safeserial.allow import Arg, Signature
    from safeserial.policy.grammar import Entry

__all__ = ["refuse_name", "refuse_object", "static", "unseen", "warn"]

# Modules whose functions and classes act on names, code, files, processes or callables; a private twin of a module of
# the standard library (_pickle, _io) counts as it. What pickles as plain data from them is exempt: exceptions, enum
# members, named tuples.
_ACTING_MODULE_NAMES = """
    _aix_support _bootsubprocess _frozen_importlib _frozen_importlib_external _interpreters _osx_support
    _posixsubprocess _pyio _pyrepl _sitebuiltins _thread _winapi _xxinterpchannels _xxsubinterpreters

    aifc ast asynchat asyncio asyncore atexit bdb bz2 cProfile cgi cgitb cloudpickle cmd code codecs codeop compileall
    concurrent contextlib copy copyreg crypt ctypes curses dbm dill dis distutils doctest ensurepip faulthandler filecmp
    fileinput ftplib functools gc getpass gettext glob gzip http idlelib imaplib imp importlib inspect io itertools
    joblib jsonpickle lib2to3 linecache logging lzma mailbox mailcap marshal mmap msilib msvcrt multiprocessing netrc
    nntplib nt ntpath numbers operator os ossaudiodev pdb pickle pip pipes pkg_resources pkgutil platform poplib posix
    posixpath posixshmem profile pstats pty py_compile pyclbr pydoc queue readline resource rlcompleter runpy sched
    select selectors setuptools shelve shlex shutil signal site smtpd smtplib socket socketserver spwd sqlite3 ssl
    subprocess sunau symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile termios testcapi testinternalcapi
    threading timeit tkinter tokenize trace traceback tracemalloc tty turtle turtledemo types typing unittest urllib uu
    venv warnings wave weakref webbrowser winreg wsgiref xml xmlrpc yaml zipapp zipfile zipimport

    _pytest billiard eventlet gevent greenlet pytest vine
    celery.backends celery.bin celery.bootsteps celery.concurrency celery.contrib celery.fixups celery.loaders
    celery.local celery.platforms celery.utils.dispatch celery.utils.functional celery.utils.imports
    celery.utils.threads celery.utils.timer2 celery.worker
    kombu.asynchronous kombu.serialization kombu.transport kombu.utils.eventio kombu.utils.functional
    kombu.utils.imports
"""
_ACTING_MODULES = frozenset(_ACTING_MODULE_NAMES.split())

# A task queue's own stack. Its classes may be data. Its functions, like those of the standard library, look things up,
# open, send or load; these two are the ones that honest pickles call beside what presets list.
_STACK = frozenset({"amqp", "celery", "celery_plugin", "kombu", "safeserial"})
_REBUILDING = frozenset({"array:_array_reconstructor", "celery.canvas:signature"})

# A model travels as a call of this with its app and name (django/db/models/base.py, Model.__reduce__).
_DJANGO_MODEL = "django.db.models.base:model_unpickle"

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

_Function: TypeAlias = types.FunctionType | types.BuiltinFunctionType | types.MethodType

_CODE_TYPES = (
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.CodeType,
    types.BuiltinFunctionType,
    types.GeneratorType,
    type,
)

# Parameters by which a function says that it takes a name, a file, code or a callable.
_ACTING_PARAMETER_NAMES = """
    args argv callable callback class_name classname cls_name cmd code command dirname dotted_name dotted_path
    executable expr expression factory fd file file_name file_path filename fileno filepath fn fname fun func
    func_name function function_name handler import_name import_path import_string method_name mod mod_name model_id
    modname module module_name name path pathname pickled program qualname script shell source statement stmt target
    typename
"""
_ACTING_PARAMETERS = frozenset(_ACTING_PARAMETER_NAMES.split())

# What a function's own code must not use unless its entry says with which values: it runs code, starts processes, opens
# files or loads what nobody has judged, whatever its module and parameters are called.
_ACTING_CALLS = tuple(getattr(builtins, name) for name in ("__import__", "compile", "eval", "exec", "open"))
_ACTING_IMPORTS = frozenset(
    {
        "cloudpickle", "ctypes", "dill", "importlib", "joblib", "marshal", "multiprocessing", "pickle", "pty", "runpy",
        "shelve", "subprocess",
    }
)  # fmt: skip
_RUNS_PROGRAMS = frozenset(
    f"{verb}{letters}"
    for verb, endings in (("exec", "l le lp lpe v ve vp vpe"), ("spawn", "l le lp lpe v ve vp vpe"))
    for letters in endings.split()
) | {"fork", "popen", "posix_spawn", "posix_spawnp", "startfile", "system"}

_MOST_DECORATORS = 20

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
        instead = safe_repr(f"{module}:{name}")
        raise _wrong(entry, f"a Python 2 name, which pickle rewrites before it looks: write {instead}")
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
        kind = safe_repr(type(target).__name__)
        raise _wrong(entry, f"a callable {kind}: list a class, or a function that takes data only")
    elif entry.words != {"only=refer"}:
        raise _wrong(entry, "neither a class nor a function: add only=refer, if messages carry this value by its name")


def _refuse_class(entry: Entry, cls: type) -> None:
    if issubclass(cls, (BaseException, Enum, types.SimpleNamespace)) or _is_record(cls):
        # Plain data wherever it is defined; but an exception that ends the process is not a value.
        if issubclass(cls, BaseException) and not issubclass(cls, Exception):
            raise _wrong(entry, "raising it ends the process that reads it: list classes derived from Exception only")
        return
    top = _top(cls.__module__)
    if issubclass(cls, _CODE_TYPES) or (cls.__module__ == "builtins" and cls.__qualname__ in _ACTING_BUILTINS):
        raise _wrong(entry, "it is made from names, code or callables: list the class that messages really carry")
    acting = _acting(cls.__module__)
    if acting and entry.words != {"only=refer"}:
        raise _wrong(entry, f"classes of {acting} act on what they are given: list a class that holds data only")
    if top in _ARRAY_MODULES:
        raise _raw(entry, top)
    for base in cls.__mro__:
        package = _top(base.__module__)
        if package in _ARRAY_MODULES:
            # It inherits a constructor that takes buffers and strides, and a __setstate__ that believes what it gets.
            raise _raw(entry, package, f"its base {safe_repr(base.__qualname__)} is {package}'s, and ")
    if "<locals>" in cls.__qualname__:
        raise _wrong(entry, "a class made inside a function: define it at module level")


def _refuse_function(entry: Entry, function: _Function) -> None:
    name = getattr(function, "__qualname__", "")
    if "<lambda>" in name or "<locals>" in name:
        raise _wrong(entry, "a lambda or a function made inside another: define it at module level")
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, (type, types.ModuleType)):
        raise _wrong(entry, "a method bound to one object: list a class, or a function that takes data only")
    written = _written(function)
    module = str(getattr(function, "__module__", None) or getattr(owner, "__module__", "") or "")
    homes = dict.fromkeys((module, str(written.__globals__.get("__name__", "")) if written else "", entry.module))
    if any(_top(home) == "builtins" for home in homes):
        raise _wrong(
            entry, "builtin functions take names or callables, or act: list the class that messages really carry"
        )
    for home in homes:
        acting = _acting(home)
        if acting:
            raise _wrong(entry, _acting_functions(acting))
        if _top(home) in _ARRAY_MODULES:
            raise _raw(entry, _top(home))
    if entry.words & {"only=refer", "only=argument"}:
        return  # it is never called
    # What a class offers as a way to make it is judged as that class is, which need not be the library's own.
    made_by = [owner.__module__] if isinstance(owner, type) else list(homes)
    if isinstance(owner, type):
        _refuse_class(entry, owner)
        made_by = [home for home in made_by if _top(home) in _STACK]
    if entry.name == _DJANGO_MODEL and not _says_which(entry.signature):
        which = f'{_DJANGO_MODEL}(("app_label", "Model"))'
        raise _wrong(entry, f"it makes any model of the project: write a line for each that is meant, {which}")
    if f"{module}:{name}" not in _REBUILDING and not _says_which(entry.signature):
        for home in made_by:
            if _is_library(home):
                raise _wrong(entry, f"{_library_functions(_top(home))}, or say which call is meant, {_example(entry)}")
    if entry.signature is None:
        for parameter in _parameters(function):
            if parameter in _ACTING_PARAMETERS:
                reads = f'it takes "{parameter}", which reads like a name, a file, code or a callable'
                raise _wrong(entry, f"{reads}: say which, {_example(entry)}")
        used = next(_used(written.__code__, written.__globals__), "") if written else ""
        if used:
            instead = "list a class, or a function that takes data only; or say which call is meant"
            raise _wrong(entry, f"its code uses {safe_repr(used)}: {instead}, {_example(entry)}")


def _top(module: str) -> str:
    return module.partition(".")[0]


def _acting(module: str) -> str:
    """The listed module that this one is or is in, or ``""``."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        package = ".".join(parts[:length])
        # Somebody's own module called _code is not a twin of code.
        twin = package.lstrip("_") if package in sys.stdlib_module_names else package
        if package in _ACTING_MODULES or twin in _ACTING_MODULES:
            return package
    return ""


def _is_library(module: str) -> bool:
    return _top(module) in _STACK or _top(module) in sys.stdlib_module_names


def _acting_functions(package: str) -> str:
    return f"functions of {package} act on names, code or callables: list the class that messages really carry"


def _library_functions(package: str) -> str:
    return f"functions of {package} make nothing that messages carry: list the class that messages really carry"


def unseen(entry: Entry) -> str:
    """Why a name of a module that is not looked at gets no line, with the exceptions to it, or ``""``."""
    acting = _acting(entry.module)
    if acting:
        return f", unless it is an exception, enum or named tuple: {_acting_functions(acting)}"
    if _is_library(entry.module):
        return f", unless it is a class: {_library_functions(_top(entry.module))}"
    return ""


def _example(entry: Entry) -> str:
    return f'{safe_repr(entry.name)}("the one value")'


def _says_which(signature: Signature | None) -> bool:
    """Whether an entry names the one call that is meant, and leaves no value to the message."""

    def one(arg: Arg) -> bool:
        return all(map(one, arg.value)) if isinstance(arg.value, tuple) else arg.op in ("const", "global")

    return signature is not None and signature.rest is None and all(map(one, signature.args))


def _parameters(function: object) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ()  # a C function may have no signature to read
    # *args is how everybody spells "any arguments"; a parameter of that name holds those of another call.
    return tuple(one.name for one in parameters if not (one.name == "args" and one.kind is one.VAR_POSITIONAL))


def _written(function: _Function) -> types.FunctionType | None:
    """The Python function as its author wrote it, without decorators; ``None`` for C."""
    inner: object = function.__func__ if isinstance(function, types.MethodType) else function
    for _ in range(_MOST_DECORATORS):
        wrapped = getattr(inner, "__wrapped__", None)
        if not isinstance(wrapped, types.FunctionType):
            break
        inner = wrapped
    return inner if isinstance(inner, types.FunctionType) else None


def _used(code: types.CodeType, scope: dict[str, object]) -> Iterator[str]:
    """What of :data:`_ACTING_CALLS` and the like the code reaches through global names and imports."""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME" and _top(str(step.argval)) in _ACTING_IMPORTS:
            yield _top(str(step.argval))
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            name = str(step.argval)
            value = scope.get(name, getattr(builtins, name, None))
            top = _top(_home(value))
            if any(value is call for call in _ACTING_CALLS) or top.lstrip("_") in _ACTING_IMPORTS:
                yield name
            if top in ("os", "posix", "nt"):
                reached = code.co_names if type(value) is types.ModuleType else (str(getattr(value, "__name__", "")),)
                yield from sorted(_RUNS_PROGRAMS.intersection(reached))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _used(constant, scope)


def _home(value: object) -> str:
    """The module of a module, function or class. Anything else may be a proxy, which runs code when it is looked at."""
    kind = type(value)
    if issubclass(kind, types.ModuleType):
        return str(getattr(value, "__name__", ""))
    if issubclass(kind, (types.FunctionType, types.BuiltinFunctionType, type)):
        # Catching subprocess.CalledProcessError starts no process.
        plain = isinstance(value, type) and issubclass(value, BaseException)
        return "" if plain else str(getattr(value, "__module__", None) or "")
    return ""


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
        spelled = f"pickles made today spell it {safe_repr(real)}"
        tell("alias", f"{spelled}; this entry matches only those that say {safe_repr(name)}")
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
        tell("metaclass-call", f"its metaclass {safe_repr(type(cls).__name__)} decides what calling it returns")
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
