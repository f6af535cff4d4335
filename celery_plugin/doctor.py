"""The checks of ``celery -A proj safeserial doctor``: what an app has, beside settings, keys and stores.

As in :mod:`safeserial.cli.checkup`: everything is looked at once, and each check only reads the snapshot. What
``install()`` set is looked at as it is now, because any line that runs later can change it.

Gossip and mingle need no check: the guard shields both, whatever the settings say.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from celery_plugin import codec, data_only
from celery_plugin import settings as plugin_settings
from celery_plugin.codec import CONTENT_TYPE, NAME
from safeserial.cli import checkup
from safeserial.cli.checkup import place
from safeserial.cli.findings import Finding, attempt, examine, told
from safeserial.cli.snapshot import Snapshot
from safeserial.cli.snapshot import look as look_at_program
from safeserial.config import Settings
from safeserial.envelope import Suite
from safeserial.errors import Misconfigured, Refused
from safeserial.formats import codec_names
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from celery_plugin.runtime import Runtime
    from celery_plugin.waiting import BrokerLook

__all__ = ["CHECKS", "TESTED", "CelerySnapshot", "TaskFacts", "diagnose", "look"]

#: The minor releases that the suite passed on; a test compares them with pyproject.toml.
TESTED = {"celery": (5, 7), "kombu": (5, 7)}


class TaskFacts(NamedTuple):
    """One registered task.

    Attributes:
        name: Its name.
        where: Name, file and line.
        serializer: The one that it asks for, annotations included.
        compression: The compression that its own decorator asks for.
        backend: The class of a result backend of its own that does not seal, or ``""``.
    """

    name: str
    where: str
    serializer: str | None = None
    compression: str | None = None
    backend: str = ""


@dataclass(frozen=True, kw_only=True)
class CelerySnapshot(Snapshot):
    """What was looked at of an app, beside what every program has.

    Attributes:
        installed: Whether ``install()`` was called on it. If not, nothing below was looked at.
        conf: Settings of Celery's, by name.
        annotated: Serializers that ``task_annotations`` say, by task name or ``"*"``.
        tasks: Registered tasks, without Celery's own.
        import_error: Why a task module could not be imported, or ``""``.
        unreadable: Queue and problem of tasks that it takes unsigned and whose arguments nobody can read.
        publishes_sealed: Whether its AMQP layer seals.
        guarded: Whether the guard is among its worker's steps.
        controls_sealed: Whether its control layer seals.
        foreign_codecs: What is registered in kombu under our name or content type, and is not ours.
        unbounded: Compressions whose registered decoder is not one of ours.
        versions: Of ``celery`` and ``kombu``.
        broker: What waits on its queues, if that was asked for.
    """

    installed: bool = True
    conf: Mapping[str, Any]
    annotated: Mapping[str, str]
    tasks: tuple[TaskFacts, ...] = ()
    import_error: str = ""
    unreadable: tuple[tuple[str, str], ...] = ()
    publishes_sealed: bool = True
    guarded: bool = True
    controls_sealed: bool = True
    foreign_codecs: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()
    versions: Mapping[str, str]
    broker: BrokerLook | None = None


# -- looking


def look(app: Any, runtime: Runtime | None, *, broker: bool = False, now_ms: int | None = None) -> CelerySnapshot:
    """Look at an app: its tasks are imported, as by a worker; nothing is started.

    Args:
        app: The app.
        runtime: What ``install()`` made of it, or ``None`` if that was not called.
        broker: Whether to connect, and look at what waits.
        now_ms: For tests.
    """
    facts = look_at_program(Settings.load if runtime is None else lambda: runtime.settings, now_ms=now_ms)
    facts |= {"installed": runtime is not None, "conf": {}, "annotated": {}, "versions": {}}
    if runtime is None:
        return CelerySnapshot(**facts)
    crashes = list(facts.get("crashes", ()))

    def look_at_signatures(app: Any) -> dict[str, Any]:
        return _look_at_signatures(app, facts.get("settings"))

    steps: list[Callable[[Any], dict[str, Any]]] = [
        _look_at_conf,
        _look_at_tasks,
        look_at_signatures,
        _look_at_layers,
        _look_at_kombu,
        _look_at_versions,
    ]
    if broker:

        def look_at_broker(app: Any) -> dict[str, Any]:
            return _look_at_broker(app, facts.get("settings"))

        steps.append(look_at_broker)
    for step in steps:
        facts |= attempt(step, app, crashes)
    return CelerySnapshot(**{**facts, "crashes": tuple(crashes)})


def diagnose(snapshot: CelerySnapshot) -> list[Finding]:
    """Everything that is found in a snapshot."""
    return [*examine(snapshot, checkup.CHECKS), *examine(snapshot, CHECKS)]


_CONF = (
    "task_serializer",
    "result_serializer",
    "accept_content",
    "task_protocol",
    "task_compression",
    "worker_enable_remote_control",
)


def _look_at_conf(app: Any) -> dict[str, Any]:
    conf = {key: app.conf[key] for key in _CONF}
    # A class that the app was given directly takes precedence over the setting.
    conf["result_backend"] = app.backend_cls or app.conf.result_backend
    return {"conf": conf, "annotated": _annotated(app.conf.task_annotations)}


def _annotated(annotations: object) -> dict[str, str]:
    found = {}
    for item in annotations if isinstance(annotations, (list, tuple)) else (annotations,):
        if isinstance(item, Mapping):
            for name, options in item.items():
                if isinstance(options, Mapping) and isinstance(options.get("serializer"), str):
                    found[str(name)] = options["serializer"]
    return found


def _look_at_tasks(app: Any) -> dict[str, Any]:
    problem = ""
    try:
        app.loader.import_default_modules()
    except Exception as error:  # noqa: BLE001 - a module of the application's may fail in any way
        problem = told(error)
    app.finalize()
    tasks = [task for name, task in sorted(app.tasks.items()) if not name.startswith("celery.")]
    return {"tasks": tuple(_task_facts(task) for task in tasks), "import_error": problem}


def _look_at_signatures(app: Any, settings: Any) -> dict[str, Any]:
    sections = {} if settings is None else settings.queues
    found = [(name, problem) for name, one in sections.items() for _, problem in data_only.problems(app, one.tasks)]
    return {"unreadable": tuple(found)}


def _task_facts(task: Any) -> TaskFacts:
    return TaskFacts(
        name=str(task.name),
        where=_place_of(task),
        serializer=task.serializer,
        compression=getattr(task, "compression", None),
        backend=_foreign_backend(task),
    )


def _place_of(task: Any) -> str:
    code = getattr(inspect.unwrap(task.run), "__code__", None)
    if code is None:
        return safe_repr(str(task.name))
    file = code.co_filename
    near = os.path.relpath(file) if file.startswith(os.getcwd() + os.sep) else file
    return f"{safe_repr(str(task.name))} ({safe_repr(near, 200)}:{code.co_firstlineno})"


def _foreign_backend(task: Any) -> str:
    from celery.backends.base import DisabledBackend

    from celery_plugin.results import SealedBackendMixin

    # The property of Celery's own tasks gives the app's backend where nobody said another one; asking it connects.
    own = inspect.getattr_static(task, "backend", None)
    backend = getattr(task, "_backend", None) if isinstance(own, property) else own
    if backend is None or isinstance(backend, (SealedBackendMixin, DisabledBackend)):
        return ""
    return safe_repr(type(backend).__name__)


def _look_at_layers(app: Any) -> dict[str, Any]:
    from celery_plugin.control import SealedControl
    from celery_plugin.guard import GuardStep
    from celery_plugin.publish import SealingAMQP

    steps = app.steps["consumer"]
    return {
        "publishes_sealed": isinstance(app.amqp, SealingAMQP),
        "controls_sealed": isinstance(app.control, SealedControl),
        "guarded": any(isinstance(step, type) and issubclass(step, GuardStep) for step in steps),
    }


def _look_at_kombu(_app: Any) -> dict[str, Any]:
    from kombu.serialization import registry

    from celery_plugin import compression

    encoder = registry._encoders.get(NAME)  # noqa: SLF001 - kombu has no question for it
    foreign = []
    if registry._decoders.get(CONTENT_TYPE) is not codec.decode:  # noqa: SLF001
        foreign.append(f"the decoder of {CONTENT_TYPE}")
    if encoder is None or encoder.encoder is not codec.encode or registry.name_to_type.get(NAME) != CONTENT_TYPE:
        foreign.append(f"the encoder {NAME}")
    return {"foreign_codecs": tuple(foreign), "unbounded": tuple(compression.unbounded())}


def _look_at_versions(_app: Any) -> dict[str, Any]:
    import celery
    import kombu

    return {"versions": {"celery": celery.__version__, "kombu": kombu.__version__}}


def _look_at_broker(app: Any, settings: Any) -> dict[str, Any]:
    from celery_plugin import waiting

    queues = {str(queue.alias or queue.name) for queue in app.amqp.queues.values()}
    if settings is not None:
        queues |= {*settings.queues, *settings.queue_aliases}
    return {"broker": waiting.look_at(app, queues)}


# -- checks


def _is_installed(snapshot: CelerySnapshot) -> Iterator[Finding]:
    if not snapshot.installed:
        yield Finding.of("DR201", "app", "", "celery_plugin.install(app), in the module that makes the app")


def _conf_finding(code: str, key: str, value: Any, wanted: str) -> Finding:
    several = isinstance(value, (list, tuple, set, frozenset))
    shown = f"[{', '.join(safe_repr(item) for item in value)}]" if several else safe_repr(value)
    return Finding.of(code, f"app.conf {key}", f"{key} = {shown}", f"app.conf.{key} = {wanted}")


def _serializers_seal(snapshot: CelerySnapshot) -> Iterator[Finding]:
    for key in ("task_serializer", "result_serializer"):
        if key in snapshot.conf and snapshot.conf[key] != NAME:
            yield _conf_finding("DR202", key, snapshot.conf[key], f'"{NAME}"')


def _only_sealed_is_accepted(snapshot: CelerySnapshot) -> Iterator[Finding]:
    # Not result_accept_content: the sealed backend opens results itself, and asks nobody what is accepted.
    value = snapshot.conf.get("accept_content", [NAME])
    if not isinstance(value, (list, tuple, set, frozenset)) or list(value) != [NAME]:
        yield _conf_finding("DR203", "accept_content", value, f'["{NAME}"]')


def _results_are_sealed(snapshot: CelerySnapshot) -> Iterator[Finding]:
    backend = snapshot.conf.get("result_backend")
    if backend is None:  # no results
        return
    where = "app.conf result_backend"
    if not isinstance(backend, str):
        yield Finding.of("DR204", where, safe_repr(backend), "app.backend_cls = None, and result_backend as a URL")
        return
    try:
        sealed = plugin_settings.result_backend(backend)
    except Misconfigured as error:
        yield Finding.of("DR204", where, error.problem, 'app.conf.result_backend = "redis://..."')
        return
    if sealed != backend:
        # The rest of the URL may hold a password.
        scheme = safe_repr(backend.partition("://")[0], 40)
        fix = f'app.conf.result_backend = "{NAME}+{scheme}://...", or set it before celery_plugin.install(app)'
        yield Finding.of("DR204", where, f"{scheme}://...", fix)


def _tasks_use_the_backend(snapshot: CelerySnapshot) -> Iterator[Finding]:
    for task in snapshot.tasks:
        if task.backend:
            yield Finding.of("DR205", task.where, task.backend)


def _protocol_is_bound(snapshot: CelerySnapshot) -> Iterator[Finding]:
    if snapshot.conf.get("task_protocol", 2) != 2:
        yield _conf_finding("DR206", "task_protocol", snapshot.conf["task_protocol"], "2")


def _layers_are_ours(snapshot: CelerySnapshot) -> Iterator[Finding]:
    if not snapshot.publishes_sealed:
        yield Finding.of("DR207", "app.amqp")
    if not snapshot.guarded:
        yield Finding.of("DR208", 'app.steps["consumer"]')
    if not snapshot.controls_sealed:
        yield Finding.of("DR209", "app.control")


def _tasks_can_be_sent(snapshot: CelerySnapshot) -> Iterator[Finding]:
    accepted = codec_names() if snapshot.settings is None else snapshot.settings.formats
    good = {NAME, None, *accepted}
    fix = f'serializer="{min(accepted)}"'
    for name, serializer in snapshot.annotated.items():
        if serializer not in good:
            found, where = f"serializer = {safe_repr(serializer)}", f"app.conf task_annotations: {safe_repr(name)}"
            yield Finding.of("DR211", where, found)
    for task in snapshot.tasks:
        # What comes from the app's setting, or from an annotation, is told once and there.
        said = (snapshot.annotated.get(task.name), snapshot.annotated.get("*"), snapshot.conf.get("task_serializer"))
        if task.serializer not in good and task.serializer not in said:
            yield Finding.of("DR210", task.where, f"serializer = {safe_repr(task.serializer)}", fix)


def _control_is_sealed(snapshot: CelerySnapshot) -> Iterator[Finding]:
    settings = snapshot.settings
    if settings is None or settings.control == "sealed":
        return
    # Without remote control nobody listens.
    if snapshot.conf.get("worker_enable_remote_control", True):
        yield Finding.of("DR212", place(snapshot, "control"))


def _kombu_is_ours(snapshot: CelerySnapshot) -> Iterator[Finding]:
    for what in snapshot.foreign_codecs:
        yield Finding.of("DR213", "kombu.serialization", what)
    for name in snapshot.unbounded:
        yield Finding.of("DR214", "kombu.compression", safe_repr(name))


def _versions_are_tested(snapshot: CelerySnapshot) -> Iterator[Finding]:
    for name, version in snapshot.versions.items():
        wanted = ".".join(str(part) for part in TESTED[name])
        if not version.startswith(f"{wanted}."):
            fix = f"pip install '{name}=={wanted}.*'"
            yield Finding.of("DR215", name, f"{name} {safe_repr(version)}, tested: {wanted}", fix)


def _encrypted_is_not_compressed(snapshot: CelerySnapshot) -> Iterator[Finding]:
    if snapshot.ring is None:
        return
    try:
        key = snapshot.ring.primary("tasks", now_ms=snapshot.now_ms)
    except Refused:  # DR105
        return
    if key.suite is not Suite.A256GCM:
        return
    if snapshot.conf.get("task_compression"):
        yield _conf_finding("DR216", "task_compression", snapshot.conf["task_compression"], "None")
    for task in snapshot.tasks:
        if task.compression:
            yield Finding.of("DR217", task.where, f"compression = {safe_repr(task.compression)}, key {key.kid}")


def _sections_name_tasks(snapshot: CelerySnapshot) -> Iterator[Finding]:
    known = {task.name for task in snapshot.tasks}
    # A module that makes the app alone, without its tasks, knows none of them.
    if not known or snapshot.import_error or snapshot.settings is None:
        return
    for name, section in snapshot.settings.queues.items():
        for key, tasks in (("tasks", section.tasks), ("legacy_tasks", section.legacy_tasks)):
            for task in sorted(tasks - known):
                yield Finding.of("DR218", place(snapshot, f"queues.{name}.{key}"), safe_repr(task))


def _tasks_can_be_read(snapshot: CelerySnapshot) -> Iterator[Finding]:
    for name, problem in snapshot.unreadable:
        yield Finding.of("DR220", place(snapshot, f"queues.{name}.tasks"), safe_repr(problem, 300))


def _modules_import(snapshot: CelerySnapshot) -> Iterator[Finding]:
    if snapshot.import_error:
        yield Finding.of("DR219", "app.conf imports", snapshot.import_error)


def _broker_is_there(snapshot: CelerySnapshot) -> Iterator[Finding]:
    broker = snapshot.broker
    if broker is None:
        return
    where = safe_repr(broker.where, 200)
    if broker.error:
        yield Finding.of("DR301", where, broker.error)
    if broker.transport:
        yield Finding.of("DR303", where, f"transport {safe_repr(broker.transport)}")
    if broker.skipped:
        yield Finding.of("DR304", where, f"{broker.skipped} queues")
    for look in broker.queues:
        if look.unsealed:
            kinds = ", ".join(f"{number} {kind}" for kind, number in look.unsealed.items())
            trust = snapshot.settings.trust_of(look.queue) if snapshot.settings is not None else "unknown"
            said = f"; they say they come from {', '.join(look.origins)}" if look.origins else ""
            found = f"{kinds}, of the {look.looked} oldest; trust {trust}{said}"
            expected = trust in ("sealed+legacy", "data-only")
            yield Finding.of("DR305" if expected else "DR302", f"queue {safe_repr(look.queue)}", found)


CHECKS: tuple[Callable[[CelerySnapshot], Iterable[Finding]], ...] = (
    _is_installed,
    _serializers_seal,
    _only_sealed_is_accepted,
    _results_are_sealed,
    _tasks_use_the_backend,
    _protocol_is_bound,
    _layers_are_ours,
    _tasks_can_be_sent,
    _control_is_sealed,
    _kombu_is_ours,
    _versions_are_tested,
    _encrypted_is_not_compressed,
    _sections_name_tasks,
    _modules_import,
    _tasks_can_be_read,
    _broker_is_there,
)
