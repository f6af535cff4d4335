"""A format's name comes from a message: only the closed table's names lead to a codec."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import safeserial
from safeserial import formats
from safeserial.errors import Forbidden, Reason
from safeserial.policy import Policy
from safeserial.policy.model import FORMATS


@pytest.mark.parametrize("name", ["", "JSON", "yaml", "os", "raw", None, 5, b"json"])
def test_an_unknown_format_is_refused(name: Any) -> None:
    with pytest.raises(Forbidden) as caught:
        formats.codec(name)
    assert caught.value.reason is Reason.FORMAT_NOT_ALLOWED


def test_a_codec_is_one_object_and_says_its_name() -> None:
    for name in ("json", "msgpack", "pickle", "protobuf"):
        assert formats.codec(name) is formats.codec(name)
        assert formats.codec(name).name == name


def test_the_names_are_those_a_policy_may_accept() -> None:
    assert set(formats.codec_names()) == FORMATS


def test_importing_the_package_loads_no_format() -> None:
    # Under an empty parent, because the public package imports what it shows.
    program = (
        "import sys, types; parent = sys.modules['safeserial'] = types.ModuleType('safeserial');"
        f"parent.__path__ = {list(safeserial.__path__)!r}; import safeserial.formats;"
        "sys.exit(any(name in sys.modules for name in ('orjson', 'msgpack', 'pickle', 'safeserial.formats.json')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_load_is_judge_and_build_whether_or_not_the_codec_has_a_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Policy()

    class Slow:
        name = "pickle"

        def judge(self, data: bytes, *_: Any) -> formats.Judged:
            return formats.Judged("pickle", data)

        def build(self, judged: formats.Judged, *_: Any) -> object:
            return judged.data.upper()

    monkeypatch.setitem(formats._made, "pickle", Slow())
    assert formats.load("pickle", b"x", policy, policy.limits) == b"X"
    assert formats.load("json", b'{"~":["tuple",[]]}', policy, policy.limits) == ()
