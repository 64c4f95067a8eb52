"""The fitted model: 3D Gaussians, and how planes are handed to the kernels."""

from .curved import StraightField, straighten
from .field import GaussianField
from .lattice import GaussianLattice
from .planes import BACKGROUND, CUT, PlaneBatch

__all__ = ["BACKGROUND", "CUT", "GaussianField", "GaussianLattice", "PlaneBatch", "StraightField", "straighten"]
