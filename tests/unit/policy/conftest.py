from __future__ import annotations

import sys
import textwrap
import types
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., types.ModuleType]:
    """Makes a module ``shop`` (or another name) of the given source, importable for one test."""

    def make(source: str, name: str = "shop") -> types.ModuleType:
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(
            compile("from __future__ import annotations\n" + textwrap.dedent(source), name, "exec", dont_inherit=True),
            module.__dict__,
        )
        return module

    return make
