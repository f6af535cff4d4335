"""Why a message is refused: the one registry of reasons, and the short exception tree.

Everything that can be a cause lives here as data (code, slug, CWE, severity, help). Callers act on few cases, so
there are few classes; a new cause becomes a new :class:`Reason`, never a new class.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "REASONS",
    "Forbidden",
    "Malformed",
    "Misconfigured",
    "Reason",
    "ReasonInfo",
    "Refused",
    "SafeSerialError",
    "Severity",
    "Unauthentic",
]


class Severity(str, Enum):
    """How loudly an event of this kind should be told: does it look like an accident or like an attack?"""

    NOTICE = "notice"  # an honest sender can cause it: an old message, a forgotten allow line
    WARNING = "warning"  # malformed or out of bounds: broken or hostile
    ALERT = "alert"  # nobody sends this by accident


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """One row of the registry.

    Attributes:
        code: Stable ``SSnnn``; the hundred says where: 1 envelope and keys, 2 pickle, 3 other formats,
            4 policy and gateway, 5 task queues, 9 our own failures.
        slug: Stable lower-case words, the value of the :class:`Reason`.
        cwe: Number in the Common Weakness Enumeration, 0 where none fits.
        severity: See :class:`Severity`.
        help: One line for a person: what it means and what to do.
    """

    code: str
    slug: str
    cwe: int
    severity: Severity
    help: str


class Reason(str, Enum):
    """Why a message was refused. Values are API: add new ones, never reuse or rename."""

    # 1xx: the envelope and its key
    UNAUTHENTIC = "unauthentic"
    NOT_SEALED = "not-sealed"
    UNSUPPORTED_VERSION = "unsupported-version"
    UNKNOWN_SUITE = "unknown-suite"
    RESERVED_FLAGS = "reserved-flags"
    BAD_HEADER_LENGTH = "bad-header-length"
    BAD_KEY_ID = "bad-key-id"
    TRUNCATED = "truncated"
    TOO_LARGE = "too-large"
    UNKNOWN_KEY = "unknown-key"
    KEY_DISABLED = "key-disabled"
    KEY_OUTSIDE_WINDOW = "key-outside-window"
    KEY_MAY_NOT_OPEN = "key-may-not-open"
    SUITE_MISMATCH = "suite-mismatch"
    BAD_TAG = "bad-tag"
    BAD_CLAIMS = "bad-claims"
    UNKNOWN_EXTENSION = "unknown-critical-extension"
    ISSUED_IN_FUTURE = "issued-in-future"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    EXPIRY_MISSING = "expiry-missing"
    PURPOSE_MISMATCH = "purpose-mismatch"
    AUDIENCE_MISMATCH = "audience-mismatch"
    PURPOSE_NOT_GRANTED = "purpose-not-granted"
    TYPE_NOT_GRANTED = "type-not-granted"
    FORMAT_NOT_GRANTED = "format-not-granted"
    TTL_NOT_GRANTED = "ttl-not-granted"
    SIZE_NOT_GRANTED = "size-not-granted"
    COMPRESSION_NOT_GRANTED = "compression-not-granted"
    BAD_SECTIONS = "bad-sections"
    KEY_MAY_NOT_SEAL = "key-may-not-seal"
    KEYRING_NOT_TAKEN = "keyring-not-taken"
    # 2xx: pickle
    GLOBAL_NOT_ALLOWED = "global-not-allowed"
    UNKNOWN_OPCODE = "unknown-opcode"
    TRAILING_BYTES = "trailing-bytes"
    STACK_UNDERFLOW = "stack-underflow"
    BAD_PROTOCOL = "bad-protocol"
    BAD_FRAME = "bad-frame"
    BAD_LITERAL = "bad-literal"
    COMPUTED_NAME = "computed-name"
    BAD_NAME = "bad-name"
    CALL_NOT_ALLOWED = "call-not-allowed"
    BAD_ARGUMENTS = "bad-arguments"
    BUILD_NOT_ALLOWED = "build-not-allowed"
    BAD_STATE = "bad-state"
    MUTATION_NOT_ALLOWED = "mutation-not-allowed"
    BAD_KEY = "bad-key"
    HASH_COST = "hash-cost"
    MEMO_MISUSE = "memo-misuse"
    EXTENSION_CODE = "extension-code"
    PERSISTENT_ID = "persistent-id"
    BUFFER_MISUSE = "buffer-misuse"
    DISCARDED_CALL = "discarded-call"
    BAD_STOP = "bad-stop"
    TOO_MANY_OPCODES = "too-many-opcodes"
    STACK_TOO_LARGE = "stack-too-large"
    MEMO_TOO_LARGE = "memo-too-large"
    TOO_HEAVY = "too-heavy"
    TOO_MANY_INSTANCES = "too-many-instances"
    TOO_MANY_CALLS = "too-many-calls"
    LOAD_DISAGREED = "load-disagreed"
    BUILD_FAILED = "build-failed"
    MARK_MISUSE = "mark-misuse"
    REFERENCE_NOT_ALLOWED = "reference-not-allowed"
    # 3xx: the other formats, compression
    BAD_JSON = "bad-json"
    DUPLICATE_KEY = "duplicate-key"
    NUMBER_OUT_OF_RANGE = "number-out-of-range"
    NOT_FINITE = "not-finite"
    TOO_DEEP = "too-deep"
    TOO_MANY_NODES = "too-many-nodes"
    BAD_TEXT = "bad-text"
    BAD_MSGPACK = "bad-msgpack"
    UNKNOWN_TAG = "unknown-tag"
    TYPE_NOT_ALLOWED = "type-not-allowed"
    BAD_TAGGED_VALUE = "bad-tagged-value"
    STRING_TOO_LONG = "string-too-long"
    NOT_REPRESENTABLE = "not-representable"
    BAD_PROTOBUF = "bad-protobuf"
    UNKNOWN_FIELDS = "unknown-fields"
    DECOMPRESSED_TOO_LARGE = "decompressed-too-large"
    RAW_LENGTH_MISMATCH = "raw-length-mismatch"
    BAD_COMPRESSED_DATA = "bad-compressed-data"
    COMPRESSION_UNAVAILABLE = "compression-unavailable"
    # 4xx: policy and gateway
    UNSIGNED_PICKLE = "unsigned-pickle"
    UNRECOGNIZED_FORMAT = "unrecognized-format"
    FORMAT_NOT_ALLOWED = "format-not-allowed"
    NOT_BYTES = "not-bytes"
    FOREIGN_FORMAT = "foreign-format"
    SCHEMA_NEWER = "schema-newer"
    SCHEMA_UNKNOWN = "schema-unknown"
    UPCAST_FAILED = "upcast-failed"
    SCHEMA_MISMATCH = "schema-mismatch"
    # 5xx: task queues
    HEADERS_ALTERED = "headers-altered"
    QUEUE_MISMATCH = "queue-mismatch"
    REPLAYED = "replayed"
    TASK_MISMATCH = "task-mismatch"
    SUBJECT_MISMATCH = "subject-mismatch"
    BAD_WISHES = "bad-wishes"
    WISH_NOT_GRANTED = "wish-not-granted"
    BAD_TASK_BODY = "bad-task-body"
    FOREIGN_CONTENT_TYPE = "foreign-content-type"
    COMPRESSION_HEADER = "compression-header"
    BAD_TASK_HEADER = "bad-task-header"
    RESULT_MISMATCH = "result-mismatch"
    CONTROL_NOT_SEALED = "control-not-sealed"
    UNKNOWN_TASK = "unknown-task"
    LEGACY_CLOSED = "legacy-closed"
    NOT_OPTED_IN = "not-opted-in"
    NO_READER_CONTEXT = "no-reader-context"
    CLAIM_STORE_DOWN = "claim-store-down"
    CLAIM_LOST = "claim-lost"
    FORGED_EXCEPTION = "forged-exception"
    NOT_ANNOTATED = "not-annotated"
    ARGUMENTS_MISMATCH = "arguments-mismatch"
    QUARANTINE_STORE_DOWN = "quarantine-store-down"
    # 9xx: ours
    INTERNAL_ERROR = "internal-error"

    @property
    def info(self) -> ReasonInfo:
        """The registry row of this reason."""
        return REASONS[self]

    @property
    def code(self) -> str:
        """The stable ``SSnnn`` code."""
        return REASONS[self].code


_N, _W, _A = Severity.NOTICE, Severity.WARNING, Severity.ALERT

# Reason, number, CWE, severity, help. The order is the order of the codes.
_ROWS: tuple[tuple[Reason, int, int, Severity, str], ...] = (
    (Reason.UNAUTHENTIC, 100, 345, _A, "The message is not authentic. The exact cause is in the audit log only."),
    (Reason.NOT_SEALED, 101, 345, _A, "No envelope where a sealed message is required: the sender lacks the plugin."),
    (Reason.UNSUPPORTED_VERSION, 102, 20, _W, "This release cannot read this envelope version: upgrade readers first."),
    (Reason.UNKNOWN_SUITE, 103, 20, _W, "The envelope names a cryptographic suite that does not exist."),
    (Reason.RESERVED_FLAGS, 104, 20, _W, "Reserved flag bits are set."),
    (Reason.BAD_HEADER_LENGTH, 105, 130, _W, "The header length does not fit the message or its 4096-byte ceiling."),
    (Reason.BAD_KEY_ID, 106, 20, _W, "The key id is empty, too long, or has characters outside [A-Za-z0-9._:-]."),
    (Reason.TRUNCATED, 107, 130, _W, "The input ends before a length or structure it announced."),
    (Reason.TOO_LARGE, 108, 770, _W, "The input is larger than max_bytes: raise it if such messages are honest."),
    (Reason.UNKNOWN_KEY, 110, 345, _A, "No key with this id is in the keyring: give readers the new key first."),
    (Reason.KEY_DISABLED, 111, 324, _A, "The key is disabled or destroyed."),
    (Reason.KEY_OUTSIDE_WINDOW, 112, 324, _N, "The key's dates do not admit this message now."),
    (Reason.KEY_MAY_NOT_OPEN, 113, 285, _W, "The key is in the keyring but may not open messages."),
    (Reason.SUITE_MISMATCH, 114, 757, _A, "The envelope's suite is not the suite of the key it names."),
    (Reason.BAD_TAG, 115, 347, _A, "The tag does not verify: altered, or another key, purpose or context."),
    (Reason.BAD_CLAIMS, 120, 20, _A, "The authenticated header is not well-formed: a writer with the key is broken."),
    (Reason.UNKNOWN_EXTENSION, 121, 20, _W, "A critical extension is unknown to this release: upgrade readers first."),
    (Reason.ISSUED_IN_FUTURE, 130, 672, _W, "Issued later than now plus the allowed skew: check the clocks."),
    (Reason.NOT_YET_VALID, 131, 672, _N, "The message is not valid yet."),
    (Reason.EXPIRED, 132, 613, _N, "The message has expired: seal with a longer expires_in if it waited honestly."),
    (Reason.EXPIRY_MISSING, 133, 613, _W, "The message never expires and its key does not allow that."),
    (Reason.PURPOSE_MISMATCH, 140, 345, _A, "Sealed for another purpose than the reader's."),
    (Reason.AUDIENCE_MISMATCH, 141, 345, _A, "Sealed for another application or environment."),
    (Reason.PURPOSE_NOT_GRANTED, 142, 863, _A, "The key may not be used for this purpose."),
    (Reason.TYPE_NOT_GRANTED, 143, 863, _A, "The key may not send this task or message type."),
    (Reason.FORMAT_NOT_GRANTED, 144, 863, _W, "The key may not send this body format."),
    (Reason.TTL_NOT_GRANTED, 145, 863, _W, "The message lives longer than its key may grant."),
    (Reason.SIZE_NOT_GRANTED, 146, 770, _W, "The message is larger than its key may send."),
    (Reason.COMPRESSION_NOT_GRANTED, 147, 863, _W, "The key may not send compressed bodies."),
    (Reason.BAD_SECTIONS, 150, 130, _A, "The task body is not two length-prefixed sections."),
    (Reason.KEY_MAY_NOT_SEAL, 151, 285, _N, "No enabled key in the keyring may seal for this purpose."),
    (Reason.KEYRING_NOT_TAKEN, 152, 453, _A, "A changed keyring cannot be used; the keys from before stay in use."),
    (Reason.GLOBAL_NOT_ALLOWED, 201, 502, _A, "The pickle names an object that the policy does not list."),
    (Reason.UNKNOWN_OPCODE, 202, 20, _W, "A byte is no pickle opcode."),
    (Reason.TRAILING_BYTES, 203, 20, _A, "Bytes follow the end of the value; another reader would see them."),
    (Reason.STACK_UNDERFLOW, 204, 20, _W, "An opcode takes more than the stack holds."),
    (Reason.BAD_PROTOCOL, 205, 20, _W, "PROTO is missing its place, repeated, or above 5."),
    (Reason.BAD_FRAME, 206, 436, _A, "A frame nests, does not fit, or is crossed by an opcode or argument."),
    (Reason.BAD_LITERAL, 207, 20, _W, "A literal is not in its one canonical spelling, or is not valid text."),
    (Reason.COMPUTED_NAME, 208, 470, _A, "A name is computed while loading; such a name cannot be judged beforehand."),
    (Reason.BAD_NAME, 209, 20, _A, "A module or attribute name is not identifiers joined by dots."),
    (Reason.CALL_NOT_ALLOWED, 210, 502, _A, "The pickle calls something that the policy does not let it call."),
    (Reason.BAD_ARGUMENTS, 211, 502, _A, "The arguments of a call do not fit what the policy entry allows."),
    (Reason.BUILD_NOT_ALLOWED, 212, 915, _A, "State is set on something but a fresh instance of an allowed class."),
    (Reason.BAD_STATE, 213, 915, _A, "Instance state has keys or a shape that the class's entry does not allow."),
    (Reason.MUTATION_NOT_ALLOWED, 214, 915, _A, "Items are added to something that is not a fresh container."),
    (Reason.BAD_KEY, 215, 20, _W, "A dict key or set member cannot be hashed, or is nested too deep to hash safely."),
    (Reason.HASH_COST, 216, 407, _A, "Hashing or comparing the keys would cost more than max_hash_cost."),
    (Reason.MEMO_MISUSE, 217, 20, _W, "A memo entry is read before it is written, written twice, or is a mark."),
    (Reason.EXTENSION_CODE, 218, 502, _W, "copyreg extension codes are refused."),
    (Reason.PERSISTENT_ID, 219, 502, _W, "Persistent ids are refused: the caller gave no resolver."),
    (Reason.BUFFER_MISUSE, 220, 20, _W, "Out-of-band buffers do not match those the caller passed."),
    (Reason.DISCARDED_CALL, 221, 502, _A, "The result of a call is thrown away: it was made for its side effect."),
    (Reason.BAD_STOP, 222, 20, _W, "STOP is reached with other than exactly one value and no open mark."),
    (Reason.TOO_MANY_OPCODES, 223, 770, _W, "More opcodes than max_opcodes."),
    (Reason.STACK_TOO_LARGE, 224, 770, _W, "More values or marks on the stack than max_stack_items."),
    (Reason.MEMO_TOO_LARGE, 225, 770, _W, "More memo entries than max_memo_entries, or an index above its ceiling."),
    (Reason.TOO_HEAVY, 226, 409, _A, "Shared structure would expand past max_weight: an exponential bomb."),
    (Reason.TOO_MANY_INSTANCES, 227, 770, _W, "More instances or tags than max_instances, or than a Flag may keep."),
    (Reason.TOO_MANY_CALLS, 228, 770, _W, "More calls than max_calls."),
    (Reason.LOAD_DISAGREED, 229, 436, _A, "Loading touched other names than the verdict recorded. Report this bug."),
    (Reason.BUILD_FAILED, 230, 755, _W, "An allowed constructor raised while the value was built."),
    (Reason.MARK_MISUSE, 231, 20, _W, "A mark is missing, or used as a value."),
    (Reason.REFERENCE_NOT_ALLOWED, 232, 502, _A, "A class or function is used as a value where only data may stand."),
    (Reason.BAD_JSON, 301, 20, _W, "Not well-formed JSON (RFC 8259)."),
    (Reason.DUPLICATE_KEY, 302, 436, _A, "An object or map has the same key twice; readers would disagree about it."),
    (Reason.NUMBER_OUT_OF_RANGE, 303, 190, _W, "A number cannot be carried exactly within the limits."),
    (Reason.NOT_FINITE, 304, 20, _W, "NaN or infinity where only finite numbers are accepted."),
    (Reason.TOO_DEEP, 305, 674, _W, "Nested deeper than max_depth."),
    (Reason.TOO_MANY_NODES, 306, 770, _W, "More values than max_nodes."),
    (Reason.BAD_TEXT, 307, 176, _W, "Text is not valid UTF-8."),
    (Reason.BAD_MSGPACK, 308, 20, _W, "Not well-formed msgpack."),
    (Reason.UNKNOWN_TAG, 309, 20, _W, "A type tag has no handler in this release."),
    (Reason.TYPE_NOT_ALLOWED, 310, 502, _A, "A tagged value names a type that the policy does not list."),
    (Reason.BAD_TAGGED_VALUE, 311, 20, _W, "A tagged value does not have the shape of its type."),
    (Reason.STRING_TOO_LONG, 312, 770, _W, "A string or byte string is longer than max_string_bytes."),
    (Reason.NOT_REPRESENTABLE, 313, 0, _N, "This value could not be given back as it is, so it is not written."),
    (Reason.BAD_PROTOBUF, 314, 20, _W, "Not a well-formed Protocol Buffers message of the type that was announced."),
    (Reason.UNKNOWN_FIELDS, 315, 20, _W, "A Protocol Buffers message has fields that its type does not declare."),
    (Reason.DECOMPRESSED_TOO_LARGE, 320, 409, _A, "The body expands to more than it announced or than max_raw_bytes."),
    (Reason.RAW_LENGTH_MISMATCH, 321, 130, _W, "The body does not have exactly the announced length."),
    (Reason.BAD_COMPRESSED_DATA, 322, 20, _W, "The compressed data is broken, incomplete, or followed by more bytes."),
    (Reason.COMPRESSION_UNAVAILABLE, 323, 0, _N, "This compression needs a library that is not installed."),
    (Reason.UNSIGNED_PICKLE, 401, 502, _A, "Unsigned pickle is refused: seal it, or send JSON or msgpack."),
    (Reason.UNRECOGNIZED_FORMAT, 402, 20, _W, "The bytes are no envelope, JSON or msgpack."),
    (Reason.FORMAT_NOT_ALLOWED, 403, 863, _W, "The policy does not accept this body format."),
    (Reason.NOT_BYTES, 404, 20, _W, "The input is not bytes."),
    (Reason.FOREIGN_FORMAT, 405, 502, _A, "The bytes are marshal, gzip or another format that is not read here."),
    (Reason.SCHEMA_NEWER, 410, 0, _N, "Sealed under a newer schema version than this process knows: deploy it first."),
    (Reason.SCHEMA_UNKNOWN, 411, 20, _W, "The message names a schema version that this process cannot read."),
    (Reason.UPCAST_FAILED, 412, 0, _W, "An upcaster could not bring the message to the present schema version."),
    (Reason.SCHEMA_MISMATCH, 413, 20, _W, "The value does not fit its schema; the detail names the place."),
    (Reason.HEADERS_ALTERED, 501, 345, _A, "A header or property differs from what the sender sealed."),
    (Reason.QUEUE_MISMATCH, 502, 345, _A, "Sealed for another queue than the one it was consumed from."),
    (Reason.REPLAYED, 503, 294, _A, "This message was executed before."),
    (Reason.TASK_MISMATCH, 504, 345, _A, "The task header is not the task the body was sealed for."),
    (Reason.SUBJECT_MISMATCH, 505, 345, _A, "The id header is not the id the body was sealed for."),
    (Reason.BAD_WISHES, 506, 20, _A, "The embedded callbacks are not exactly callbacks, errbacks, chain and chord."),
    (Reason.WISH_NOT_GRANTED, 507, 863, _A, "An embedded callback names a task that the sender's key may not send."),
    (Reason.BAD_TASK_BODY, 508, 20, _W, "The body is not (args, kwargs, embed)."),
    (Reason.FOREIGN_CONTENT_TYPE, 509, 345, _A, "Not a safeserial message on a queue that takes sealed messages only."),
    (Reason.COMPRESSION_HEADER, 510, 409, _A, "A compression header asks to expand an unauthenticated body."),
    (Reason.BAD_TASK_HEADER, 511, 20, _A, "A task header has a type or value that the worker could not survive."),
    (Reason.RESULT_MISMATCH, 512, 345, _A, "A result was sealed for another task id."),
    (Reason.CONTROL_NOT_SEALED, 513, 306, _A, "A control command that changes state is not sealed."),
    (Reason.UNKNOWN_TASK, 514, 20, _N, "No task of this name is registered in the worker."),
    (Reason.LEGACY_CLOSED, 515, 306, _N, "Unsigned messages of this task are not (any longer) accepted on this queue."),
    (Reason.NOT_OPTED_IN, 516, 306, _N, "The task has not opted in to unsigned data on this queue."),
    (Reason.NO_READER_CONTEXT, 517, 345, _W, "The decoder was called outside a task guard or result backend."),
    (Reason.CLAIM_STORE_DOWN, 518, 0, _W, "The claim store does not answer; the message was put back, not run."),
    (Reason.CLAIM_LOST, 519, 0, _N, "Another worker holds this message; the copy was put back with a delay."),
    (Reason.FORGED_EXCEPTION, 520, 502, _A, "A result names an exception that is not an ordinary Exception."),
    (Reason.NOT_ANNOTATED, 521, 20, _N, "Unsigned arguments are read by the task's annotations; a parameter has none."),
    (
        Reason.ARGUMENTS_MISMATCH,
        522,
        20,
        _W,
        "Unsigned arguments do not fit the task's signature; the detail says where.",
    ),
    (
        Reason.QUARANTINE_STORE_DOWN,
        523,
        0,
        _W,
        "The quarantine does not answer; the refused message stays on the broker.",
    ),
    (Reason.INTERNAL_ERROR, 900, 755, _A, "safeserial itself failed and refused the message. Please report this bug."),
)

REASONS: Mapping[Reason, ReasonInfo] = MappingProxyType(
    {reason: ReasonInfo(f"SS{n}", reason.value, cwe, severity, text) for reason, n, cwe, severity, text in _ROWS}
)


class SafeSerialError(Exception):
    """Root of everything this project raises on purpose."""


class Misconfigured(SafeSerialError):  # noqa: N818 - a word that reads well in an except clause
    """The operator's settings, keys or policy cannot be used. Raised at start-up only.

    Args:
        problem: What is wrong, and what to write instead; never a secret.
        file: File the setting came from, or ``""``.
        key: Dotted path of the setting in it, or ``""``.
        line: 1-based line, or ``None`` where it is not known.
    """

    def __init__(self, problem: str, file: str = "", key: str = "", line: int | None = None) -> None:
        super().__init__(problem, file, key, line)
        self.problem, self.file, self.key, self.line = problem, file, key, line

    def __str__(self) -> str:
        where = self.file
        if self.line is not None:
            where = f"{where}:{self.line}" if where else f"line {self.line}"
        parts = [part for part in (where, self.key, self.problem) if part]
        return ": ".join(parts)


class Refused(SafeSerialError):  # noqa: N818 - likewise
    """A message was judged and turned away; no object was built from it.

    Args:
        reason: Why; a slug is accepted, because result backends turn the enum into text.
        offset: Byte offset in the judged input, or ``None`` where no single byte is to blame.
        detail: What a person needs beyond the reason, for example the narrowest policy line that
            would allow it. Attacker-controlled parts have been through ``safe_repr``.

    All fields live in ``args``, so ``cls(*args)`` (Celery's JSON result backend) and pickling rebuild it. What only the
    audit log needs is set by the judge of a pickle, beside them: ``opcode``, the name of the one that decided, and
    ``global_name``, the ``module:qualname`` that is not listed. It is attacker-controlled and has not been escaped.
    """

    opcode: str | None = None
    global_name: str | None = None

    def __init__(self, reason: Reason | str, offset: int | None = None, detail: str = "") -> None:
        reason = Reason(reason)
        super().__init__(reason.value, offset, detail)
        self.reason, self.offset, self.detail = reason, offset, detail

    @property
    def code(self) -> str:
        """The stable ``SSnnn`` code of the reason."""
        return self.reason.code

    @property
    def cause(self) -> Reason:
        """The exact reason, for the audit log and the quarantine record only."""
        return self.reason

    def __str__(self) -> str:
        text = f"{self.code} {self.reason.value}"
        if self.offset is not None:
            text += f" at byte {self.offset}"
        return f"{text}: {self.detail}" if self.detail else f"{text}: {self.reason.info.help}"


class Malformed(Refused):
    """The bytes break their format's grammar, or pass a limit."""


class Forbidden(Refused):
    """Well-formed, but the policy, the key's grants or the binding do not allow it."""


class Unauthentic(Refused):
    """The message could not be authenticated. Outwardly one code whatever failed: detail would be an oracle.

    Args:
        reason: Ignored outwardly; what is raised always says ``unauthentic``.
        cause: The exact cause. It is an attribute, never part of ``args`` or of the text, so that it
            does not travel to a result backend; the audit log and the quarantine record keep it.
    """

    def __init__(
        self,
        reason: Reason | str = Reason.UNAUTHENTIC,  # noqa: ARG002 - the signature of every Refused
        offset: int | None = None,  # noqa: ARG002
        detail: str = "",  # noqa: ARG002
        *,
        cause: Reason = Reason.UNAUTHENTIC,
    ) -> None:
        super().__init__(Reason.UNAUTHENTIC, None, "")
        self._cause = cause

    @property
    def cause(self) -> Reason:
        """The exact reason, for the audit log and the quarantine record only."""
        return self._cause

    def __reduce__(self) -> tuple[type[Unauthentic], tuple[object, ...]]:
        # Without this, BaseException.__reduce__ would pickle __dict__, and the cause with it.
        return type(self), self.args
