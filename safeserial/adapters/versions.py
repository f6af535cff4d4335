"""Schema versions of what an adapter sends and runs: said when it is sealed, brought to the present when it runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from safeserial.adapters.program import Program
from safeserial.errors import Malformed, Reason
from safeserial.schema import SchemaRegistry, declared_on
from safeserial.schema.chain import is_call
from safeserial.schema.usage import NEVER_MS, newer_counted_as

if TYPE_CHECKING:
    from safeserial.adapters.base import Received
    from safeserial.envelope import Claims
    from safeserial.schema import Chain, Declared

__all__ = ["Versions"]


class Versions(Program):
    """Knows which version of a message type this process writes and reads, by the type's name or by its function."""

    def function_of(self, name: str) -> object:  # noqa: ARG002 - for subclasses
        """The function that runs messages of this type, where this process has it: its schema may be declared on it."""
        return None

    def _declared(self, name: str) -> Declared | None:
        function = self.function_of(name)
        mark = None if function is None else declared_on(function)
        if mark is not None:
            return replace(mark, name=mark.name or name, target=function)
        return self.gateway.schemas.find(name)

    def version_of(self, name: str) -> int:
        """The version in which this program writes messages of a type; 0 where it knows none."""
        said = self.settings.schema_versions.get(name, 0)
        declared = self._declared(name) if SchemaRegistry.revision else None
        return said if declared is None else declared.version

    def _chain(self, name: str) -> Chain:
        declared = self._declared(name)
        return self.gateway.schemas.chain(name if declared is None else declared.name, declared)

    def older(self, claims: Claims) -> int:
        """The version from which a message has to be brought to the present; 0 where there is nothing to do.

        Raises:
            Refused: ``SCHEMA_NEWER``, ``SCHEMA_UNKNOWN``.
        """
        if claims.schema_version < 2 and not SchemaRegistry.revision:
            return 0
        if self.function_of(claims.type) is None and self._declared(claims.type) is None:
            return 0  # somebody who only looks at it, or who is going to refuse it
        chain = self._chain(claims.type)
        begin = chain.begin(claims.schema_version)
        if begin and self.schema_meter is not None:
            self.schema_meter.note("open", chain.name, claims.schema_version, claims.expires_at_ms or NEVER_MS)
        return begin

    def newer(self, claims: Claims) -> None:
        """Count a message that waits for a process that knows its version."""
        if self.schema_meter is not None:
            chain = self._chain(claims.type)
            version = newer_counted_as(claims.schema_version, chain.version)
            self.schema_meter.note("newer", chain.name, version, claims.expires_at_ms or NEVER_MS)

    def call(self, received: Received, args: object, kwargs: object) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of a call as they are at the present version.

        Raises:
            Refused: They are none, or an upcaster failed.
        """
        if not is_call(args, kwargs):
            raise Malformed(Reason.BAD_TASK_BODY, None, "arguments are not a list and a mapping with names")
        made_args, made_kwargs = list(cast("list[Any]", args)), dict(cast("dict[str, Any]", kwargs))
        if not received.older:
            return made_args, made_kwargs
        return self._chain(str(received.task)).call(received.older, made_args, made_kwargs, self.schema_meter)

    def value(self, received: Received, value: object) -> object:
        """A value as it is at the present version.

        Raises:
            Refused: An upcaster failed.
        """
        if not received.older:
            return value
        upcast: object = self._chain(str(received.task)).value(received.older, value, self.schema_meter)
        return upcast
