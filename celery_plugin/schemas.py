"""Schema versions of tasks: which one a message is sealed with, and what becomes of one that is not the present one.

The version describes the arguments of one call, and the schema is that of the task that is called. It stands in the
signed header of the message. Signatures (callbacks, the rest of a chain, a chord's body, what canvas tasks run) hold
arguments of their own, which are sealed only when a worker publishes them; so each says its version in its options,
written there by whoever sent it, and taken off again when it is published. A signature that says none came from a
sender that knew of no version, and is marked so before anything of it is published: a worker never lends it its own.

``celery.map`` and ``celery.starmap`` call a task without a message of its own. Their version is that of the task that
they call, whose name they carry in a header.
"""

from __future__ import annotations

import inspect
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery.canvas import Signature

from celery_plugin import wishes
from safeserial.errors import Malformed, Misconfigured, Reason
from safeserial.schema import MAX_VERSION, SchemaRegistry, declared_on, default_registry
from safeserial.schema.usage import NEVER_MS, newer_counted_as
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

    from safeserial.envelope import Claims
    from safeserial.schema import Chain, Declared
    from safeserial.schema_store import SchemaMeter

__all__ = ["HEADER", "OPTION", "Older", "Schemas", "waits_seconds"]

#: Option of ``apply_async``, ``send_task`` and signatures: the version of their arguments.
OPTION = "schema_version"
#: Header of the tasks that call another one without a message: which.
HEADER = "safeserial_schema"
# Place and name of the signatures that Celery's own tasks get (celery/app/builtins.py).
_SIGNATURES = {
    "celery.group": ((0, "tasks"),),
    "celery.chord": ((0, "header"), (1, "body")),
    "celery.chord_unlock": ((1, "callback"),),
    "celery.chunks": ((0, "task"),),
    "celery.map": ((0, "task"),),
    "celery.starmap": ((0, "task"),),
}
_MAPS = frozenset({"celery.map", "celery.starmap"})
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_LEAST_SECONDS = 2.0
_MOST_SECONDS = 30.0

#: A task, and the version from which its arguments are brought to the present; 0 for a map where there is nothing to
#: do but to see that it calls that task. No name: the task that a map calls.
Older = tuple[str, int]

# The name of a task that a map calls, and its signature, where it is called by one.
Callee = tuple[str, "dict[str, Any] | None"]


def waits_seconds(claims: Claims, now_ms: int) -> float:
    """How long a message of a newer version is held before it goes back to its queue: as long as it has been waiting.

    So the delay grows from one time to the next, whichever worker gets it and whether or not that was restarted.
    """
    return min(max(_LEAST_SECONDS, (now_ms - claims.issued_at_ms) / 1000), _MOST_SECONDS)


