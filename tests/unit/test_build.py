"""The two builds: the compiled one is compiled and typed, each can be had on purpose, and none falls back in silence.

What needs the compiled build to be installed is skipped without it; ``SAFESERIAL_EXPECT=compiled`` makes sure that it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

import safeserial
from safeserial import probing
from safeserial.allow import EMPTY
from safeserial.limits import Limits
from safeserial.minipickle import constants, engine
from safeserial.minipickle import machine as pure

ROOT = Path(__file__).parents[2]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
EXTENSION = f"_machine_c{SUFFIX}"
COMPILED = "safeserial.minipickle._machine_c"
EXTENSIONS = {
    f"safeserial/minipickle/{EXTENSION}",
    f"safeserial/formats/_plain_c{SUFFIX}",
    f"safeserial/formats/_protobuf_scan_c{SUFFIX}",
    f"safeserial/formats/_counts_c{SUFFIX}",
    f"safeserial/formats/_tags_c{SUFFIX}",
    f"safeserial/envelope/_header_c{SUFFIX}",
    f"safeserial/_probing_c{SUFFIX}",
}
INSTALLED = importlib.util.find_spec(COMPILED) is not None
COMPILER = shutil.which(shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0])

compiled_only = pytest.mark.skipif(not INSTALLED, reason="the compiled build is not installed")
no_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


def environment(**more: str) -> dict[str, str]:
    """What this process was told about builds is not what the child is told."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CC", "CFLAGS", "PYTHONPATH")}
    return {**{name: value for name, value in kept.items() if not name.startswith("SAFESERIAL_")}, **more}


def python(*words: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(**more),
        timeout=200,
        check=False,
    )


SAY = "import safeserial; print(safeserial.BUILD)"


def copy(folder: Path) -> Path:
    """The checkout as git knows it, as far as packages are concerned."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
    for name in ("safeserial", "celery_plugin"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder)
    return folder


# -- which one runs ---------------------------------------------------------------------------------------------------


def test_the_constants_of_c_are_those_of_python() -> None:
    """Python's are what a reader sees; a compiled machine with others would judge otherwise, and no table would say so."""
    text = (ROOT / "safeserial" / "minipickle" / "machine.pxd").read_text(encoding="utf-8")
    block, _, declared = text.partition("cdef extern from *:")[2].partition('    """\n    const ')
    in_c = {
        name: int(value.rstrip("UL"), 0)
        for name, value in re.findall(r"\b([A-Z_]+)(?: = | )(-?[0-9][0-9a-fx]*U?(?:LL)?)\b", block)
    }
    in_python = {name: value for name, value in vars(constants).items() if name in constants.__all__}
    assert in_c.pop("COMPILED") == 1 and in_python.pop("COMPILED") is False
    assert in_python.pop("P_OTHER")  # the machine has no question for it
    assert in_c == in_python
    assert all(re.search(rf"\b{name}\b", declared.partition("\ncdef")[0]) for name in in_c)
    assert constants.LARGE_TABLE == probing.FEW


def test_the_constant_says_what_runs() -> None:
    assert ("compiled" if str(engine.__file__).endswith(SUFFIX) else "pure") == safeserial.BUILD
    assert Path(str(pure.__file__)).name == "machine.py"


@compiled_only
def test_the_compiled_machine_is_compiled_and_typed() -> None:
    module: Any = importlib.import_module(COMPILED)
    machine = module.Machine(pickle.dumps([1, 2]), EMPTY, Limits(), 0)
    assert Path(module.__file__).name == EXTENSION
    # Without its .pxd all of these would be as in Python.
    assert not hasattr(machine, "__dict__")
    assert not hasattr(machine, "loop") and hasattr(pure.Machine, "loop")
    assert not hasattr(module, "COMPILED") and pure.COMPILED is False
    with pytest.raises(AttributeError, match="not writable"):
        machine.nodes = 0
    with pytest.raises(TypeError):
        pickle.dumps(machine)


