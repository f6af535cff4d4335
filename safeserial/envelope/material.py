"""Key material by reference: where a secret stands that a keyring file only points to. Does I/O, starts commands.

In a keyring file ``"material"`` is 43 characters of base64url, or one of::

    env:NAME              an environment variable
    file:PATH             a file of its own, relative to the keyring's folder; mode 600 or stricter
    cmd:PROGRAM ARG ...   what a command prints; no shell, ten seconds
    provider:NAME[:TEXT]  what the entry point NAME in the group "safeserial.keys" returns when called with TEXT

Each gives 43 characters of base64url, with or without white space around them; a provider may return 32 bytes. What
was read is never shown, and neither is what a command printed, or a key that stands where its place should.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
import subprocess
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

from safeserial.errors import Misconfigured
from safeserial.text import safe_repr, safe_setting

__all__ = ["COMMAND_SECONDS", "NEW", "PROVIDERS", "decode", "encode", "is_reference", "read_private", "resolve"]

#: Entry point group of key providers.
PROVIDERS = "safeserial.keys"
#: How long a command may take.
COMMAND_SECONDS = 10
NEW = "make one with: safeserial keys new"
_POSIX = os.name == "posix"
_TEXT = re.compile(r"[A-Za-z0-9_-]{43}")
_SCHEMES = ("env:", "file:", "cmd:", "provider:")
_MAX_OUTPUT = 4096


def encode(raw: bytes) -> str:
    """32 bytes as 43 characters of base64url."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: object) -> bytes | None:
    """The 32 bytes that 43 characters of base64url say, or ``None`` for anything else."""
    if not isinstance(text, str) or not _TEXT.fullmatch(text):
        return None
    raw = urlsafe_b64decode(text + "=")
    # 43 characters hold two bits more than 32 bytes do: only one of the four spellings is ours.
    return raw if encode(raw) == text else None


def is_reference(text: object) -> bool:
    """Whether it points to material instead of being some."""
    return isinstance(text, str) and text.startswith(_SCHEMES)


def resolve(reference: str, folder: str) -> bytes:
    """Read the material that a reference points to.

    Args:
        reference: See the module.
        folder: What a relative path is relative to.

    Returns:
        32 bytes.

    Raises:
        Misconfigured: There is none. The text names the reference's kind and what is wrong, and shows no secret.
    """
    scheme, _, rest = reference.partition(":")
    reader = {"env": _from_env, "file": _from_file, "cmd": _from_command, "provider": _from_provider}[scheme]
    found = reader(rest, folder)
    raw = found if isinstance(found, bytes) and len(found) == 32 else decode(_stripped(found))
    if raw is None:
        raise Misconfigured(f"{scheme}: gives no 32 random bytes as 43 characters of base64url; {NEW}", key="material")
    return raw


def _stripped(found: object) -> object:
    if isinstance(found, bytes):
        return found.decode("latin-1").strip()
    return found.strip() if isinstance(found, str) else found


