"""The restricted loader and the pickle codec: the second layer believes nothing."""

from __future__ import annotations

import collections
import datetime
import decimal
import gc
import pickle

import pytest

from safeserial.errors import Forbidden, Reason, Refused
from safeserial.formats import codec
from safeserial.formats.base import Codec, Judged
from safeserial.formats.pickle import PickleCodec, RestrictedUnpickler, load_verified
from safeserial.limits import Limits
from safeserial.minipickle import verify
from safeserial.policy import Policy

STDLIB = Policy(presets=["stdlib@1"])


class Fails:
    error: type[BaseException] = ValueError

    def __init__(self) -> None:
        raise self.error("secret")


def refusal(canonical: bytes, names: list[str], objects: dict[str, object], **more: object) -> Refused:
    with pytest.raises(Refused) as caught:
        load_verified(canonical, names, objects, **more)  # type: ignore[arg-type]
    return caught.value


NAMED = b"\x80\x04\x8c\x01m\x8c\x01A\x93."


def test_names_come_from_the_table_in_their_order() -> None:
    assert load_verified(NAMED, ["m:A"], {"m:A": 5}) == 5


@pytest.mark.parametrize("names", [[], ["m:B"], ["m:A", "m:A"], ["os:getpid", "m:A"]])
def test_any_other_name_or_count_is_a_disagreement(names: list[str]) -> None:
    assert refusal(NAMED, names, {"m:A": 5, "m:B": 6}).reason is Reason.LOAD_DISAGREED


def test_nothing_is_ever_imported() -> None:
    assert refusal(b"\x80\x04\x8c\x02os\x8c\x06getpid\x93.", ["os:getpid"], {}).reason is Reason.LOAD_DISAGREED


def test_a_recorded_name_without_an_object_is_a_disagreement() -> None:
    assert refusal(NAMED, ["m:A"], {}).reason is Reason.LOAD_DISAGREED


def test_reconstructors_need_no_policy_line() -> None:
    verdict = verify(b"ccopy_reg\n_reconstructor\n(ccollections\nUserDict\nc__builtin__\nobject\nNtR.",
                     allow=Policy(allow=["collections:UserDict"]).table)  # fmt: skip
    value = load_verified(
        verdict.canonical, [n for _, n in verdict.names], {"collections:UserDict": collections.UserDict}
    )

    assert type(value) is collections.UserDict


def test_persistent_ids_and_broken_streams_are_disagreements() -> None:
    for data in (b"\x80\x04NQ.", b"\x80\x04", b"\x80\x04\xff", b""):
        assert refusal(data, [], {}).reason is Reason.LOAD_DISAGREED


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError, KeyError, AttributeError])
def test_a_constructor_that_raises_is_told_by_its_type_alone(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fails, "error", error)
    caught = refusal(b"\x80\x04\x8c\x01m\x8c\x01A\x93)R.", ["m:A"], {"m:A": Fails})

    assert (caught.reason, caught.detail) == (Reason.BUILD_FAILED, error.__name__)
    assert caught.__cause__ is None


def test_a_refusal_inside_a_constructor_stays_that_refusal() -> None:
    def opens() -> None:
        raise Forbidden(Reason.EXPIRED)

    assert refusal(b"\x80\x04\x8c\x01m\x8c\x01A\x93)R.", ["m:A"], {"m:A": opens}).reason is Reason.EXPIRED


def test_the_loader_is_not_reachable_from_what_it_built() -> None:
    def loaders() -> set[int]:
        # Of its type, and not by isinstance: that asks objects for their class, and a lazy one answers with an error.
        return {id(one) for one in gc.get_objects() if issubclass(type(one), RestrictedUnpickler)}

    before = loaders()
    value = load_verified(pickle.dumps([[1], {"a": (2, [3])}]), [], {})

    assert value == [[1], {"a": (2, [3])}]
    assert loaders() <= before


def test_buffers_come_back() -> None:
    data = pickle.dumps([pickle.PickleBuffer(b"abc")], 5, buffer_callback=lambda _: None)
    verdict = verify(data, buffers=1)

    assert load_verified(verdict.canonical, [], {}, buffers=[b"abc"]) == [b"abc"]
    assert refusal(verdict.canonical, [], {}, buffers=[]).reason is Reason.LOAD_DISAGREED


def roundtrip(value: object, policy: Policy) -> object:
    made: Codec = codec("pickle")
    judged = made.judge(made.dumps(value, policy), policy, policy.limits)
    assert type(judged) is Judged
    assert judged.format == made.name == "pickle"
    return made.build(judged, policy, policy.limits)


def test_the_codec_gives_back_what_it_wrote() -> None:
    value = [{"a": (1, b"x", {2})}, datetime.datetime(2026, 1, 1), decimal.Decimal("1.5"), collections.Counter("aab")]

    assert roundtrip(value, STDLIB) == value


def test_the_codec_does_not_write_what_a_reader_would_refuse() -> None:
    with pytest.raises(Refused) as caught:
        PickleCodec().dumps(datetime.datetime(2026, 1, 1), Policy())
    assert caught.value.reason is Reason.GLOBAL_NOT_ALLOWED
    assert PickleCodec().dumps(datetime.datetime(2026, 1, 1), None).endswith(b".")


def test_what_pickle_cannot_write_is_not_representable() -> None:
    class Refuses:
        def __reduce__(self) -> str:
            raise Forbidden(Reason.EXPIRED)

    for value, reason in ((lambda: 0, Reason.NOT_REPRESENTABLE), (Refuses(), Reason.EXPIRED)):
        with pytest.raises(Refused) as caught:
            PickleCodec().dumps(value, STDLIB)
        assert caught.value.reason is reason


def test_a_body_is_measured_by_its_own_ceiling_after_decompression() -> None:
    policy = Policy(limits=Limits(max_bytes=100, max_raw_bytes=1000))

    assert roundtrip("x" * 500, policy) == "x" * 500
    with pytest.raises(Refused) as caught:
        PickleCodec().dumps("x" * 2000, policy)
    assert caught.value.reason is Reason.TOO_LARGE
