"""Bytes of another format are refused as what they are, with what to send instead; honest ones are never taken for them."""

from __future__ import annotations

import base64
import bz2
import gzip
import importlib.util
import io
import lzma
import marshal
import pickle
import plistlib
import sqlite3
import struct
import tempfile
import tracemalloc
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from safeserial import Limits, Policy, Reason, Refused, safe_loads
from safeserial.audit import MemorySink
from safeserial.errors import REASONS
from safeserial.formats import sniff


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([1, "a", None], dtype=object), allow_pickle=True)
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.arange(3))
    return file.getvalue()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return file.getvalue()


def database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        connection = sqlite3.connect(path)
        connection.execute("create table t (a)")
        connection.commit()
        connection.close()
        return path.read_bytes()


def bytecode() -> bytes:
    code = compile("def f(a):\n    return a + 1\n", "name", "exec")
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def bson(content: bytes) -> bytes:
    return struct.pack("<i", len(content) + 5) + content + b"\0"


OBJECTS = "objects of its sender's choice"
FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "marshal dict": (marshal.dumps({"a": [1, 2.5, None, (True, b"x")]}), "marshal", "JSON or msgpack"),
    "marshal list": (marshal.dumps([1, 2, 3]), "marshal", "JSON or msgpack"),
    "marshal tuple": (marshal.dumps((1 << 70, "é", {1, 2}, frozenset({3}))), "marshal", "JSON or msgpack"),
    "marshal version 0": (marshal.dumps({"a": "text", "b": -1}, 0), "marshal", "JSON or msgpack"),
    "marshal code": (marshal.dumps(compile("import os", "x", "exec")), "marshal", "JSON or msgpack"),
    ".pyc": (bytecode(), "Python bytecode", "never read from a message"),
    "java": (b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap", "Java serialization", OBJECTS),
    "java in base64": (base64.b64encode(b"\xac\xed\x00\x05sr\x00\x11java"), "Java serialization in base64", OBJECTS),
    ".NET": (bytes.fromhex("0001000000ffffffff01000000000000000c02"), ".NET BinaryFormatter", OBJECTS),
    ".NET in base64": (base64.b64encode(bytes.fromhex("0001000000ffffffff0100000000000000")), ".NET", OBJECTS),
    "php array": (b'a:1:{s:1:"a";i:1;}', "PHP serialization", OBJECTS),
    "php object": (b'O:8:"stdClass":1:{s:1:"a";i:1;}', "PHP serialization", OBJECTS),
    "php text": (b's:5:"hello";', "PHP serialization", OBJECTS),
    "ruby": (b"\x04\x08[\x07i\x06i\x07", "Ruby Marshal", OBJECTS),
    "yaml with tags": (b"job: !!python/object/apply:os.getcwd []\n", "YAML with tags", OBJECTS),
    "yaml with tags in a flow": (b"{a: !!python/name:os.getcwd }", "YAML with tags", OBJECTS),
    "yaml with ruby's": (b"--- !ruby/object:Gem::Requirement\na: 1\n", "YAML with tags", OBJECTS),
    "yaml with a full tag": (b"- !<tag:yaml.org,2002:python/none> ''\n", "YAML with tags", OBJECTS),
    "yaml": (b"---\na: 1\n", "YAML", "JSON or msgpack"),
    "yaml directive": (b"%YAML 1.2\n---\na: 1\n", "YAML", "JSON or msgpack"),
    "npy": (npy(), "NumPy .npy", "numpy@1"),
    "npz": (npz(), "NumPy .npz", "numpy@1"),
    "torch": (zipped("model/data.pkl", "model/version"), "PyTorch", "reference to the file"),
    "zip": (zipped("a.txt"), "zip", "envelope"),
    "hdf5": (b"\x89HDF\r\n\x1a\n\x00\x00\x00\x00\x00\x08\x08\x00", "HDF5", "rows"),
    "parquet": (b"PAR1\x15\x04\x15\x08PAR1", "Parquet", "rows"),
    "arrow": (b"ARROW1\x00\x00\xff\xff\xff\xff", "Arrow", "rows"),
    "avro": (b"Obj\x01\x04\x14avro.codec", "Avro", "JSON or msgpack"),
    "cbor": (b"\xd9\xd9\xf7\xa1aa\x01", "CBOR", "JSON or msgpack"),
    "bson": (bson(b"\x10a\x00\x01\x00\x00\x00"), "BSON", "JSON or msgpack"),
    "empty bson": (bson(b""), "BSON", "JSON or msgpack"),
    "xml": (b'<?xml version="1.0"?><a/>', "XML", "JSON or msgpack"),
    "xml after blanks": (b"\r\n  <rpc><a/></rpc>", "XML", "JSON or msgpack"),
    "plist": (plistlib.dumps({"a": 1}), "XML", "JSON or msgpack"),
    "binary plist": (plistlib.dumps({"a": 1}, fmt=plistlib.FMT_BINARY), "binary property list", "JSON or msgpack"),
    "sqlite": (database(), "SQLite", "store of pickles"),
    "gdbm": (b"\xcf\x9a\x57\x13" + bytes(60), "GNU dbm", "store of pickles"),
    "berkeley db": (bytes(12) + b"\x61\x15\x06\x00" + bytes(60), "Berkeley DB", "store of pickles"),
    "gzip": (gzip.compress(b"[1]"), "gzip", "envelope"),
    "zlib": (zlib.compress(b"[1]"), "zlib", "envelope"),
    "zlib, fast": (zlib.compress(b"[1]", 0), "zlib", "envelope"),
    "bzip2": (bz2.compress(b"[1]"), "bzip2", "envelope"),
    "xz": (lzma.compress(b"[1]"), "xz", "envelope"),
    "zstd": (bytes.fromhex("28b52ffd0458190000") + b"[1]", "Zstandard", "envelope"),
    "lz4": (bytes.fromhex("04224d18644070"), "LZ4", "envelope"),
    "snappy": (b"\xff\x06\x00\x00sNaPpY\x00", "Snappy", "envelope"),
    "pickle in base64": (base64.b64encode(pickle.dumps({"a": 1}, 4)), "pickle in base64", "as bytes"),
    "pickle 5 in base64": (base64.b64encode(pickle.dumps({"a": 1}, 5)), "pickle in base64", "as bytes"),
}  # fmt: skip