@compiled_only
def test_the_compiled_survey_is_compiled_and_the_one_that_codecs_use() -> None:
    module: Any = importlib.import_module("safeserial.formats._plain_c")
    assert Path(module.__file__).name == f"_plain_c{SUFFIX}"
    assert not hasattr(module, "may_stay") and not hasattr(module, "COMPILED")
    for name in ("json", "msgpack"):
        code = f"import safeserial.formats.{name} as codec; print(codec.survey.__module__)"
        assert python("-c", code, SAFESERIAL_PURE="0").stdout == "safeserial.formats._plain_c\n"
        assert python("-c", code, SAFESERIAL_PURE="1").stdout == "safeserial.formats.plain\n"


@compiled_only
def test_the_compiled_scan_is_compiled_and_typed_and_the_one_that_the_codec_uses() -> None:
    module: Any = importlib.import_module("safeserial.formats._protobuf_scan_c")
    assert Path(module.__file__).name == f"_protobuf_scan_c{SUFFIX}"
    assert not hasattr(module, "_number") and not hasattr(module, "KEY")
    code = "import safeserial.formats.protobuf as codec; print(codec.scan.__module__)"
    assert python("-c", code, SAFESERIAL_PURE="0").stdout == "safeserial.formats._protobuf_scan_c\n"
    assert python("-c", code, SAFESERIAL_PURE="1").stdout == "safeserial.formats.protobuf_scan\n"
    with pytest.raises(TypeError):
        module.scan(bytearray(b"x"), None, Limits(), "refuse")


@compiled_only
def test_the_compiled_counts_are_compiled_and_typed_and_the_ones_that_the_readers_use() -> None:
    module: Any = importlib.import_module("safeserial.formats._counts_c")
    assert Path(module.__file__).name == f"_counts_c{SUFFIX}"
    assert not hasattr(module, "KINDS") and not hasattr(module, "COMPILED")
    code = "from safeserial.formats import json_scan, msgpack_scan as m; print(m.counts.__name__, json_scan.counts is m.counts)"
    assert python("-c", code, SAFESERIAL_PURE="0").stdout == "safeserial.formats._counts_c True\n"
    assert python("-c", code, SAFESERIAL_PURE="1").stdout == "safeserial.formats.counts True\n"
    for call in (lambda: module.walk(bytearray(b"x"), 1, 1, 1, 64, True, True), lambda: module.depth("[]")):
        with pytest.raises(TypeError):
            call()


@compiled_only
def test_the_compiled_walks_over_tags_are_compiled_and_typed_and_the_ones_that_both_codecs_use() -> None:
    module: Any = importlib.import_module("safeserial.formats._tags_c")
    assert Path(module.__file__).name == f"_tags_c{SUFFIX}"
    assert not hasattr(module, "may_be_tag") and not hasattr(module, "COMPILED")
    code = "from safeserial.formats import typed; print(typed.tags.__name__)"
    assert python("-c", code, SAFESERIAL_PURE="0").stdout == "safeserial.formats._tags_c\n"
    assert python("-c", code, SAFESERIAL_PURE="1").stdout == "safeserial.formats.tags\n"
    with pytest.raises(TypeError):
        module.find([], None, (), False)


@compiled_only
def test_the_compiled_machine_takes_bytes_and_nothing_for_bytes() -> None:
    module: Any = importlib.import_module(COMPILED)
    for other in (None, bytearray(b"N."), "N."):
        with pytest.raises(TypeError):
            module.run_over(other, EMPTY, Limits(), 0)
    with pytest.raises(OverflowError):
        module.run_over(b"N.", EMPTY, Limits(), 2**64)


@compiled_only
def test_a_machine_that_was_never_made_has_no_line_to_read() -> None:
    """Bounds alone keep memory safe: whether a table is there at all is asked nowhere else."""
    machine: Any = importlib.import_module(COMPILED).Machine
    bare = machine.__new__(machine)
    for slot in (0, 1, 2**31):
        for ask in (bare.kind_of, bare.is_tainted, bare.is_bare, bare.has_instance, bare.is_held, bare.special_of):
            with pytest.raises(IndexError):
                ask(slot)


