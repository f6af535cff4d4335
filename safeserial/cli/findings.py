"""What ``doctor`` can find: one table of codes, and how checks become findings.

A check is a pure function over a snapshot of what was looked at. It decides nothing about severity or wording: those
stand here, once, and ``docs/doctor.md`` is written from them. A check that fails is a finding itself, because a doctor
that ends in a traceback says nothing about all the rest.
"""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["RULES", "Finding", "Rule", "Severity", "attempt", "crashed", "examine", "ordered", "told"]

T = TypeVar("T")


class Severity(str, Enum):
    """How much a finding matters; from the worst to the least."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Rule(NamedTuple):
    """One row of the table.

    Attributes:
        code: Stable: new ones are added, none is reused or given another meaning.
        severity: How much it matters.
        title: What was found, in a few words.
        why: What it leads to, in a sentence or two.
        fix: What to write, in general; a finding says it with its own names.
    """

    code: str
    severity: Severity
    title: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        rule: What kind of thing.
        where: File and line, key, task or queue.
        found: What stands there, where the title does not say it.
        fix: The line to write.
    """

    rule: Rule
    where: str
    found: str
    fix: str

    @classmethod
    def of(cls, code: str, where: str, found: str = "", fix: str = "") -> Finding:
        """A finding with this code; without a ``fix`` of its own, the one of the table."""
        rule = RULES[code]
        return cls(rule, where, found, fix or rule.fix)

    def row(self) -> dict[str, str]:
        """For JSON."""
        return {
            "code": self.rule.code,
            "severity": self.rule.severity.value,
            "title": self.rule.title,
            "why": self.rule.why,
            "where": self.where,
            "found": self.found,
            "fix": self.fix,
        }


def examine(snapshot: T, checks: Sequence[Callable[[T], Iterable[Finding]]]) -> list[Finding]:
    """Let every check look at the snapshot; one that fails does not stop the others."""
    return [finding for check in checks for finding in _ask(check, snapshot)]


def _ask(check: Callable[[T], Iterable[Finding]], snapshot: T) -> list[Finding]:
    try:
        return list(check(snapshot))
    except Exception as error:  # noqa: BLE001 - a broken check is a finding, and no reason to say nothing at all
        return [crashed(check.__name__.strip("_"), error)]


def attempt(look: Callable[[T], dict[str, Any]], subject: T, crashes: list[Finding]) -> dict[str, Any]:
    """What ``look`` sees; nothing, and one more of ``crashes``, if it fails."""
    try:
        return look(subject)
    except Exception as error:  # noqa: BLE001 - as above
        crashes.append(crashed(look.__name__.strip("_"), error))
        return {}


def crashed(what: str, error: BaseException) -> Finding:
    """The finding that something which looks is broken."""
    return Finding.of("DR199", what, told(error))


