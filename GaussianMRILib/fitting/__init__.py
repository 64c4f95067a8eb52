"""Fit Gaussians to slices."""

from .fitter import Fitter, fit
from .problem import Progress

__all__ = ["Fitter", "Progress", "fit"]
