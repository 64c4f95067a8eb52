"""The quality protocol: fixed scans, slices, planes and scores, the same for every method."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..metrics import psnr, ssim
from ..stacks import SliceStack
from ..volumes import Volume
from .simulate import load_isotropic, oblique_planes, simulate_stack, truth


@dataclasses.dataclass(frozen=True)
class QualityCase:
    """Simulated stacks of one scan, the planes to resample and their true images.

    Attributes:
        stacks: what a method may see.
        planes: thin planes to render.
        thin, thick: true images of `planes`, (rows, columns) float32, NaN where not judged.
        thickness: of the thick truth, mm; `thick_planes` are the planes with that thickness.
    """

    name: str
    scan: Volume
    stacks: list[SliceStack]
    planes: list[ImagePlane]
    thin: list[np.ndarray]
    thick: list[np.ndarray]
    thickness: float = 4.0

    @property
    def thick_planes(self) -> list[ImagePlane]:
        return [dataclasses.replace(plane, thickness=self.thickness) for plane in self.planes]


@dataclasses.dataclass(frozen=True)
class Score:
    """Of one plane, or the mean over several. `lpips` is None where the metric is not available."""

    psnr: float
    ssim: float
    lpips: float | None = None


def quality_case(
    name: str,
    shared_data: str | os.PathLike[str],
    directions: Sequence[str] = ("axial",),
    planes: int = 12,
    seed: int = 0,
) -> QualityCase:
    """The protocol on one shared scan: 4 mm slices, 1 % Rician noise, planes tilted 5 to 30 degrees.

    Args:
        name: 'lumbar_t2', 'brain_t1' or 'brain_t1_fine'.
        directions: one simulated stack each; planes are tilted against the first.
        planes: how many planes.
        seed: of noise and planes.
    """
    scan = load_isotropic(name, shared_data)
    stacks = [simulate_stack(scan, direction, seed=seed + n) for n, direction in enumerate(directions)]
    chosen = oblique_planes(stacks[0], planes, seed=seed)
    return QualityCase(
        name,
        scan,
        stacks,
        chosen,
        thin=[truth(scan, plane, False, stacks) for plane in chosen],
        thick=[truth(scan, plane, True, stacks) for plane in chosen],
    )


def score(images: Sequence[np.ndarray], truths: Sequence[np.ndarray], lpips: Callable | None = None) -> Score:
    """PSNR (dB, data range 1), SSIM and LPIPS over the pixels that are finite in the truth, mean over planes.

    Args:
        images: a method's images, (rows, columns) each.
        truths: of the same shapes; NaN pixels are not judged.
        lpips: a `GaussianMRILib.metrics.Lpips` or any function of (image, truth); default: not computed.

    Raises:
        GaussianMRIError: an image has NaN where the truth is finite; every method is judged on the same
            pixels.
    """
    if len(images) != len(truths) or not truths:
        raise GaussianMRIError(f"Got {len(images)} images for {len(truths)} true images; pass one of each.")
    scores = [
        score_image(image, target, lpips, f"Image {number}")
        for number, (image, target) in enumerate(zip(images, truths, strict=True))
    ]
    return Score(
        psnr=float(np.mean([one.psnr for one in scores])),
        ssim=float(np.mean([one.ssim for one in scores])),
        lpips=None if any(one.lpips is None for one in scores) else float(np.mean([one.lpips for one in scores])),
    )


def score_image(image: np.ndarray, target: np.ndarray, lpips: Callable | None, name: str) -> Score:
    """`score` of one image; `name` begins the sentence that says what is wrong with it."""
    judged = np.isfinite(target)
    missing = int((judged & ~np.isfinite(image)).sum())
    if missing:
        raise GaussianMRIError(f"{name} is empty on {missing} of {int(judged.sum())} pixels to judge.")
    image = np.where(judged, image, np.nan)
    perceptual = lpips(image, target) if lpips is not None else None
    return Score(psnr(image, target, data_range=1.0), ssim(image, target, data_range=1.0), perceptual)
