"""A tour of MiniPickle: from five opcodes to a real pickle, and to one that is refused.

A pickle is a program for a small stack machine. MiniPickle runs it without its effects: it knows what each value *would
be*, and never makes one. What it accepts may then be built: plain data by its own concrete machine, without Python's
unpickler. Run this with ``python examples/minipickle_tour.py``; it needs nothing but the package.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from decimal import Decimal

from safeserial import Policy, Refused
from safeserial.minipickle import disassemble, render, verify
from safeserial.minipickle.concrete import loads
from safeserial.minipickle.decompile import decompile


def show(title: str, data: bytes, policy: Policy | None = None) -> None:
    """Print one stream as the judge sees it."""
    print(f"\n{title}\n{'-' * len(title)}")
    print(render(disassemble(data, allow=(policy or Policy()).table)))


def main() -> None:
    """Walk from small to large."""
    # Five opcodes, all of them readable: push an int, push a string, stop; an empty list, append to it.
    show("I: push an int. '.': stop, the result is what is on the stack", b"I42\n.")
    show("S: push a string", b"S'tea'\n.")
    # "(" marks a place and "l" makes a list of everything above it; "a" appends.
    show("(l makes an empty list, a appends to it", b"(lI1\naI2\na.")

    # The judge's verdict has counts, names, and canonical bytes: those are what is loaded.
    verdict = verify(b"(lI1\naI2\na.")
    assert pickle.loads(verdict.canonical) == [1, 2]
    print("\ncanonical:", verdict.canonical.hex(), "-", verdict.opcodes, "opcodes in,", verdict.nodes, "values")

    # Plain data needs nobody else: the same machine in its concrete form builds it, shared and cyclic parts included.
    cyclic: list[object] = [{1, 2}]
    cyclic.append(cyclic)
    for protocol in range(6):
        built = loads(pickle.dumps(cyclic, protocol))
        assert isinstance(built, list)
        assert built[1] is built
    print("built:", built, "-", decompile(pickle.dumps(cyclic)))

    # What the grammar does not allow has a code and an offset.
    for data in (b"I42\n", b".", b"I042\n.", b"I1\n.I2\n.", b"\xff."):
        try:
            verify(data)
        except Refused as refusal:  # noqa: PERF203
            print(f"{data!r:22} {refusal.code} {refusal.reason.value} at byte {refusal.offset}")

    # A real one: a class is looked up (STACK_GLOBAL) and called (REDUCE). The empty policy refuses the name ...
    real = pickle.dumps(OrderedDict(total=Decimal("19.90")), protocol=4)
    show("A real pickle under the empty policy", real)
    # ... and a policy that lists both names accepts it, and says which names it would resolve.
    policy = Policy(allow=["collections:OrderedDict", "decimal:Decimal"])
    show("The same one under a policy that lists its names", real, policy)
    print("names:", ", ".join(name for _, name in verify(real, allow=policy.table).names))
    print("makes:", decompile(real, allow=policy.table))

    # A hostile one is shown to its end, and nothing in it is ever looked up; loads() takes no names at all.
    hostile = b"cos\nsystem\n(S'echo hijacked'\ntR."
    print("\nhostile:", decompile(hostile))
    try:
        loads(hostile)
    except Refused as refusal:
        print(refusal)


if __name__ == "__main__":
    main()
