"""Measured quality: simulated acquisitions of real scans, planes with known images, scores."""

from .protocol import QualityCase, quality_case
from .scoring import MethodScores, Score, compare, judged, score, score_image
from .simulate import SCANS, load_isotropic, oblique_planes, simulate_stack, truth

__all__ = [
    "SCANS",
    "MethodScores",
    "QualityCase",
    "Score",
    "compare",
    "judged",
    "load_isotropic",
    "oblique_planes",
    "quality_case",
    "score",
    "score_image",
    "simulate_stack",
    "truth",
]
