"""What the panels of the modules share."""

import importlib.util
import os
import sys

# Run from a source checkout, the library lies beside the modules' folder; the installed extension has it on the path.
if importlib.util.find_spec("GaussianMRILib") is None:
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
