from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from safeserial.errors import Misconfigured
from safeserial.policy import Policy, lint

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
]


@pytest.mark.parametrize(("entry", "says"), REFUSED, ids=[entry for entry, _ in REFUSED])
def test_what_turns_data_into_code_is_refused_with_what_to_write_instead(entry: str, says: str) -> None:
    with pytest.raises(Misconfigured, match=says) as caught:
        Policy(allow=[entry]).resolve()

    assert entry in caught.value.problem


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
