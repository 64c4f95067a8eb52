"""Where left-out slices lie: moved as the slices beside them were, or, where every slice moves on its own, found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from GaussianMRILib.fitting.registration import register_stacks
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.stacks import SliceStack

if TYPE_CHECKING:
    from .studies_rows import Held, Study

#: Shifts along the normal that a search begins with, mm, and its first steps, mm and degrees.
STARTS_MM, STEP_MM, STEP_DEGREES = (-3.0, -1.5, 0.0, 1.5, 3.0), 1.5, 2.0
#: Images of a search, at most, and the pixel from which on it takes every second one, mm.
MOST_IMAGES, COARSE_MM = 160, 1.0
#: Of a slice's pixels so many must be shown wherever it is looked for.
SHOWN = 0.8

Render = Callable[[ImagePlane], NDArray[Any]]


def _mean_motion(motions: Sequence[NDArray[np.float64]], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rigid mean of motions, exact for their shifts at a point."""
    u, _, v = np.linalg.svd(np.mean([m[:3, :3] for m in motions], axis=0))
    result = np.eye(4)
    result[:3, :3] = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    result[:3, 3] = np.mean([m[:3, :3] @ at + m[:3, 3] for m in motions], axis=0) - result[:3, :3] @ at
    return result


def motions_of_slices(before: SliceStack, poses: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The motion (4, 4) that every slice was given, from its poses before and after."""
    return [new @ np.linalg.inv(old) for old, new in zip(before.ijk_to_ras, poses, strict=True)]


def placed(held: Sequence[Held], motions: Sequence[NDArray[np.float64]]) -> list[ImagePlane]:
    """Left-out planes moved as the kept slices beside them were."""
    planes = []
    for one in held:
        both = [motions[n] for n in one.beside]
        planes.append(one.plane.transformed(_mean_motion(both, one.plane.center)))
    return planes


def pose_of_whole(study: Study, number: int) -> NDArray[np.float64]:
    """The motion (4, 4) that brings a stack onto the others, the largest of which stays where it is."""
    motions = study.registration.motions
    sizes = [0 if n == number else stack.pixels.size for n, stack in enumerate(study.stacks)]
    return np.asarray(np.linalg.inv(motions[int(np.argmax(sizes))][0]) @ motions[number][0])


def register(
    rest: Sequence[SliceStack], field: Any, verify: bool
) -> tuple[list[SliceStack], list[list[NDArray[np.float64]]], dict[str, Any], bool | None]:
    """Moved stacks, motions of their slices, the registration's report, and whether `register_stacks` says the same.

    What the field accepted is taken from its report; the last value is None where that was not compared.
    """
    report = field.report.get("registration")
    if report is None or any("left-out slices do not agree" in b["note"] for s in report["stacks"] for b in s["blocks"]):
        again = register_stacks(rest)
        motions = [motions_of_slices(a, b.ijk_to_ras) for a, b in zip(rest, again.stacks, strict=True)]
        return again.stacks, motions, again.report, None
    motions = reported_motions(rest, field)
    moved = [replace(s, ijk_to_ras=np.stack(m) @ s.ijk_to_ras) for s, m in zip(rest, motions, strict=True)]
    same = None
    if verify:
        same = all(
            np.allclose(a.ijk_to_ras, b.ijk_to_ras, atol=1e-6)
            for a, b in zip(moved, register_stacks(rest).stacks, strict=True)
        )
    return moved, motions, report, same


def reported_motions(rest: Sequence[SliceStack], field: Any) -> list[list[NDArray[np.float64]]]:
    """The motion (4, 4) of every slice, from a fit's report of its blocks."""
    result = []
    for stack, motions, line in zip(
        rest, field.report["motions"], field.report["registration"]["stacks"], strict=True
    ):
        own = [np.eye(4)] * len(stack.pixels)
        for motion, block in zip(motions, line["blocks"], strict=True):
            for k in range(block["slices"][0], block["slices"][1] + 1):
                own[k] = np.array(motion)
        result.append(own)
    return result


def motions_in(field: Any, rest: Sequence[SliceStack]) -> list[list[NDArray[np.float64]]]:
    """The motion that a field gave to every slice, from its slices' poses."""
    found, first = [], 0
    for stack in rest:
        found.append(motions_of_slices(stack, field.slice_poses[first : first + len(stack.pixels)]))
        first += len(stack.pixels)
    return found


def found_plane(render: Render, held: Held, start: ImagePlane) -> ImagePlane:
    """Where a method's image is most like a left-out slice: six numbers from the slice's own pixels.

    For series whose slices move one by one: nothing else says where a slice lies that was left out. Every method gets the
    place that is best for itself, so none of them is judged by where another one thinks that the slice is.
    """
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

    stride = 2 if min(start.spacing) < COARSE_MM else 1
    matrix = start.ijk_to_ras.copy()
    matrix[:3, :2] *= stride
    pixels, valid = held.pixels[::stride, ::stride], held.valid[::stride, ::stride]
    coarse = ImagePlane(matrix, pixels.shape, thickness=start.thickness)
    axes = np.stack([start.i_axis, start.j_axis, start.normal], axis=1)
    units = np.r_[np.full(3, STEP_MM), np.full(3, np.deg2rad(STEP_DEGREES))]

    def motion(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        shift, turn = (numbers * units).reshape(2, 3)
        result = np.eye(4)
        result[:3, :3] = Rotation.from_rotvec(axes @ turn).as_matrix()
        result[:3, 3] = start.center + axes @ shift - result[:3, :3] @ start.center
        return result

    def unlike(numbers: NDArray[np.float64]) -> float:
        image = np.asarray(render(coarse.transformed(motion(numbers))), np.float64)
        shown = valid & np.isfinite(image)
        if shown.sum() < SHOWN * valid.sum() or image[shown].std() <= 0:
            return 1.0
        return -float(np.corrcoef(image[shown], pixels[shown])[0, 1])

    starts = [np.array([0, 0, mm / STEP_MM, 0, 0, 0]) for mm in STARTS_MM]
    best = min(starts, key=unlike)
    simplex = np.vstack([best, best + np.eye(6)])
    result = minimize(
        unlike, best, method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": MOST_IMAGES, "xatol": 0.02, "fatol": 1e-5},
    )  # fmt: skip
    return start.transformed(motion(result.x))
