"""Compiles what is judged value by value, where a C compiler is at hand; all else is in pyproject.toml.

``SAFESERIAL_BUILD`` says what is wanted:

``auto``
    The default. Compile each of ``COMPILED`` from its own source, and install without it if that fails.
``require``
    Fail if it cannot be compiled. For wheels and for CI.
``pure``
    Do not try. Gives a wheel for every platform.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

if TYPE_CHECKING:
    from setuptools.extension import Extension as AnyExtension

HERE = Path(__file__).parent
#: Modules with types in a .pxd beside them; each becomes ``_NAME_c`` in its package.
COMPILED = ("safeserial/minipickle/machine", "safeserial/formats/plain", "safeserial/formats/protobuf_scan",
            "safeserial/formats/counts", "safeserial/formats/tags", "safeserial/envelope/header",
            "safeserial/probing")  # fmt: skip
MODE = os.environ.get("SAFESERIAL_BUILD", "auto")
if MODE not in {"auto", "require", "pure"}:
    sys.exit(f"SAFESERIAL_BUILD must be auto, require or pure, not {MODE!r}")


def drop_in_tree() -> None:
    """Remove what an earlier editable install compiled beside the source: it would outlive an edit of the source."""
    for module in COMPILED:
        package, _, name = module.rpartition("/")
        for ending in (".*.so", ".*.pyd", ".so", ".pyd"):
            for stale in (HERE / package).glob(f"_{name}_c{ending}"):
                stale.unlink()


class FreshBuildExt(build_ext):
    """Never ships an old binary: an optional build that fails must leave nothing behind."""

    def build_extension(self, ext: AnyExtension) -> None:
        """Compile one extension, from scratch: times of files may lie after a copy or a change of branch."""
        self.force = True
        Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
        if self.editable_mode:
            drop_in_tree()
        if self.compiler.compiler_type == "unix" and not os.environ.get("CFLAGS"):
            # Interpreters ask for debug information, which takes as long again and is six times as large as the code;
            # with -O2, as some ask for, judging takes up to a third longer.
            ext.extra_compile_args = ["-O3", "-g0"]
        super().build_extension(ext)


def extension(module: str) -> AnyExtension:
    """How one module is compiled, from its own source under another name."""
    package, _, name = module.rpartition("/")
    made = Extension(
        f"{package.replace('/', '.')}._{name}_c",
        [f"{module}.py"],
        depends=[f"{module}.pxd", f"{package}/_{name}_c.pxd"],
        optional=MODE == "auto",
    )
    made.cython_c_in_temp = True  # generated C goes to build/, never into the tree
    made.cython_directives = {
        "language_level": "3",
        "annotation_typing": False,  # the types are those of the .pxd; Python's annotations say less
        "auto_pickle": False,
        # Memory safety is the point of the thing: the checks stay on.
        "boundscheck": True,
        "wraparound": False,  # no index is negative, and one that is by mistake had better not find anything
        # Attributes are set when a machine is made and never to None, and arguments are checked below.
        "nonecheck": False,
        # A table that is not there yet has no lines, so the check of bounds finds that too.
        "initializedcheck": False,
        "overflowcheck": True,
        "allow_none_for_extension_args": False,
    }
    return made


if MODE == "pure" and "editable_wheel" in sys.argv:
    drop_in_tree()
setup(
    ext_modules=[] if MODE == "pure" else [extension(module) for module in COMPILED],
    cmdclass={"build_ext": FreshBuildExt},
)
