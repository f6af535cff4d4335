"""A few hundred cases through every oracle, every past finding, and proof that each oracle can fail."""

from __future__ import annotations

import json
import pickle
import signal
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fuzz import campaign, grammar, honest, mutation, oracles, zoo
from fuzz.compare import difference, measure
from fuzz.oracles import Broken
from fuzz.processes import Case, Now
from fuzz.source import Bytes, Random
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from safeserial.errors import Malformed, Reason, Refused
from safeserial.minipickle.verify import Verdict

FINDINGS: list[dict[str, Any]] = [
    one for path in sorted((Path(__file__).parent / "findings").glob("*.json")) for one in json.loads(path.read_text())
]
ZOO = zoo.profile("zoo")
# What the open findings are about is met by chance too; it is reported there, once.
OPEN_IDS = {one["id"] for one in FINDINGS if one["open"]}
OPEN = {campaign.signature(Broken(one["oracle"], one["message"])) for one in FINDINGS if one["open"]}


def check(data: bytes, profile: zoo.Profile) -> oracles.Report | None:
    try:
        return campaign.run_case(data, profile)
    except Broken as problem:
        if campaign.signature(problem) in OPEN:
            return None
        raise AssertionError(f"{problem} [{profile.name}] {data.hex()}") from problem


# -- everything keeps its promises ------------------------------------------------------------------------------------


def test_generated_and_mutated_pickles_keep_every_promise() -> None:
    kinds: Counter[str] = Counter()
    pool = [data for _, data in campaign.seeds()[-60:]]
    for seed in range(350):
        source = Random(seed)
        profile = source.pick(zoo.profiles())
        data = grammar.generate(source, profile)
        for case in (data, mutation.mutate(source, source.pick(pool), [data], profile)):
            report = check(case, profile)
            if report is not None:
                outcome = report.outcome
                kinds["accepted" if isinstance(outcome, Verdict) else outcome.reason.value] += 1

    # A generator that has gone stale would make this test pass while it tests nothing.
    assert kinds["accepted"] > 150
    assert len(kinds) > 25


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=300), st.sampled_from([one.name for one in zoo.profiles()]))
@example(b"", "zoo")
def test_programs_that_hypothesis_chooses_keep_them_too(choices: bytes, name: str) -> None:
    profile = zoo.profile(name)
    check(grammar.generate(Bytes(choices), profile), profile)


def test_what_picklers_write_is_accepted_and_comes_back() -> None:
    profile = zoo.profile("roomy")
    for seed in range(250):
        source = Random(seed)
        value = honest.value(source)
        writer, protocol, data = honest.written(value, source)
        if b"\nBuf\n" in data and "bytearray-subclass-below-3" in OPEN_IDS:
            continue
        try:
            oracles.complete(value, data, profile)
        except Broken as problem:
            raise AssertionError(f"{writer} {protocol}: {problem} {data.hex()}") from problem


@pytest.mark.parametrize(
    "one",
    [
        # Strict: when what it is about is fixed, set "open" to false, and it guards the fix from then on.
        pytest.param(one, id=one["id"], marks=[pytest.mark.xfail(raises=Broken, strict=True)] if one["open"] else [])
        for one in FINDINGS
    ],
)
def test_past_findings_replay_clean(one: dict[str, Any]) -> None:
    profile, data = zoo.profile(one["profile"]), bytes.fromhex(one["hex"])
    if one["honest"]:
        oracles.complete(None, data, profile)
    else:
        oracles.check(data, profile)


@pytest.mark.skipif(
    oracles.compiled_machine() is None, reason="oracle 'agree' needs the compiled machine, which is not built"
)
def test_the_compiled_machine_is_compared_where_it_is_built() -> None:
    assert "agree" in oracles.check(b"N.", ZOO).oracles


# -- each oracle can fail ---------------------------------------------------------------------------------------------


def verdict(canonical: bytes, *names: str, **more: int) -> Verdict:
    counts = {"opcodes": 1, "nodes": 1, "depth": 0, "weight": 1, "protocol": 4} | more
    return Verdict(tuple((0, name) for name in names), b"\x80\x04" + canonical, **counts)


