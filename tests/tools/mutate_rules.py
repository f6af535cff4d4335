"""Weaken each rule of the verifier in turn, and see the vectors catch it.

``python tests/tools/mutate_rules.py [--list] [--only TEXT] [--jobs N]``

The mutants are found in the source, whatever it looks like, so that a rewritten verifier is measured as it is:

``off``       the condition of a refusal is never true, or a refusal without one is skipped
``drop``      one operand of such a condition is left out (``or``: never true; ``and``: always true)
``add-one``   one more than the limit, where such a condition compares sizes
``skip``      a call that only checks is not made

A mutant is killed if any vector of ``tests/vectors/minipickle`` comes out another way: a hostile one with another
reason, another byte or none; a benign one refused, with other names or another value; or if judging ends in another
error, or takes a minute of processor time. Nothing hostile is ever loaded. Exit status 0 if 95 % are killed and the rest is explained
below.

Explanations have no line numbers, which move: they are for what a mutant is called, ``function reason operator``.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
PACKAGE = "safeserial.minipickle"
#: Where the rules are, as far as these files exist.
MODULES = ("machine", "match", "arrays", "hashing", "rules", "verify", "names", "literals")
REFUSALS = {"Malformed", "Forbidden", "Refused"}
GOAL = 0.95

EXPLAINED: dict[str, str] = {
    "machine.begin too-large off": "two gigabytes: no vector is that long",
    "machine.begin too-large add-one": "two gigabytes: no vector is that long",
    "machine.absorb does-not-fit drop": "an empty APPENDS to what is held asks for a careful run, which says the same",
    "machine.build does-not-fit drop": "each BUILD asks for a careful run, which says the same",
    "machine.build too-heavy off": "what calls are given is charged beside it, and is never less",
    "machine.build too-heavy add-one": "what calls are given is charged beside it, and is never less",
    "machine.quick_keys does-not-fit drop": "keys of an instance would be remembered too, and nobody asks for them",
    "machine.sized bad-frame off": "a cut length is read as shorter, and never fits into what is left: less than nothing",
    "machine.sized bad-frame add-one": "the same",
    "machine.long_int bad-literal drop": "a length of one byte has no sign bit to look at",
    "machine.long_int bad-frame off": "a cut length is read as shorter, and never fits into what is left: less than nothing",
    "machine.long_int bad-frame add-one": "the same",
    "machine.slot_hash bad-key off": "a long bytearray is a node, and check_key refuses it before",
    "machine.check_members hash-cost skip": "of a tuple: what makes members in these policies takes lists",
    "machine.sized bad-literal skip": "compiled build only; the pure one looks beside it",
    "machine.bundle too-heavy off": "the call charges the same at the same byte; this keeps the sum within the table",
    "machine.bundle too-heavy add-one": "the same",
    "machine.fits does-not-fit off": "compiled build only; the pure one looks at all letters in one step",
    "machine.scan_text bad-literal skip": "compiled build only; the pure one looks in the loop",
    "machine.loop bad-literal skip": "compiled build only; the pure one looks beside it",
    "machine.old_instance reference-not-allowed off": "make_old refuses the same names for the same reason",
    "verify.as_bytes too-large skip": "of a memoryview: the vectors are bytes",
    "verify.as_bytes not-bytes off": "the vectors are bytes",
}

# -- finding rules ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Mutant:
    """One weakened rule.

    Attributes:
        module: File it is in.
        name: ``function reason operator``.
        line: Where, for the reader.
        was: The code that was changed.
        tree: The whole file.
        node: What is changed in it.
        new: What stands there instead.
    """

    module: str
    name: str
    line: int
    was: str
    tree: ast.Module
    node: ast.AST
    new: ast.AST

    def source(self) -> str:
        """The whole changed file."""
        order = list(ast.walk(self.tree))
        position = next(i for i, one in enumerate(order) if one is self.node)
        twin = copy.deepcopy(self.tree)
        node = list(ast.walk(twin))[position]
        return ast.unparse(ast.fix_missing_locations(_Swap(node, self.new).visit(twin)))


class _Swap(ast.NodeTransformer):
    """Exchanges one node. It changes lists in place, so it is given a copy of the tree."""

    def __init__(self, node: ast.AST, new: ast.AST) -> None:
        self.node = node
        self.new = new

    def visit(self, node: ast.AST) -> Any:
        return ast.copy_location(self.new, node) if node is self.node else super().visit(node)


class Rules:
    """The refusals of one file, and what checks for them."""

    def __init__(self, module: str, text: str, checkers: dict[str, str]) -> None:
        self.module = module
        self.tree = ast.parse(text)
        self.checkers = checkers
        self.parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    def function(self, node: ast.AST) -> str:
        """The function that a node is in."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                return node.name
        return self.module

    def reason(self, node: ast.AST) -> str:
        """The slug of the reason that a statement refuses for."""
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "Reason":
                return part.attr.lower().replace("_", "-")
        for part in ast.walk(node):
            if isinstance(part, ast.Call) and called(part) in self.checkers:
                return self.checkers[called(part)]
        return "does-not-fit"

    def refusals(self) -> Iterator[ast.stmt]:
        """Statements that refuse: by raising, or by telling the caller that something does not fit."""
        for node in ast.walk(self.tree):
            if (isinstance(node, ast.Raise) and refuses(node, self.checkers)) or (
                isinstance(node, ast.Return) and self.says_no(node)
            ):
                yield node

    def says_no(self, node: ast.Return) -> bool:
        """``return False`` in a function that answers yes or no, ``return "why"`` in one that returns why not."""
        function: ast.AST = node
        while not isinstance(function, ast.FunctionDef):
            if function not in self.parents:
                return False
            function = self.parents[function]
        if function.name not in self.checkers:
            return False
        kind = ast.unparse(function.returns) if function.returns else ""
        if kind == "bool":
            return isinstance(node.value, ast.Constant) and node.value.value is False
        text = isinstance(node.value, ast.JoinedStr) or (
            isinstance(node.value, ast.Constant) and bool(node.value.value)
        )
        return kind == "str" and text

    def mutants(self) -> Iterator[tuple[str, ast.AST, ast.AST]]:
        """``(operator and reason, node, what stands there instead)``."""
        guards: dict[ast.If, str] = {}
        for refusal in self.refusals():
            parent = self.parents[refusal]
            if isinstance(parent, ast.If) and refusal in parent.body:
                guards.setdefault(parent, self.reason(refusal))
            elif isinstance(refusal, ast.Raise):
                yield f"{self.reason(refusal)} off", refusal, ast.Pass()
            else:
                yield f"{self.reason(refusal)} off", refusal, ast.Return(fits(refusal))
        for guard, reason in guards.items():
            yield f"{reason} off", guard.test, ast.Constant(False)
            yield from ((f"{reason} {what}", node, new) for what, node, new in weakened(guard.test))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Return) and self.function(node) in self.checkers and node.value is not None:
                yield from ((f"does-not-fit {what}", part, new) for what, part, new in weakened(node.value))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and called(node.value) in self.checkers:
                yield f"{self.checkers[called(node.value)]} skip", node, ast.Pass()


