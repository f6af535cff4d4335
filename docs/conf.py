"""Sphinx configuration; the documentation builds with warnings as errors."""

from __future__ import annotations

import re
from pathlib import Path

_SOURCE = (Path(__file__).parent.parent / "safeserial" / "__init__.py").read_text("utf-8")
_VERSION = re.search(r'^__version__ = "([^"]+)"', _SOURCE, re.MULTILINE)

project = "safeserial"
author = "the safeserial authors"
copyright = "the safeserial authors, Apache License 2.0"
release = _VERSION.group(1) if _VERSION else ""
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "A gateway between bytes and objects", "fixed_sidebar": True}
myst_heading_anchors = 3
# Python blocks of a shell session and TOML with dates are shown as they are.
highlight_language = "python"
suppress_warnings = ["misc.highlighting_failure"]