def name(qualname: str, module: str = zoo.HOME) -> bytes:
    return b"".join(bytes([0x8C, len(part)]) + part.encode() for part in (module, qualname)) + b"\x93"


def of(*qualnames: str) -> list[str]:
    return [f"{zoo.HOME}:{qualname}" for qualname in qualnames]


def engine(error: Exception) -> type:
    class Faulty:
        @staticmethod
        def judge(*arguments: object) -> Verdict:
            raise error

    return Faulty


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("x"), "ValueError leaves"),
        (RecursionError(), "RecursionError leaves"),
        (Malformed(Reason.BAD_KEY, 99, "x"), "offset 99"),
        (Malformed(Reason.BAD_KEY, None, "x"), "offset None"),
        (Refused(Reason.BAD_KEY, 0, "x"), "no refusal of the judge"),
        (Malformed(Reason.BAD_KEY, 0, "a\nb"), "printable"),
    ],
)
def test_total_can_fail(error: Exception, message: str) -> None:
    with pytest.raises(Broken, match=message):
        oracles.judged(b"N.", ZOO, engine(error))


@pytest.mark.parametrize("field", ["opcodes", "nodes", "depth", "weight", "protocol"])
def test_bounded_can_fail(field: str) -> None:
    honest_one = oracles.judged(b"N.", ZOO)
    assert isinstance(honest_one, Verdict)
    oracles.bounded(b"N.", honest_one, ZOO)

    with pytest.raises(Broken, match=field):
        oracles.bounded(b"N.", honest_one._replace(**{field: 1 << 30}), ZOO)


def test_bounded_looks_at_bytes_and_offsets() -> None:
    with pytest.raises(Broken, match="bytes written"):
        oracles.bounded(b"N.", verdict(b"a" * (1 << 18)), ZOO)
    with pytest.raises(Broken, match="outside"):
        oracles.bounded(b"NN", verdict(b"N.", "x:y", opcodes=2)._replace(names=((2, "x:y"),)), ZOO)


def test_steps_are_counted_and_can_be_too_many() -> None:
    before = sys.gettrace()
    assert oracles.stepwise(b"N.", ZOO) > 10
    with pytest.raises(Broken, match="lines for 2 bytes"):
        oracles.stepwise(b"N.", ZOO, base=5, per_byte=0, per_cost=0)
    assert sys.gettrace() is before


def test_shown_can_fail() -> None:
    accepted, refused = oracles.judged(b"N.", ZOO), oracles.judged(b"N", ZOO)
    oracles.shown(b"N.", accepted, ZOO)
    oracles.shown(b"N", refused, ZOO)
    for data, outcome in ((b"N", accepted), (b"N.", refused), (b"0", refused)):
        with pytest.raises(Broken):
            oracles.shown(data, outcome, ZOO)


def test_agree_can_fail() -> None:
    one, other = oracles.judged(b"N.", ZOO), oracles.judged(b"N", ZOO)
    assert isinstance(one, Verdict)
    oracles.agree(one, one._replace())
    oracles.agree(other, oracles.judged(b"N", ZOO))
    for pair in ((one, one._replace(weight=2)), (one, other), (other, oracles.judged(b"NN", ZOO))):
        with pytest.raises(Broken, match="pure"):
            oracles.agree(*pair)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (verdict(b"N.")._replace(canonical=b"\x80\x02N."), "starts with"),
        (verdict(b"\x95\2\0\0\0\0\0\0\0N."), "only inputs"),
        (verdict(b"0."), "refused"),
        (verdict(b"M\1\0."), "canonical was"),
        (verdict(b"N.", nodes=2), "nodes"),
        (verdict(b"N.", depth=1), "depth"),
        (verdict(b"N.", weight=2), "weight"),
        (verdict(name("Tag") + b".", *of("Plain")), "names"),
    ],
)
def test_canonical_can_fail(wrong: Verdict, message: str) -> None:
    with pytest.raises(Broken, match=message):
        oracles.canonical(wrong, ZOO)


