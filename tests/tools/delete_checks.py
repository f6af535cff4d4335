"""Delete each check of the gateway's and the guard's order of security in turn, and see its test go red.

Run it by hand: ``python tests/tools/delete_checks.py [NUMBER ...]``. It copies the tree to a temporary folder, deletes
one check there, runs the one test that names it, and prints the pairs. Exit status 0 if every deletion turned its test
red, 1 otherwise. A test that stays green without the check it names tests nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENV, GATE, LANES, GUARD, WISH, RES, REQ = (
    "safeserial/envelope/__init__.py", "safeserial/gateway.py", "celery_plugin/lanes.py", "celery_plugin/guard.py",
    "celery_plugin/wishes.py", "celery_plugin/results.py", "celery_plugin/request.py",
)  # fmt: skip
T_GATE, T_GUARD = "tests/unit/test_gateway.py", "tests/unit/celery_plugin/test_guard.py"

# (check, file, what is deleted, what stands there instead, the test that must go red)
CHECKS: list[tuple[str, str, str, str, str]] = [
    ("input is bytes", "safeserial/refusals.py", "raise Malformed(Reason.NOT_BYTES)", "return b''", f"{T_GATE}::test_check_bytes_not_bytes"),
    ("size of the input", GATE, "self.keyring, purpose, ceilings.max_bytes,", "self.keyring, purpose, 1 << 40,", f"{T_GATE}::test_check_size_of_the_input"),
    ("key is known", ENV, "raise Unauthentic(cause=Reason.UNKNOWN_KEY)", "key = next(iter(keyring))", f"{T_GATE}::test_check_key_is_known"),
    ("key may open", ENV, "    key.require_open(prefix.suite, len(data), now_ms)\n", "", f"{T_GATE}::test_check_key_is_enabled"),
    ("tag", "safeserial/envelope/suites.py", "if not hmac.compare_digest(outer.digest(), data[-32:]):", "if False:", f"{T_GATE}::test_check_tag"),
    ("context", ENV, "key.channel(purpose, context).open", "key.channel(purpose, b'staging').open", f"{T_GATE}::test_check_context_is_shared"),
    ("purpose is the reader's", ENV, "header, body = key.channel(purpose, context)", "header, body = key.channel('results', context)", f"{T_GATE}::test_check_purpose_is_the_readers"),
    ("issued in future", ENV, "if claims.issued_at_ms > soon:", "if False:", f"{T_GATE}::test_check_issued_in_future"),
    ("expiry", ENV, "if claims.expires_at_ms and claims.expires_at_ms <= now_ms:", "if False:", f"{T_GATE}::test_check_expiry"),
    ("audience", ENV, "if claims.audience != audience:", "if False:", f"{T_GATE}::test_check_audience"),
    ("grants", ENV, "    key.grants.check(claims, len(data), key.kid)\n", "", f"{T_GATE}::test_check_key_grants"),
    ("never expiring", ENV, "    key.grants.check(claims, len(data), key.kid)\n", "", f"{T_GATE}::test_check_never_expiring_needs_the_grant"),
    ("binding: queue", GATE, "if queues is not None and claims.queue not in queues:", "if False:", f"{T_GATE}::test_check_binding_queue"),
    ("binding: type", GATE, "if type is not None and claims.type != type:", "if False:", f"{T_GATE}::test_check_binding_type"),
    ("binding: subject", GATE, "if subject is not None and claims.subject != subject:", "if False:", f"{T_GATE}::test_check_binding_subject"),
    ("binding: headers", GATE, "if bound_headers is not None and claims.bound_headers != bound_headers():", "if False:", f"{T_GATE}::test_check_binding_headers"),
    ("expansion is capped", GATE, "decompress(opened.body, claims.compression, claims.raw_len, ceilings)", "__import__('zlib').decompress(opened.body)", f"{T_GATE}::test_check_expansion_is_capped_at_the_signed_length"),
    ("policy admits the format", GATE, "if format not in policy.formats:", "if False:", f"{T_GATE}::test_check_policy_admits_the_format"),
    ("judge before build", "safeserial/formats/pickle.py", "        verdict = verify(data,", "        return Judged('pickle', data, ())\n        verdict = verify(data,", f"{T_GATE}::test_check_verifier_judges_before_anything_is_built"),
    ("guard: queue known", GUARD, "if not delivery.queue:", "if False:", f"{T_GUARD}::test_check_queue_is_known_from_the_consumer"),
    ("guard: size", LANES, "    _count(delivery, runtime)\n", "", f"{T_GUARD}::test_check_size_before_anything"),
    ("guard: compression header", LANES, "raise Forbidden(Reason.COMPRESSION_HEADER)", "pass", f"{T_GUARD}::test_check_compression_header"),
    ("guard: content type", LANES, "raise Forbidden(Reason.FOREIGN_CONTENT_TYPE, None, f\"content type {safe_repr(shown, 60)}\")", "return _sealed(delivery, runtime)", f"{T_GUARD}::test_check_content_type"),
    ("guard: header types", LANES, "    head = heads.check(message.headers)\n    properties", "    head = message.headers\n    properties", f"{T_GUARD}::test_check_header_types"),
    ("guard: purpose", LANES, 'purpose="tasks",', 'purpose="results",', f"{T_GUARD}::test_check_purpose_a_signed_result_is_no_task"),
    ("guard: queue binding", LANES, "queues=runtime.names_of(queue),", "queues=None,", f"{T_GUARD}::test_check_queue_binding"),
    ("guard: task binding", LANES, 'type=str(head["task"]),', "type=None,", f"{T_GUARD}::test_check_task_binding"),
    ("guard: id binding", LANES, 'subject=str(head["id"]),', "subject=None,", f"{T_GUARD}::test_check_id_binding"),
    ("guard: header binding", LANES, "bound_headers=lambda: heads.bound_headers(head, properties),", "bound_headers=None,", f"{T_GUARD}::test_check_header_binding"),
    ("guard: property binding", "celery_plugin/headers.py", 'view[f"@{name}"] = properties.get(name) or ""', 'view[f"@{name}"] = ""', f"{T_GUARD}::test_check_property_binding"),
    ("guard: wishes", WISH, "if not isinstance(wishes, dict) or set(wishes) != set(KEYS):", "if False:", f"{T_GUARD}::test_check_wishes"),
    ("guard: wishes granted", LANES, "        wishes.authorise(delivery.wishes, grants)\n    behalf", "        pass\n    behalf", f"{T_GUARD}::test_check_wishes_against_the_grant"),
    ("guard: judge arguments", LANES, "judged = gateway.judge(arguments, format_name(claims), policy=policy, key=admitted.key)", "judged = Judged(format_name(claims), arguments)", f"{T_GUARD}::test_check_arguments_are_judged_before_anything_crosses_to_the_pool"),
    ("guard: task registered", LANES, "if delivery.task not in runtime.app.tasks:", "if False:", f"{T_GUARD}::test_check_task_is_registered"),
    ("guard: replay", GUARD, "raise Forbidden(Reason.REPLAYED)", "pass", f"{T_GUARD}::test_check_replay_a_message_runs_once"),
    ("guard: key again", GUARD, "                raise Forbidden(Reason.KEY_DISABLED)\n            key.require_open(opened_by.suite, size, now_ms)\n", "                pass\n", f"{T_GUARD}::test_check_again_at_execution_a_key_disabled_meanwhile"),
    ("guard: expiry again", GUARD, "raise Forbidden(Reason.EXPIRED)", "pass", f"{T_GUARD}::test_check_again_at_execution_a_message_that_expired_meanwhile"),
    ("guard: internal errors", GUARD, "self.refuse(delivery, internal_error(error))\n            return\n", "raise\n", f"{T_GUARD}::test_an_error_inside_the_guard_is_a_refusal_that_loses_nothing"),
    ("guard: record before reject", GUARD, "            self._put_back_unrecorded(delivery, refusal, error)\n            return\n", "            pass\n", f"{T_GUARD}::test_without_a_quarantine_the_message_goes_back_later_and_is_not_lost"),
    ("guard: fail fast only if bound", GUARD, "if claims is None or not delivery.bound or not claims.subject or not _is_about_content(refusal.cause):", "if claims is None:", f"{T_GUARD}::test_a_forger_cannot_fail_an_honest_pending_task"),
]  # fmt: skip


def run(number: int, work: Path) -> bool:
    """Delete one check in the copy, run its test, put it back. True if the test went red."""
    name, file, old, new, test = CHECKS[number]
    path = work / file
    source = path.read_text()
    if source.count(old) != 1:
        print(f"{number:2} {name}: the text to delete stands {source.count(old)} times in {file}")
        return False
    path.write_text(source.replace(old, new))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", test],
            cwd=work, env={**os.environ, "PYTHONPATH": str(work)}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        path.write_text(source)
    red = done.returncode == 1 and " failed" in done.stdout
    print(f"{number:2} {'red ' if red else 'STILL GREEN' if done.returncode == 0 else 'ERROR'} {name}  <-  {test}")
    if not red:
        print(done.stdout[-600:])
    return red


def main() -> int:
    """Run the chosen rows, or all."""
    chosen = [int(word) for word in sys.argv[1:]] or range(len(CHECKS))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "tree"
        shutil.copytree(ROOT, work, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", "build", "dist"))
        results = [run(number, work) for number in chosen]
    print(f"{sum(results)} of {len(results)} checks have a test that goes red without them")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
