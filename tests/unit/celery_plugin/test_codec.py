"""The kombu serializer: harmless until it is bound, silent about purposes, and never a reason for kombu not to load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import serialization
from kombu.exceptions import ContentDisallowed

from celery_plugin import codec
from safeserial.errors import Misconfigured, Reason, Refused


@pytest.fixture
def unbound() -> Iterator[None]:
    before = list(codec._bound)
    codec._bound.clear()
    codec.ensure_registered()
    yield
    codec._bound[:] = before


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def reason_of(error: ContentDisallowed) -> Reason:
    cause = error.__cause__
    assert isinstance(cause, Refused)
    return cause.reason


def test_without_an_installed_app_nothing_is_encoded(unbound: None) -> None:
    with pytest.raises(Misconfigured, match="install"):
        codec.encode({"a": 1})


def test_without_an_installed_app_nothing_is_decoded(unbound: None) -> None:
    with pytest.raises(ContentDisallowed) as caught:
        codec.decode(b"\xc1SS")
    assert reason_of(caught.value) is Reason.NO_READER_CONTEXT


def test_without_a_reader_context_nothing_is_decoded(bench: Any) -> None:
    blob = codec.encode({"a": (1,)})
    with pytest.raises(ContentDisallowed) as caught:
        codec.decode(blob)
    assert reason_of(caught.value) is Reason.NO_READER_CONTEXT
    with codec.reading("data"):
        assert codec.decode(blob) == {"a": (1,)}
    with pytest.raises(ContentDisallowed):
        codec.decode(blob)


def test_the_purpose_comes_from_the_reader(bench: Any) -> None:
    blob = codec.encode([1])
    with codec.reading("results"), pytest.raises(ContentDisallowed) as caught:
        codec.decode(blob)
    assert reason_of(caught.value) is Reason.UNAUTHENTIC
    with codec.reading("data"):
        with codec.reading("results"), pytest.raises(ContentDisallowed):
            codec.decode(blob)
        assert codec.decode(blob) == [1], "the outer context stands again"


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xc1SS\x01", "text", None, 5])
def test_garbage_is_a_refusal_that_kombu_passes_on(bench: Any, data: Any) -> None:
    with codec.reading("data"), pytest.raises(ContentDisallowed):
        codec.decode(data)


def test_kombu_dumps_and_loads_use_it(bench: Any) -> None:
    content_type, encoding, blob = serialization.dumps({"a": 1}, serializer="safeserial")
    assert (content_type, encoding) == (codec.CONTENT_TYPE, "binary")
    with codec.reading("data"):
        assert serialization.loads(blob, content_type, encoding, accept=[content_type]) == {"a": 1}
    with pytest.raises(ContentDisallowed):
        serialization.loads(blob, content_type, encoding, accept=["application/json"])


def test_the_refusal_does_not_quote_the_body(bench: Any) -> None:
    blob = bytearray(codec.encode("canary-7f3a"))
    blob[-1] ^= 1
    with codec.reading("data"), pytest.raises(ContentDisallowed) as caught:
        codec.decode(bytes(blob))
    assert "canary" not in repr(caught.value) + repr(caught.value.__cause__)


def test_the_entry_point_module_loads_neither_celery_nor_the_crypto_library() -> None:
    loaded = run(
        "import sys, celery_plugin.codec\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('celery', 'safeserial', 'cryptography', 'kombu')])"
    )
    assert loaded == "[]"


def test_kombu_loads_where_safeserial_is_broken() -> None:
    program = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "safeserial" or name.startswith("safeserial."):
            raise ImportError("broken on purpose")
sys.meta_path.insert(0, Broken())
import kombu, kombu.serialization
from celery_plugin import codec
codec.ensure_registered()
print("safeserial" in kombu.serialization.registry._encoders)
try:
    codec.encode(1)
except ImportError:
    print("refused")
try:
    codec.decode(b"x")
except ImportError:
    print("refused")
"""
    assert run(program).split() == ["True", "refused", "refused"]


def test_the_entry_point_is_what_kombu_expects() -> None:
    encode, decode, content_type, encoding = codec.register_args
    assert encode is codec.encode
    assert decode is codec.decode
    assert (content_type, encoding) == ("application/vnd.safeserial", "binary")
