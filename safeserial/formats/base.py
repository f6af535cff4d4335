"""What every format offers: one protocol with three steps, and the small record that passes between them.

The steps are apart because they run in different places: ``judge`` runs where a message arrives and builds nothing
that a policy lists; ``build`` runs only in the process that uses the value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from safeserial.limits import Limits
    from safeserial.policy import Policy

__all__ = ["Codec", "Judged"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A body that its format's judge accepted. Bytes and strings only, so it may cross a process boundary.

    Attributes:
        format: Name of the codec that judged it, for example ``"json"``.
        data: What ``build`` reads: the body itself, or (pickle) the canonical bytes the judge wrote.
        names: Listed names (``"module:qualname"``) the body refers to, in the order the judge met them, repeats
            included (for pickle that is stream order).
    """

    format: str
    data: bytes
    names: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[type[Judged], tuple[str, bytes, tuple[str, ...]]]:
        # For every message that goes to a pool; what dataclass makes of slots takes three times as long on both sides.
        return Judged, (self.format, self.data, self.names)

    def __repr__(self) -> str:
        # The body may be a secret, and a repr ends in logs and tracebacks.
        return f"Judged(format={self.format!r}, data=bytes[{len(self.data)}], names={self.names!r})"


class Codec(Protocol):
    """One format. Every method is total: it returns, or raises :class:`~safeserial.errors.Refused`."""

    @property
    def name(self) -> str:
        """The format's name in policies, grants and :class:`Judged`."""
        ...

    def dumps(self, value: object, policy: Policy) -> bytes:
        """Write one value.

        Args:
            value: What to write. It is not changed and no method of it is called that its handler does not name.
            policy: Says which types may be written and how much; a reader under the same policy reads it back.

        Returns:
            Bytes from which ``judge`` and ``build`` under ``policy`` give back an equal value of the same type.

        Raises:
            Refused: ``NOT_REPRESENTABLE`` for what could not be given back; a limit's reason for what is too much.
        """
        ...

    def judge(self, data: bytes, policy: Policy, limits: Limits) -> Judged:
        """Decide about one body, and build nothing that the policy lists.

        Args:
            data: The whole body, decompressed.
            policy: Which types a body may name.
            limits: Ceilings, charged before anything is allocated.

        Returns:
            What ``build`` takes.

        Raises:
            Refused: The body breaks the grammar, passes a ceiling or names what the policy does not list.
        """
        ...

    def build(self, judged: Judged, policy: Policy, limits: Limits) -> object:
        """Make the value of a judged body.

        Args:
            judged: What ``judge`` returned under the same policy and limits.
            policy: Where the listed objects come from.
            limits: The ceilings the judge applied.

        Returns:
            The value.

        Raises:
            Refused: An allowed constructor failed, or the body is not what the judge saw.
        """
        ...
