"""Which pickle is meant by a file: the bytes themselves, or what is in the envelope that they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import click

from safeserial import envelope
from safeserial.cli.output import Failure
from safeserial.envelope import split_sections
from safeserial.errors import Refused

if TYPE_CHECKING:
    from safeserial.cli.options import Ground
    from safeserial.limits import Limits

__all__ = ["Body", "pickle_in", "purpose_option"]

purpose_option = click.option(
    "--purpose", default="data", show_default=True, help="What a sealed message is expected to be for."
)


class Body(NamedTuple):
    """A pickle, and the ceilings under which a gateway would judge it."""

    data: bytes
    limits: Limits


def pickle_in(data: bytes, ground: Ground, purpose: str) -> Body:
    """The pickle in an envelope, authenticated; or the bytes as they are.

    Raises:
        Failure: They are sealed, and cannot be opened, or have no pickle in them.
    """
    limits = ground.policy.limits
    if not envelope.is_sealed(data):
        return Body(data, limits)
    if ground.keyring is None:
        raise Failure('these bytes are sealed: give --keyring "env:NAME" or "file:PATH"')
    try:
        admitted = ground.gateway(ground.keyring).admit(data, purpose=purpose)
        body = split_sections(admitted.body)[1] if purpose == "tasks" else admitted.body
    except Refused as refusal:
        raise Failure(f"the envelope is refused: {refusal.cause.code} {refusal.cause.value}") from refusal
    if admitted.format != "pickle":
        raise Failure(f"the body is {admitted.format}, not pickle: look with safeserial inspect")
    # The wire's ceiling was charged to the envelope; the body may have been compressed.
    return Body(body, replace(limits, max_bytes=limits.max_raw_bytes))
