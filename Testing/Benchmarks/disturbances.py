"""What differs between two series of one real exam, done to a simulated stack: intensities, noise, place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from GaussianMRILib.stacks import SliceStack

#: Noise of the stacks of `evaluation.quality_case`.
NOISE = 0.01
#: Unit vectors, RAS: where a stack is shifted to, and what it is turned about. Oblique, so that no axis is spared.
SHIFT = np.array([2.0, -1.0, 2.0]) / 3
AXIS = np.array([1.0, 2.0, -2.0]) / 3
#: Direction of the shading, shares of the field of view along R, A, S; mostly front to back, as of a coil on one side.
SLOPE = np.array([0.2, 0.5, -0.3])


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """Of a stack whose intensities have 1 as the scan's 99.9th percentile.

    Attributes:
        gain, offset: pixels become gain * (pixels + offset), after shading and noise.
        shading: the coil's sensitivity varies between 1 - shading and 1 + shading over the field of view.
        noise: how many times `NOISE` the noise is, relative to the signal at sensitivity 1.
        shift_mm, turn_degrees: how far off the stack lies, about its middle.
    """

    gain: float = 1.0
    shading: float = 0.0
    offset: float = 0.0
    noise: float = 1.0
    shift_mm: float = 0.0
    turn_degrees: float = 0.0


#: "none" and "noise x 2" come before what is compared with them.
CASES = {
    "none": Disturbance(),
    "gain 0.5": Disturbance(gain=0.5),
    "gain 2": Disturbance(gain=2.0),
    "shading 30 %": Disturbance(shading=0.3),
    "offset 10 %": Disturbance(offset=0.1),
    "noise x 2": Disturbance(noise=2.0),
    "shift 2 mm": Disturbance(shift_mm=2.0),
    "shift 4 mm": Disturbance(shift_mm=4.0),
    "turn 2 degrees": Disturbance(turn_degrees=2.0),
    "turn 4 degrees": Disturbance(turn_degrees=4.0),
    "all, 3 mm, 3 degrees": Disturbance(
        gain=2.0, shading=0.3, offset=0.1, noise=2.0, shift_mm=3.0, turn_degrees=3.0
    ),
}


def disturbed(clean: SliceStack, how: Disturbance, *, seed: int = 0) -> SliceStack:
    """A noiseless stack as a scanner would give it; without a disturbance it is what `simulate_stack` gives for the seed.

    Shading is of the signal and not of the noise, which comes after the coil. The place is wrong, the pixels are right.
    """
    signal = clean.pixels * (1 + how.shading * shading(clean))
    real, imaginary = np.random.default_rng(seed).normal(0, how.noise * NOISE, (2, *clean.shape))
    pixels = how.gain * (np.hypot(signal + real, imaginary) + how.offset)
    return replace(clean, pixels=pixels.astype(np.float32), ijk_to_ras=motion(clean, how) @ clean.ijk_to_ras)


def shading(stack: SliceStack) -> NDArray[np.float64]:
    """(K, rows, columns), -1 to 1: three quarters of a wave across the field of view."""
    points = np.stack([plane.points() for plane in stack.planes()])
    ends = corners(stack)
    low, high = ends.min(axis=0), ends.max(axis=0)
    place: NDArray[np.float64] = (2 * points - low - high) / (high - low)
    return np.sin(0.75 * np.pi * (place @ SLOPE))


def motion(stack: SliceStack, how: Disturbance) -> NDArray[np.float64]:
    """The rigid motion (4, 4), RAS mm, from where the stack is to where it claims to be."""
    from scipy.spatial.transform import Rotation

    matrix, middle = np.eye(4), corners(stack).mean(axis=0)
    matrix[:3, :3] = Rotation.from_rotvec(np.radians(how.turn_degrees) * AXIS).as_matrix()
    matrix[:3, 3] = middle - matrix[:3, :3] @ middle + how.shift_mm * SHIFT
    return matrix


def corners(stack: SliceStack) -> NDArray[np.float64]:
    """(4 K, 3) of the slices, RAS mm."""
    return np.concatenate([plane.corners() for plane in stack.planes()])


def found(report: Mapping[str, Any], clean: SliceStack, how: Disturbance) -> dict[str, Any]:
    """What a fit of an undisturbed stack and this one made of the motion, from the report of its field.

    Mean distances in mm of the stack's corners from where they should be, before and after registration, that of their
    mean after it, whether a motion was accepted, and the way to fuse. JSON types.
    """
    ends, given = corners(clean), motion(clean, how)
    first, second = (np.array(blocks[0]) for blocks in report["motions"])
    off = [m[:3, :3] @ ends.T + m[:3, 3:] - ends.T for m in (given, np.linalg.inv(first) @ second @ given)]
    line = report["registration"]["stacks"][1]["blocks"][0]
    return {
        "given_mm": float(np.linalg.norm(off[0], axis=0).mean()),
        "left_mm": float(np.linalg.norm(off[1], axis=0).mean()),
        "left_at_middle_mm": float(np.linalg.norm(off[1].mean(axis=1))),
        "accepted": line["accepted"],
        "note": line["note"],
        "fused_by": report["fusion"].get("part") or report["fusion"]["method"],
    }


def against(
    label: str, rows: Mapping[str, dict[str, Any]], views: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """PSNR of a row minus that of the undisturbed pair and, where there is more noise, of the pair with only that.

    More noise takes away what no fit brings back; what a fit makes of all the rest is the difference to the latter.
    """
    others = ["none"]
    if label in CASES and label != "noise x 2" and CASES[label].noise == CASES["noise x 2"].noise:
        others.append("noise x 2")
    return {
        other: {view: rows[label][view]["psnr"] - rows[other][view]["psnr"] for view in views}
        for other in others
        if other in rows and "not_available" not in rows[other]
    }
