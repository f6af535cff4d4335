"""What deny-lists were passed by, from the published advisories of two scanners: the idea, with a harmless argument.

Each line of ``REACHED`` is a callable of some library that does harm when it is called, and that a scanner did not
know when the advisory was written. An allow-list does not need to know any of them: to it they are one case.
"""

from __future__ import annotations

from pickles.parts import Here, Vector, bad, get, here, integer, name, named, put, stated, string, text, tup

# Technique: what it does, and by which names; the argument is text that means nothing to anybody.
REACHED: dict[str, tuple[str, str]] = {
    "interpreter-in-stdlib": ("runs text as code", """
        builtins:eval builtins:exec builtins:compile builtins:breakpoint runpy:_run_code runpy:run_path runpy:run_module code:InteractiveInterpreter.runcode
        code:InteractiveInterpreter.runsource code:interact codeop:compile_command timeit:timeit timeit:main cProfile:run cProfile:runctx profile:run
        profile:Profile.run profile:Profile.runctx trace:Trace.run trace:Trace.runctx pdb:run bdb:Bdb.run doctest:debug_script doctest:run_docstring_examples
        idlelib.run:Executive.runcode idlelib.pyshell:ModifiedInterpreter.runcode idlelib.pyshell:ModifiedInterpreter.runcommand idlelib.debugobj:ObjectTreeItem.SetText
        idlelib.autocomplete:AutoComplete.get_entity idlelib.autocomplete:AutoComplete.fetch_completions idlelib.calltip:Calltip.fetch_tip idlelib.calltip:get_entity
        lib2to3.pgen2.pgen:ParserGenerator.make_label typing:ForwardRef._evaluate _interpreters:run_string _xxsubinterpreters:run_string site:execsitecustomize
        """),
    "interpreter-in-a-library": ("runs text as code", """
        numpy.f2py.crackfortran:getlincoef numpy.f2py.crackfortran:_eval_length numpy.testing._private.utils:runstring torch.utils.bottleneck.__main__:run_cprofile
        torch.utils.bottleneck.__main__:run_autograd_prof torch._dynamo.guards:GuardBuilder.get torch.jit.unsupported_tensor_ops:execWrapper
        torch.fx.experimental.symbolic_shapes:ShapeEnv.evaluate_guards_expression pandas.core.computation.eval:eval
        """),
    "command-runner": ("starts a process", """
        os:system posix:system nt:system subprocess:run subprocess:Popen subprocess:check_output pty:spawn uuid:_get_command_stdout _osx_support:_read_output
        _osx_support:_find_build_tool _aix_support:_read_cmd_output imaplib:IMAP4_stream _pyrepl.pager:pipe_pager _pyrepl.pager:tempfile_pager pydoc:pipepager
        multiprocessing.util:spawnv_passfds _posixsubprocess:fork_exec asyncio.unix_events:_UnixSubprocessTransport._start asyncio:create_subprocess_shell
        webbrowser:open distutils.spawn:spawn ensurepip:_run_pip pip:main pip._internal:main venv:create test.support.script_helper:assert_python_ok
        torch.utils.collect_env:run torch._inductor.codecache:compile_file platform:popen ctypes.util:_get_soname
        """),
    "import-by-name": ("fetches any object of any module", """
        builtins:__import__ importlib:import_module importlib._bootstrap:_gcd_import pkgutil:resolve_name pydoc:locate unittest.mock:_importer logging.config:_resolve
        cloudpickle.cloudpickle:subimport cloudpickle.cloudpickle:_builtin_type imp:load_source zipimport:zipimporter
        """),
    "callable-from-callable": ("makes another callable of what it is given", """
        builtins:map builtins:filter builtins:type functools:partial functools:reduce operator:attrgetter operator:methodcaller operator:itemgetter
        _operator:methodcaller _operator:attrgetter _functools:partial itertools:starmap copyreg:__reduce_ex__ types:MethodType
        """),
    "code-object": ("builds code from bytes", """
        types:CodeType types:FunctionType marshal:loads cloudpickle.cloudpickle:_make_function cloudpickle.cloudpickle:_function_setstate cloudpickle.cloudpickle:_make_cell
        cloudpickle.cloudpickle:_make_empty_cell _imp:create_dynamic
        """),
    "pickle-in-a-pickle": ("loads a second pickle that nobody looked at", """
        pickle:loads _pickle:loads pickle:_loads pickle:load shelve:open torch.serialization:load torch.utils._config_module:ConfigModule.load_config
        torch.utils.data.datapipes.utils.decoder:basichandlers lib2to3.pgen2.grammar:Grammar.loads numpy:load joblib:load pandas:read_pickle
        multiprocessing.connection:_ForkingPickler.loads dill:loads
        """),
    "file-or-socket": ("opens a file or a connection", """
        builtins:open io:open _io:FileIO logging:FileHandler logging.handlers:SocketHandler distutils.file_util:write_file urllib.request:urlopen http.client:HTTPSConnection
        requests.api:get aiohttp.client:ClientSession socket:create_connection ssl:get_server_certificate smtplib:SMTP ftplib:FTP telnetlib:Telnet socketserver:TCPServer
        xmlrpc.server:SimpleXMLRPCServer sqlite3:connect tarfile:open zipfile:ZipFile shutil:rmtree fileinput:input glob:glob linecache:getlines mmap:mmap py_compile:compile
        compileall:compile_dir tempfile:mkdtemp
        """),
    "process-state": ("changes the process for everybody", """
        signal:signal sys:exit sys:setrecursionlimit atexit:register gc:get_objects threading:Thread _thread:start_new_thread select:poll resource:setrlimit faulthandler:enable
        warnings:showwarning
        """),
    "foreign-code": ("calls into memory", "ctypes:CDLL ctypes:string_at ctypes:cast _ctypes:dlopen cffi:FFI"),
    "scanner-switched-off": ("turns the guard off before the second load", """
        fickling.hook:remove_hook fickling:load picklescan.scanner:_build_scan_result_from_raw_globals safeserial.formats.pickle:load_verified safeserial:Policy
        safeserial.policy.entries:compile_policy copyreg:clear_extension_cache copyreg:add_extension
        """),
}  # fmt: skip
# Where fix_imports would map the name, older protocols spell it as Python 2 did.
_OLD = {"builtins": "__builtin__", "copyreg": "copy_reg"}


