"""The command line: it prints; the library returns.

Results go to standard output, diagnostics to standard error. Exit status: 0 fine, 1 found something or refused, 2 could
not do what was asked. Every command that reads takes ``--json``. Whatever an attacker wrote is shown through
:func:`safeserial.text.safe_repr` only.
"""