def told(error: BaseException) -> str:
    """An error that nobody expected, and where it was raised; without its words, which may quote what was looked at."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f", {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, then by code, then by place."""
    severities = list(Severity)
    return sorted(findings, key=lambda one: (severities.index(one.rule.severity), one.rule.code, one.where))


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE
_ROWS: tuple[Rule, ...] = (
    # DR1: what every program has: settings, keys, policy, stores, build.
    Rule("DR101", _E, "The settings cannot be used",
         "Nothing that needs them starts: what is not understood is refused, so no restriction is lost in silence.",
         "correct the line that is named"),
    Rule("DR102", _E, "The keyring cannot be used",
         "Without keys nothing is sealed or opened: producers fail at the first message and workers do not start.",
         'keyring = "env:SAFESERIAL_KEYS"'),
    Rule("DR103", _E, "Others may read or write the keyring file",
         "Whoever reads a key can seal whatever it was granted, and whoever writes the file chooses the keys.",
         "chmod 600 PATH"),
    Rule("DR104", _W, "Others may replace the keyring file",
         "Who may write in its folder can put another file in its place, and processes follow the file.",
         "chmod go-w FOLDER"),
    Rule("DR105", _W, "No key may seal tasks now",
         "This process can open messages and send none: every publish is refused.",
         "safeserial keys promote KID --purpose tasks"),
    Rule("DR106", _W, "No key may seal results now",
         "A worker with this keyring runs tasks and cannot store what they return.",
         "safeserial keys promote KID --purpose results"),
    Rule("DR107", _N, "No key may seal control commands now",
         "Commands other than the reading ones (revoke, shutdown, ...) that are sent from here are refused.",
         "safeserial keys promote KID --purpose control"),
    Rule("DR108", _N, "A key seals for more than a year",
         "The longer a key is in use, the more people and backups have had it. Counted from seal_from, or from the "
         "first use that key_usage knows.",
         "safeserial keys add NEW, and later: safeserial keys promote NEW"),
    Rule("DR109", _N, "A key opens nothing any more",
         "Its open_until is past. It does nothing here but keep a secret that nobody needs.",
         "safeserial keys destroy KID"),
    Rule("DR110", _E, "The policy cannot be used",
         "A name in it does not exist or may not be listed, so workers do not start.",
         "correct or remove the entry that is named"),
    Rule("DR111", _N, "The policy lists something that its owner should look at",
         "No message is refused for it, but messages can do less, or more, with the class than its entry looks like.",
         "see the finding; safeserial policy check lists what each name may be used for"),
    Rule("DR112", _W, "What should be refused is let through",
         "In any other mode than enforce messages are judged and obeyed whatever the verdict.",
         'mode = "enforce"'),
    Rule("DR113", _W, "Pickles that nobody signed are read",
         "The policy still judges them, but whoever can reach the reader chooses the arguments of every listed class.",
         "unsafe_accept_unsigned_pickle = false"),
    Rule("DR114", _E, "The quarantine cannot be opened",
         "Workers do not start: they would have no place for what they refuse.",
         'quarantine = "sqlite:PATH"'),
    Rule("DR115", _E, "The claim store cannot be opened",
         "Workers do not start: they could not tell a replayed message from a new one.",
         'claims = "sqlite:PATH"'),
    Rule("DR116", _E, "The store that counts the use of keys cannot be opened",
         "Processes that should count do not start.",
         'key_usage = "sqlite:PATH"'),
    Rule("DR117", _E, "An audit file cannot be written",
         "Workers do not start: a refusal must never be silent.",
         'audit = ["logging"]'),
    Rule("DR118", _W, "The quarantine is nearly full",
         "More than 80 % of a lane's quota is used. When it is full, the oldest records are forgotten.",
         "quarantine_max_records = N, quarantine_max_bytes = N"),
    Rule("DR119", _W, "Executions are claimed in memory",
         "Other workers and machines do not see these claims, and a restart forgets them: a copied message runs again "
         "there.",
         'claims = "sqlite:PATH", or "redis://HOST:PORT/DATABASE" for several machines'),
    Rule("DR120", _N, "The use of keys is not counted",
         "Nobody can tell whether all processes have a new key, or when the last message under an old one expires.",
         'key_usage = "sqlite:PATH"'),
    Rule("DR121", _W, "The time for unsigned messages is over",
         "The section has no effect any more, and reads as if unsigned messages were accepted.",
         "remove the section [queues.NAME]"),
    Rule("DR122", _W, "The time for unsigned messages ends soon",
         "After the day in until, unsigned messages on this queue are refused: what does not seal by then stops.",
         "until = DATE, or let every producer call celery_plugin.install()"),
    Rule("DR123", _N, "A queue takes plain data that nobody signed",
         "Whoever reaches the broker may run the tasks named in its section, with any plain arguments.",
         'trust = "sealed"'),
    Rule("DR124", _N, "The pure build runs",
         "The verdicts are the same, and the judge of pickles is several times slower than its compiled twin.",
         "install a wheel for this platform, or a C compiler before: pip install --force-reinstall safeserial-gateway"),
    Rule("DR125", _W, "This Python was not tested",
         "The policy's lint and the pickle judge know the library classes of the tested Pythons.",
         "use a tested Python"),
    Rule("DR199", _E, "A check failed",
         "This is a mistake of doctor's own, or something that it did not expect. What it looks for is not known.",
         "report it, with the place that is named"),
    # DR2: what a Celery app has.
    Rule("DR201", _E, "The app is not guarded",
         "It sends unsealed messages, and its workers run whatever the broker holds.",
         "celery_plugin.install(app)"),
    Rule("DR202", _E, "Another serializer took the place of the sealing one",
         "install() set it and it was changed since; a worker refuses to start.",
         'app.conf.task_serializer = "safeserial"'),
    Rule("DR203", _E, "Content that nobody sealed is accepted",
         "kombu decodes the other formats before the guard can judge them. They are admitted per queue instead.",
         'app.conf.accept_content = ["safeserial"]'),
    Rule("DR204", _E, "Results are not sealed",
         "Whoever can write into the result backend decides what get() returns and what chords pass on.",
         "app.conf.result_backend = one that can be sealed (redis://, db+..., file://, rpc://, django-db), or none"),
    Rule("DR205", _E, "A task has a result backend of its own that does not seal",
         "The sealed backend of the app does not hold for it.",
         "remove backend= from the task"),
    Rule("DR206", _E, "Task messages have protocol 1",
         "Headers of protocol 1 cannot be bound to the seal; a worker refuses to start.",
         "app.conf.task_protocol = 2"),
    Rule("DR207", _E, "Messages leave the app unsealed",
         "Something replaced the app's AMQP layer after install(), and that layer is what seals.",
         "call celery_plugin.install(app) after app.amqp_cls is set"),
    Rule("DR208", _E, "The guard is not among the worker's steps",
         "Workers of this app would run whatever the broker holds: something replaced app.steps after install().",
         "call celery_plugin.install(app) after app.steps is set"),
    Rule("DR209", _E, "Remote control is not sealed",
         "Something replaced the app's control layer after install(): commands are sent without a seal.",
         "call celery_plugin.install(app) after app.control_cls is set"),
    Rule("DR210", _E, "A task cannot be sent with its serializer",
         "A sealed body is JSON, msgpack, pickle or one Protocol Buffers message, and of a format that the settings "
         "accept. Others are refused, at the first call or in the worker.",
         'serializer="json"'),
    Rule("DR211", _E, "An annotation gives a task a serializer that cannot be used",
         "As DR210, but set by task_annotations, which override what the task says.",
         "remove serializer from the entry of task_annotations"),
    Rule("DR212", _W, "Everybody may command the workers",
         'With control = "open" an unsigned command revokes tasks or shuts workers down, from anywhere that reaches '
         "the broker.",
         'control = "sealed"'),
    Rule("DR213", _E, "Another library took over the sealing serializer",
         "kombu's registry holds another encoder or decoder under safeserial's name or content type.",
         "find who calls kombu.serialization.register after install(), and remove it"),
    Rule("DR214", _E, "A decompressor has no ceiling",
         "Any library can register one. A few hundred bytes then expand to gigabytes, before anything is judged.",
         "find who calls kombu.compression.register after install(), and remove it"),
    Rule("DR215", _W, "This Celery or kombu was not tested",
         "The plugin stands on private names of both, which may have changed.",
         "pip install 'safeserial-gateway[celery]'"),
    Rule("DR216", _N, "task_compression does not count",
         "The key encrypts, and the length of what is compressed first tells something of what is in it.",
         "remove task_compression"),
    Rule("DR217", _W, "A task compresses what is encrypted",
         "Whoever can influence a part of the arguments may learn the rest from the length of the messages.",
         "remove compression= from the task"),
    Rule("DR218", _W, "A queue's section names a task that is not registered",
         "The section grants nothing under that name; it may be a slip of the pen.",
         "write the name as celery -A proj inspect registered shows it"),
    Rule("DR219", _E, "A task module cannot be imported",
         "Workers do not start, and its tasks were not looked at.",
         "mend the module, at the place that is named"),
    Rule("DR220", _E, "A task that is accepted unsigned cannot be read by its annotations",
         "Workers do not start: what a stranger may pass is what the annotations say, and these do not say it.",
         "annotate every parameter: def task(order: Order, note: str = \"\")"),
    # DR3: what waits on the broker; only with --broker.
    Rule("DR301", _E, "The broker cannot be reached",
         "What waits on the app's queues was not looked at, and workers here would not connect either.",
         "app.conf.broker_url"),
    Rule("DR302", _W, "Unsealed messages wait on a queue",
         "Workers will refuse them: some producer does not seal.",
         "celery_plugin.install(app), in the producer"),
    Rule("DR303", _N, "The queues were not looked at",
         "Only Redis lets one look at a message without taking it from its queue.",
         "look at the dead-letter queue and the quarantine instead"),
    Rule("DR304", _N, "Some queues were not looked at",
         "There are more than a hundred; the first ones by name were looked at.",
         "look at the quarantine: what is refused there names its queue"),
    Rule("DR305", _N, "Unsealed messages wait on a queue that may take some",
         "They run as far as the queue's section admits them, and the others go to quarantine.",
         "celery_plugin.install(app), in the producer, if it is one of yours"),
)  # fmt: skip
RULES: dict[str, Rule] = {rule.code: rule for rule in _ROWS}
