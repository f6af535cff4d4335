"""``safeserial inspect``: say what a gateway would do with some bytes, and build nothing from them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING

import click

from safeserial import envelope
from safeserial.cli.advice import advice
from safeserial.cli.options import Ground, ground_options, make_ground
from safeserial.cli.output import (
    Failure,
    as_json,
    bad,
    dim,
    good,
    json_option,
    moment,
    pairs,
    read_input,
    refusal_row,
    strong,
    warn,
)  # fmt: skip
from safeserial.cli.values import show_value
from safeserial.envelope import Claims, parse_prefix, split_sections
from safeserial.errors import Forbidden, Reason, Refused
from safeserial.formats.json import load_untrusted_json
from safeserial.formats.msgpack import load_untrusted_msgpack
from safeserial.formats.sniff import foreign, recognised, sniff
from safeserial.limits import Limits
from safeserial.minipickle import verify
from safeserial.minipickle.concrete import loads
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from safeserial.envelope import Key
    from safeserial.gateway import Gateway

__all__ = ["Report", "inspect", "look"]


@dataclass
class Report:
    """What is known about some bytes.

    Attributes:
        sealed: Whether they say that they are an envelope.
        length: In bytes.
        sha256: Hex digest.
        format: Format of the body, as signed or as guessed.
        envelope: What the unauthenticated prefix says.
        claims: What the sender signed, once the tag verified.
        names: Names that the body would resolve, with the offset of the opcode where there is one.
        refusal: Why they would be refused, or ``None``.
        body_refusal: For an unsigned pickle, which is refused for being one: what the judge says about its body.
        notes: What was not checked.
        values: The body's values, if they were asked for and are plain data.
    """

    sealed: bool
    length: int
    sha256: str
    format: str | None = None
    envelope: dict[str, object] = field(default_factory=dict)
    claims: dict[str, object] | None = None
    names: list[tuple[int | None, str]] = field(default_factory=list)
    refusal: Refused | None = None
    body_refusal: Refused | None = None
    notes: list[str] = field(default_factory=list)
    values: str | None = None

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "sealed": self.sealed,
            "length": self.length,
            "sha256": self.sha256,
            "format": self.format,
            "envelope": self.envelope or None,
            "claims": self.claims,
            "names": [{"offset": at, "name": safe_repr(name)} for at, name in self.names],
            "verdict": "refused" if self.refusal else "accepted",
            "refusal": refusal_row(self.refusal) if self.refusal else None,
            "body_refusal": refusal_row(self.body_refusal) if self.body_refusal else None,
            "notes": self.notes,
            "values": self.values,
        }


def _claims(claims: Claims) -> dict[str, object]:
    def shown(value: str | None) -> str | None:
        return None if value is None else safe_repr(value)

    return {
        "purpose": shown(claims.purpose),
        "type": shown(claims.type),
        "message_id": claims.message_id.hex(),
        "issued_at": moment(claims.issued_at_ms),
        "expires_at": moment(claims.expires_at_ms) if claims.expires_at_ms else "never",
        "not_before": None if claims.not_before_ms is None else moment(claims.not_before_ms),
        "format": claims.format.label,
        "compression": claims.compression.label,
        "raw_len": claims.raw_len,
        "schema_version": claims.schema_version,
        "subject": shown(claims.subject),
        "audience": shown(claims.audience),
        "queue": shown(claims.queue),
        "bound_headers": None if claims.bound_headers is None else claims.bound_headers.hex(),
        "on_behalf_of": shown(claims.on_behalf_of),
        "reseal_of": None if claims.reseal_of is None else claims.reseal_of.hex(),
    }


def look(data: bytes, ground: Ground, purpose: str, format: str | None, *, values: bool = False) -> Report:
    """Judge some bytes; total, whatever they are.

    Args:
        data: The bytes.
        ground: Policy and keys.
        purpose: What a sealed message is expected to be for.
        format: Format of unsealed bytes, or ``None`` to guess.
        values: Whether to show the body's values too, if they are plain data.
    """
    report = Report(envelope_says(data), len(data), hashlib.sha256(data).hexdigest())
    body: bytes | None = None
    try:
        if report.sealed:
            gateway, body = _admit(data, ground, purpose, report)
            report.names = [(None, name) for name in gateway.judge(body, str(report.format)).names]
        else:
            body = data
            _unsealed(data, ground, format, report)
    except Refused as refusal:
        report.refusal = refusal
    if values and body is not None:
        _add_values(body, ground, report)
    return report


def envelope_says(data: bytes) -> bool:
    """Whether the bytes start as an envelope does."""
    return envelope.is_sealed(data)


def _admit(data: bytes, ground: Ground, purpose: str, report: Report) -> tuple[Gateway, bytes]:
    """The authenticated body of an envelope, and who can judge it."""
    limits = ground.policy.limits
    prefix = parse_prefix(data, max_bytes=max(limits.max_bytes, len(data)))
    report.envelope = {
        "version": 1,
        "suite": prefix.suite.label,
        "kid": safe_repr(prefix.kid),
        "header_len": prefix.header_len,
    }
    if ground.keyring is None:
        raise Failure(
            f"sealed with key {safe_repr(prefix.kid)} (suite {prefix.suite.label}, {len(data)} bytes): no more can "
            'be said without the key; give --keyring "env:NAME" or "file:PATH"'
        )
    gateway = ground.gateway(ground.keyring)

    def authenticated(claims: Claims, _key: Key) -> None:
        report.claims = _claims(claims)
        report.format = claims.format.label

    admitted = gateway.admit(data, purpose=purpose, on_authenticated=authenticated)
    body = admitted.body
    if purpose == "tasks":
        _wishes, body = split_sections(body)
        report.notes.append("headers and queue are not in these bytes; a worker checks them against the signed ones")
    return gateway, body


def _unsealed(data: bytes, ground: Ground, format: str | None, report: Report) -> None:
    report.format = sniff(data) if format is None else format
    limits = Limits.untrusted()
    if report.format in ("json", "msgpack"):
        read = load_untrusted_json if report.format == "json" else load_untrusted_msgpack
        try:
            read(data, limits)
        except Refused as refusal:
            better = recognised(data, refusal)
            if better is None:
                raise
            if better.reason is Reason.UNSIGNED_PICKLE:
                return _unsealed(data, ground, "pickle", report)
            found = foreign(data)
            report.format = found.name if found else report.format
            raise better from refusal
    elif report.format == "pickle":
        try:
            verdict = verify(data, allow=ground.policy.table, limits=ground.policy.limits)
            report.names = list(verdict.names)
        except Refused as refusal:
            report.body_refusal = refusal
        if not ground.policy.unsafe_accept_unsigned_pickle:
            raise Forbidden(Reason.UNSIGNED_PICKLE)
        if report.body_refusal is not None:
            raise report.body_refusal
    else:
        raise Forbidden(Reason.UNRECOGNIZED_FORMAT)
    return None


def _add_values(body: bytes, ground: Ground, report: Report) -> None:
    """Read the body as plain data, whatever a policy lists, and show it."""
    limits = replace(ground.policy.limits, max_bytes=ground.policy.limits.max_raw_bytes)
    try:
        if report.format == "pickle":
            report.values = show_value(loads(body, limits=limits))
        elif report.format == "json":
            report.values = show_value(load_untrusted_json(body, limits))
        elif report.format == "msgpack":
            report.values = show_value(load_untrusted_msgpack(body, limits))
        elif report.format == "protobuf":
            report.notes.append("no values: of a message they are its class's to say, and none is used here")
    except Refused as refusal:
        report.notes.append(f"no values: they are shown of plain data only ({_cause(refusal)})")


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--purpose", default="data", show_default=True,
              help="What a sealed message is expected to be for: data, tasks, results, control.")  # fmt: skip
@click.option("--format", "format", type=click.Choice(["json", "msgpack", "pickle"]),
              help="Format of unsealed bytes; guessed if not given (pickle protocols 0 and 1 cannot be).")  # fmt: skip
@click.option(
    "--values", is_flag=True, help="Show plain values too; a body may hold secrets. No class is ever involved."
)
@ground_options
@json_option
@click.pass_context
def inspect(
    ctx: click.Context,
    /,
    *,
    file: IO[bytes],
    purpose: str,
    format: str | None,
    values: bool,
    json_out: bool,
    **where: str,
) -> None:
    """Judge the message in FILE ("-" is standard input): who sealed it, what it claims, which names it would resolve.

    Nothing is loaded, built or imported because of the message.

    \b
    safeserial inspect message.bin --keyring env:SAFESERIAL_KEYS
    safeserial inspect body.pkl --allow decimal:Decimal
    safeserial quarantine show ID --save body.bin && safeserial inspect body.bin --purpose tasks

    Exit status: 0 it would be accepted, 1 it would be refused, 2 it could not be judged.
    """  # noqa: D301 - click wants the character, not its spelling
    report = look(read_input(file), make_ground(**where), purpose, format, values=values)  # type: ignore[arg-type]
    if json_out:
        as_json(report.to_dict())
    else:
        _print(report)
    ctx.exit(1 if report.refusal else 0)


def _print(report: Report) -> None:
    kind = "sealed" if report.sealed else "not sealed"
    click.echo(strong(f"{kind}, {report.length} bytes, {report.format or 'format unknown'}"))
    shown = {"sha256": report.sha256}
    shown.update({name: str(value) for name, value in report.envelope.items()})
    shown.update({name: str(value) for name, value in (report.claims or {}).items() if value is not None})
    pairs(shown)
    for at, name in report.names:
        click.echo(f"  {dim('names')} {safe_repr(name)}" + ("" if at is None else dim(f" at byte {at}")))
    if report.values is not None:
        click.echo(f"  {dim('values')} {report.values}")
    for note in report.notes:
        click.echo(dim(f"  note: {note}"))
    if report.body_refusal is not None and report.body_refusal is not report.refusal:
        click.echo(warn("its body would be refused too: ") + _cause(report.body_refusal))
    if report.refusal is None:
        click.echo(good("accepted"))
    else:
        click.echo(bad("refused ") + _cause(report.refusal))


def _cause(refusal: Refused) -> str:
    info = refusal.cause.info
    where = "" if refusal.offset is None else f" at byte {refusal.offset}"
    return f"{info.code} {info.slug}{where}: {advice(refusal) or info.help}"
