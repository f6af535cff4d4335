from __future__ import annotations

import importlib
import inspect
import sys
import types
import warnings
from collections.abc import Callable
from types import ModuleType

import pytest

from safeserial.errors import Misconfigured
from safeserial.policy import Policy, lint
from safeserial.policy.grammar import parse
from safeserial.policy.presets import PRESETS

Shop = Callable[..., ModuleType]

REFUSED = [
    ("builtins:eval", "builtin functions"),
    ("builtins:exec", "builtin functions"),
    ("builtins:compile", "builtin functions"),
    ("builtins:open", "builtin functions|functions of io|functions of _io"),
    ("builtins:__import__", "special method"),
    ("builtins:setattr", "builtin functions"),
    ("builtins:print", "builtin functions"),
    ("builtins:getattr", "the one attribute"),
    ("builtins:type", "made from names"),
    ("builtins:object", "made from names"),
    ("builtins:map", "made from names"),
    ("builtins:filter", "made from names"),
    ("builtins:super", "made from names"),
    ("builtins:property", "made from names"),
    ("builtins:SystemExit", "ends the process"),
    ("builtins:KeyboardInterrupt", "ends the process"),
    ("functools:partial", "classes of functools"),
    ("functools:reduce", "functions of (functools|_functools)"),
    ("operator:attrgetter", "classes of operator"),
    ("operator:add", "functions of _operator"),
    ("importlib:import_module", "functions of importlib"),
    ("os:system", "functions of (posix|nt)"),
    ("os:popen", "functions of os"),
    ("posix:system", "functions of posix"),
    ("subprocess:Popen", "classes of subprocess"),
    ("subprocess:run", "functions of subprocess"),
    ("sys:exit", "functions of sys"),
    ("sys:modules", "only=refer"),
    ("pickle:loads", "functions of _pickle"),
    ("pickle:Unpickler", "classes of _pickle"),
    ("copyreg:_reconstructor", "functions of copyreg"),
    ("types:FunctionType", "made from names"),
    ("types:CodeType", "made from names"),
    ("types:ModuleType", "made from names"),
    ("abc:ABCMeta", "made from names"),
    ("ctypes:CDLL", "classes of ctypes"),
    ("shutil:rmtree", "a callable|functions of shutil"),
    ("code:InteractiveConsole", "classes of code"),
    ("timeit:timeit", "functions of timeit"),
    ("typing:Any", "classes of typing|neither|a callable"),
    ("io:BytesIO", "classes of _io"),
    ("uuid:UUID.__init__", "special method"),
    ("numpy.core.multiarray:_reconstruct", "tolist"),
    ("pandas:DataFrame", "to_dict"),
    ("__builtin__:set", "write builtins:set"),
    ("copy_reg:_reconstructor", "write copyreg:_reconstructor"),
    ("commands:getoutput", "write subprocess:getoutput"),
    ("exceptions:ValueError", "write builtins:ValueError"),
    ("Queue:Full", "write queue:Full"),
    ("UserDict:IterableUserDict", "write collections:UserDict"),
    # Import by name
    ("_frozen_importlib:_gcd_import", "functions of _frozen_importlib"),
    ("_frozen_importlib_external:SourceFileLoader", "classes of _frozen_importlib_external"),
    ("_imp:create_dynamic", "functions of _imp"),
    ("celery.utils.imports:symbol_by_name", "functions of kombu.utils.imports"),
    ("celery.utils.imports:import_from_cwd", "functions of celery.utils.imports"),
    ("kombu.utils.imports:symbol_by_name", "functions of kombu.utils.imports"),
    # Load another pickle
    ("kombu.serialization:pickle_loads", "functions of kombu.serialization"),
    ("safeserial:safe_loads", "functions of safeserial make nothing that messages carry"),
    ("safeserial.formats.pickle:load_verified", "functions of safeserial make nothing"),
    # Run code
    ("gettext:c2py", "functions of gettext"),
    ("dataclasses:make_dataclass", "functions of dataclasses make nothing"),
    ("vine.promises:promise", "classes of vine"),
    ("pytest:main", "functions of _pytest"),
    ("ensurepip:bootstrap", "functions of ensurepip"),
    ("pygments.lexers:load_lexer_from_file", 'takes "filename"'),
    # Start processes and threads
    ("billiard.process:Process", "classes of billiard"),
    ("_osx_support:_read_output", "functions of _osx_support"),
    # Open files
    ("gzip:open", "functions of gzip"),
    ("bz2:open", "functions of bz2"),
    ("lzma:open", "functions of lzma"),
    ("dbm.dumb:open", "functions of dbm"),
    ("tokenize:open", "functions of tokenize"),
    ("_pyio:FileIO", "classes of _pyio"),
    ("pathlib:Path.write_text", "functions of pathlib make nothing"),
    # The stack, wherever it gets a function from
    ("celery:shared_task", "functions of celery make nothing"),
    ("celery.canvas:Signature.from_dict", "functions of celery make nothing"),
    ("email:message_from_file", "functions of email make nothing"),
    ("tarfile:TarFile.open", "functions of tarfile"),
    ("re:_compile", "functions of re make nothing"),
    ("re:_compile(str, int)", "functions of re make nothing"),
    ("gettext:c2py('n')", "functions of gettext act"),
]


