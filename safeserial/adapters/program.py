"""One program: its settings, from a file or as they are given, and the claims of its process."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from safeserial.audit.leases import Leases
from safeserial.config import Settings
from safeserial.config.stores import Stores

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Program"]


class Program(Stores):
    """One program's settings, and what is opened from them.

    Args:
        file: Settings file; ``safeserial.toml`` or ``pyproject.toml`` of the current folder if not said.
        clock: For tests; the time in seconds since the epoch.
        settings: The keys of the settings file, which may hold objects here (a keyring, stores, sinks).
    """

    #: The framework; also part of every digest, so that a message of one is not one of another under the same key.
    label: ClassVar[str] = ""

    def __init__(
        self, *, file: str | None = None, clock: Callable[[], float] | None = None, **settings: object
    ) -> None:
        super().__init__(self.label, clock)
        self._file = file
        self._given = settings
        #: The claims of this process: made here, because two threads with their first messages would make two.
        self.leases = Leases(lambda: self.claims)
        _ = self.settings  # what is wrong with them is said where they are written

    def _load_settings(self) -> Settings:
        return Settings.load(file=self._file, arguments=self._given)

    def prepare(self) -> None:
        """Make everything that a worker needs.

        Raises:
            Misconfigured: A setting, key or policy entry cannot be used.
        """
        self.settings.resolve()
        self.open_all()
