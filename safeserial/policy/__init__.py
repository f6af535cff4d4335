"""Policies: what may be built, in words an operator can review, compiled to the table that the judges take."""

from __future__ import annotations

from safeserial.policy.entries import compile_policy, known_presets
from safeserial.policy.model import Compiled, Finding, Policy, register

__all__ = ["Compiled", "Finding", "Policy"]

register(compile_policy, known_presets)