@pytest.mark.parametrize(("entry", "says"), REFUSED, ids=[entry for entry, _ in REFUSED])
def test_what_turns_data_into_code_is_refused_with_what_to_write_instead(entry: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says) as caught:
        Policy(allow=[entry]).resolve()

    assert entry in caught.value.problem


@pytest.mark.parametrize(
    ("entry", "says"), [("gevent.subprocess:Popen", "classes of gevent"), ("gevent:spawn", "functions of gevent")]
)
def test_green_threads_and_their_processes_are_refused(entry: str, says: str) -> None:
    pytest.importorskip("gevent")
    with pytest.raises(Misconfigured, match=says):
        Policy(allow=[entry]).resolve()


# By hand: what each of these offers imports by name, runs code, starts processes, opens files, talks to the network,
# loads what nobody judged, or changes the interpreter.
DANGEROUS = {
    "imports": "importlib importlib.util pkgutil runpy zipimport imp _imp _frozen_importlib _frozen_importlib_external",
    "code": "code codeop ast dis inspect types typing timeit trace bdb pdb cProfile profile doctest dataclasses gettext",
    "callables": "functools operator itertools copyreg copy weakref atexit sched threading _thread contextlib",
    "processes": "os posix subprocess _posixsubprocess multiprocessing signal pty asyncio concurrent.futures.process",
    "files": "io _io _pyio gzip bz2 lzma zipfile tarfile shutil tempfile fileinput linecache glob tokenize dbm dbm.dumb",
    "pickles": "pickle _pickle shelve marshal sqlite3",
    "network": "socket ssl smtplib ftplib imaplib poplib http.client urllib.request webbrowser xmlrpc.client",
    "interpreter": "sys gc site sysconfig builtins tracemalloc faulthandler ctypes mmap resource ensurepip venv",
}


@pytest.mark.parametrize("category", DANGEROUS)
def test_no_function_of_a_dangerous_module_is_admitted(category: str) -> None:
    seen = 0
    for module in DANGEROUS[category].split():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                home = importlib.import_module(module)
        except ModuleNotFoundError:
            continue  # another Python's or another system's
        for name, value in vars(home).items():
            if not inspect.isroutine(value) or not name.isidentifier():
                continue
            seen += 1
            for words in ("", " returns=fresh", " refer"):
                with pytest.raises(Misconfigured):
                    Policy(allow=[f"{module}:{name}{words}"]).resolve()
    assert seen > 5