def trap_row() -> zoo.Profile:
    """A table that lists what nobody should."""
    row = ZOO.table["fuzz.zoo:make"]._replace(name="fuzz.zoo:trap")
    return ZOO._replace(table={**ZOO.table, row.name: row}, objects={**ZOO.objects, row.name: zoo.trap})


NEW = b")\x81"
STATE = b"}\x8c\1aK\1s"
# Canonical bytes that a wrong verdict would pass on, what it says of their names, and what the oracle answers.
UNSOUND: list[tuple[str, bytes, list[str], str]] = [
    ("name-unlisted", name("trap") + b")R.", of("trap"), "listed"),
    ("name-not-recorded", name("Tag") + b".", [], "recorded"),
    ("name-recorded-in-vain", b"N.", of("Tag"), "recorded"),
    ("names-in-another-order", name("Tag") + name("Gauge") + b"\x86.", of("Gauge", "Tag"), "recorded"),
    ("call-of-a-reference", name("Gauge") + b")R.", of("Gauge"), "may not be called"),
    ("call-of-new-only", name("NewOnly") + b")R.", of("NewOnly"), "may not be called"),
    ("call-of-a-result", name("give_class") + b")R)R.", of("give_class"), "of what a call made"),
    ("call-of-an-instance", name("Plain") + NEW + b")R.", of("Plain"), "of what a call made"),
    ("call-of-a-constant", b"N)R.", [], "no name resolved"),
    ("call-with-no-tuple", name("make") + b"]R.", of("make"), "arguments are a list"),
    ("call-with-a-class", name("make") + name("Tag") + b"\x85R.", of("make", "Tag"), "no pattern"),
    ("call-that-no-pattern-fits", name("typed") + b"K\1\x85R.", of("typed"), "no pattern"),
    ("call-of-getattr", name("getattr", "builtins") + b"N\x85R.", ["builtins:getattr"], "listed"),
    ("new-of-call-only", name("CallOnly") + NEW + b".", of("CallOnly"), "may not be instantiated"),
    ("new-with-keywords", name("Plain") + b")}\x8c\1aK\1s\x92.", of("Plain"), "keywords"),
    ("old-style-new", b"(ifuzz.zoo\nGauge\n.", of("Gauge"), "may not be instantiated"),
    ("old-style-call", b"(" + name("Gauge") + b"No.", of("Gauge"), "may not be called"),
    ("reconstruct-call-only", name("_reconstructor", "copyreg") + b"(" + name("CallOnly") + name("object", "builtins") + b"NtR.",
     ["copyreg:_reconstructor", "fuzz.zoo:CallOnly", "builtins:object"], "may not be instantiated"),
    ("build-of-a-class", name("Tag") + STATE + b"b.", of("Tag"), "nothing that this stream made"),
    ("build-of-a-member", name("Color") + b"K\1\x85R" + STATE + b"b.", of("Color"), "shared"),
    ("build-of-a-lent-object", name("lend") + b")R" + STATE + b"b.", of("lend"), "shared"),
    ("build-twice", name("Plain") + NEW + STATE + b"b" + STATE + b"b.", of("Plain"), "state already"),
    ("build-without-the-word", name("Sleeper") + NEW + STATE + b"b.", of("Sleeper"), "takes no state"),
    ("build-of-a-dunder", name("Plain") + NEW + b"}\x8c\x09__class__K\1sb.", of("Plain"), "it sets"),
    ("build-of-a-reserved-name", name("NewOnly") + NEW + b"}\x8c\6secretK\1sb.", of("NewOnly"), "it sets"),
    ("build-of-no-slot", name("Watched") + NEW + b"N}\x8c\1pK\1s\x86b.", of("Watched"), "no slot"),
    ("build-with-a-class", name("Plain") + NEW + b"}\x8c\1a" + name("Tag") + b"sb.", of("Plain", "Tag"), "reference"),
    ("build-with-a-number", name("Plain") + NEW + b"K\1b.", of("Plain"), "got a int"),
    ("append-to-an-instance", name("Appender") + NEW + b"Na.", of("Appender"), "takes none"),
    ("append-after-state", name("Basket") + NEW + STATE + b"bNa.", of("Basket"), "no more"),
    ("append-to-a-class", name("Tag") + b"Na.", of("Tag"), "nobody's"),
    ("set-item-of-an-instance", name("Appender") + NEW + b"NNs.", of("Appender"), "takes none"),
    ("add-to-an-instance", name("Appender") + NEW + b"(N\x90.", of("Appender"), "takes none"),
    ("items-into-state", name("Plain") + NEW + b"}\x94bh\0NNs0.", of("Plain"), "state already"),
    ("pop-of-a-call", name("make") + b")R0N.", of("make"), "discards"),
    ("pop-mark-of-a-call", b"(" + name("make") + b")R1N.", of("make"), "discards"),
    ("class-into-given-list", name("make") + b"]\x94\x85Rh\0" + name("Tag") + b"a\x86.", of("make", "Tag"), "holds a class"),
    ("unhashable-key", b"}]Ns.", [], "raised by SETITEM itself"),
    ("persistent-id", b"NQ.", [], "persistent"),
    ("no-stop", b"N", [], "itself|CPython raises"),
    ("another-value", b"K\1.", [], "other values"),
    ("another-type", b"\x88.", [], "other values"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("canonical", "names", "message"), [one[1:] for one in UNSOUND], ids=[one[0] for one in UNSOUND]
)
def test_sound_can_fail(canonical: bytes, names: list[str], message: str) -> None:
    with pytest.raises(Broken, match=message):
        oracles.sound(verdict(canonical, *names), b"N.", ZOO)


def test_sound_compares_sharing_and_hooks_with_the_input() -> None:
    with pytest.raises(Broken, match="shared in one"):
        oracles.sound(verdict(b"(]]t.", depth=2, weight=3, nodes=3), b"(]2t.", ZOO)
    with pytest.raises(Broken, match="hooks saw"):
        oracles.sound(verdict(name("make") + b")R.", *of("make")), b"cfuzz.zoo\nMade\n)R.", ZOO)
    with pytest.raises(Broken, match="was called"):
        oracles.sound(verdict(name("trap") + b")R.", *of("trap")), b"N.", trap_row())


@pytest.mark.parametrize("field", ["depth", "weight", "nodes"])
def test_sound_measures_the_value(field: str) -> None:
    data = b"]]K\1a\x86."
    right = oracles.judged(data, ZOO)
    assert isinstance(right, Verdict)
    assert oracles.sound(right, data, ZOO) == "value"

    with pytest.raises(Broken, match=f"value's {field}"):
        oracles.sound(right._replace(**{field: 1}), data, ZOO)


def test_sound_measures_keys() -> None:
    data = b"})" + b"\x85" * 12 + b"Ns."
    with pytest.raises(Broken, match="a key of depth 13"):
        oracles.sound(verdict(data, depth=99, weight=99, nodes=99), data, ZOO)


def test_concrete_can_fail() -> None:
    def raises(*args: object, **more: object) -> object:
        raise KeyError("x")

    for loads, message in ((lambda *args, **more: 2, "other values"), (raises, "KeyError leaves")):
        with pytest.raises(Broken, match=message):
            oracles.concrete(b"K\1.", ZOO, loads)
    with pytest.raises(Broken, match="where CPython raises"):
        oracles.concrete(b"K", ZOO, lambda *args, **more: 1)


def test_complete_can_fail() -> None:
    for data, message in ((pickle.dumps(zoo.trap), "refused"), (b"cfuzz.zoo\nfails\n)R.", "do not load")):
        with pytest.raises(Broken, match=message):
            oracles.complete(None, data, ZOO)


# -- the tools themselves ---------------------------------------------------------------------------------------------


def rings() -> tuple[list[Any], list[Any]]:
    one: list[Any] = []
    other: list[Any] = []
    one.append(one)
    other.append([other])
    return one, other


SHARED: list[Any] = [[1]]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (1, 1.0), (0.0, -0.0), ("a", b"a"), ([1], (1,)), ({1, 2}, {1, 3}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (struct.unpack(">d", bytes.fromhex("7ff8000000000000"))[0], struct.unpack(">d", bytes.fromhex("7ff8000000000001"))[0]),
        ([SHARED[0], SHARED[0]], [[1], [1]]), (rings()), (zoo.Point(1, 2), zoo.Point(1, 3)), (zoo.Basket([1]), zoo.Basket([2])),
        (zoo.Tag, zoo.Gauge), (ValueError(1), ValueError(2)), ({frozenset({1})}, {frozenset({2})}), (zoo.Whole(1), zoo.Whole(2)),
    ],
)  # fmt: skip
def test_differences_are_seen(one: object, other: object) -> None:
    assert difference(one, other)
    assert not difference(one, one)


