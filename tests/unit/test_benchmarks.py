"""The benchmarks measure what they say they measure. No test here looks at a clock."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import safeserial
from safeserial.errors import Refused
from safeserial.formats.pickle import load_verified
from safeserial.limits import Limits
from safeserial.minipickle.verify import judge

FOLDER = Path(__file__).parents[2] / "benchmarks"

sys.path.insert(0, str(FOLDER))
import minipickle as bench  # noqa: E402 - found through the line above
import minipickle_hostile as hostile  # noqa: E402
import minipickle_scaling as scaling  # noqa: E402
import minipickle_streams as streams  # noqa: E402
import minipickle_workloads as workloads  # noqa: E402
import throughput  # noqa: E402

sys.path.remove(str(FOLDER))

ENGINES = [build for build in bench.ENGINES if bench.engine_class(build) is not None]
RECIPES = {recipe.name: recipe for recipe in workloads.RECIPES if not recipe.optional}
# Opcodes whose number a workload's title promises.
PROMISED = {
    "dataclasses": (b"\x81", 500),
    "floats": (b"G", 10_000),
    "shared": (b"h", 10_000),
    "sets": (b"\x8f", 1_000),
    "datetimes": (b"R", 300),
}


def run(script: str, *args: str) -> Any:
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *args], capture_output=True, text=True, check=True, cwd=FOLDER.parent
    )
    return json.loads(done.stdout)


def wide(work: Any) -> Limits:
    return Limits(max_bytes=work.policy.limits.max_raw_bytes)


@pytest.mark.parametrize("name", RECIPES)
def test_a_workload_is_accepted_and_loads_as_pickle_would(name: str) -> None:
    work = workloads.workload(RECIPES[name])

    for build in ENGINES:
        verdict = judge(bench.engine_class(build), work.data, work.policy.table, wide(work), 0)

        loaded = load_verified(verdict.canonical, [one for _, one in verdict.names], work.policy.objects)
        assert loaded == pickle.loads(work.data)
        assert verdict.protocol == work.recipe.protocol
    assert work.data == workloads.workload(RECIPES[name]).data


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("celery-body", 140, 160),
        ("nested", 5_000, 7_000),
        ("nested-typed", 5_000, 7_000),
        ("blob", 1 << 20, (1 << 20) + 64),
    ],
)
def test_a_workload_is_as_long_as_it_says(name: str, low: int, high: int) -> None:
    assert low <= len(workloads.workload(RECIPES[name]).data) <= high


@pytest.mark.parametrize("name", PROMISED)
def test_a_workload_holds_what_its_title_promises(name: str) -> None:
    import pickletools

    code, count = PROMISED[name]
    found = sum(
        op.code.encode("latin-1") == code for op, _, _ in pickletools.genops(workloads.workload(RECIPES[name]).data)
    )

    assert count <= found <= count * 1.02


def test_the_deep_workload_is_deep_but_within_the_default_limits() -> None:
    work = workloads.workload(RECIPES["deep"])

    assert (
        240
        <= judge(bench.engine_class("pure"), work.data, work.policy.table, wide(work), 0).depth
        <= Limits().max_depth
    )


def test_docs_unpickler_allows_what_the_policy_lists_and_nothing_else() -> None:
    work = workloads.workload(RECIPES["dataclasses"])
    other = workloads.Workload(work.recipe, b"cposix\ngetpid\n.", work.policy)

    assert bench.restricted(work)() == pickle.loads(work.data)
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.getpid is forbidden"):
        bench.restricted(other)()


def test_a_quick_run_fills_every_column_it_can_and_names_the_rest() -> None:
    result = run("minipickle.py", "--quick", "--json", "--only", "celery-body", "--only", "nested", "--only", "blob")

    assert [row["name"] for row in result["workloads"]] == ["celery-body", "nested", "blob"]
    assert [row["counts_for_the_mean"] for row in result["workloads"]] == [False, True, False]
    for row in result["workloads"]:
        assert list(row["ratios"]) == list(bench.COLUMNS)
        assert row["loads_us"] > 0
        for column, ratio in row["ratios"].items():
            assert (ratio is None) == (column in result["missing"])
            assert ratio is None or ratio > 0
        assert row["ratios"]["loads"] == 1.0
    assert result["geometric_mean"] == pytest.approx(result["workloads"][1]["ratios"])
    assert set(result["missing"]) <= {"compiled verify", "compiled load", "picklescan", "fickling"}
    assert result["machine_files"]["pure"].endswith("machine.py")
    built = os.path.exists(result["machine_files"]["compiled"])
    assert built == ("compiled verify" not in result["missing"])


def test_no_peers_leaves_them_out_and_says_so() -> None:
    missing: dict[str, str] = {}

    found = bench.contestants(workloads.workload(RECIPES["celery-body"]), False, missing)

    assert missing["picklescan"] == missing["fickling"] == "left out by --no-peers"
    assert not {"picklescan", "fickling"} & set(found)


def rows() -> list[Any]:
    ratios: dict[str, float | None] = dict.fromkeys(bench.COLUMNS, 2.0)
    small = bench.Row("a", "small", 150, 5, False, 1.5, False, {**ratios, "genops": 100.0})
    one = bench.Row("b", "one", 6_000, 5, False, 30.0, False, {**ratios, "fickling": None})
    two = bench.Row("c", "two", 5_000, 5, False, 300.0, False, {**ratios, "genops": 8.0})
    apart = bench.Row("d", "apart", 1_000_000, 5, True, 20.0, False, {**ratios, "genops": 100.0})
    return [small, one, two, apart]


def test_the_mean_is_geometric_and_over_the_large_workloads_only() -> None:
    mean = bench.means(rows())

    assert mean["genops"] == pytest.approx(4.0)
    assert mean["fickling"] == pytest.approx(2.0)
    assert set(bench.means(rows()[:1]).values()) == {None}


def test_what_is_mostly_calls_is_in_the_one_mean_and_not_in_the_other() -> None:
    calls = bench.Row("e", "calls", 7_000, 5, False, 30.0, True, dict.fromkeys(bench.COLUMNS, 16.0))

    assert bench.means([*rows(), calls])["loads"] == pytest.approx(4.0)
    assert bench.means([*rows(), calls], calls=False)["loads"] == pytest.approx(2.0)
    assert [name for name, recipe in RECIPES.items() if recipe.calls] == ["nested-typed", "datetimes"]


def test_the_readme_gets_the_table_between_its_markers_and_keeps_the_rest(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n")
    table = bench.markdown_table(rows(), {"python": "P", "peers": "Q", "missing": {"codec": "why"}})

    bench.write_readme(table, readme)
    bench.write_readme(table, readme)

    assert readme.read_text() == f"before\n{bench.BEGIN}\n{table}\n{bench.END}\nafter\n"
    assert "| one | 6 000 | 30.0 |" in table
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="are needed, once each"):
        bench.write_readme(table, readme)


@pytest.mark.parametrize("name", streams.FAMILIES)
def test_steps_grow_with_the_length_and_no_faster(name: str) -> None:
    # Of many references in a row more are taken at once, the larger the stack has grown.
    least = 0.5 if name == "gets" else 0.75
    assert least < scaling.step_ratio(name) < 1.25


def test_the_step_counter_would_see_a_square(tmp_path: Path) -> None:
    source = tmp_path / "square.py"
    source.write_text("def square(n):\n    for _ in range(n):\n        for _ in range(n):\n            pass\n")
    code: dict[str, Any] = {}
    exec(compile(source.read_text(), str(source), "exec"), code)  # our own two loops
    before = sys.gettrace()

    few, many = (streams.steps(lambda n=n: code["square"](n), str(tmp_path)) for n in (10, 40))

    assert many / few > 12
    assert sys.gettrace() is before


@pytest.mark.parametrize("name", streams.FAMILIES)
def test_a_family_is_exactly_as_long_as_asked_and_accepted(name: str) -> None:
    data = streams.FAMILIES[name](4096)

    assert len(data) == 4096
    assert judge(bench.engine_class("pure"), data, scaling.policy_table(), streams.WIDE, 0).opcodes > 5


def test_attacks_are_one_mebibyte_each_and_no_two_alike() -> None:
    data = {hostile.attack(key).data for key in hostile.ATTACKS}

    assert len(data) == len(hostile.ATTACKS) >= 40
    assert {len(one) for one in data} == {hostile.MIB}


def test_a_padded_vector_is_refused_for_the_same_reason_behind_a_mebibyte() -> None:
    table = hostile.vector_tables()("rows")
    vector = next(one for one in hostile.techniques(every=True) if one["reason"] == "build-not-allowed")

    padded = hostile.padded(vector, table)

    assert len(padded.data) == hostile.MIB
    with pytest.raises(Refused) as caught:
        judge(bench.engine_class("pure"), padded.data, table, padded.limits, padded.buffers)
    added = hostile.MIB - len(vector["hex"]) // 2
    assert (caught.value.reason.value, caught.value.offset) == (vector["reason"], vector["offset"] + added)


def test_a_vector_that_padding_would_change_is_not_passed_off_as_one() -> None:
    vector = {"id": "x", "hex": "80044e2e", "reason": "bad-stop", "offset": 3, "limits": {}}

    padded = hostile.padded(vector, {})

    assert (padded.data.hex(), padded.note) == (vector["hex"], "no padding leaves it what it is")


def test_the_hostile_part_reports_verdict_time_and_memory_of_a_fresh_process() -> None:
    result = run("minipickle_scaling.py", "--json", "--part", "hostile", "--build", "pure", "--only", "lists kept")

    (row,) = result["hostile"]
    assert (row["input"], row["verdict"], row["offset"]) == ("lists kept", "stack-too-large", "200002")
    assert row["bytes"] == hostile.MIB
    assert row["ms"] > 0
    assert 0 <= row["mib"] < 100


def test_the_benchmark_of_envelopes_runs_and_says_what_it_left_out() -> None:
    found = run("envelope.py", "--quick", "--json", "--no-peers")

    assert [part["bytes"] for part in found["sizes"]] == [200, 2_048, 204_800]
    for part in (*found["sizes"], {"rows": found["objects"]}):
        ours = part["rows"][0]
        assert ours["name"].startswith("safeserial")
        assert ours["ratios"] == {"seal": 1.0, "open": 1.0, "both": 1.0}
    assert {goal["over"] for goal in found["goals"]} == {"bare HMAC-SHA256", "bare AES-256-GCM"}
    assert found["missing"]["Fernet"] == "left out by --no-peers"


def test_the_benchmark_of_compression_counts_what_is_sent() -> None:
    found = run("compression.py", "--json", "--rounds", "1")

    rows = {(row["body"], row["bytes"]): row["sent"] for row in found if row["method"] == "zlib"}
    assert rows["noise", 128] == 128  # it would not get smaller
    assert all(sent < size / 2 for (body, size), sent in rows.items() if body == "records" and size >= 1024)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.thorough
def test_throughput_runs_every_contestant_and_says_what_it_measured(services: Any) -> None:
    services.url("redis")
    told = run("throughput.py", "--broker", "redis", "--size", "200", "--rounds", "1", "--count", "20", "--json")
    names = [row["name"] for row in told["rows"]]
    assert names == [one[0] for one in throughput.CONTESTANTS]
    for row in told["rows"]:
        assert row["consume"]["per_second"] > 0 and row["publish"]["per_second"] > 0
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p99"]
    stock = {row["name"]: row["consume"]["of_stock"] for row in told["rows"]}
    assert stock["stock pickle"] == stock["stock JSON"] == [1.0, 1.0, 1.0]
    assert safeserial.BUILD in told["facts"]


def test_the_interval_of_a_median_needs_no_distribution() -> None:
    assert throughput.interval([3.0]) == (3.0, 3.0, 3.0)
    values = [float(n) for n in range(11)]
    # Of 11 values the second and the tenth enclose the median with 98.8 %, the third and the ninth with 93.5 %.
    assert throughput.interval(values) == (5.0, 1.0, 9.0)
    assert throughput.interval([1.0, 2.0, 3.0]) == (2.0, 1.0, 3.0)


def test_the_picture_and_the_page_are_written_from_rows(tmp_path: Path) -> None:
    ratio = {"per_second": 10.0, "of_stock": (1.5, 1.25, 1.75), "goal": None}
    row = {"broker": "redis", "bytes": 200, "name": "guarded JSON", "consume": ratio, "publish": ratio,
           "latency_ms": {"p50": 1.0, "p99": 2.0}}  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text(f"before\n{throughput.BEGIN}\nold\n{throughput.END}\nafter\n", "utf-8")
    throughput.write_page(throughput.markdown([row], "facts"), throughput.plot([row]), page)
    text = page.read_text("utf-8")
    assert "1.50 (1.25-1.75)" in text and "old" not in text and text.endswith("\nafter\n")
    assert "<svg" in (tmp_path / "throughput.svg").read_text("utf-8")
    page.write_text("no markers", "utf-8")
    with pytest.raises(ValueError, match=r"page\.md"):
        throughput.write_page("", "", page)