@compiled_only
@pytest.mark.parametrize(
    ("value", "build"), [("1", "pure"), ("yes", "pure"), ("0", "compiled"), ("", "compiled"), (None, "compiled")]
)
def test_the_environment_picks_one_and_only_that_is_imported(value: str | None, build: str) -> None:
    code = f"{SAY}; import sys; print(sorted(name for name in sys.modules if '.minipickle.' in name and 'machine' in name))"
    done = python("-c", code, **({} if value is None else {"SAFESERIAL_PURE": value}))
    name = COMPILED if build == "compiled" else "safeserial.minipickle.machine"
    assert (done.stdout, done.stderr) == (f"{build}\n['{name}']\n", "")


@pytest.mark.parametrize("value", ["0", "1"])
def test_version_says_the_build_with_click_and_without(value: str) -> None:
    build = python("-c", SAY, SAFESERIAL_PURE=value).stdout.strip()
    assert build == ("compiled" if INSTALLED and value == "0" else "pure")
    shown = python("-m", "safeserial", "--version", SAFESERIAL_PURE=value)
    assert shown.stdout.startswith(f"safeserial {safeserial.__version__} (minipickle: {build}, ")
    code = "import runpy, sys; sys.modules['click'] = None; sys.argv[0] = ''; runpy.run_module('safeserial', run_name='__main__')"
    for words in ([], ["--version"]):
        assert python("-c", code, *words, SAFESERIAL_PURE=value).stdout == shown.stdout
    other = python("-c", code, "keys", SAFESERIAL_PURE=value)
    assert (other.returncode, other.stdout) == (2, "")
    assert "safeserial-gateway[cli]" in other.stderr