def test_measures() -> None:
    shared: Any = (1, 2)
    for _ in range(70):
        shared = (shared, shared)
    assert measure(5)[:5] == (True, False, 0, 1, 1)
    assert measure([[1], {2: (3,)}])[:5] == (True, False, 3, 7, 7)
    assert measure(shared).weight == 1 << 62
    assert measure({((1,),): 1})[5:] == (2, 3)
    assert measure(rings()[1]).cyclic
    assert not measure([zoo.Plain()]).plain


def test_sources_are_repeatable_and_spent_bytes_mean_no() -> None:
    assert grammar.generate(Random(5), ZOO) == grammar.generate(Random(5), ZOO)
    assert grammar.generate(Bytes(b"\1\2\3"), ZOO) == grammar.generate(Bytes(b"\1\2\3"), ZOO)
    assert not Bytes(b"").chance(99)
    assert Bytes(b"").pick("ab") == "a"


def test_mending_frames() -> None:
    data = pickle.dumps([b"x" * 40], 4)
    pieces = mutation.split(data)
    assert b"".join(pieces) == data
    shorter = mutation.mend([one for one in pieces if one[:1] != b"\x94"])
    assert pickle.loads(shorter) == [b"x" * 40]


def test_minimising_deletes_what_does_not_matter() -> None:
    data = pickle.dumps([1, "abc", {"x": b"needle"}, [2.5] * 10], 4)

    assert campaign.minimised(data, lambda raw: b"needle" in raw) == b"needle"


