"""The four steps of the demo. Each measures; none prints."""

from __future__ import annotations

import logging
import platform
import time
import zlib
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import celery
import kombu
from celery.exceptions import TimeoutError as NoAnswer
from celery.result import allow_join_result

from celery_plugin.demo import payloads, shop
from celery_plugin.demo.guarded import Guarded, Message
from celery_plugin.demo.report import Attack, Honest, Report, attack_from
from celery_plugin.demo.victim import Victim
from safeserial import Key, Refused, __version__
from safeserial.formats import codec
from safeserial.minipickle import BUILD, disassemble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["perform"]

_PICKLE = "application/x-python-serialize"
_BOMB_BYTES = 64 << 20
_DEPTH = 100_000


@contextmanager
def _quiet() -> Iterator[None]:
    # Celery and the guard log every refusal; the demo shows each of them itself.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _versions() -> dict[str, str]:
    return {
        "safeserial": __version__,
        "minipickle": BUILD,
        "celery": celery.__version__,
        "kombu": kombu.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def perform(payload: bytes | None, tell: Callable[[str, Report], None]) -> Report:
    """Run all steps.

    Args:
        payload: The user's own pickle, or ``None`` for the built-in one.
        tell: Called after each step with its name: ``stock``, ``guarded``, ``listing``, ``attacks``.
    """
    started = time.perf_counter()
    with TemporaryDirectory(prefix="safeserial-demo-") as name, _quiet():
        folder = Path(name)
        marker = folder / "hijacked.txt"
        attack = payloads.marker_payload(marker) if payload is None else payload
        (folder / "stock").mkdir()
        victim = Victim(folder / "stock", attack, marker)
        guarded = Guarded(folder)
        with guarded.working():
            # The stock worker comes up in its own process while the guarded one does here.
            stock = victim.wait()
            report = Report(_versions(), payload is not None, len(attack), stock)
            tell("stock", report)
            marker.unlink(missing_ok=True)
            _same_bytes(report, guarded, attack, marker)
            _honest_tasks(report, guarded)
            tell("guarded", report)
            _listing(report, guarded, attack)
            tell("listing", report)
            # Always the built-in payload: what these show is where it hides.
            _attacks(report, guarded, payloads.marker_payload(marker), marker)
            report.seconds = time.perf_counter() - started
            tell("attacks", report)
    report.seconds = time.perf_counter() - started
    return report


def _try(
    guarded: Guarded, marker: Path, name: str, message: Message, expected: str | None, *, note: str = ""
) -> Attack:
    """Send one message, and find out what became of it."""
    ran = len(guarded.ran)
    guarded.watch.names.clear()
    guarded.watch.on = True
    try:
        event = guarded.verdict(message)
    finally:
        guarded.watch.on = False
    attack = attack_from(event, name, len(message.body), expected)
    # Celery itself copies an exception that it is about to store by pickling it; those are ours.
    attack.touched = [
        name for name in guarded.watch.names
        if name not in guarded.policy.table and not name.startswith("safeserial.errors:")
    ]  # fmt: skip
    attack.ran = len(guarded.ran) > ran or marker.exists()
    attack.note = note
    return attack


def _same_bytes(report: Report, guarded: Guarded, payload: bytes, marker: Path) -> None:
    """Step 2: as they are; and inside a good seal, as a producer that was taken over would send them."""
    plain = Message(payload, guarded.headers("shop.charge"), _PICKLE, "binary")
    # A payload of the user's own may be refused for something else first, for its size for example.
    own = report.own_payload
    report.unsigned = _try(guarded, marker, "the same bytes, unsigned", plain, None if own else "SS509")

    message = guarded.seal(payload, "pickle")
    started = time.perf_counter()
    sealed = _try(guarded, marker, "the same bytes under a good seal", message, None if own else "SS201")
    sealed.waited = True
    if sealed.code is not None and sealed.authenticated:
        sealed.caller = _caller_gets(guarded.app, message.id)
        sealed.caller_ms = (time.perf_counter() - started) * 1000
    report.sealed = sealed


def _caller_gets(app: Any, task_id: str) -> str | None:
    try:
        # The solo worker shares this process, where Celery takes every get() for one inside a task.
        with allow_join_result():
            app.AsyncResult(task_id).get(timeout=5, interval=0.005)
    except Refused as refusal:
        return f"{type(refusal).__name__} {refusal.code} {refusal.reason.value}"
    except NoAnswer:
        return None
    return None


def _honest_tasks(report: Report, guarded: Guarded) -> None:
    """Step 2: what honest applications send must pass, and come back as it was."""
    order = shop.order()
    for format in ("pickle", "json", "msgpack"):
        started = time.perf_counter()
        problem, equal = "", False
        try:
            with allow_join_result():
                result = guarded.charge.apply_async((order,), serializer=format).get(timeout=10, interval=0.005)
            equal = result == order and all(type(result[key]) is type(order[key]) for key in order)
        except (Refused, NoAnswer) as error:
            problem = str(error) or type(error).__name__
        report.honest.append(Honest(format, (time.perf_counter() - started) * 1000, equal, problem))


def _listing(report: Report, guarded: Guarded, payload: bytes) -> None:
    """Step 3: read the payload without loading it."""
    found = disassemble(payload, allow=guarded.policy.table, limits=guarded.policy.limits)
    report.listing = [asdict(line) for line in found.lines]
    report.omitted = found.omitted
    report.judged = None if found.refusal is None else str(found.refusal)


def _bomb(size: int) -> bytes:
    """Zeros, compressed piece by piece: nobody here holds them expanded."""
    packer = zlib.compressobj(9)
    piece = b"\0" * (1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


def _attacks(report: Report, guarded: Guarded, payload: bytes, marker: Path) -> None:
    """Step 4: each with its own code."""
    empty = codec("json").dumps([[], {}, []], guarded.policy)

    def tried(name: str, message: Message, code: str, note: str = "") -> None:
        report.attacks.append(_try(guarded, marker, name, message, code, note=note))

    tried("header swap: another task", guarded.honest().with_headers(task="shop.refund"), "SS504")
    tried("header edit: more retries", guarded.honest().with_headers(retries=7), "SS501")
    tried("bit flip in the body", guarded.honest().with_bit_flipped(), "SS115")
    tried("unknown key", guarded.seal(empty, "json", key=Key.generate("stranger")), "SS110")
    tried("expired an hour ago", guarded.seal(empty, "json", age_seconds=3660), "SS132")
    copied = guarded.honest()
    if guarded.run(copied):
        tried("replay of a message that ran", copied, "SS503")
    else:
        report.attacks.append(Attack("replay of a message that ran", len(copied.body), "SS503", note="it never ran"))
    tried("nested pickle: a call of loads", guarded.seal(payloads.nested(payload), "pickle"), "SS201")
    tried("second pickle hidden after the end", guarded.seal(payloads.hidden_tail(payload), "pickle"), "SS203")
    bomb = _bomb(_BOMB_BYTES)
    tried(
        "zlib bomb under a good seal", guarded.seal(empty, "json", compressed_body=bomb), "SS320",
        note=f"would be {_BOMB_BYTES >> 20} MiB",
    )  # fmt: skip
    unsigned_bomb = Message(
        bomb, {**guarded.headers("shop.charge"), "compression": "application/x-gzip"}, _PICKLE, "binary"
    )
    tried("zlib bomb in a compression header", unsigned_bomb, "SS510", note=f"would be {_BOMB_BYTES >> 20} MiB")
    tried("deep nesting", guarded.seal(payloads.deep(_DEPTH), "pickle"), "SS305", note=f"{_DEPTH} levels")