def called(call: ast.Call) -> str:
    """The name of the function or of the method of ``self`` that is called."""
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "self":
        return call.func.attr
    return getattr(call.func, "id", "")


def refuses(node: ast.Raise, checkers: dict[str, str]) -> bool:
    """Whether a statement raises a refusal."""
    return isinstance(node.exc, ast.Call) and (called(node.exc) in REFUSALS or called(node.exc) in checkers)


def fits(refusal: ast.stmt) -> ast.expr:
    """The answer that lets it pass."""
    value = refusal.value if isinstance(refusal, ast.Return) else None
    return ast.Constant(True) if isinstance(value, ast.Constant) and value.value is False else ast.Constant("")


def weakened(test: ast.expr) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Each operand left out, each limit one higher."""
    for node in ast.walk(test):
        if isinstance(node, ast.BoolOp):
            for operand in node.values:
                yield "drop", operand, ast.Constant(isinstance(node.op, ast.And))
        if (
            isinstance(node, ast.Compare)
            and len(node.ops) == 1
            and isinstance(node.ops[0], (ast.Gt, ast.GtE, ast.Lt, ast.LtE))
        ):
            right = node.comparators[0]
            if isinstance(right, ast.Constant) and right.value == 0:
                continue  # what kind of slot it is, and no limit
            step = ast.Constant(1) if isinstance(node.ops[0], (ast.Gt, ast.GtE)) else ast.Constant(-1)
            yield "add-one", right, ast.BinOp(copy.deepcopy(right), ast.Add(), step)


def checkers_of(texts: dict[str, str]) -> dict[str, str]:
    """Functions that refuse, themselves or by calling another, and the first reason each of them has."""
    bodies: dict[str, ast.FunctionDef] = {}
    for text in texts.values():
        bodies |= {node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    found = {"charge": "too-large"}
    for name, body in bodies.items():
        for node in ast.walk(body):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason":
                found.setdefault(name, node.attr.lower().replace("_", "-"))
    for name in ("fits", "accepts", "state_fits", "_bounded", "replaced", "is_dotted_name", "is_holder"):
        if name in bodies:
            found.setdefault(name, "does-not-fit")
    changed = True
    while changed:
        changed = False
        for name, body in bodies.items():
            if name not in found:
                reasons = [
                    found[called(node)]
                    for node in ast.walk(body)
                    if isinstance(node, ast.Call) and called(node) in found
                ]
                if reasons:
                    found[name], changed = reasons[0], True
    for start in ("run_over", "begin", "run", "loop", "judge", "__init__"):
        found.pop(start, None)  # to leave one of these out is no weaker rule
    return found


def find() -> list[Mutant]:
    """All mutants, in the order of the source."""
    folder = ROOT / PACKAGE.replace(".", "/")
    spec = importlib.util.find_spec("safeserial")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "minipickle"
    texts = {name: (folder / f"{name}.py").read_text() for name in MODULES if (folder / f"{name}.py").exists()}
    checkers = checkers_of(texts)
    out = []
    for module, text in texts.items():
        rules = Rules(module, text, checkers)
        for what, node, new in rules.mutants():
            name = f"{rules.function(node)} {what}"
            out.append(Mutant(module, name, getattr(node, "lineno", 0), ast.unparse(node)[:100], rules.tree, node, new))
    return sorted(out, key=lambda mutant: (mutant.module, mutant.line))


# -- running ------------------------------------------------------------------------------------------------------


class Override(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports one module from changed source."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def get_source(self, fullname: str) -> str:
        return self.source


@dataclass
class Bench:
    """The vectors, and what judges them."""

    hostile: list[dict[str, Any]]
    benign: list[dict[str, Any]]
    tables: dict[str, Any]
    objects: dict[str, Any]

    def differs(self) -> str:
        """What comes out another way under the package as it is imported now, or ``""``."""
        from pickles.describe import digest

        from safeserial.errors import Refused
        from safeserial.formats.pickle import load_verified
        from safeserial.limits import Limits

        verify = importlib.import_module(PACKAGE).verify
        for v in self.hostile:
            try:
                verify(v["data"], allow=self.tables[v["policy"]], limits=Limits(**v["limits"]), buffers=v["buffers"])
            except Refused as refusal:
                if (refusal.reason.value, refusal.offset) != (v["reason"], v["offset"]):
                    return f"{v['id']}: {refusal.reason.value} at {refusal.offset}"
            except Exception as error:
                return f"{v['id']}: {type(error).__name__}"
            else:
                return f"{v['id']}: accepted"
        for v in self.benign:
            try:
                verdict = verify(v["data"], allow=self.tables[v["policy"]])
                names = [name for _, name in verdict.names]
                value = digest(load_verified(verdict.canonical, names, self.objects[v["policy"]]))
            except Exception as error:
                return f"{v['id']}: {type(error).__name__}"
            if (names, value) != (v["names"], v["value"]):
                return f"{v['id']}: another value"
        return ""


def bench() -> Bench:
    """Read the vectors; the short ones first, because a killed mutant needs no more."""
    from pickles import policies

    sets = []
    for file in ("refused.json", "accepted.json"):
        rows = json.loads((VECTORS / "minipickle" / file).read_text())
        for row in rows:
            row["data"] = bytes.fromhex(row.pop("hex"))
        here = [row for row in rows if sys.version_info >= tuple(map(int, row.get("min_python", "3.10").split(".")))]
        sets.append(sorted(here, key=lambda row: len(row["data"])))
    which = policies.NAMES
    return Bench(
        sets[0],
        sets[1],
        {name: policies.table(name) for name in which},
        {name: policies.objects(name) for name in which},
    )


def start(mutant: Mutant, table: Bench) -> tuple[int, int]:
    """Fork a child that judges all vectors with one mutant; returns its id and where its answer comes from."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.close(reader)
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    signal.alarm(1800)  # processor time is what counts: other work may be going on
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
        del sys.modules[name]
    sys.meta_path.insert(0, Override(f"{PACKAGE}.{mutant.module}", mutant.source()))
    try:
        answer = table.differs()
    except BaseException as error:
        answer = f"does not import: {error!r}"
    os.write(writer, answer.encode()[:500])
    os._exit(0)


