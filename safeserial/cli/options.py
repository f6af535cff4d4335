"""Options that several commands share: where keys and policy come from, and how they become a gateway."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from safeserial.config import Settings
from safeserial.envelope import Keyring
from safeserial.gateway import Gateway

if TYPE_CHECKING:
    from safeserial.policy import Policy

__all__ = ["Ground", "ground_options", "make_ground", "project_folder"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Ground:
    """What a file is judged with.

    Attributes:
        policy: What may be built.
        keyring: Keys, or ``None`` where none were given.
        context: Implicit context of the envelope.
        audience: Who the reader is.
    """

    policy: Policy
    keyring: Keyring | None
    context: bytes
    audience: str | None

    def gateway(self, keyring: Keyring) -> Gateway:
        """A gateway that tells nobody: looking at a message is no event."""
        return Gateway(
            keyring=keyring, policy=self.policy, context=self.context, audience=self.audience, audit=_Silent()
        )


class _Silent:
    def emit(self, event: object) -> None:
        """Nothing: who runs the command sees the refusal."""

    def close(self) -> None:
        """Nothing to let go of."""


def ground_options(function: F) -> F:
    """Add ``--config``, ``--queue``, ``--keyring``, ``--allow`` and ``--preset``."""
    options = (
        click.option("--config", type=click.Path(exists=True, dir_okay=False),
                     help="Settings file; safeserial.toml or pyproject.toml of this folder if not given."),
        click.option("--queue", help="Judge with the policy of this queue's section."),
        click.option("--keyring", "keyring_source", metavar="SOURCE",
                     help='Keys for sealed bytes: "env:NAME" or "file:PATH"; from the settings if not given.'),
        click.option("--allow", multiple=True, metavar="MODULE:NAME", help="Grant one more exact name. Repeatable."),
        click.option("--preset", "presets", multiple=True, metavar="NAME@N", help="Grant one more preset. Repeatable."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@contextmanager
def project_folder() -> Iterator[None]:
    """Let a policy name modules of the current folder, as ``python -m`` would; a console script does not see them."""
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.pop(0)


def make_ground(
    config: str | None, queue: str | None, keyring_source: str | None, allow: tuple[str, ...], presets: tuple[str, ...]
) -> Ground:
    """Read what the options of :func:`ground_options` name.

    Raises:
        Misconfigured: Something in it cannot be used.
    """
    settings = Settings.load(file=config)
    policy = settings.policy_for(queue).extended(allow=allow, presets=presets)
    keyring: Keyring | None = None
    if keyring_source is not None:
        keyring = Keyring.load(keyring_source)
    elif settings.keyring is not None:
        keyring = settings.open_keyring()
    with project_folder():
        policy.resolve()
    return Ground(policy, keyring, settings.context.encode(), settings.audience)
