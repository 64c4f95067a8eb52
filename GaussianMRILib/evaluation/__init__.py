"""Measured quality: simulated acquisitions of real scans, planes with known images, scores."""

from .protocol import QualityCase, Score, quality_case, score, score_image
from .simulate import SCANS, load_isotropic, oblique_planes, simulate_stack, truth

__all__ = [
    "SCANS",
    "QualityCase",
    "Score",
    "load_isotropic",
    "oblique_planes",
    "quality_case",
    "score",
    "score_image",
    "simulate_stack",
    "truth",
]
