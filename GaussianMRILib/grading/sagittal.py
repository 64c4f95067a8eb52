"""From a disc and a sagittal series to what a network sees: nine slices from the patient's right to the left."""

from __future__ import annotations

import numpy as np

from ..errors import GaussianMRIError
from ..stacks import SliceStack
from .disc import DiscGeometry
from .inputs import GradingInput, crop_slice, input_facts, normalised, share_outside, vertebral_median
from .labels import SAGITTAL_TYPES, Task
from .roi import COUNT, RegionOptions, crop_plane, region_of

#: mm to the left between the places whose nearest slices are taken, and from which place on a foramen is shown.
STEP_MM, FORAMEN_MM = 6.0, 12.0


def sagittal_input(
    disc: DiscGeometry,
    stack: SliceStack,
    kind: str,
    options: RegionOptions | None = None,
    median: float | None = None,
) -> GradingInput:
    """The sagittal slices nearest to nine places across a disc, 6 mm apart, cropped around the back of the disc.

    The crop is as wide and high as the axial region; its columns run to the back, its rows down. Slices run from the
    patient's right to the left, each in the slot of its place, so that the mirror image of a body has them in reverse
    order. A slot that no slice is near to is left empty.

    Args:
        disc: in the frame of reference of the stack.
        stack: sagittal slices.
        kind: "S-T1" or "S-T2", what the series is.
        options: of the region.
        median: intensity of the vertebrae, in place of `vertebral_median`.

    Raises:
        GaussianMRIError: slices that are not sagittal, or none that shows the region.
    """
    if kind not in SAGITTAL_TYPES or not stack.is_sagittal:
        raise GaussianMRIError(f"{stack.name} is not sagittal, or '{kind}' none of {', '.join(SAGITTAL_TYPES)}.")
    options = options or RegionOptions()
    region = region_of(disc, options)
    places = region.reference + (np.arange(COUNT) - COUNT // 2)[:, None] * STEP_MM * disc.left
    distances = np.abs(np.stack([stack.distances(place) for place in places]))
    chosen = distances.argmin(axis=1)
    mask = distances[np.arange(COUNT), chosen] <= max(stack.spacing, STEP_MM) / 2 + 1e-6
    if not mask.any():
        raise GaussianMRIError(f"{stack.name}: no slice crosses {disc.named}. Choose a series that shows this level.")
    planes = []
    for k in chosen:
        plane = stack.plane(int(k))
        normal = plane.normal * -np.sign(plane.normal @ disc.left)
        back = disc.back - normal * (normal @ disc.back)
        back /= np.linalg.norm(back)
        foot = region.reference - normal * (normal @ (region.reference - plane.origin))
        planes.append(crop_plane(region, foot, back, np.cross(normal, back), plane.thickness))
    images = np.stack([crop_slice(stack, int(k), plane) for k, plane in zip(chosen, planes, strict=True)])
    outside = share_outside(images[mask], stack.name, disc)
    mask &= np.isfinite(images).any(axis=(1, 2))
    median = vertebral_median(stack, disc) if median is None else float(median)
    facts = input_facts(disc, region, options, [stack], median) | {
        "spacing_mm": STEP_MM,
        "thickness_mm": round(stack.thickness, 3),
        "slices": int(mask.sum()),
    }
    filled = np.where(mask[:, None, None], normalised(images, median), np.float32(0))
    return GradingInput(filled, mask, tuple(planes), kind, outside, facts)


def check_shows_side(images: GradingInput, task: Task) -> None:
    """Refuse sagittal slices that do not reach the side, or the midline, that a network grades.

    Raises:
        GaussianMRIError: they do not.
    """
    away = (np.arange(COUNT) - COUNT // 2) * STEP_MM
    wanted = {"left": away >= FORAMEN_MM, "right": away <= -FORAMEN_MM}.get(task.side, np.abs(away) <= STEP_MM)
    if not images.mask[wanted].any():
        where = f"{FORAMEN_MM:g} mm or more to the patient's {task.side}" if task.side else "the midline"
        raise GaussianMRIError(f"no sagittal slice lies at {where} of the disc")
