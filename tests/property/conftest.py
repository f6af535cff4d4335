"""Makes ``type_zoo`` importable by the name that pickles of its classes have."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
