"""``safeserial disasm``: read a pickle without loading it."""
from __future__ import annotations
import click
@click.command()
def disasm() -> None:
    """x"""
