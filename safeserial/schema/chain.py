"""The steps of one schema: which versions can be read, and how an older one becomes the present one.

A version says what shape the data has; here it is compared, and upcasters are called one after the other. What they are
given was judged and built before. They are code of the user's, which may raise anything at all: that is one refusal,
which names the schema and the step, and never the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from safeserial.errors import Forbidden, Malformed, Reason, Refused
from safeserial.text import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from safeserial.schema.usage import SchemaCounter

__all__ = ["UNDECLARED", "Chain", "is_call"]

#: What a reader without a declaration knows: there was one shape before anybody counted, and that is version 1.
UNDECLARED = 1


class Chain:
    """How messages of one schema are read.

    Args:
        name: The schema.
        version: The present version, from 1 on.
        steps: Upcasters by the version that they take; each returns the next one.
        compatible_from: Versions from here on need no upcaster: they are read as they are.
    """

    __slots__ = ("name", "oldest", "steps", "version")

    def __init__(
        self,
        name: str,
        version: int = UNDECLARED,
        steps: Mapping[int, Callable[..., Any]] | None = None,
        compatible_from: int | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.steps = {} if steps is None else dict(steps)
        oldest = version if compatible_from is None else compatible_from
        # Down to the first step that is missing: what lies before a gap cannot be read, whatever stands there.
        while oldest - 1 in self.steps:
            oldest -= 1
        self.oldest = oldest

    def begin(self, version: int) -> int:
        """Where reading a message of some version begins.

        Args:
            version: As the message says it. 0, for a sender that knew of no version, is 1: before a schema is declared
                its data has one shape, and the first version describes that.

        Returns:
            0 where there is nothing to do, else the version to begin from.

        Raises:
            Refused: ``SCHEMA_NEWER``, which is worth a retry, because a process that knows it may come; or
                ``SCHEMA_UNKNOWN``, because nothing here leads from it to the present.
        """
        version = version or 1
        if version == self.version:
            return 0
        if version > self.version:
            raise Forbidden(Reason.SCHEMA_NEWER, None, f"{self._shown(version)}; known here is {self.version}")
        if version < self.oldest:
            raise Malformed(
                Reason.SCHEMA_UNKNOWN,
                None,
                f"{self._shown(version)}; the oldest that can be read here is {self.oldest}",
            )
        # A run of versions that need no upcaster is nothing to do; a later one may still.
        return next((step for step in range(version, self.version) if step in self.steps), 0)

    def value(self, begin: int, value: Any, counter: SchemaCounter | None = None) -> Any:
        """Bring plain data to the present version.

        Args:
            begin: What :meth:`begin` returned, not 0.
            value: The data; an upcaster may change it in place.
            counter: Told of each upcaster that ran.

        Raises:
            Refused: ``UPCAST_FAILED``.
        """
        for step in range(begin, self.version):
            upcaster = self.steps.get(step)
            if upcaster is None:
                continue
            try:
                value = upcaster(value)
            except BaseException as error:  # the user's code; see the module
                if not _is_its_own(error):
                    raise
                self._fail(step, _named(error), counter)
            self._ran(step, counter)
        return value

    def call(
        self, begin: int, args: list[Any], kwargs: dict[str, Any], counter: SchemaCounter | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Bring the arguments of a call to the present version; see :meth:`value`."""
        for step in range(begin, self.version):
            upcaster = self.steps.get(step)
            if upcaster is None:
                continue
            try:
                made = upcaster(args, kwargs)
            except BaseException as error:  # likewise
                if not _is_its_own(error):
                    raise
                self._fail(step, _named(error), counter)
            if not (isinstance(made, (list, tuple)) and len(made) == 2 and is_call(*made)):
                self._fail(step, "it did not return (args, kwargs), a list or tuple and a dict with names", counter)
            args, kwargs = list(made[0]), made[1]
            self._ran(step, counter)
        return args, kwargs

    def _ran(self, step: int, counter: SchemaCounter | None) -> None:
        if counter is not None:
            counter.note("upcast", self.name, step)

    def _fail(self, step: int, why: str, counter: SchemaCounter | None) -> NoReturn:
        if counter is not None:
            counter.note("failed", self.name, step)
        # Not raised from the user's exception: its text may quote the data, and would travel with the refusal.
        raise Malformed(
            Reason.UPCAST_FAILED, None, f"{self._shown(step)} to {step + 1}: {safe_repr(why, 120)}"
        ) from None

    def _shown(self, version: int) -> str:
        return f"{safe_repr(self.name, 200)} version {version}"


def is_call(args: object, kwargs: object) -> bool:
    """Whether these can be passed to a function."""
    return isinstance(args, (list, tuple)) and isinstance(kwargs, dict) and all(type(name) is str for name in kwargs)


def _is_its_own(error: BaseException) -> bool:
    """Whether an upcaster raised it, rather than whoever ends this process while one runs."""
    if isinstance(error, Exception):
        return True
    # sys.exit() would take the process along, and with it a message that may be acknowledged already. A pool's process
    # that is told to end exits with a negative status, and what Celery raises is a class of its own.
    return type(error) is SystemExit and not (type(error.code) is int and error.code < 0)


def _named(error: BaseException) -> str:
    """The type of an exception, and the code of a refusal; never its text."""
    return f"{type(error).__name__} {error.code}" if isinstance(error, Refused) else type(error).__name__