def _reached() -> list[Vector]:
    """Each name once, at each protocol in turn, called by each way of calling in turn."""
    out = []
    for technique, (why, names) in REACHED.items():
        for number, dotted in enumerate(names.split()):
            module, _, what = dotted.partition(":")
            p = number % 6
            argument = string(p, "harmless")
            before, op = stated(p, _OLD.get(module, module) if p < 3 else module, what)
            if number % 4 == 3 and p >= 1:  # OBJ
                parts: list[bytes | Here] = [b"(", before, op, argument, b"o."]
            elif number % 5 == 4 and p < 4:  # INST
                parts = [b"(", argument, here(b"i" + op.code[1:]), b"."]
            else:
                parts = [before, op, tup(p, argument), b"R."]
            out.append(bad(technique, p, "global-not-allowed", f"{dotted} {why}", *parts, policy="stdlib"))
    return out


_IMPORT_OS = b"cbuiltins\n__import__\n"

VECTORS: list[Vector] = [
    *_reached(),
    # Shapes of whole streams
    bad("call-then-build", 4, "global-not-allowed", "a BUILD behind the call makes its result look used", text("pty") + b"\x94" + text("spawn") + b"\x94", here(b"\x93"), b"\x94" + text("id") + b"\x94\x85\x94R\x94" + text("gottem") + b"\x94b.", policy="stdlib"),
    *(bad("call-then-build", p, "global-not-allowed", "the same by REDUCE and a dict", *stated(p, "signal", "alarm"), tup(p, integer(p, 0)), b"R", (b"(d" if p == 0 else b"}") + string(p, "a") + integer(p, 1) + b"sb.", policy="stdlib") for p in (0, 2, 4)),
    bad("call-then-pop", 1, "global-not-allowed", "OBJ, and its result thrown away", b"(", *stated(1, "pty", "spawn"), b"S'id'\no0N.", policy="stdlib"),
    bad("call-then-pop", 0, "global-not-allowed", "INST, and its result thrown away", b"(S'id'\n", here(b"ipty\nspawn\n"), b"0I1\n.", policy="stdlib"),
    bad("call-then-pop", 4, "global-not-allowed", "NEWOBJ, and its result thrown away", *stated(4, "smtplib", "SMTP"), text("127.0.0.1") + b"\x85\x810N.", policy="stdlib"),
    *(bad("import-then-getattr", p, "global-not-allowed", "the module is fetched by a call, its function by getattr",
          *stated(p, "__builtin__" if p < 3 else "builtins", "__import__"), tup(p, string(p, "os")), b"R" + put(p, 0) + b"0" + named(p, "builtins", "getattr") + tup(p, get(p, 0), string(p, "getpid")) + b"R" + tup(p) + b"R.", policy="stdlib") for p in range(6)),
    bad("import-then-getattr", 4, "global-not-allowed", "by attrgetter of a module", *stated(4, "operator", "attrgetter"), text("getpid") + b"\x85R" + name("builtins", "__import__") + text("os") + b"\x85R\x85R)R.", policy="stdlib"),
    bad("import-then-getattr", 4, "global-not-allowed", "by methodcaller of a module", *stated(4, "_operator", "methodcaller"), text("getpid") + b"\x85R" + name("builtins", "__import__") + text("os") + b"\x85R\x85R.", policy="stdlib"),
    bad("import-then-getattr", 4, "global-not-allowed", "by pydoc.locate and methodcaller", *stated(4, "pydoc", "locate"), text("os") + b"\x85R.", policy="stdlib"),
    bad("partial-chain", 4, "global-not-allowed", "partial of a call, called by defaultdict for a missing key", name("collections", "defaultdict"), name("functools", "partial"), *stated(4, "os", "getpid"), b"\x85R\x85R.", policy="stdlib"),
    bad("partial-chain", 4, "bad-arguments", "a listed function as a defaultdict's factory", name("collections", "defaultdict") + name("_codecs", "encode") + b"\x85", here(b"R"), b".", policy="stdlib"),
    bad("partial-chain", 4, "bad-arguments", "a class whose constructor opens files, were it listed, as a factory", name("collections", "defaultdict") + name("pathlib", "PurePosixPath") + b"\x85", here(b"R"), b".", policy="stdlib"),
    bad("partial-chain", 4, "bad-arguments", "an instance as a factory", name("collections", "defaultdict") + name("collections", "Counter") + b")R\x85", here(b"R"), b".", policy="stdlib"),
    *(bad("proxy-getattr", 4, "global-not-allowed", "a proxy answers BUILD with the __setstate__ of what it wraps", *stated(4, module, what), b")\x81}b.", policy="celery") for module, what in (
        ("celery.local", "Proxy"), ("celery.local", "PromiseProxy"), ("unittest.mock", "Mock"), ("weakref", "proxy"), ("kombu.utils.objects", "cached_property"))),
    bad("broken-tail", 3, "global-not-allowed", "the call runs before the reader finds the tail broken", here(b"cbuiltins\nexec\n"), b"(X>\npass", policy="stdlib"),
    bad("broken-tail", 4, "global-not-allowed", "an invalid byte after the call stops the scanner, and not the reader", *stated(4, "os", "getpid"), b")R\xff\xfe", policy="stdlib"),
    bad("broken-tail", 0, "global-not-allowed", "lines behind STOP that no scanner parses", b"Vos\np2\n0Vgetpid\np3\n0g2\ng3\n", here(b"\x93"), b"(tR.\n\n\t\t", policy="stdlib"),
    bad("decoy-import", 4, "global-not-allowed", "a scanner that reads the last strings sees a harmless import", text("os") + b"\x94" + text("getpid") + b"\x94" + text("collections") + b"0" + text("OrderedDict") + b"0", here(b"\x93"), b")R.", policy="stdlib"),
    bad("decoy-import", 4, "global-not-allowed", "a listed name first, another by the same operands", name("collections", "Counter") + b"0" + text("os") + text("getpid"), here(b"\x93"), b")R.", policy="stdlib"),
    bad("decoy-import", 2, "global-not-allowed", "strings written backwards and swapped through the memo", string(2, "getpid") + b"q\0" + b"0" + string(2, "os") + b"q\1" + b"0h\1h\0", here(b"\x93"), b")R.", policy="stdlib"),
    bad("nested-payload", 4, "global-not-allowed", "a pickle in the bytes of a pickle", *stated(4, "pickle", "loads"), b"C\x06\x80\x04K\x01N.\x85R.", policy="stdlib"),
    bad("nested-payload", 4, "bad-arguments", "an exception of Celery's that pickles and unpickles what it holds", name("celery.exceptions", "Retry") + text("x") + name("builtins", "ValueError") + b")R" + b"N\x87", here(b"R"), b".", policy="celery"),
    bad("raw-reconstructor", 4, "global-not-allowed", "numpy's own: a dtype whose state makes pointers of bytes", *stated(4, "numpy", "dtype"), text("O8") + b"\x89\x88\x87R.", policy="stdlib"),
    bad("raw-reconstructor", 4, "global-not-allowed", "its array constructor", *stated(4, "numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray") + b"K\0\x85C\1b\x87R.", policy="stdlib"),
    bad("raw-reconstructor", 2, "global-not-allowed", "by its older name", here(b"cnumpy.core.multiarray\n_reconstruct\n"), b"cnumpy\nndarray\nK\0\x85U\1b\x87R.", policy="stdlib"),
    bad("raw-reconstructor", 4, "global-not-allowed", "torch's, where a type confusion wrote out of bounds", *stated(4, "torch._utils", "_rebuild_tensor_v2"), b")R.", policy="stdlib"),
    bad("raw-reconstructor", 4, "global-not-allowed", "pandas' block", *stated(4, "pandas._libs.internals", "_unpickle_block"), b")R.", policy="stdlib"),
]  # fmt: skip
