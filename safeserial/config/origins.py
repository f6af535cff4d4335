"""Who said a value, and how an error about it names the place."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from safeserial.errors import Misconfigured
from safeserial.policy.files import key_text
from safeserial.policy.grammar import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ENVIRONMENT", "KeyPath", "Leaf", "Leaves", "Origin"]

KeyPath: TypeAlias = tuple["str | int", ...]
ENVIRONMENT = "SAFESERIAL_"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one value was said.

    Attributes:
        layer: ``default``, ``file``, ``app.conf``, ``argument`` or ``environment``.
        file: What an error message names first: the file, or the layer.
        key: The key as it is written there.
        line: 1-based line in the file, where there is one.
    """

    layer: str
    file: str
    key: str
    line: int | None = None

    def __str__(self) -> str:
        if self.layer == "file":
            return self.file if self.line is None else f"{self.file}:{self.line}"
        return self.layer if self.layer == "default" else f"{self.layer} {self.key}"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value as it was said, with what an error message about it needs."""

    value: object
    path: KeyPath
    layer: str
    file: str = ""
    locate: Callable[[KeyPath], int | None] = lambda _path: None
    folder: str = ""  # what relative paths in it are relative to
    variable: str = ""  # of the environment, where its name does not follow from the path

    @property
    def origin(self) -> Origin:
        """Where it was said."""
        return self.origin_of(self.path)

    def origin_of(self, path: KeyPath) -> Origin:
        """Where something at or below this value was said."""
        key = key_text(path)
        if self.layer == "app.conf":
            key = f"safeserial_{key}"
        elif self.layer == "environment":
            key = self.variable or ENVIRONMENT + "_".join(str(part) for part in self.path).upper()
        return Origin(self.layer, self.file, key, self.locate(path) or self.locate(self.path))

    def wrong(self, problem: str, item: int | None = None) -> Misconfigured:
        """An error about this value, or about one item of it."""
        at = self.origin_of(self.path if item is None else (*self.path, item))
        return Misconfigured(problem, at.file, at.key, at.line)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Give an error about this value its place; about a list, the item that the message quotes."""
        try:
            yield
        except Misconfigured as error:
            raise self.wrong(error.problem, self._item(error.problem)) from error

    def _item(self, problem: str) -> int | None:
        if not isinstance(self.value, (list, tuple)):
            return None
        quoted: list[tuple[int, int, int]] = []
        for index, item in enumerate(self.value):
            if not isinstance(item, str):
                return index
            found = problem.find(shown(item))
            if found >= 0:
                quoted.append((found, -len(item), index))
        # What comes later in the message is advice, which may mention an innocent item.
        return min(quoted)[2] if quoted else None


Leaves: TypeAlias = dict[KeyPath, Leaf]
