"""Limits: how much one message may cost, in named units, and how a cost is charged before it is paid.

A limit is inclusive: ``max_depth=64`` admits 64 levels. Every judge charges what it is about to use against one of
these numbers and refuses before it allocates, never afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from safeserial.errors import Malformed, Misconfigured, Reason
from safeserial.text import safe_repr

__all__ = ["Limits", "charge"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Inclusive ceilings for one message. The defaults are those for authenticated senders.

    Attributes:
        max_bytes: Input as it comes from the wire, in bytes.
        max_raw_bytes: Body after decompression, in bytes.
        max_ratio: How many bytes one compressed byte may become. zlib reaches 1030, zstd far more.
        max_depth: Nesting of containers and instances; a scalar has depth 0.
        max_nodes: Values in the decoded tree. A scalar counts as one, a container as two, in JSON and msgpack an
            empty one as three; what a pickle drops again counts like what it keeps.
        max_string_bytes: One string or byte string, in bytes.
        max_int_bits: Size of one integer, in bits.
        allow_nan: Whether NaN and the infinities are values.
        max_opcodes: Pickle opcodes.
        max_stack_items: Pickle stack values and open marks together.
        max_memo_entries: Pickle memo entries.
        max_weight: Values a pickle would have if nothing in it were shared. What takes far more than its bytes
            counts for that: a deque as 80 values, in other formats too, a pickled set as 26, a path as 240.
        max_key_depth: Nesting inside one dict key or set member.
        max_hash_cost: Values visited by hashing and comparing all keys together. Computing what an instance hashes
            like counts 16 for each part, or 80.
        max_instances: Instances a pickle may create, objects that unsigned data read by annotations may have, and what
            tagged values of typed JSON and msgpack count together: each by what reading it costs, a decimal 3, a tuple
            5, a dataclass 12, a network of IPv6 28.
        max_calls: Functions and classes a pickle may call.
    """

    max_bytes: int = MIB
    max_raw_bytes: int = 8 * MIB
    max_ratio: int = 1000
    max_depth: int = 256
    max_nodes: int = 200_000
    max_string_bytes: int = 8 * MIB
    max_int_bits: int = 8 * 4096
    allow_nan: bool = True
    max_opcodes: int = 1_000_000
    max_stack_items: int = 200_000
    max_memo_entries: int = 200_000
    max_weight: int = 2_000_000
    max_key_depth: int = 32
    max_hash_cost: int = 2_000_000
    max_instances: int = 40_000
    max_calls: int = 100_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "allow_nan":
                if type(value) is not bool:
                    raise Misconfigured("must be true or false", key=f"limits.{field.name}")
            elif type(value) is not int or value < 0 or value >= 1 << 62:
                raise Misconfigured("must be a whole number from 0 to 2**62", key=f"limits.{field.name}")

    @classmethod
    def untrusted(cls) -> Limits:
        """The ceilings of the data-only lane: what an unauthenticated sender may cost."""
        return cls(
            max_bytes=256 * KIB,
            max_raw_bytes=256 * KIB,
            max_depth=32,
            max_nodes=20_000,
            max_string_bytes=256 * KIB,
            max_int_bits=64,
            allow_nan=False,
            # Five for each value: itself, its key, and what remembers and batches them.
            max_opcodes=100_000,
            max_instances=4_000,
        )


def charge(reason: Reason, amount: int, ceiling: int, offset: int | None = None) -> None:
    """Refuse with ``reason`` if ``amount`` is more than ``ceiling``.

    Args:
        reason: What to say, for example ``Reason.TOO_DEEP``.
        amount: The total that would be reached, in the ceiling's unit.
        ceiling: The inclusive limit.
        offset: Byte offset of whatever asks for it.

    Raises:
        Malformed: ``amount > ceiling``.
    """
    if amount > ceiling:
        raise Malformed(reason, offset, f"{safe_repr(amount)} is more than the limit of {ceiling}")
