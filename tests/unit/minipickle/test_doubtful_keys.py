"""Keys that meet so often that each is compared with the others: what stands inside of one need not be a key itself."""

from __future__ import annotations

import pickle

import pytest

from safeserial import Policy
from safeserial.formats import codec

#: Whole numbers whose places in a table of 128 meet, two and two, but not so often that they are refused.
PAIRS = (
    212, 13110, 2116, 678, 2294, 1126, 712, 2993, 280, 890, 369, 1395, 693, 1340, 2686, 4357, 17255, 1518, 9152, 5703, 62,
    8343, 5881, 2018, 13641, 1586, 2699, 274, 9723, 130,
)  # fmt: skip


@pytest.mark.parametrize(
    "inner", [bytearray(b""), bytearray(b"x"), b"x", "x", 1.5, None, (1, bytearray(b"y"))], ids=repr
)
def test_a_key_may_hold_what_is_no_key(inner: object) -> None:
    """Why: found by fuzzing. An exception is a key by what it is; the bytearray in it was hashed, and a TypeError left
    the judge."""
    keys: dict[object, None] = {2305843009213697256: None, 2305843009213695564: None}
    for number in PAIRS:
        keys[number] = keys[number + (1 << 61) - 1] = None
    keys[ValueError(inner)] = None
    keys[69748] = keys[69794] = None
    policy, reader = Policy(presets=["stdlib@1"]), codec("pickle")
    for protocol in (5, 4, 2):
        data = pickle.dumps(keys, protocol)
        found = reader.build(reader.judge(data, policy, policy.limits), policy, policy.limits)
        assert isinstance(found, dict)
        (error,) = (key for key in found if isinstance(key, ValueError))
        assert error.args == (inner,)
        assert set(found) - {error} == {key for key in keys if type(key) is int}