def _from_env(name: str, _: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        problem = "is not set"
    except ValueError:  # a lone surrogate
        problem = "cannot exist: its name is no text"
    raise Misconfigured(f"the environment variable {safe_setting(name)} {problem}", key="material")


def _from_file(path: str, folder: str) -> bytes:
    whole = os.path.join(folder, path)
    try:
        return read_private(whole, _MAX_OUTPUT).strip()
    except Misconfigured as error:
        raise Misconfigured(f"{safe_setting(whole)}: {error.problem}", key="material") from None


def _from_command(line: str, folder: str) -> bytes:
    try:
        words = shlex.split(line)
    except ValueError:
        words = []
    if not words:
        raise Misconfigured("cmd: needs a program and its arguments, as a shell would quote them", key="material")
    name = safe_setting(words[0])
    try:
        running = subprocess.Popen(  # noqa: S603 - the operator's own command, from the operator's own file, no shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder or None,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:  # ValueError: a null byte or a lone surrogate
        reason = (isinstance(error, OSError) and error.strerror) or "an argument is no text that a program can take"
        problem = f"the command {name} cannot be started: {reason}"
    else:
        printed = _output(running)
        if printed is None:
            problem = f"the command {name} took more than {COMMAND_SECONDS} seconds"
        elif len(printed) > _MAX_OUTPUT:
            problem = f"the command {name} printed more than {_MAX_OUTPUT} bytes"
        elif running.returncode == 0:
            return printed
        else:
            problem = f"the command {name} ended with status {running.returncode}"
    # Raised out here: the errors above hold the command's arguments and output.
    raise Misconfigured(problem, key="material")


def _output(running: subprocess.Popen[bytes]) -> bytes | None:
    """What a command prints, one byte more than is allowed at most; ``None`` if it takes too long.

    One that does not end is ended with all that it started: it is read again and again while it fails.
    """
    assert running.stdout is not None
    pipe, found = running.stdout, bytearray()

    def read() -> None:
        while len(found) <= _MAX_OUTPUT and (more := os.read(pipe.fileno(), _MAX_OUTPUT + 1 - len(found))):
            found.extend(more)

    reader = threading.Thread(target=read, name="safeserial-command", daemon=True)
    until = time.monotonic() + COMMAND_SECONDS
    reader.start()
    reader.join(COMMAND_SECONDS)
    in_time = not reader.is_alive()
    try:
        if in_time and len(found) <= _MAX_OUTPUT:
            running.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        in_time = False
    if running.returncode is None:
        with suppress(OSError):  # it ended this moment
            if _POSIX:
                os.killpg(running.pid, signal.SIGKILL)
            else:  # pragma: no cover - Windows
                running.kill()
        running.wait()
        # Nobody holds the other end any more.
        reader.join()
    pipe.close()
    return bytes(found) if in_time else None


def _from_provider(text: str, _: str) -> object:
    from importlib.metadata import entry_points

    name, _, argument = text.partition(":")
    shown = f"the key provider {safe_repr(name)}"
    doing = "cannot be looked up"
    try:
        found = list(entry_points(group=PROVIDERS, name=name))
        if not found:
            raise Misconfigured(f"no installed package has a key provider {safe_repr(name)}")
        doing = "cannot be imported"
        provider: Any = found[0].load()
        doing = "did not give a key"
        return provider(argument)
    except Misconfigured as error:
        problem = error.problem
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a stranger's code: whatever it raises, the ring is not loaded
        problem = f"{shown} {doing}: it raised {type(error).__name__}"
    # Raised out here: the text of those errors, and what their frames hold, may be a secret.
    raise Misconfigured(problem, key="material")


def read_private(path: str, max_bytes: int) -> bytes:
    """Read a file that only its owner can touch.

    Args:
        path: Where it is.
        max_bytes: Inclusive ceiling.

    Raises:
        Misconfigured: It cannot be read, is no regular file, is too large, or group or others can read or write it.
    """
    data: bytes | None
    try:
        # Non-blocking, so that a FIFO is refused below and does not hang the start-up.
        fd = os.open(Path(path), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            # Asked of the open file, not of the path: the path may point elsewhere a moment later.
            _check_mode(os.fstat(fd).st_mode)
            data = _read_at_most(fd, max_bytes + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        data, problem = None, (isinstance(error, OSError) and error.strerror) or "this is no path"
    if data is None:
        # Raised out here: that error holds the path, which may be a key in the wrong place.
        raise Misconfigured(f"it cannot be read: {problem}")
    if len(data) > max_bytes:
        raise Misconfigured(f"it is larger than {max_bytes} bytes")
    return data


def _read_at_most(fd: int, size: int) -> bytes:
    # By the descriptor: a file object that a library of greenlets puts in place of Python's closes what it was lent.
    parts: list[bytes] = []
    while size > 0:
        part = os.read(fd, min(size, 1 << 16))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _check_mode(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise Misconfigured("it must be a regular file")
    if _POSIX and mode & 0o066:
        raise Misconfigured("group or others can read or write it; run chmod 600 on it")