def test_no_function_of_any_module_of_the_standard_library_that_is_loaded_is_admitted_bare() -> None:
    known = {parse(text).name for preset in PRESETS.values() for text in preset.entries} | lint._REBUILDING
    admitted, seen = set(), 0
    for module in sorted(name for name in sys.modules if name.partition(".")[0] in sys.stdlib_module_names):
        for name, value in list(vars(sys.modules[module]).items()):
            if type(value) in (types.FunctionType, types.BuiltinFunctionType) and name.isidentifier():
                seen += 1
                entry = f"{module}:{name}"
                try:
                    entry_ = parse(entry)
                    lint.refuse_name(entry_)
                    lint.refuse_object(entry_, value)
                except Misconfigured:
                    continue
                admitted.add(entry)
    assert seen > 1000
    assert admitted - known == set()


def test_every_class_of_a_preset_may_be_listed_or_belongs_to_an_array_library() -> None:
    for preset in PRESETS:
        for name, target in Policy(presets=[preset]).objects.items():
            # Names of builtins are in the catalogue, which keeps their arguments; so are they here.
            if isinstance(target, type) and not name.startswith(("numpy", "pandas", "pytz")):
                assert name in Policy(allow=[name]).table


def test_classes_are_not_judged_by_the_names_of_their_fields(shop: Shop) -> None:
    shop(
        """
        from dataclasses import dataclass
        @dataclass
        class File:
            name: str
            path: str
            @classmethod
            def restore(cls, cents): return cls("", "")
            @classmethod
            def at(cls, path): return cls("", path)
        """
    )
    assert "shop:File" in Policy(allow=["shop:File"]).table
    assert "shop:File.restore" in Policy(allow=["shop:File.restore"]).table
    with pytest.raises(Misconfigured, match='takes "path"'):
        Policy(allow=["shop:File.at"]).resolve()


@pytest.mark.parametrize(
    "entry",
    [
        "array:_array_reconstructor",
        "celery.canvas:signature(dict)",
        "celery.canvas:Signature",
        "collections:OrderedDict.fromkeys",
        "datetime:datetime.fromisoformat",
        "re:_compile('^[a-z]+$', 32)",
        "math:sqrt only=refer",
        "email.message:Message",
        "argparse:Namespace",
    ],
)
def test_what_honest_messages_carry_of_libraries_is_admitted(entry: str) -> None:
    assert parse(entry).name in Policy(allow=[entry]).table


def test_a_private_module_of_the_operator_is_no_twin_of_a_library_module(shop: Shop) -> None:
    shop("class Money: pass\ndef rebuild(cents): pass\n", "_shop_code")
    shop("class Money: pass\ndef rebuild(cents): pass\n", "_code")

    assert Policy(allow=["_shop_code:Money", "_shop_code:rebuild", "_code:Money", "_code:rebuild"]).resolve()


@pytest.mark.parametrize(
    ("body", "uses"),
    [
        ("return eval(data)", "eval"),
        ("return [exec(one) for one in data]", "exec"),
        ("return (lambda: open(data))()", "open"),
        ("return pickle.loads(data)", "pickle"),
        ("return loads(data)", "loads"),
        ("import subprocess; subprocess.run(data)", "subprocess"),
        ("from importlib import import_module; return import_module(data)", "importlib"),
        ("return os.system(data)", "system"),
        ("return run(data)", "system"),
        ("return Popen(data)", "Popen"),
    ],
)
def test_a_function_is_asked_what_its_code_uses(shop: Shop, body: str, uses: str) -> None:
    shop(
        f"""
        import functools, os, pickle
        from os import system as run
        from pickle import loads
        from subprocess import Popen
        def rebuild(data): {body}
        @functools.wraps(rebuild)
        def decorated(*args): return rebuild(*args)
        class Class:
            @classmethod
            def make(cls, data): {body}
        """
    )
    for name in ("rebuild", "decorated", "Class.make"):
        with pytest.raises(Misconfigured, match=rf"its code uses {uses}:.*shop:{name}\("):
            Policy(allow=[f"shop:{name}"]).resolve()
        assert Policy(allow=[f'shop:{name}("one")']).resolve()
        assert Policy(allow=[f"shop:{name} only=refer"]).resolve()