def run(mutants: list[Mutant], jobs: int) -> dict[Mutant, str]:
    """What kills each mutant; ``""`` for those that survive."""
    table = bench()
    missed = table.differs()
    if missed:
        raise SystemExit(f"without any change: {missed}")
    fates: dict[Mutant, str] = {}
    running: dict[int, tuple[Mutant, int]] = {}
    waiting = list(reversed(mutants))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            child, reader = start(mutant, table)
            running[child] = (mutant, reader)
        child, status = os.wait()
        mutant, reader = running.pop(child)
        with os.fdopen(reader) as pipe:
            answer = pipe.read()
        if len(fates) % 25 == 24:
            print(f"{len(fates) + 1} of {len(mutants)}", file=sys.stderr)
        fates[mutant] = answer or ("" if status == 0 else f"ended by signal {status & 127}")
    return fates


def report(fates: dict[Mutant, str], seconds: float) -> int:
    """Print the survivors and the count; the exit status."""
    alive = [mutant for mutant, fate in fates.items() if not fate]
    unexplained = [mutant for mutant in alive if f"{mutant.module}.{mutant.name}" not in EXPLAINED]
    for mutant in sorted(alive, key=lambda one: (one.module, one.line)):
        key = f"{mutant.module}.{mutant.name}"
        print(f"survives: {key}  line {mutant.line}: {mutant.was}")
        print(f"          {EXPLAINED.get(key, 'NOT EXPLAINED')}")
    killed = len(fates) - len(alive)
    print(
        f"{len(fates)} mutants, {killed} killed ({100 * killed / len(fates):.1f} %), {len(unexplained)} unexplained, {seconds:.0f} s"
    )
    return int(killed < GOAL * len(fates) or bool(unexplained))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description="Weaken each rule of the verifier in turn, and see the vectors catch it."
    )
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="those whose name, code or module.name contains TEXT"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument("--fates", action="store_true", help="print what killed each mutant")
    options = parser.parse_args()
    os.environ["SAFESERIAL_PURE"] = "1"
    sys.path.insert(0, str(VECTORS))
    mutants = [one for one in find() if options.only in f"{one.module}.{one.name} {one.was}"]
    if not mutants:
        print("no such mutant", file=sys.stderr)
        return 2
    if options.list:
        for one in mutants:
            print(f"{one.module}.{one.name}  line {one.line}: {one.was}")
        print(f"{len(mutants)} mutants")
        return 0
    began = time.monotonic()
    fates = run(mutants, options.jobs)
    if options.fates:
        for mutant, fate in fates.items():
            print(f"{mutant.module}.{mutant.name}  line {mutant.line}: {mutant.was}\n    {fate or 'survives'}")
    return report(fates, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
