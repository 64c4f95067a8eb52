"""`gaussianmri resample --curve`: a straightened volume or image along a curve."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GaussianMRIError
from ..geometry.curve import ACROSS
from .resample_volume import write_slabs

if TYPE_CHECKING:
    from ..gaussians import GaussianField

_logger = logging.getLogger("GaussianMRI")


@dataclass(frozen=True)
class AlongCurve:
    """What the options of a curve say; see `curve_options`."""

    curve: Path
    width: float
    slab: float | None
    projection: str
    across: str | None
    keep_across: bool
    turn: float


def curve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a curve, which the command gets as `along`: an AlongCurve, or None without --curve."""

    @functools.wraps(command)
    def collected(
        curve: Path | None, width: float | None, slab: float | None, projection: str, across: str | None,
        keep_across: bool, turn: float | None, **others: Any,
    ) -> Any:  # fmt: skip
        if curve is None:
            if keep_across or any(value is not None for value in (width, slab, across, turn)):
                raise click.UsageError("--width, --slab, --across, --keep-across and --turn are those of a --curve.")
            return command(along=None, projection=projection, **others)
        if projection != "mean" and not slab:
            raise click.UsageError("--projection needs --slab, the thickness of the image along a curve in mm.")
        along = AlongCurve(curve, 60.0 if width is None else width, slab, projection, across, keep_across, turn or 0.0)
        return command(along=along, projection="mean", **others)

    for option in (
        click.option(
            "--turn", type=float, default=None, metavar="DEG", help="Turn the image about the curve by DEG degrees."
        ),
        click.option(
            "--keep-across", is_flag=True,
            help="Keep --across along the whole curve; else the image turns about the curve as little as possible.",
        ),
        click.option(
            "--across", type=click.Choice(list(ACROSS)), default=None,
            help="Direction across the image: back gives a sagittal, left a coronal image of a spine.  [default: back, or "
            "feet or left where the curve runs so]",
        ),
        click.option(
            "--slab", type=click.FloatRange(0, 1000), default=None, metavar="MM",
            help="Write the image along the curve in place of a volume to -o, MM thick; 0 is thin.",
        ),
        click.option(
            "--width", type=click.FloatRange(0, 1000, min_open=True), default=None, metavar="MM",
            help="What is shown on both sides of the curve together.  [default: 60]",
        ),
        click.option(
            "--curve", type=click.Path(path_type=Path), default=None, metavar="X.mrk.json",
            help="Instead of planes, a straightened volume along the first curve of a file of 3D Slicer; --spacing is by "
            "default the field's own.",
        ),
    ):  # fmt: skip
        collected = option(collected)
    return collected


def write_along_curve(
    field: GaussianField, along: AlongCurve, spacing: float | None, output: Path | None, png: Path | None
) -> str:
    """Render and write a straightened volume or image, and a picture of the image; a line that says so.

    Raises:
        GaussianMRIError: no usable curve, one outside the scan, or an output cannot be written.
    """
    import numpy as np

    from ..gaussians import straighten
    from ..geometry import Curve, ImagePlane
    from ..writers import write_png, write_volume

    curve = Curve.from_markups(along.curve, across=along.across, fixed=along.keep_across, turn=along.turn)
    straight = straighten(field, curve, width=along.width, spacing=spacing)
    whole = output is not None and along.slab is None
    folding = straight.folding if whole else curve.folding(along.width, aside=along.slab or 0.0)
    if folding:
        _logger.warning("%s: %s", along.curve, folding)
    plane = ImagePlane(straight.plane.ijk_to_ras, straight.plane.shape, thickness=along.slab or 0.0)
    image = straight.image(slab=plane.thickness, projection=along.projection)
    covered = float(np.isfinite(image).mean())
    if covered == 0:
        raise GaussianMRIError(f"{along.curve}: the curve lies outside the scanned region; place it in the scan.")
    if covered < 1:
        _logger.info("The scan covers %.0f %% of the image along the curve.", 100 * covered)
    lines = []
    if whole:
        lines.append(write_slabs(straight.grid, straight.slabs(), output))
    elif output is not None:
        write_volume(output, image, plane)
        lines.append(f"{image.shape[0]} x {image.shape[1]} pixels written to {output}")
    if png is not None:
        write_png(png, image, plane=plane)
        lines.append(f"{image.shape[0]} x {image.shape[1]} pixels written to {png}")
    return "\n".join([f"The curve is {curve.length:.1f} mm long.", *lines])
