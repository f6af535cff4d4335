"""Makes ``fuzz.oracles`` and its neighbours importable, for these tests and for those that use the oracles elsewhere.

Pickles name the marker classes as ``fuzz.zoo:...``, so the package has to have that name wherever it runs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