class Schemas:
    """The versions of one app's tasks.

    Args:
        app: The Celery app.
        registry: Where schemas and upcasters were declared; the default one if ``None``.
        said: Versions of tasks that this program knows by name only, from the settings.
        meter: Counts the use of versions, or ``None``.
    """

    def __init__(
        self,
        app: Any,
        registry: SchemaRegistry | None = None,
        said: Mapping[str, int] | None = None,
        meter: SchemaMeter | None = None,
    ) -> None:
        self._app = app
        self._registry = default_registry if registry is None else registry
        self._said = dict(said or {})
        self.meter = meter
        self._revision = -1
        self._declared: dict[str, Declared | None] = {}
        self._chains: dict[str, Chain] = {}

    # -- what is declared ---------------------------------------------------------------------------------------

    @property
    def in_use(self) -> bool:
        """Whether anything in this process has a version. Where nothing has, nothing here costs anything."""
        return SchemaRegistry.revision > 0 or bool(self._said)

    @property
    def _tasks(self) -> Mapping[str, Any]:
        # A task that is sent by its name before anybody touched it is made now, for its version stands on its function.
        app = self._app
        return app.tasks if app.finalized or app.autofinalize else app._tasks  # type: ignore[no-any-return]  # noqa: SLF001

    def find(self, task: str) -> Declared | None:
        """What is declared about a task's arguments: on its function, or under its name."""
        if self._revision != SchemaRegistry.revision:
            self._declared, self._chains = {}, {}
            self._revision = SchemaRegistry.revision
        known = self._declared  # another thread may put another in its place
        try:
            return known[task]
        except KeyError:
            pass  # not asked for before
        found = self._tasks.get(task)
        run = getattr(found, "run", None)
        mark = declared_on(run)
        if mark is not None:
            declared: Declared | None = replace(mark, name=mark.name or task, target=run)
        else:
            declared = self._registry.find(task)
        if found is not None or declared is not None:  # any name may be sent, and a task be registered later
            known[task] = declared
        return declared

    def chain_of(self, task: str) -> Chain:
        """How messages of a task are read."""
        declared = self.find(task)
        if declared is None:
            return self._registry.chain(task)
        made = self._chains.get(task)
        if made is None:
            made = self._chains[task] = self._registry.chain(declared.name, declared)
        return made

    def version_of(self, task: str) -> int:
        """The version in which this program writes arguments of a task; 0 where it knows none."""
        declared = self.find(task)
        return self._said.get(task, 0) if declared is None else declared.version

    def registry(self) -> SchemaRegistry:
        """All that is declared, under the names that this app gives its tasks."""
        named = [self.find(task) for task in self._tasks]
        return self._registry.with_declared([one for one in named if one is not None])

    def check(self) -> None:
        """Refuse what does not fit together.

        Raises:
            Misconfigured: With what to write.
        """
        if not self.in_use:
            return
        self.registry().check()
        for task, version in self._said.items():
            declared = self.find(task)
            if declared is not None and declared.version != version:
                raise Misconfigured(
                    f"{version} is said here, and {declared.place} declares version {declared.version}: "
                    "this setting is for tasks that the program knows by name only",
                    key=f"schema_versions.{safe_repr(task, 200)}",
                )

    # -- sending ------------------------------------------------------------------------------------------------

    def take(self, options: MutableMapping[str, Any], message: Any) -> tuple[Any, int]:
        """Find the version that a message is sealed with, and write versions into its signatures.

        Args:
            options: The options that Celery publishes with; ours is taken off.
            message: Celery's headers, properties, body and event.

        Returns:
            The message, with a header where it needs one, and the version.

        Raises:
            Refused: ``SCHEMA_UNKNOWN`` for an option that is no version.
        """
        said = options.pop(OPTION, None)
        if said is None and not self.in_use:
            return message, 0
        headers, properties, body, event = message
        task = str(headers.get("task"))
        callee: Callee | None = None
        if isinstance(body, tuple) and len(body) == 3:
            self._stamp(task, *body)
            callee = _callee(task, body[0], body[1])
        if callee is not None:
            task, signature = callee
            message = type(message)({**headers, HEADER: task}, properties, body, event)
            if said is None:
                said = _options(signature).get(OPTION)
        return message, self.version_of(task) if said is None else _version(said)

    def sealed(self, task: str, version: int, good_until_ms: int) -> None:
        """Count a message that was sealed."""
        if self.meter is not None:
            declared = self.find(task)
            self.meter.note("seal", task if declared is None else declared.name, version, good_until_ms)

    def _stamp(self, task: str, args: Any, kwargs: Any, embed: Any) -> None:
        """Write the version that this program knows into each signature that says none."""
        for signature in _acting(task, args, kwargs, embed):
            self._say(signature, self.version_of(dict.__getitem__(signature, "task")))
        # A signature in the arguments of an ordinary task is data; but its task may publish it.
        for signature in _signature_objects([args, kwargs, embed]):
            for one in wishes.signatures(signature, strict=False):
                self._say(one, self.version_of(dict.__getitem__(one, "task")))

    @staticmethod
    def _say(signature: dict[str, Any], version: int) -> None:
        options = dict.get(signature, "options")
        if version and (options is None or (isinstance(options, dict) and dict.get(options, OPTION) is None)):
            # A dict of its own, because options may be shared by signatures of several tasks.
            dict.__setitem__(signature, "options", {**(options or {}), OPTION: version})

    # -- reading ------------------------------------------------------------------------------------------------

    def older(self, task: str, version: int, headers: Mapping[str, Any], expires_at_ms: int) -> Older | None:
        """Judge the version of a message, before anything of its body is looked at.

        Args:
            task: Its task.
            version: As its signed header says it; 0 for a message that says none.
            headers: Its headers, verified.
            expires_at_ms: Until when it is good; 0 for ever.

        Returns:
            What :meth:`upcast` needs, ``None`` where there is nothing to do.

        Raises:
            Refused: ``SCHEMA_NEWER``, ``SCHEMA_UNKNOWN``.
        """
        if version < 2 and not self.in_use:
            return None
        name = task
        if task in _MAPS:
            said = headers.get(HEADER)
            if type(said) is not str:
                if version:
                    raise Malformed(Reason.SCHEMA_UNKNOWN, None, f"{task} has a version and does not say of what")
                return "", 1
            name = said
        # What a map calls has to be what its header says, whatever version that is of: else another task is judged.
        nothing = (name, 0) if task in _MAPS else None
        if name not in self._tasks:
            return nothing  # refused as such, or by whoever calls it
        chain = self.chain_of(name)
        begin = chain.begin(version)
        if begin == 0:
            return nothing
        if self.meter is not None:
            self.meter.note("open", chain.name, version, expires_at_ms or NEVER_MS)
        return name, begin

    def newer(self, task: str, claims: Claims) -> None:
        """Count a message that is put back."""
        if self.meter is not None:
            declared = self.find(task)
            name, known = (task, self._said.get(task, 0)) if declared is None else (declared.name, declared.version)
            version = newer_counted_as(claims.schema_version, known)
            self.meter.note("newer", name, version, claims.expires_at_ms or NEVER_MS)

    def upcast(self, task: str, older: Older, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Bring built arguments to the present version; called where the task runs.

        Raises:
            Refused: ``UPCAST_FAILED``.
        """
        name, begin = older
        if task in _MAPS:
            return self._upcast_items(task, older, args, kwargs)
        return self.chain_of(name).call(begin, list(args), dict(kwargs), self.meter)

    def _upcast_items(self, task: str, older: Older, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        name, begin = older
        callee = _callee(task, args, kwargs)
        items = kwargs.get("it", args[1] if len(args) > 1 else None)
        if callee is None:
            raise Malformed(Reason.BAD_TASK_BODY, None, f"{task} has no task, or nothing to call it with")
        called, signature = callee
        if not name:
            name = called
            begin = self.chain_of(name).begin(begin) if name in self._tasks else 0
        elif called != name:
            raise Malformed(Reason.BAD_TASK_BODY, None, f"{task} calls another task than its header says")
        if not begin:
            return args, kwargs
        if not isinstance(items, (list, tuple)):
            raise Malformed(Reason.BAD_TASK_BODY, None, f"{task} has no task, or nothing to call it with")
        chain, star = self.chain_of(name), task == "celery.starmap"
        made = [self._upcast_item(chain, begin, item, name, star=star) for item in items]
        if signature is None:
            return [], {"task": name, "it": made}
        # What is published of it from here on, a retry for example, is at the present version.
        dict.__setitem__(signature, "options", {**_options(signature), OPTION: chain.version})
        return [], {"task": signature, "it": made}

    def _upcast_item(self, chain: Chain, begin: int, item: Any, task: str, *, star: bool) -> Any:
        if star and not isinstance(item, (list, tuple)):
            raise Malformed(Reason.BAD_TASK_BODY, None, "an item of celery.starmap is no list of arguments")
        args, kwargs = chain.call(begin, list(item) if star else [item], {}, self.meter)
        if kwargs:
            args, kwargs = _by_place(self._tasks[task].run, args, kwargs)
        if kwargs or (not star and len(args) != 1):
            how = "positional arguments" if star else "one positional argument"
            detail = f"{safe_repr(chain.name)} takes more now than {how}, and a map passes no other"
            raise Malformed(Reason.UPCAST_FAILED, None, detail)
        return args if star else args[0]

    def settle(self, task: str, args: Any, kwargs: Any, embed: Any) -> None:
        """Prepare the signatures of a message for being published by this process.

        One that says no version is marked as 0: whoever sent it knew none. And where arguments are not of the present
        version, Celery must not compare them with the present function when it publishes them.
        """
        if not self.in_use:
            return
        for signature in _acting(task, args, kwargs, embed):
            name = dict.__getitem__(signature, "task")
            known = self.version_of(name)
            if not known:
                continue
            options = dict.get(signature, "options")
            if options is None or isinstance(options, dict):
                said = _options(signature).get(OPTION)
                dict.__setitem__(signature, "options", {**(options or {}), OPTION: 0 if said is None else said})
            if (_options(signature).get(OPTION) or 1) != known and name in self._tasks:
                self._tasks[name].typing = False


def _version(said: object) -> int:
    if type(said) is not int or not 0 <= said <= MAX_VERSION:
        raise Malformed(Reason.SCHEMA_UNKNOWN, None, f"{OPTION} is a whole number from 0 to {MAX_VERSION}")
    return said


def _options(signature: dict[str, Any] | None) -> dict[str, Any]:
    options = None if signature is None else dict.get(signature, "options")
    return options if isinstance(options, dict) else {}


def _callee(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Callee | None:
    """The task that a map calls: by its signature, or by its mere name, which Celery takes as well."""
    if task not in _MAPS:
        return None
    found = kwargs.get("task", args[0] if args else None)
    if type(found) is str:
        return found, None
    name = dict.get(found, "task") if isinstance(found, dict) else None
    return (name, found) if type(name) is str else None


def _acting(task: str, args: Sequence[Any], kwargs: Mapping[str, Any], embed: Any) -> Iterator[dict[str, Any]]:
    """The signatures that Celery publishes of a message: its wishes, and what its own tasks are given."""
    if not wishes.asks_nothing(embed):
        yield from wishes.signatures(embed, strict=False)
    for place, name in _SIGNATURES.get(task, ()):
        if name in kwargs:
            yield from wishes.signatures(kwargs[name], strict=False)
        elif place < len(args):
            yield from wishes.signatures(args[place], strict=False)


def _signature_objects(tree: Any) -> Iterator[Signature]:
    """Signatures, as Celery makes them, anywhere in a tree of arguments."""
    stack = [tree]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Signature):
            yield node
        children = dict.values(node) if isinstance(node, dict) else node
        # Most lists hold numbers or texts alone, and one look at their types is enough.
        if any(issubclass(kind, _CONTAINERS) for kind in set(map(type, children))):
            stack.extend(child for child in children if isinstance(child, _CONTAINERS))


def _by_place(run: Any, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The same call without names, where the function can be called so."""
    try:
        bound = inspect.signature(run).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return args, kwargs
    bound.apply_defaults()
    return (args, kwargs) if bound.kwargs else (list(bound.args), {})