def test_honest_code_is_not_suspected(shop: Shop) -> None:
    shop(
        """
        import os, subprocess
        from subprocess import CalledProcessError
        class Proxy:
            @property
            def __class__(self): raise RuntimeError
            def __getattr__(self, name): raise RuntimeError
        current = Proxy()
        def rebuild(data):
            try:
                return os.path.join(data), data.open, data.eval, current
            except CalledProcessError:
                return missing_name
        def wrapped_for_ever(data): return data
        wrapped_for_ever.__wrapped__ = wrapped_for_ever
        """
    )
    assert Policy(allow=["shop:rebuild", "shop:wrapped_for_ever"]).resolve()


@pytest.mark.parametrize(
    "entry",
    [
        "subprocess:CalledProcessError",
        "http:HTTPStatus",
        "os:stat_result",
        "types:SimpleNamespace",
        "collections:ChainMap",
        "fractions:Fraction",
        "decimal:Decimal",
        "random:Random",
        "email.message:Message",
    ],
)
def test_plain_data_is_admitted_wherever_it_is_defined(entry: str) -> None:
    assert entry in Policy(allow=[entry]).table


def test_a_dangerous_object_is_found_behind_any_name(shop: Shop) -> None:
    shop(
        """
        from os import system
        from subprocess import Popen
        from operator import itemgetter
        import functools
        first = itemgetter(0)
        partial = functools.partial(int)
        bound = [].append
        small = lambda data: data
        def outer():
            def inner(data): return data
            class Local: pass
            return inner, Local
        inner, Local = outer()
        class Meta(type): pass
        """
    )
    for name, says in (
        ("system", "functions of (posix|nt)"),
        ("Popen", "classes of subprocess"),
        ("first", "a callable itemgetter"),
        ("partial", "a callable partial"),
        ("bound", "bound to one object"),
        ("small", "a lambda"),
        ("inner", "a lambda or a function"),
        ("Local", "made inside a function"),
        ("Meta", "made from names"),
    ):
        with pytest.raises(Misconfigured, match=says):
            Policy(allow=[f"shop:{name}"]).resolve()


def test_numpy_behind_another_name_is_found(shop: Shop) -> None:
    shop("class ndarray: pass\ndef frombuffer(data): pass\nfrombuffer.__module__ = ndarray.__module__ = 'numpy.core'\n")
    for name in ("ndarray", "frombuffer"):
        with pytest.raises(Misconfigured, match="raw numpy names"):
            Policy(allow=[f"shop:{name}"]).resolve()


def test_a_function_that_takes_a_name_or_callable_needs_to_be_told_which(shop: Shop) -> None:
    shop("def load(dotted_path): pass\ndef apply(func, *args): pass\ndef plain(cents): pass\n")

    for name in ("load", "apply"):
        with pytest.raises(Misconfigured, match=rf'shop:{name}\("the one value"\)'):
            Policy(allow=[f"shop:{name}"]).resolve()
        assert Policy(allow=[f'shop:{name}("x")', f"shop:{name}('y')"]).resolve()
        assert Policy(allow=[f"shop:{name} only=refer"]).resolve()
    assert Policy(allow=["shop:plain"]).resolve()


def test_a_c_function_without_a_readable_signature_is_judged_by_its_module(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(function: object) -> None:
        raise ValueError

    monkeypatch.setattr(lint.inspect, "signature", unreadable)
    shop("import array, zlib\nrebuild = array._array_reconstructor\nconvert = dict.fromkeys\n")

    with pytest.raises(Misconfigured, match="builtin functions"):
        Policy(allow=["shop:convert"]).resolve()
    assert Policy(allow=["shop:rebuild"]).resolve()


def test_a_module_cannot_be_listed(shop: Shop) -> None:
    shop("import uuid\n")

    with pytest.raises(Misconfigured, match="write uuid:Class"):
        Policy(allow=["shop:uuid"]).resolve()
