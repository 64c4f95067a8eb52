"""The fitted model: 3D Gaussians, and how planes are handed to the kernels."""

from .field import GaussianField
from .planes import PlaneBatch

__all__ = ["GaussianField", "PlaneBatch"]