def test_an_extension_that_does_not_load_is_an_error_and_one_that_is_not_there_is_none(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    assert python("-c", SAY, cwd=folder).stdout == "pure\n"
    (folder / "safeserial" / "minipickle" / EXTENSION).write_bytes(b"\x7fELF, once")
    done = python("-c", SAY, cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert python("-c", SAY, cwd=folder, SAFESERIAL_PURE="1").stdout == "pure\n"


@pytest.mark.thorough
def test_a_run_of_the_wrong_build_or_of_an_old_one_ends_before_any_test(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    shutil.copytree(ROOT / "tests" / "integration" / "support", folder / "tests" / "integration" / "support")
    shutil.copy2(ROOT / "tests" / "conftest.py", folder / "tests")
    (folder / "tests" / "test_one.py").write_text("def test_one() -> None:\n    pass\n", "utf-8")

    def run(**more: str) -> tuple[int, str]:
        done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, **more)
        return done.returncode, done.stdout + done.stderr

    status, text = run(SAFESERIAL_EXPECT="compiled")
    assert status == 3
    assert "expected the compiled build of minipickle, got pure" in text
    assert run(SAFESERIAL_EXPECT="pure")[0] == 0

    # It is not loaded here, and counts all the same: other tests may compare the two.
    extension = folder / "safeserial" / "minipickle" / EXTENSION
    extension.write_bytes(b"")
    assert run(SAFESERIAL_PURE="1")[0] == 0
    source = extension.with_name("machine.pxd").stat()
    os.utime(extension, ns=(source.st_atime_ns, source.st_mtime_ns - 10**9))
    status, text = run(SAFESERIAL_PURE="1", SAFESERIAL_EXPECT="pure")
    assert status == 3
    assert f"{EXTENSION} is older than " in text


# -- making them ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which somebody has worked: an extension of long ago and generated C lie about."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    copy(folder)
    for name in (*EXTENSIONS, "safeserial/minipickle/machine.c", "safeserial/formats/_plain_c.c"):
        (folder / name).write_bytes(b"of long ago")
    return folder


def made(folder: Path, kind: str, **more: str) -> tuple[str, list[str]]:
    """Build one distribution without fetching anything; its name and what is in it."""
    done = python("-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(folder / "out"), cwd=folder, **more)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (file,) = (folder / "out").iterdir()
    if kind == "wheel":
        with zipfile.ZipFile(file) as wheel:
            return file.name, wheel.namelist()
    with tarfile.open(file) as archive:
        return file.name, [name.partition("/")[2] for name in archive.getnames()]


def generated(names: list[str]) -> list[str]:
    return [name for name in names if name.endswith((".c", ".so", ".pyd", ".pyc", ".o"))]


@pytest.mark.slow
def test_the_source_distribution_has_what_is_compiled_and_nothing_that_was(checkout: Path) -> None:
    _, names = made(checkout, "sdist")
    for package, module in (
        ("safeserial/minipickle", "machine"), ("safeserial/formats", "plain"), ("safeserial/formats", "protobuf_scan"),
        ("safeserial/formats", "counts"), ("safeserial/formats", "tags"),
        ("safeserial/envelope", "header"), ("safeserial", "probing"),
    ):  # fmt: skip
        assert {f"{package}/{module}.py", f"{package}/{module}.pxd", f"{package}/_{module}_c.pxd"} <= set(names)
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "safeserial/py.typed"} <= set(names)
    assert generated(names) == []
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks", "examples"))]


@pytest.mark.slow
def test_the_pure_wheel_is_for_every_platform(checkout: Path) -> None:
    name, names = made(checkout, "wheel", SAFESERIAL_BUILD="pure")
    assert name.endswith("-py3-none-any.whl")
    assert {"safeserial/minipickle/machine.py", "safeserial/py.typed"} <= set(names)
    assert not [name for name in names if name.endswith(".pxd")] + generated(names)


@pytest.mark.slow
@pytest.mark.thorough
@no_compiler
def test_the_compiled_wheel_has_the_extension_and_runs_it(checkout: Path) -> None:
    # Not for speed, so not optimized.
    name, names = made(checkout, "wheel", SAFESERIAL_BUILD="require", CFLAGS="-O0 -g0")
    assert f"-cp3{sys.version_info[1]}-cp3{sys.version_info[1]}-" in name
    assert set(generated(names)) == EXTENSIONS
    assert not [name for name in names if name.endswith(".pxd")]
    with zipfile.ZipFile(checkout / "out" / name) as wheel:
        wheel.extractall(checkout / "installed")
    code = (
        f"{SAY}; import pickle; from safeserial.minipickle import verify; print(verify(pickle.dumps([1, (2,)])).weight)"
    )
    done = python("-c", code, cwd=checkout / "installed")
    assert (done.stdout, done.stderr) == ("compiled\n4\n", "")


@pytest.mark.slow
@pytest.mark.thorough
def test_without_a_compiler_it_is_pure_if_that_will_do_and_an_error_if_not(checkout: Path) -> None:
    done = python(
        "-m", "build", "--no-isolation", "--wheel", "--outdir", str(checkout / "out"), cwd=checkout,
        SAFESERIAL_BUILD="require", CC="false",
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"(?i)command '.*false.* (failed|returned non-zero)", done.stdout + done.stderr)
    assert not list(checkout.glob("out/*"))
    _, names = made(checkout, "wheel", CC="/nonexistent/cc")
    assert "safeserial/minipickle/machine.py" in names
    assert generated(names) == []


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("more", [{"SAFESERIAL_BUILD": "pure"}, {"SAFESERIAL_BUILD": "auto", "CC": "false"}], ids=str)
def test_an_editable_install_that_compiles_nothing_removes_what_an_earlier_one_did(
    checkout: Path, more: dict[str, str]
) -> None:
    code = "from setuptools import build_meta; build_meta.build_editable('.')"
    done = python("-c", code, cwd=checkout, **more)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not [name for name in EXTENSIONS if (checkout / name).exists()]
    assert python("-c", SAY, cwd=checkout).stdout == "pure\n"


def test_a_build_that_does_not_exist_is_refused() -> None:
    done = python("setup.py", "--version", SAFESERIAL_BUILD="fast")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "SAFESERIAL_BUILD must be auto, require or pure, not 'fast'\n"