def test_a_worker_that_dies_leaves_its_case(tmp_path: Path) -> None:
    parent = campaign.Parent(tmp_path, 0, 1, 1)
    case = b"K\1."
    Now(tmp_path / "worker-0.now").write(Case(case, "plain"))

    parent.dead(0, -signal.SIGPROF)

    (found,) = parent.deaths
    assert (found["profile"], found["hex"]) == ("plain", case.hex())
    assert "processor time" in found["message"]
    assert parent.summary()["findings"] == [found]


def test_the_campaign_runs_reports_and_goes_on(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("campaign.py"))
    command = [sys.executable, script, "--cpu-seconds", "2", "--seed", "3", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert done.returncode == (1 if summary["findings"] else 0), done.stderr
    assert summary["cases"] > 100
    assert summary["accepted"]
    assert {campaign.signature(Broken(one["oracle"], one["message"])) for one in summary["findings"]} <= OPEN, summary[
        "findings"
    ]
    if summary["feedback"] != ["none"]:
        assert summary["coverage"]["machine.py"]["branches_reached"] > 300
    assert summary["corpus"] == len(list((tmp_path / "corpus").iterdir())) > 50
    assert not list(tmp_path.glob("worker-*"))


def test_replay_says_what_one_case_does() -> None:
    script = str(Path(__file__).with_name("campaign.py"))
    done = subprocess.run(
        [sys.executable, script, "--out", "-", "--replay", "4e2e"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert (done.returncode, "Verdict" in done.stdout) == (0, True)
