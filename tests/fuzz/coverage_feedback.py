"""Which branches of the judge an input reached, cheaply enough to ask after each of them.

coverage.py's C tracer adds arcs to a set while it runs; a set that has grown means that something new was reached.
Where there is no C tracer, ``Feedback.name`` says so and only :func:`features` guide the campaign.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeserial.minipickle import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["FILES", "Feedback", "report"]

FOLDER = Path(machine.__file__).parent
#: The judge: what is measured.
FILES = tuple(
    str(FOLDER / f"{name}.py")
    for name in ("machine", "match", "rules", "arrays", "literals", "names", "verify")
    if (FOLDER / f"{name}.py").exists()
)
_SAMPLE = "sample of arcs"


def _module(file: str) -> str:
    path = Path(file)
    return f"safeserial.{path.parent.name}.{path.stem}"


def _tracer(data: dict[str, set[int]], files: Collection[str]) -> Any:
    try:
        from coverage.tracer import CFileDisposition, CTracer
    except ImportError:
        return None
    tracer = CTracer()
    cache: dict[str, Any] = {}

    def should_trace(filename: str, frame: object) -> Any:
        mine = filename in files or filename == _SAMPLE
        found = cache[filename] = CFileDisposition()
        found.original_filename = found.canonical_filename = filename
        found.source_filename = filename if mine else None
        found.trace, found.reason, found.file_tracer, found.has_dynamic_filename = mine, "", None, False
        return found

    settings: dict[str, Any] = {
        "data": data, "trace_arcs": True, "should_trace": should_trace, "should_trace_cache": cache,
        "warn": lambda *args, **kwargs: None, "lock_data": lambda: None, "unlock_data": lambda: None, "file_tracers": {},
        "should_start_context": None, "switch_context": None, "check_include": lambda *args: True,
        "disable_plugin": lambda *args: None, "concur_id_func": None,
    }  # fmt: skip
    for name, value in settings.items():
        if hasattr(tracer, name):
            setattr(tracer, name, value)
    return tracer


class Feedback:
    """Tells what is new.

    Args:
        files: What is measured.

    Attributes:
        name: What measures: ``"coverage.py's C tracer"`` or ``"none"``.
    """

    def __init__(self, files: Collection[str] = FILES) -> None:
        self.data: dict[str, set[int]] = {}
        self._tracer = _tracer(self.data, files)
        self.name = "none" if self._tracer is None else "coverage.py's C tracer"
        self._seen: set[object] = set()
        self._bits = self._calibrate() if self._tracer is not None else 0
        # The bodies of the modules ran when they were imported; run them once more, into scratch namespaces.
        for name in files:
            code = compile(Path(name).read_text(), name, "exec")
            scratch = {"__name__": _module(name), "__file__": name}
            self.run(lambda code=code, scratch=scratch: exec(code, scratch))

    def _calibrate(self) -> int:
        """How wide a line number is in a packed arc, which is the tracer's own business and has changed before."""
        self.run(lambda: exec(compile("\n" * 9 + "a = 1\nb = 2\n", _SAMPLE, "exec"), {}))
        for arc in self.data.pop(_SAMPLE):
            for bits in range(8, 60):
                if not isinstance(arc, tuple) and arc == 10 | 11 << bits:
                    return bits
        return 0

    @property
    def arcs(self) -> int:
        """How many arcs were reached so far."""
        return sum(map(len, self.data.values()))

    def run(self, step: Callable[[], Any]) -> Any:
        """Run a step under the tracer."""
        if self._tracer is None:
            return step()
        self._tracer.start()
        try:
            return step()
        finally:
            self._tracer.stop()

    def is_new(self, arcs_before: int, features: Iterable[object]) -> bool:
        """Whether anything was reached since that no earlier input had."""
        before = len(self._seen)
        self._seen.update(features)
        return self.arcs > arcs_before or len(self._seen) > before

    def unpacked(self) -> dict[str, set[tuple[int, int]]]:
        """The arcs as pairs of lines, as coverage.py's files hold them."""
        found: dict[str, set[tuple[int, int]]] = {}
        for name, arcs in self.data.items():
            pairs = found[name] = set()
            for arc in arcs:
                if isinstance(arc, tuple):
                    pairs.add(arc)
                    continue
                bits = self._bits
                one, other = arc & (1 << bits) - 1, arc >> bits & (1 << bits) - 1
                pairs.add((-one if arc >> 2 * bits & 1 else one, -other if arc >> 2 * bits & 2 else other))
        return found


def report(arcs: dict[str, set[tuple[int, int]]], folder: Path, files: Collection[str] = FILES) -> dict[str, Any]:
    """Lines and branches of each file of the judge: how many, and which were not reached."""
    import coverage

    data_file = folder / "campaign.coverage"
    data_file.unlink(missing_ok=True)
    data = coverage.CoverageData(basename=str(data_file))
    data.add_arcs({name: found for name, found in arcs.items() if name in files})
    data.write()
    measured = coverage.Coverage(data_file=str(data_file), branch=True, config_file=False)
    measured.load()
    result = {}
    for name in files:
        if name not in arcs:
            continue
        # The report of coverage.py is the one public way to its count of branches.
        out = folder / "one.json"
        measured.json_report(morfs=[name], outfile=str(out))
        import json

        found = next(iter(json.loads(out.read_text())["files"].values()))
        out.unlink()
        total = found["summary"]
        result[Path(name).name] = {
            "statements": total["num_statements"],
            "lines_reached": total["covered_lines"],
            "branches": total["num_branches"],
            "branches_reached": total["covered_branches"],
            "missing_lines": found["missing_lines"],
            "missing_branches": found["missing_branches"],
        }
    return result
