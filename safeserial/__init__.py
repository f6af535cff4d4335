"""safeserial: a gateway between bytes and objects.

Nothing becomes an object before it was counted, authenticated, judged and found to be allowed; what is refused is
explained, audited and kept. This module holds the public names, nothing else.
"""

from safeserial.envelope import Key, Keyring
from safeserial.errors import Misconfigured, Reason, Refused, SafeSerialError
from safeserial.formats.fingerprint import fingerprint
from safeserial.gateway import Gateway
from safeserial.limits import Limits
from safeserial.loads import safe_dumps, safe_loads
from safeserial.minipickle import BUILD
from safeserial.policy import Policy

__all__ = [
    "BUILD",
    "Gateway",
    "Key",
    "Keyring",
    "Limits",
    "Misconfigured",
    "Policy",
    "Reason",
    "Refused",
    "SafeSerialError",
    "__version__",
    "fingerprint",
    "safe_dumps",
    "safe_loads",
]

__version__ = "0.1.0"
