"""Pictures to check a disc and its region by eye: on sagittal slices, and as the crops that a network gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, transform_points
from ..stacks import SliceStack, as_stacks
from .disc import DiscGeometry, Vector
from .roi import COUNT, Region, aligned_planes

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from .inputs import GradingInput

SAGITTAL_MM, PIXELS_PER_MM = 130.0, 3.0
_GAP, _CAPTION = 6, 20
DISC, PLANE, BOX, POINT, TEXT = (255, 220, 0), (90, 170, 255), (60, 220, 90), (255, 60, 60), (255, 255, 255)


def overlay_picture(
    disc: DiscGeometry,
    region: Region,
    stacks: SliceStack | Sequence[SliceStack],
    inputs: GradingInput | None = None,
) -> NDArray[np.uint8]:
    """A picture to check by eye.

    On the left the middle of the disc seen from its left side, front on the left: its line from front to back and
    its normal (yellow), the planes (blue), the region seen from its side (green), the reference point (red). Beside
    it the axial slices seen from the front, with the patient's left on the right. Below, the crops from inferior to
    superior, patient's left on the right, front up; the reference point is red where it lies on the slice.

    Args:
        disc, region: see `region_of`.
        stacks: the scan; without a sagittal or an axial stack, the other kind is resampled for that view.
        inputs: the crops; without them one is taken from the stacks in the plane of the disc.

    Returns:
        (H, W, 3) uint8.

    Raises:
        GaussianMRIError: the scan shows nothing of the disc.
    """
    from PIL import Image as Pictures
    from PIL import ImageDraw

    stacks = as_stacks(stacks)
    planes = list(inputs.planes) if inputs is not None else aligned_planes(region)
    shown = [plane for plane, there in zip(planes, inputs.mask, strict=True) if there] if inputs else planes
    sagittal = [stack for stack in stacks if stack.is_sagittal] or stacks
    across = [stack for stack in stacks if stack not in sagittal] or stacks
    up = np.array([0.0, 0.0, 1.0])
    left = disc.left - up * (disc.left @ up)
    left /= np.linalg.norm(left)
    back = np.cross(up, left)
    size = round(SAGITTAL_MM * PIXELS_PER_MM)
    spacing, shape = (1 / PIXELS_PER_MM, 1 / PIXELS_PER_MM), (size, size)
    views = [
        ("from the left", ImagePlane.from_axes(disc.center, back, -up, spacing=spacing, shape=shape), sagittal),
        ("from the front", ImagePlane.from_axes(region.reference, left, -up, spacing=spacing, shape=shape), across),
    ]
    tiles = []
    for number, (title, view, seen) in enumerate(views):
        picture = Pictures.fromarray(_grey(_resampled(seen, view), disc))
        draw = ImageDraw.Draw(picture)
        _draw_planes(draw, view, shown)
        _draw_disc(draw, view, disc, region, side=number == 0)
        _caption(
            draw,
            f"{disc.level} {title}",
            f"{disc.tilt_degrees:.0f} degrees; {disc.provenance}" if not number else "",
        )
        tiles.append(picture)
    crops = _crops(disc, region, stacks, inputs)
    width = max(2 * size + _GAP, crops.width)
    canvas = Pictures.new("RGB", (width, size + _GAP + crops.height))
    for number, tile in enumerate(tiles):
        canvas.paste(tile, (number * (size + _GAP), 0))
    canvas.paste(crops, (0, size + _GAP))
    return np.asarray(canvas)


def _resampled(stacks: Sequence[SliceStack], plane: ImagePlane) -> NDArray[np.float64]:
    """The nearest slices, linearly; NaN outside."""
    from ..volumes import ScatteredSlices

    points = plane.points()
    image = np.full(plane.shape, np.nan)
    for stack in stacks:
        inside = stack.inside(points) & np.isnan(image)
        if inside.any():
            image[inside] = ScatteredSlices(stack).values(points[inside])
    return image


def _grey(image: NDArray[np.floating], disc: DiscGeometry) -> NDArray[np.uint8]:
    finite = image[np.isfinite(image)]
    if not finite.size:
        raise GaussianMRIError(
            f"The scan shows nothing around {disc.named}; check that disc and scan are of one study."
        )
    low, high = np.percentile(finite, (1, 99.5))
    grey = np.clip((np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-6), 0, 1) * 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def _pixel(view: ImagePlane, points: NDArray[np.float64]) -> list[tuple[float, float]]:
    local = transform_points(np.linalg.inv(view.ijk_to_ras), points)
    return [(float(x), float(y)) for x, y in local[:, :2]]


def _line(
    draw: ImageDraw, view: ImagePlane, points: Sequence[Vector], colour: tuple[int, int, int], width: int = 1
) -> None:
    draw.line(_pixel(view, np.asarray(points)), fill=colour, width=width)


def _dot(
    draw: ImageDraw, view: ImagePlane, point: Vector, colour: tuple[int, int, int], size: int = 3
) -> None:
    x, y = _pixel(view, point[None])[0]
    draw.ellipse([x - size, y - size, x + size, y + size], fill=colour)


def _draw_planes(draw: ImageDraw, view: ImagePlane, planes: Sequence[ImagePlane]) -> None:
    """Each plane as the line in which it cuts the view, as long as its image; a box around all of them."""
    ends = []
    for number, plane in enumerate(planes):
        along_rows = abs(view.normal @ plane.i_axis) > abs(view.normal @ plane.j_axis)
        rows, columns = plane.shape
        half = (
            plane.j_axis * plane.spacing[1] * rows / 2
            if along_rows
            else plane.i_axis * plane.spacing[0] * columns / 2
        )
        ends.append((plane.center - half, plane.center + half))
        _line(draw, view, ends[-1], PLANE)
        if number in (0, len(planes) - 1):
            x, y = _pixel(view, ends[-1][1][None])[0]
            draw.text((x + 3, y - 6), "1" if number == 0 else str(len(planes)), fill=PLANE)
    box = [ends[0][0], ends[0][1], ends[-1][1], ends[-1][0], ends[0][0]]
    _line(draw, view, box, BOX)


def _draw_disc(draw: ImageDraw, view: ImagePlane, disc: DiscGeometry, region: Region, side: bool) -> None:
    if side:
        middle = int(np.argmin(np.abs(disc.local(disc.posterior)[:, 0])))
        _line(draw, view, [disc.anterior[middle], disc.posterior[middle]], DISC, 2)
        _line(draw, view, [disc.center, disc.center + 15 * disc.normal], DISC, 2)
        if disc.height is not None:
            for sign in (-0.5, 0.5):
                face = disc.center + sign * disc.height * disc.normal
                _line(draw, view, [face - 12 * disc.back, face + 12 * disc.back], DISC)
    else:
        half = disc.sagittal_depth / 2 * disc.left
        _line(draw, view, [region.reference - half, region.reference + half], DISC, 2)
    _dot(draw, view, region.reference, POINT)


def _caption(draw: ImageDraw, title: str, text: str) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=13)
    draw.text((4, 3), title, fill=TEXT, font=font)
    draw.text((4, 19), text[:60], fill=TEXT, font=ImageFont.load_default(size=11))


def _crops(
    disc: DiscGeometry, region: Region, stacks: Sequence[SliceStack], inputs: GradingInput | None
) -> Image:
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    if inputs is None:
        plane = region.plane()
        pictures = [_grey(_resampled(stacks, plane), disc)]
        planes, mask, title = [plane], [True], "resampled in the plane of the disc"
    else:
        white = max(float(np.percentile(inputs.images[inputs.mask], 99.8)), 1e-6)
        grey = (np.clip(inputs.images / white, 0, 1) * 255).astype(np.uint8)
        pictures = list(np.repeat(grey[..., None], 3, axis=-1))
        planes, mask = list(inputs.planes), list(inputs.mask)
        title = (
            f"{inputs.input_type}, {inputs.count} of {COUNT} slices, {inputs.outside:.0%} outside the scan"
        )
    rows, columns = pictures[0].shape[:2]
    across = min(3, len(pictures))
    down = -(-len(pictures) // across)
    canvas = Pictures.new("RGB", (across * (columns + _GAP) - _GAP, down * (rows + _GAP) + _CAPTION))
    draw = ImageDraw.Draw(canvas)
    draw.text(
        (4, 3), f"{title}; width {region.width:.0f} mm", fill=TEXT, font=ImageFont.load_default(size=12)
    )
    for number, (picture, plane, there) in enumerate(zip(pictures, planes, mask, strict=True)):
        x, y = number % across * (columns + _GAP), _CAPTION + number // across * (rows + _GAP)
        canvas.paste(Pictures.fromarray(picture), (x, y))
        away = float((plane.center - region.reference) @ plane.normal)
        label = f"{number + 1}: {away:+.1f} mm" if there else f"{number + 1}: none"
        draw.text((x + 3, y + 2), label, fill=TEXT, font=ImageFont.load_default(size=10))
        draw.text((x + columns - 10, y + rows // 2), "L", fill=TEXT, font=ImageFont.load_default(size=10))
        if there and abs(away) < 2.5:
            column, row = _pixel(plane, region.reference[None])[0]
            draw.ellipse([x + column - 2, y + row - 2, x + column + 2, y + row + 2], outline=POINT)
    return canvas
