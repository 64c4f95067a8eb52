"""Methods side by side on planes with a known image: scores, a table and a labelled picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..methods import GAUSSIANS, METHODS, classical
from .app import progress_bar, run_fit, table

if TYPE_CHECKING:
    from ..geometry import ImagePlane
    from ..metrics import Lpips
    from ..stacks import SliceStack

Image = NDArray[np.float32]
Renderer = Callable[[Sequence["ImagePlane"]], list[Image]]
DEFAULT_METHODS = ("fast", "voxel", "linear", "cubic", "spline")
SMALLEST_FOR_LPIPS = 31  # pixels, what the network needs
BORDER = 2.0  # mm from the edge of what was scanned that are not judged


@dataclass(frozen=True)
class Result:
    """One method on every plane; images in units of the truth's data range, scores as means over planes."""

    method: str
    images: list[Image]
    psnr: list[float]
    ssim: list[float]
    lpips: list[float] | None

    def means(self) -> dict[str, float | None]:
        """PSNR in dB, SSIM, and LPIPS (None where it is not available)."""
        lpips = None if self.lpips is None else float(np.mean(self.lpips))
        return {"psnr": float(np.mean(self.psnr)), "ssim": float(np.mean(self.ssim)), "lpips": lpips}


def renderer(method: str, stacks: Sequence[SliceStack], fit_options: dict[str, Any]) -> Renderer:
    """A function from planes to images by one of `METHODS`, in the stacks' units, NaN outside the scan."""
    if method in GAUSSIANS:
        from ..fitting import Fitter

        return run_fit(Fitter(list(stacks), preset=method, **fit_options), f"Fitting ({method})").render_many
    with progress_bar(METHODS[method].capitalize()):
        resampler = classical(method, stacks)
    return lambda planes: [resampler.render(plane) for plane in planes]


def mask_truth(
    truths: Sequence[Image], planes: Sequence[ImagePlane], stacks: Sequence[SliceStack]
) -> list[Image]:
    """The truth with NaN outside the stacks and near their borders, so that no method is judged there.

    Raises:
        GaussianMRIError: nothing is left to judge.
    """
    from ..stacks import hulls_of

    masked = []
    hulls = hulls_of(stacks)
    for image, plane in zip(truths, planes, strict=True):
        points = plane.points()
        judged = np.zeros(plane.shape, dtype=bool)
        for hull in hulls:
            judged |= (points @ hull[:, :3].T + hull[:, 3]).max(axis=-1) <= -BORDER
        masked.append(np.where(judged, image, np.nan).astype(np.float32))
    if not any(np.isfinite(image).any() for image in masked):
        raise GaussianMRIError("The true images lie outside the input slices; they must show the same place.")
    return masked


def compare(
    renderers: Mapping[str, Renderer],
    planes: Sequence[ImagePlane],
    truths: Sequence[Image],
    matched: bool = False,
) -> tuple[list[Image], list[Result]]:
    """Render planes by several methods and score them on the finite pixels of `truths`.

    Args:
        renderers: by name; the images in the units of the truths, unless `matched` fits a scale and
            an offset for each method.

    Returns:
        the truths and the results, both divided by the 99.9th percentile of the truths, which is the data
        range.
    """
    from ..metrics import Lpips, match_intensity

    kept = [index for index, image in enumerate(truths) if np.isfinite(image).sum() >= 64]
    if not kept:
        raise GaussianMRIError("There are no pixels to judge; the true images must overlap the input slices.")
    planes, truths = [planes[index] for index in kept], [truths[index] for index in kept]
    scale = float(np.percentile(np.concatenate([image[np.isfinite(image)] for image in truths]), 99.9))
    if scale <= 0:
        raise GaussianMRIError("The true images are empty (no positive intensity).")
    truths = [(image / scale).astype(np.float32) for image in truths]
    results = []
    lpips = Lpips()
    for name, render in renderers.items():
        images = [image / np.float32(scale) for image in render(planes)]
        if matched:
            images = match_intensity(images, truths)
        results.append(_score(name, images, truths, lpips))
    return truths, results


def _score(method: str, images: Sequence[Image], truths: Sequence[Image], lpips: Lpips) -> Result:
    from ..evaluation import score_image

    scores = [
        score_image(
            image, truth, lpips if min(image.shape) >= SMALLEST_FOR_LPIPS else None, f"An image of method {method}"
        )
        for image, truth in zip(images, truths, strict=True)
    ]
    perceptuals = [score.lpips for score in scores if score.lpips is not None]
    return Result(
        method,
        list(images),
        [score.psnr for score in scores],
        [score.ssim for score in scores],
        perceptuals if len(perceptuals) == len(scores) else None,
    )


def results_table(results: Sequence[Result]) -> str:
    """One line a method; the best of every column is marked."""
    means = [result.means() for result in results]
    best_psnr, best_ssim = max(mean["psnr"] or 0 for mean in means), max(mean["ssim"] or 0 for mean in means)
    rows = []
    for result, mean in zip(results, means, strict=True):
        psnr, ssim, lpips = mean["psnr"] or 0.0, mean["ssim"] or 0.0, mean["lpips"]
        rows.append(
            [
                METHODS.get(result.method, result.method),
                f"{psnr:.2f}{'*' if psnr == best_psnr else ' '}",
                f"{ssim:.4f}{'*' if ssim == best_ssim else ' '}",
                "n/a" if lpips is None else f"{lpips:.4f}",
            ]
        )
    return table(["Method", "PSNR dB ", "SSIM ", "LPIPS"], rows)


def comparison_picture(path: Path, truths: Sequence[Image], results: Sequence[Result], rows: int = 3) -> None:
    """Write a PNG: truth and methods side by side, every image in the same window, each with its own scores.

    Args:
        rows: planes to show at most, spread over all.
    """
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    from ..files import atomic_write

    shown = np.unique(np.linspace(0, len(truths) - 1, rows + 2)[1:-1].round().astype(int))
    height, width = np.max([truths[index].shape for index in shown], axis=0)
    zoom = max(1, round(260 / max(height, width)))
    cell_width, cell_height, caption = int(width * zoom), int(height * zoom), 22
    columns = 1 + len(results)
    picture = Pictures.new(
        "L", (columns * (cell_width + 4) - 4, len(shown) * (cell_height + caption + 4) - 4), 0
    )
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=13)
    white = max(float(np.nanpercentile(truths[index], 99.5)) for index in shown)
    for line, index in enumerate(shown):
        top = line * (cell_height + caption + 4)
        cells = [("truth", truths[index])]
        cells += [
            (f"{r.method}  {r.psnr[index]:.2f} dB  {r.ssim[index]:.3f}", r.images[index]) for r in results
        ]
        for column, (label, image) in enumerate(cells):
            left = column * (cell_width + 4)
            grey = (np.clip(np.nan_to_num(image) / white, 0, 1) * 255).astype(np.uint8)
            tile = Pictures.fromarray(grey).resize(
                (image.shape[1] * zoom, image.shape[0] * zoom), Pictures.Resampling.BICUBIC
            )
            picture.paste(tile, (left, top + caption))
            draw.text((left + 3, top + 3), label, fill=255, font=font)
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
