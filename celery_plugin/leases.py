"""Deliveries and their claims: a delivery is claimed right before it runs, and finished when Celery is done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery.utils.log import get_logger

from safeserial.audit import AuditEvent, ClaimsUnavailable, Outcome
from safeserial.audit.leases import Leases
from safeserial.errors import Reason

if TYPE_CHECKING:
    from celery_plugin.lanes import Delivery
    from celery_plugin.runtime import Runtime

__all__ = ["LEASE_SECONDS", "DeliveryLeases"]

logger = get_logger(__name__)

LEASE_SECONDS = 60.0
# A copy may come back a little after the original expired, if clocks differ.
_TOMBSTONE_SLACK_MS = 120_000


class DeliveryLeases:
    """Takes, keeps and ends the claims of one consumer.

    Args:
        runtime: Where claims are kept, and where is told what happens to them.

    Attributes:
        held: What is claimed now, by claim id.
        claims: The same as the store knows it, renewed until it ends.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.held: dict[str, Delivery] = {}
        self.claims = Leases(lambda: runtime.claims, lambda: LEASE_SECONDS)

    def take(self, delivery: Delivery) -> Outcome:
        """Claim the execution of a message; a store that is down counts as somebody else's lease, so it waits."""
        if delivery.claimed:
            return Outcome.CLAIMED
        try:
            outcome = self.claims.claim(delivery.claim_id, delivery.expires_at_ms)
        except ClaimsUnavailable as error:
            logger.critical("safeserial: the claim store does not work: %s", error)
            self.tell(delivery, Reason.CLAIM_STORE_DOWN)
            return Outcome.LEASED_BY_OTHER
        if outcome is Outcome.CLAIMED:
            delivery.claimed = True
            self.held[delivery.claim_id] = delivery
        elif outcome is not Outcome.DONE:
            self.tell(delivery, Reason.CLAIM_LOST)
        return outcome

    def finish(self, delivery: Delivery) -> None:
        """Turn the lease into a tombstone: from here on, a copy is a replay."""
        if not delivery.claimed or delivery.finished:
            return
        delivery.finished = True
        self.held.pop(delivery.claim_id, None)
        keep = delivery.expires_at_ms + _TOMBSTONE_SLACK_MS if delivery.expires_at_ms else 0
        self.claims.finish(delivery.claim_id, self.claims.owner, keep)

    def bury(self, delivery: Delivery) -> None:
        """Finish a message that Celery is done with, also if it never asked whether it may run it."""
        if not delivery.claimed and not delivery.finished:
            self.take(delivery)
        self.finish(delivery)

    def release(self, delivery: Delivery) -> None:
        """Give the lease back, because the message goes back to the queue to be run again."""
        if not delivery.claimed or delivery.finished:
            return
        delivery.claimed = False
        self.held.pop(delivery.claim_id, None)
        self.claims.release(delivery.claim_id, self.claims.owner)

    def tell(self, delivery: Delivery, reason: Reason, detail: str = "") -> None:
        """Emit the event of a message that is put back."""
        self.runtime.audit.emit(
            AuditEvent(
                time_ms=self.runtime.gateway.now_ms(),
                kind="put-back",
                reason=reason,
                detail=detail,
                disposition="put-back",
                queue=delivery.queue,
                task=delivery.task,
                message_id=delivery.task_id,
            )
        )
