"""What the panels of the modules share."""

import sys
from pathlib import Path

# In a checkout the library lies beside the modules' folder; in the installed extension it is on the path.
if (Path(__file__).resolve().parents[2] / "GaussianMRILib").is_dir():
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