def refused(data: bytes, **options: Any) -> Refused:
    sink = MemorySink()
    with pytest.raises(Refused) as caught:
        safe_loads(data, audit=sink, **options)
    assert [event.reason for event in sink.events] == [caught.value.reason]
    return caught.value


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_format_is_refused_as_what_it_is_with_what_to_send_instead(name: str) -> None:
    data, label, advice = FOREIGN[name]
    found = refused(data)
    assert found.reason is Reason.FOREIGN_FORMAT
    assert found.detail.startswith(label)
    assert advice in found.detail
    # What the strict reader said stays with it, for whoever looks.
    assert isinstance(found.__cause__, Refused)
    for format in ("json", "msgpack"):
        again = refused(data, format=format)
        assert again.args == found.args


@pytest.mark.parametrize("name", FOREIGN)
def test_the_advice_never_is_to_switch_something_off(name: str) -> None:
    detail = refused(FOREIGN[name][0]).detail
    assert "unsafe" not in detail and "allow_pickle" not in detail
    assert REASONS[Reason.FOREIGN_FORMAT].cwe == 502


class Thing:
    pass


@pytest.mark.parametrize("value", [1, None, [1, "a"], {"a": (1, 2.5)}, "text", b"x", OrderedDict(a=1), Thing, Thing()])
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_any_protocol_is_refused_as_one(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    if protocol < 2 and len(data) < 3:
        pytest.skip("two bytes tell nothing")
    found = refused(data)
    assert found.reason is Reason.UNSIGNED_PICKLE
    # Cut off, it is no less one where it says so at its beginning.
    if protocol >= 2:
        assert refused(data[:-1]).reason in (Reason.UNSIGNED_PICKLE, Reason.TRAILING_BYTES)


def test_recognising_a_pickle_opens_no_lane() -> None:
    data = pickle.dumps([1, 2], 0)
    policy = Policy(unsafe_accept_unsigned_pickle=True)
    assert refused(data, policy=policy).reason is Reason.UNSIGNED_PICKLE
    assert safe_loads(data, policy=policy, format="pickle", audit=MemorySink()) == [1, 2]


# -- what is honest ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"N", b"T", b"\x04", b"\x80", b"I", b"c", b"(", b"]", b"}", b"\xe3", b"\xa0", b"\x1f", b"x", b"P", b"B", b"\xc0",
     b"\x93NUM", b"\xacsome text he", b"\xcd\x9a\x57", b"\x89" + bytes(range(18)), b"\xd9\x02ab", b"\xfd"],
    ids=bytes.hex,
)  # fmt: skip
def test_msgpack_that_begins_like_something_else_is_read(data: bytes) -> None:
    assert safe_loads(data) == msgpack.unpackb(data, strict_map_key=False)


