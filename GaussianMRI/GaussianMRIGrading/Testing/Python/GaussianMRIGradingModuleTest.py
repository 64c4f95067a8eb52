"""The module's own tests: CTest starts Slicer with this file, and unittest finds the class by its name here."""

from GaussianMRIGrading import GaussianMRIGradingTest

__all__ = ["GaussianMRIGradingTest"]
