"""Methods side by side on planes with a known image: scores, a table and a labelled picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..methods import GAUSSIANS, METHODS, classical
from .app import progress_bar, run_fit, table

if TYPE_CHECKING:
    from ..evaluation import MethodScores
    from ..geometry import ImagePlane
    from ..stacks import SliceStack

Image = NDArray[np.float32]
Renderer = Callable[[Sequence["ImagePlane"]], list[Image]]
DEFAULT_METHODS = ("fast", "voxel", "linear", "cubic", "spline")


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
    from ..evaluation import judged
    from ..stacks import hulls_of

    scan = [hulls_of(stacks)]
    masked = [judged(image, plane, scan) for image, plane in zip(truths, planes, strict=True)]
    if not any(np.isfinite(image).any() for image in masked):
        raise GaussianMRIError("The true images lie outside the input slices; they must show the same place.")
    return masked


def score_methods(
    renderers: Mapping[str, Renderer],
    planes: Sequence[ImagePlane],
    truths: Sequence[Image],
    matched: bool = False,
) -> tuple[list[Image], list[MethodScores]]:
    """`evaluation.compare`, with LPIPS where its weights are there and every image is large enough for it."""
    from ..evaluation import compare
    from ..metrics.perceptual import SMALLEST, Lpips

    return compare(renderers, planes, truths, matched=matched, lpips=Lpips(), lpips_from=SMALLEST)


def results_table(results: Sequence[MethodScores]) -> str:
    """One line a method; the best of every column is marked."""
    means = [result.mean for result in results]
    best_psnr, best_ssim = max(mean.psnr for mean in means), max(mean.ssim for mean in means)
    rows = []
    for result, mean in zip(results, means, strict=True):
        rows.append(
            [
                METHODS.get(result.method, result.method),
                f"{mean.psnr:.2f}{'*' if mean.psnr == best_psnr else ' '}",
                f"{mean.ssim:.4f}{'*' if mean.ssim == best_ssim else ' '}",
                "n/a" if mean.lpips is None else f"{mean.lpips:.4f}",
            ]
        )
    return table(["Method", "PSNR dB ", "SSIM ", "LPIPS"], rows)


def comparison_picture(path: Path, truths: Sequence[Image], results: Sequence[MethodScores], rows: int = 3) -> None:
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
            (f"{r.method}  {r.scores[index].psnr:.2f} dB  {r.scores[index].ssim:.3f}", r.images[index]) for r in results
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
