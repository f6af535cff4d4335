"""The fuzzer of JSON and msgpack without its hour: thousands of cases, every past finding, and proof that oracles can fail."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fuzz import format_cases as cases
from fuzz import format_json, format_msgpack, format_trees, fuzz_formats
from fuzz import format_oracles as oracles
from fuzz.format_oracles import PROFILES, Broken
from fuzz.format_trees import Blob, Number, Pairs, Tagged
from fuzz.processes import Case, Now
from fuzz.source import Bytes, Random
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeserial.errors import Forbidden, Malformed, Reason, Refused

HERE = Path(__file__).parent
FINDINGS: list[dict[str, Any]] = [
    one for path in sorted((HERE / "format_findings").glob("*.json")) for one in json.loads(path.read_text())
]
ZOO, PLAIN = PROFILES["zoo"], PROFILES["plain"]
SEEDS = cases.seeds()


def run(target: str, data: bytes, profile: oracles.Profile) -> str:
    try:
        return fuzz_formats.run_case(target, data, profile)
    except Broken as problem:
        raise AssertionError(f"{problem} [{target}, {profile.name}] {data.hex()}") from problem


# -- everything keeps its promises ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", oracles.TARGETS)
def test_cases_of_every_kind_keep_every_promise(target: str) -> None:
    source, corpus = Random(5), list(SEEDS[cases.FAMILY[target]])
    ends: Counter[str] = Counter()
    for _ in range(700):
        data = cases.make(target, source, corpus)
        ends[run(target, data, PROFILES[source.pick(tuple(PROFILES))]).partition(":")[0]] += 1
        corpus[source.below(len(corpus))] = data

    # A generator that has gone stale would make this test pass while it tests nothing.
    wanted = {
        "json": {"accepted", "bad-json", "bad-text", "number-out-of-range", "too-deep", "too-large", "string-too-long"},
        "msgpack": {"accepted", "bad-msgpack", "bad-text", "truncated", "trailing-bytes", "unknown-tag", "too-many-nodes"},
        "typed-json": {"accepted", "bad-json", "bad-tagged-value", "built", "type-not-allowed", "unknown-tag", "too-deep"},
        "typed-msgpack": {"accepted", "bad-tagged-value", "built", "type-not-allowed", "unknown-tag", "truncated"},
        "wishes": {"accepted", "bad-json", "chord", "the"},
        "compressed": {"accepted", "bad-compressed-data", "decompressed-too-large", "raw-length-mismatch"},
    }  # fmt: skip
    assert wanted[target] <= set(ends)
    assert ends["accepted"] > 30


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda one: one["id"])
def test_what_was_found_stays_mended(finding: dict[str, Any]) -> None:
    assert finding["why"]
    run(finding["target"], bytes.fromhex(finding["hex"]), PROFILES[finding["profile"]])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(choices=st.binary(max_size=300))
def test_any_choices_make_cases_that_keep_every_promise(choices: bytes) -> None:
    for target in ("typed-json", "typed-msgpack"):
        run(target, cases.make(target, Bytes(choices), SEEDS[cases.FAMILY[target]][:40]), ZOO)


def test_every_tag_is_built_from_what_is_generated_for_it() -> None:
    """Each tag reaches its constructor, so no generator of payloads has gone stale; where its library is there."""
    built: set[str] = set()
    missing: set[str] = set()
    for tag in [*format_trees.BY_TAG, "zoo.version", "zoo.crate"]:
        for seed in range(400):
            source = Random(seed)
            tree = Tagged(tag, format_trees._payload(tag, source, 2))
            data = format_json.spell(tree, source)
            if any(run("typed-json", data, PROFILES[name]) == "accepted" for name in ("zoo", "types")):
                built.add(tag)
                break
        else:
            missing.add(tag)
    assert {"tuple", "datetime", "enum", "dataclass", "defaultdict", "exception"} <= built
    assert missing <= {"posixpath", "windowspath"} | (set() if fuzz_formats.oracles.format_zoo.type_zoo else missing)


# -- each oracle can fail ---------------------------------------------------------------------------------------------


def broken(target: str, data: bytes, profile: oracles.Profile = ZOO) -> str:
    with pytest.raises(Broken) as caught:
        oracles.check(target, data, profile)
    return str(caught.value)


def raising(error: Exception) -> Any:
    def stand_in(*args: Any, **options: Any) -> None:
        raise error

    return stand_in


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (IndexError("a bug"), "IndexError leaves it"),
        (RecursionError(), "stack is used up"),
        (Malformed(Reason.INTERNAL_ERROR), "its own failure"),
        (Malformed(Reason.BAD_JSON, 99), "is outside"),
        (Malformed(Reason.BAD_JSON), "sees nothing wrong"),
        (Malformed(Reason.DUPLICATE_KEY), "sees nothing wrong"),
        (type("Other", (Refused,), {})(Reason.BAD_JSON), "refused as Other"),
    ],
)
def test_a_wrong_refusal_is_seen(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    monkeypatch.setattr(oracles, "load_untrusted_json", raising(error))
    monkeypatch.setattr(oracles, "load_untrusted_msgpack", raising(error))
    assert said in broken("json", b"[1]")
    if "BAD_JSON" not in str(error):
        assert said in broken("msgpack", b"\x91\x01")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b"[1e400]",
        b"18446744073709551616",
        b'"\\ud800"',
        b"[NaN]",
        b"[" * 60 + b"]" * 60,
        b'"\xff"',
        b"[1,]",
    ],
)
def test_a_wrong_acceptance_of_json_is_seen(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(oracles, "load_untrusted_json", lambda *_: [])
    assert "accepted, but json sees" in broken("json", data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x01\xc0\x01\xc0",
        b"\x81\xc0\xc0",
        b"\xd4\1\0",
        b"\xd6\xff\0\0\0\0",
        b"\x91",
        b"\xc0\xc0",
        b"\xa1\xff",
        b"\x91" * 60 + b"\xc0",
    ],
)
def test_a_wrong_acceptance_of_msgpack_is_seen(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(oracles, "load_untrusted_msgpack", lambda *_: [])
    assert "accepted, but msgpack sees" in broken("msgpack", data)


def test_a_wrong_value_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracles, "load_untrusted_json", lambda *_: [1.0])
    monkeypatch.setattr(oracles, "load_untrusted_msgpack", lambda *_: [True])
    assert "not what json reads" in broken("json", b"[1]")
    assert "not what msgpack reads" in broken("msgpack", b"\x91\x01")


def test_builds_that_walk_apart_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        walk = staticmethod(lambda *_: 5)

    monkeypatch.setattr(oracles, "BUILDS", [oracles.counts, Other])
    assert "the pure walk says 1" in broken("msgpack", b"\x81\x01\x02")


class Codec:
    """The JSON codec, but for one step."""

    name = "json"

    def __init__(self, **steps: Any) -> None:
        self.real = (
            oracles.codec.__wrapped__("json") if hasattr(oracles.codec, "__wrapped__") else oracles.codec("json")
        )
        vars(self).update(steps)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


TUPLE = b'{"~":["tuple",[1]]}'


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"judge": raising(Forbidden(Reason.TYPE_NOT_ALLOWED))}, "load does not refuse"),
        ({"build": raising(Forbidden(Reason.TYPE_NOT_ALLOWED))}, "it may not refuse for type-not-allowed"),
        ({"build": raising(Malformed(Reason.BUILD_FAILED))}, "end differently"),
        ({"build": lambda *_: [1]}, "give different values"),
        ({"dumps": raising(Malformed(Reason.BAD_TAGGED_VALUE))}, "it may not refuse for bad-tagged-value"),
        ({"dumps": lambda *_: b"[1]"}, "read as something else"),
        ({"dumps": lambda *_: b"[1"}, "what it writes is refused"),
        ({"judge": lambda *_: (oracles.zoo.note("made"), oracles.codec("json"))[0]}, "judging ran made"),
    ],
)
def test_a_codec_that_breaks_a_promise_is_seen(
    monkeypatch: pytest.MonkeyPatch, steps: dict[str, Any], said: str
) -> None:
    stand_in = Codec(**steps)
    monkeypatch.setattr(oracles, "codec", lambda _: stand_in)
    assert said in broken("typed-json", TUPLE)


def test_wrong_wishes_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b'{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'
    monkeypatch.setattr(oracles.wishes, "parse", raising(Malformed(Reason.BAD_JSON)))
    assert "it may not refuse" in broken("wishes", text)
    monkeypatch.setattr(oracles.wishes, "parse", lambda *_: {})
    assert "not what json reads" in broken("wishes", text)


def test_wrong_bodies_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = b"\0" + (4).to_bytes(4, "big") + zlib.compress(b"abcd")
    for body, said in ((b"abc", "3 bytes where 4"), (b"abce", "not what zlib makes")):
        monkeypatch.setattr(oracles, "decompress", lambda *_, body=body: body)
        assert said in broken("compressed", packed)


def test_memory_beyond_the_bound_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < oracles.memory("json", b"[1]", ZOO) < oracles.BYTES_ANYWAY
    monkeypatch.setitem(oracles._READ, "json", lambda *_: bytes(3 << 20))
    with pytest.raises(Broken, match="bytes for 3"):
        oracles.memory("json", b"[1]", ZOO)


# -- the tools themselves ---------------------------------------------------------------------------------------------


def test_spellings_are_of_the_tree_and_repeatable() -> None:
    tree = [Pairs([("a", Number("1e0")), ("é", None)]), Blob(b"x"), "\ud800", True, 1.5]
    text = format_json.spell(tree, Random(1))
    assert text == format_json.spell(tree, Random(1))
    assert json.loads(text) == [{"a": 1.0, "é": None}, "eA==", "\ud800", True, 1.5]
    packed = format_msgpack.spell(tree, Random(1))
    assert b"".join(format_msgpack.split(packed)) == packed
    assert b"".join(format_json.split(text)) == text


def test_minimising_deletes_what_does_not_matter() -> None:
    data = b'[1,{"a":"needle","b":[2,3]},null]'
    assert fuzz_formats.minimised("json", data, lambda raw: b"needle" in raw) == b"needle"


def test_a_worker_that_dies_leaves_its_case(tmp_path: Path) -> None:
    parent = fuzz_formats.Parent(tmp_path, 0, 1, 1, ("json",))
    Now(tmp_path / "worker-0.now").write(Case(b"[1]", "tight", "typed-json"))

    parent.dead(0, -signal.SIGPROF)

    (found,) = parent.deaths
    assert (found["target"], found["profile"], found["hex"]) == ("typed-json", "tight", b"[1]".hex())
    assert "processor time" in found["message"]


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "fuzz_formats.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def test_the_campaign_runs_and_reports(tmp_path: Path) -> None:
    done = script("--cpu-seconds", "3", "--seed", "3", "--out", str(tmp_path))

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (done.returncode, summary["findings"]) == (0, []), done.stderr
    assert summary["cases"] > 100
    assert summary["corpus"] == len(list((tmp_path / "corpus").iterdir())) > 20
    assert not list(tmp_path.glob("worker-*"))


def test_replay_says_what_one_case_does() -> None:
    done = script("--out", "-", "--target", "typed-json", "--replay", TUPLE.hex())

    assert (done.returncode, done.stdout) == (0, "accepted\n")
