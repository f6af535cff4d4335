"""Frozen versions: one JSON Schema file for each schema and version, in a folder of the user's repository.

Files are text that a person reviews: sorted, indented, ASCII, the same on every machine and Python that can import the
code. The name of a file is for people; what it is stands inside.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeserial.errors import Misconfigured
from safeserial.schema.registry import MAX_VERSION
from safeserial.text import safe_repr

if TYPE_CHECKING:
    import os

__all__ = ["Folder", "Frozen", "file_name", "text_of"]

_MAX_BYTES = 16 << 20
_MAX_NAME = 200
_SUFFIX = ".json"


@dataclass(frozen=True)
class Frozen:
    """One version, as it was frozen.

    Attributes:
        name: The schema.
        version: The version.
        document: Its JSON Schema.
        path: The file.
    """

    name: str
    version: int
    document: dict[str, Any] = field(repr=False)
    path: Path


def text_of(document: dict[str, Any]) -> str:
    """A document as it stands in a file."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def file_name(name: str, version: int) -> str:
    """The file of one version; a name that no file can have is written with percent signs, or cut."""
    safe = re.sub(r"[^A-Za-z0-9._-]|^\.", lambda m: "".join(f"%{byte:02X}" for byte in m[0].encode()), name)
    if len(safe) > _MAX_NAME:
        # No file system takes more than 255; the sign before the digest is one that no other name has.
        safe = f"{safe[:_MAX_NAME]}~{sha256(name.encode()).hexdigest()[:16]}"
    return f"{safe}.{version}{_SUFFIX}"


class Folder:
    """The folder of frozen versions.

    Args:
        path: Where; need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self) -> dict[str, dict[int, Frozen]]:
        """All frozen versions, by name and version.

        Raises:
            Misconfigured: A file is none, or two say the same.
        """
        found: dict[str, dict[int, Frozen]] = {}
        for path in sorted(self.path.glob(f"*{_SUFFIX}")):
            one = _read(path)
            versions = found.setdefault(one.name, {})
            if one.version in versions:
                raise Misconfigured(
                    f"it is version {one.version} of {safe_repr(one.name)}, as {versions[one.version].path.name} is",
                    str(path),
                )
            versions[one.version] = one
        return found

    def write(self, name: str, version: int, document: dict[str, Any]) -> Path:
        """Freeze one version, over what stood there; whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        path = self.path / file_name(name, version)
        half = path.with_name(f".{path.name}.new")
        half.write_text(text_of(document), "ascii")
        half.replace(path)
        return path


def _read(path: Path) -> Frozen:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise Misconfigured("it is too large for a schema", str(path))
        document = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        raise Misconfigured("it is no JSON; write it again with: safeserial schema freeze", str(path)) from None
    about = document.get("x-safeserial") if isinstance(document, dict) else None
    name, version = (about.get("schema"), about.get("version")) if isinstance(about, dict) else (None, None)
    if type(name) is not str or type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise Misconfigured('it does not say what it is of: "x-safeserial": {"schema": ..., "version": ...}', str(path))
    return Frozen(name, version, document, path)
