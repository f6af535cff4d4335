"""What the demo found, as data: one class per thing that was tried, and whether all of it went as it should."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from safeserial.text import safe_repr

if TYPE_CHECKING:
    from celery_plugin.demo.victim import StockRun
    from safeserial.audit import AuditEvent

__all__ = ["Attack", "Honest", "Report", "attack_from"]


@dataclass
class Attack:
    """One message that must not run.

    Attributes:
        name: What was tried, in a few words.
        length: Bytes of its body.
        expected: Code that it must be refused with; ``None`` where any refusal will do.
        code: Code that it was refused with, or ``None``.
        slug: Words of that code.
        detail: What the refusal says beside the code, if anything.
        help: What the code means.
        offset: Byte that decided, where one did.
        microseconds: What judging it cost the worker.
        quarantine_id: Where the message is kept.
        authenticated: Whether its seal was good.
        touched: Names that a pickle looked up in this process meanwhile; must stay empty.
        ran: Whether its task, or its payload, ran.
        caller: Error that the waiting caller got, if somebody waited.
        caller_ms: After how long.
        note: More about it.
    """

    name: str
    length: int
    expected: str | None
    code: str | None = None
    slug: str | None = None
    detail: str = ""
    help: str = ""
    offset: int | None = None
    microseconds: int | None = None
    quarantine_id: str | None = None
    authenticated: bool = False
    touched: list[str] = field(default_factory=list)
    ran: bool = False
    waited: bool = False
    caller: str | None = None
    caller_ms: float | None = None
    note: str = ""

    @property
    def stopped(self) -> bool:
        """Refused, with the expected code, kept, and without any trace of having run."""
        refused = self.code is not None and (self.expected is None or self.code == self.expected)
        # A sender whose seal is good must be told; one whose seal is not must not be able to fail anybody's task.
        told = not (self.waited and self.authenticated) or self.caller is not None
        return refused and self.quarantine_id is not None and not self.touched and not self.ran and told


@dataclass
class Honest:
    """One honest task.

    Attributes:
        format: Format of its body.
        milliseconds: Until its result was back.
        equal: Whether the result equals what was sent, types included.
        problem: What went wrong, or ``""``.
    """

    format: str
    milliseconds: float
    equal: bool
    problem: str = ""


@dataclass
class Report:
    """One whole run.

    Attributes:
        versions: Names and versions of what ran.
        own_payload: Whether the payload was given by the user.
        payload_length: In bytes.
        stock: Step 1.
        unsigned: Step 2: the same bytes, as they are.
        sealed: Step 2: the same bytes inside a good seal.
        honest: Step 2: honest tasks.
        listing: Step 3: lines of the disassembly; one of them is marked as deciding.
        omitted: Step 3: how many opcodes are not in it.
        judged: Step 3: why the payload is refused, or ``None``.
        attacks: Step 4.
        seconds: How long all of it took.
    """

    versions: dict[str, str]
    own_payload: bool
    payload_length: int
    stock: StockRun
    unsigned: Attack | None = None
    sealed: Attack | None = None
    honest: list[Honest] = field(default_factory=list)
    listing: list[dict[str, object]] = field(default_factory=list)
    omitted: int = 0
    judged: str | None = None
    attacks: list[Attack] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def all_attacks(self) -> list[Attack]:
        """Steps 2 and 4 together."""
        return [attack for attack in (self.unsigned, self.sealed, *self.attacks) if attack is not None]

    @property
    def stopped(self) -> bool:
        """Whether the guarded worker let nothing through, and everything honest."""
        return (
            bool(self.attacks)
            and all(attack.stopped for attack in self.all_attacks)
            and bool(self.honest)
            and all(task.equal for task in self.honest)
        )

    @property
    def ok(self) -> bool:
        """Step 1 fired, and all the rest was stopped."""
        return self.stock.fired and self.stopped

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        out = asdict(self)
        for name, attack in (("unsigned", self.unsigned), ("sealed", self.sealed)):
            if attack is not None:
                out[name]["stopped"] = attack.stopped
        for row, attack in zip(out["attacks"], self.attacks, strict=True):
            row["stopped"] = attack.stopped
        return {"ok": self.ok, **out}


def attack_from(event: AuditEvent | None, name: str, length: int, expected: str | None) -> Attack:
    """What the audit event of a refusal says about an attack; without an event, it was not refused."""
    if event is None:
        return Attack(name, length, expected)
    info = event.reason.info
    return Attack(
        name,
        length,
        expected,
        code=info.code,
        slug=info.slug,
        detail=event.detail,
        help=info.help,
        offset=event.offset,
        microseconds=event.microseconds,
        quarantine_id=None if event.quarantine_id is None else safe_repr(event.quarantine_id),
        authenticated=event.signature == "valid",
    )
