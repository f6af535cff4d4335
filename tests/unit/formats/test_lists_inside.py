"""Where a payload has a list inside, nothing else stands there once it is built.

In msgpack a tagged value looks like a list. A network or a range in place of one has more members than anybody can count:
16 bytes would keep a process busy for ever.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Any

import msgpack
import pytest

from safeserial.errors import Malformed, Reason
from safeserial.formats import codec
from safeserial.formats.typed import BY_CODE
from safeserial.policy import Policy

POLICY = Policy(presets=["stdlib@1"], allow=["builtins:ValueError"])
CODES = {handler.tag: code for code, handler in BY_CODE.items()}


def tagged(tag: str, payload: Any) -> list[Any]:
    return [msgpack.ExtType(CODES[tag], b""), payload]


ENDLESS = {
    "a network": tagged("ipv6network", "::/0"), "a range": tagged("range", [0, 1 << 60, 1]),
    "a tuple": tagged("tuple", ["a", 1]), "a set": tagged("set", ["a"]), "a deque": tagged("deque", [None, ["a", "b"]]),
}  # fmt: skip


@pytest.mark.parametrize("part", ENDLESS)
@pytest.mark.parametrize(
    "around",
    [
        lambda part: tagged("deque", [None, part]), lambda part: tagged("deque", [154, part]),
        lambda part: tagged("defaultdict", [None, part]), lambda part: tagged("exception", ["builtins:ValueError", part]),
        lambda part: tagged("exception", ["builtins:ValueError", ["a"], {"__notes__": part}]),
    ],
    ids=["deque", "bounded deque", "defaultdict", "exception", "notes"],
)  # fmt: skip
def test_a_tagged_value_is_no_list(around: Any, part: str) -> None:
    one, data = codec("msgpack"), msgpack.packb(around(ENDLESS[part]))
    for read in (lambda: one.judge(data, POLICY, POLICY.limits), lambda: one.load(data, POLICY, POLICY.limits)):
        with pytest.raises(Malformed) as caught:
            read()
        assert caught.value.reason is Reason.BAD_TAGGED_VALUE


@pytest.mark.parametrize("form", ["json", "msgpack"])
def test_lists_inside_are_read_as_before(form: str) -> None:
    one = codec(form)
    noted = ValueError("a", 1)
    noted.__notes__ = ["b"]
    for value in (deque(["a"], 4), deque([("a", 1)]), defaultdict(None, {("a",): 1}), defaultdict(list, a=[1])):
        policy = Policy(presets=["stdlib@1"], allow=["builtins:list refer"])
        assert one.load(one.dumps(value, policy), policy, policy.limits) == value
    again: Any = one.load(one.dumps(noted, POLICY), POLICY, POLICY.limits)
    assert (again.args, again.__notes__) == (("a", 1), ["b"])