@pytest.mark.parametrize(
    "data",
    [b'"rO0AB"', b'{"a": "!!python/object:os.system"}', b'["<?xml?>", "a:1:{"]', b'"gASV"', b" [1]", b'{"py/object": "x"}'],
    ids=range(6),
)  # fmt: skip
def test_json_that_quotes_something_else_is_read(data: bytes) -> None:
    assert safe_loads(data) is not None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a": "!!python/object:os.system", "a": 1}', Reason.DUPLICATE_KEY),
        (b'{"a": "!!python/object:os.system"', Reason.BAD_JSON),
        (b"[NaN]", Reason.BAD_JSON),
        (b"[1,2", Reason.BAD_JSON),
        (b"items", Reason.TRAILING_BYTES),
        (b"hello world, this is no format", Reason.TRAILING_BYTES),
        (b"x^2 + 1 = 0", Reason.TRAILING_BYTES),
        (b"BZh is the beginning of a text", Reason.TRAILING_BYTES),
        (b"(see below).", Reason.TRAILING_BYTES),
        (b"Nothing.", Reason.TRAILING_BYTES),
        (b"a: 1\nb: 2\n", Reason.TRAILING_BYTES),
        (b'[ \r\n  "c": "c", "c" ]', Reason.BAD_JSON),
        (b"\x92\x01", Reason.TRUNCATED),
        (b"\xc1", Reason.BAD_MSGPACK),
        (b"\xef\xbb\xbf[1]", Reason.TRAILING_BYTES),
        (b"\x08\x96\x01\x12\x02ab", Reason.TRAILING_BYTES),  # Protocol Buffers cannot be told
        (b"[" * 100 + b"]" * 100, Reason.TOO_DEEP),
        (b'["see !python/x \\" !js.y",' + b"1," * 30_000 + b"1]", Reason.TOO_MANY_NODES),
        (msgpack.packb(["see !python/x", *range(30_000)]), Reason.TOO_MANY_NODES),
        (b'["' + b"\\" * 10_000, Reason.BAD_JSON),
    ],
    ids=range(20),
)
def test_where_the_first_bytes_do_not_tell_the_strict_reader_has_the_word(data: bytes, reason: Reason) -> None:
    assert refused(data).reason is reason


def test_what_is_too_large_is_judged_by_its_magic_alone() -> None:
    large = Limits.untrusted().max_bytes + 1
    assert refused(gzip.compress(b"")[:3] + bytes(large)).reason is Reason.FOREIGN_FORMAT
    honest = b'["' + b"!!python/name " * 30_000 + b'"]'
    assert refused(honest).reason is Reason.TOO_LARGE
    assert refused(b"[" + b'"a",' * 100_000 + b'"<?xml"]').reason is Reason.TOO_LARGE


def test_looking_costs_little_whatever_is_looked_at() -> None:
    shapes = [b"(" * 200_000 + b".", b"[" + b"\xff\xff\xff\x7f" * 60_000, b"]" * 262_143 + b".", b"\xdb\x01\0\0\0" * 50_000,
              b")\x01" * 130_000, b"{" * 262_144, b" " * 262_144, b"- " * 131_072, b"a:" + b"1" * 262_142,
              b'"\\' * 131_072]  # fmt: skip
    for data in shapes:
        sniff.foreign(data)
        tracemalloc.start()
        try:
            sniff.foreign(data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 400_000, data[:4]


@pytest.mark.parametrize("kind", ["dbm.gnu", "dbm.sqlite3"])
def test_a_store_of_shelve_is_told(kind: str, tmp_path: Path) -> None:
    module = pytest.importorskip(kind)
    with module.open(str(tmp_path / "store"), "c") as store:
        store[b"a"] = b"b"
    (file,) = tmp_path.iterdir()
    assert refused(file.read_bytes()).reason is Reason.FOREIGN_FORMAT
