"""How images are judged against true ones: which pixels count, and the scores of methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..metrics import match_intensity, psnr, ssim

Image = NDArray[np.float32]
#: From images of one plane each to LPIPS; None where it is not available. See `GaussianMRILib.metrics.Lpips`.
Perceptual = Callable[..., float | None]

#: mm from the edge of what was scanned that are not judged, since methods end there in different ways.
BORDER_MM = 2.0
#: Judged pixels of an image that is compared at all.
FEWEST_PIXELS = 64


@dataclass(frozen=True)
class Score:
    """Of one image, or the mean over several: PSNR in dB, SSIM, LPIPS (None where it is not available)."""

    psnr: float
    ssim: float
    _: KW_ONLY
    lpips: float | None = None


@dataclass(frozen=True, eq=False)
class MethodScores:
    """One method on every plane that is compared.

    Attributes:
        method: its name.
        images: (rows, columns) each, in units of the data range.
        scores: one for each image.
    """

    method: str
    images: list[Image]
    scores: list[Score]

    @property
    def mean(self) -> Score:
        """Over the planes."""
        return mean_score(self.scores)


def judged(
    truth: Image,
    plane: ImagePlane,
    scans: Sequence[Sequence[NDArray[np.float64]]],
    *,
    border: float = BORDER_MM,
) -> Image:
    """A true image with NaN where no method must be judged.

    Args:
        truth: (rows, columns) on `plane`.
        scans: of each scan the hulls (M, 4) of what it covered, RAS mm. What counts lies inside every scan; so a truth for
            several series is compared where all of them show it, and with all their hulls as one scan where any does.
        border: mm that a pixel has to lie inside.
    """
    points = plane.points()
    counts = np.ones(plane.shape, bool)
    for hulls in scans:
        distances = [(points @ hull[:, :3].T + hull[:, 3]).max(axis=-1) for hull in hulls]
        counts &= np.min(distances, axis=0) <= -border
    return np.where(counts, truth, np.nan).astype(np.float32)


def score_image(
    image: Image,
    truth: Image,
    *,
    weight: NDArray[np.float64] | None = None,
    lpips: Perceptual | None = None,
    lpips_from: int = 0,
    whole: bool = True,
    name: str = "The image",
) -> Score:
    """Scores of an image over the pixels that are finite in the truth, for a data range of 1.

    Args:
        image, truth: (rows, columns), one shape.
        weight: of the pixels, the same shape; default: 1.
        lpips: computes it; None: it is left out.
        lpips_from: images with a shorter side than so many pixels have no LPIPS.
        whole: refuse an image that is empty where the truth is not, since methods are compared on the same pixels; False
            leaves such pixels out.
        name: of the image, where it is refused.

    Raises:
        GaussianMRIError: shapes that differ, no pixel to judge, or see `whole`.
    """
    counts = np.isfinite(truth)
    missing = int((counts & ~np.isfinite(image)).sum())
    if missing and whole:
        raise GaussianMRIError(f"{name} is empty on {missing} of {int(counts.sum())} pixels to judge.")
    image = np.where(counts, image, np.nan)
    given = {} if weight is None else {"weight": weight}
    perceptual = lpips(image, truth, **given) if lpips is not None and min(truth.shape) >= lpips_from else None
    return Score(
        psnr(image, truth, weight=weight, data_range=1.0),
        ssim(image, truth, weight=weight, data_range=1.0),
        lpips=perceptual,
    )


def mean_score(scores: Sequence[Score]) -> Score:
    """The mean of each measure; LPIPS is None unless every image has it."""
    perceptual = [one.lpips for one in scores if one.lpips is not None]
    return Score(
        float(np.mean([one.psnr for one in scores])),
        float(np.mean([one.ssim for one in scores])),
        lpips=float(np.mean(perceptual)) if len(perceptual) == len(scores) else None,
    )


def score(images: Sequence[Image], truths: Sequence[Image], *, lpips: Perceptual | None = None) -> Score:
    """The mean of `score_image` over several planes; `lpips`: see there.

    Raises:
        GaussianMRIError: see `score_image`; another number of images than of truths.
    """
    if len(images) != len(truths) or not truths:
        raise GaussianMRIError(f"Got {len(images)} images for {len(truths)} true images; pass one of each.")
    pairs = enumerate(zip(images, truths, strict=True))
    return mean_score([score_image(image, truth, lpips=lpips, name=f"Image {n}") for n, (image, truth) in pairs])


def compare(
    renderers: Mapping[str, Callable[[Sequence[ImagePlane]], Sequence[Image]]],
    planes: Sequence[ImagePlane],
    truths: Sequence[Image],
    *,
    matched: bool = False,
    most: int | None = None,
    lpips: Perceptual | None = None,
    lpips_from: int = 0,
    whole: bool = True,
    name: str = "the true images",
) -> tuple[list[Image], list[MethodScores]]:
    """Render planes by several methods and score them on the finite pixels of `truths` (see `judged`).

    Args:
        renderers: by name, from planes to images in the units of the truths, or in any with `matched`.
        planes, truths: as many; those with fewer than 64 pixels to judge are left out.
        matched: fit one scale and offset to the truth for each method.
        most: planes that are compared, spread over all; None: all.
        lpips, lpips_from, whole: see `score_image`.
        name: of the truths, for errors.

    Returns:
        The truths and the results, both divided by the 99.9th percentile of the truths, which is the data range.

    Raises:
        GaussianMRIError: no pixels to judge, or no positive intensity in them; see `score_image`.
    """
    kept = [n for n, truth in enumerate(truths) if np.isfinite(truth).sum() >= FEWEST_PIXELS]
    if not kept:
        raise GaussianMRIError(f"There are no pixels to judge in {name}; they must show what was scanned.")
    if most is not None and len(kept) > most:
        kept = [kept[n] for n in np.unique(np.linspace(0, len(kept) - 1, most).round().astype(int))]
    planes, truths = [planes[n] for n in kept], [truths[n] for n in kept]
    scale = np.float32(np.percentile(np.concatenate([truth[np.isfinite(truth)] for truth in truths]), 99.9))
    if scale <= 0:
        raise GaussianMRIError(f"There is no positive intensity to judge in {name}.")
    truths = [truth / scale for truth in truths]
    results = []
    for method, render in renderers.items():
        images = [image / scale for image in render(planes)]
        if matched:
            images = match_intensity(images, truths)
        scores = [
            score_image(
                image, truth, lpips=lpips, lpips_from=lpips_from, whole=whole, name=f"An image of method {method}"
            )
            for image, truth in zip(images, truths, strict=True)
        ]
        results.append(MethodScores(method, images, scores))
    return truths, results
