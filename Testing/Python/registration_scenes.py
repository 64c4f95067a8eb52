"""Stacks of one scan, taken of a patient who moves between them by a scanner that is not calibrated."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from GaussianMRILib import SliceStack
from GaussianMRILib.fitting.registration import Registration, turn_degrees
from GaussianMRILib.volumes import Volume

#: In-plane and slice axes (RAS) of a stack whose slices lie along each RAS axis.
AXES = {0: (1, 2, 0), 1: (0, 2, 1), 2: (0, 1, 2)}


def middle(scan: Volume) -> np.ndarray:
    return scan.ijk_to_ras[:3, :3] @ ((np.array(scan.pixels.shape)[::-1] - 1) / 2) + scan.ijk_to_ras[:3, 3]


def random_motion(
    rng: np.random.Generator, centre: np.ndarray, shift: float = 4.0, turn: float = 4.0
) -> np.ndarray:
    """A shift of 0 to `shift` mm and a turn of 0 to `turn` degrees in random directions, (4, 4)."""
    matrix = np.eye(4)
    step, axis = rng.normal(size=3), rng.normal(size=3)
    step *= rng.uniform(0, shift) / np.linalg.norm(step)
    axis *= np.radians(rng.uniform(0, turn)) / np.linalg.norm(axis)
    matrix[:3, :3] = Rotation.from_rotvec(axis).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + step
    return matrix


def acquire(
    scan: Volume,
    axis: int,
    motion: np.ndarray,
    rng: np.random.Generator,
    thickness: float = 4.0,
    spacing: float = 4.4,
    tilt: float = 0.0,
    noise: float = 0.02,
    gain: float = 1.0,
    shading: float = 0.0,
    offset: float = 0.0,
) -> SliceStack:
    """Slices of 1 mm pixels along a RAS axis, tilted by degrees, of the scan after `motion`, at random phase."""
    shape = np.array(scan.pixels.shape)[::-1]
    ends = np.stack([scan.ijk_to_ras[:3, 3], scan.ijk_to_ras[:3, :3] @ (shape - 1) + scan.ijk_to_ras[:3, 3]])
    extent = np.ptp(ends, axis=0)
    order = list(AXES[axis])
    axes = np.eye(3)[order]
    axes = axes @ Rotation.from_rotvec(np.radians(tilt) * axes[0]).as_matrix().T
    steps = np.array([1.0, 1.0, spacing])
    count = np.maximum((extent[order] / steps).astype(int), [8, 8, 2])
    affine = np.eye(4)
    affine[:3, :3] = axes.T * steps
    affine[:3, 3] = (
        middle(scan) + axes.T @ (rng.uniform(-0.5, 0.5, 3) * steps) - affine[:3, :3] @ ((count - 1) / 2)
    )
    k, j, i = np.meshgrid(*(np.arange(n) for n in count[::-1]), indexing="ij")
    points = np.stack([i, j, k], -1) @ affine[:3, :3].T + affine[:3, 3]
    back = np.linalg.inv(motion)
    pixels = np.zeros(points.shape[:-1])
    for part in (np.arange(5) + 0.5) / 5 - 0.5:
        pixels += np.nan_to_num(
            scan.at((points + part * thickness * axes[2]) @ back[:3, :3].T + back[:3, 3])
        )
    pixels = np.maximum(pixels / 5, 0)
    if shading:
        place = (points - middle(scan)) / (extent.max() / 2)
        field = place @ rng.normal(0, 1, 3) / 1.7 + place**2 @ rng.normal(0, 0.5, 3)
        pixels *= np.clip(1 + shading * field, 1 - shading, 1 + shading)
    pixels = np.hypot(pixels + rng.normal(0, noise, pixels.shape), rng.normal(0, noise, pixels.shape))
    pixels = (pixels * gain * 700 + offset).astype(np.float32)
    return SliceStack.from_array(pixels, affine, thickness=thickness, name=f"axis {axis}")


def pair(
    scan: Volume, axes: tuple[int, int], seed: int, moved: bool = True
) -> tuple[list[SliceStack], np.ndarray]:
    """Stacks of their own gain (.5 to 2), shading (30 %), offset, noise and thickness, and the motion between them."""
    rng = np.random.default_rng(seed)
    motion = random_motion(rng, middle(scan)) if moved else np.eye(4)
    stacks = []
    for n, axis in enumerate(axes):
        thickness = rng.uniform(3, 5)
        stacks.append(
            acquire(
                scan,
                axis,
                motion if n else np.eye(4),
                rng,
                thickness,
                thickness * rng.uniform(1, 1.2),
                tilt=rng.uniform(-20, 20) if n else 0.0,
                noise=rng.uniform(0.01, 0.05),
                gain=float(np.exp(rng.uniform(np.log(0.5), np.log(2)))),
                shading=0.3,
                offset=rng.uniform(0, 60),
            )
        )
    return stacks, motion


def error(found: Registration, motion: np.ndarray, centre: np.ndarray) -> tuple[float, float]:
    """What is left of the motion of the second of two stacks: mm at the centre, and degrees."""
    left = np.linalg.inv(found.motions[0][0]) @ found.motions[1][0] @ motion
    return float(np.linalg.norm(left[:3, :3] @ centre + left[:3, 3] - centre)), turn_degrees(left)


def table(seeds: int) -> None:
    """Print the errors on simulated pairs, and what is found in the shared exams."""
    import tarfile
    import tempfile
    import time
    from pathlib import Path

    import GaussianMRILib as gm
    from GaussianMRILib.evaluation.simulate import load_isotropic
    from GaussianMRILib.fitting.registration import register_stacks

    shared = Path(__file__).resolve().parents[3] / "shared" / "data"
    for name in ("lumbar_t2", "brain_t1"):
        scan = load_isotropic(name, shared)
        for axes in ((2, 0), (0, 1), (2, 2)):
            for moved in (False, True):
                errors, start = [], time.process_time()
                for seed in range(seeds):
                    stacks, motion = pair(scan, axes, seed, moved)
                    errors.append(error(register_stacks(stacks), motion, middle(scan)))
                mm, degrees = np.percentile(errors, [50, 90, 100], axis=0).T
                print(
                    f"{name} axes {axes} {'moved' if moved else 'still'}: mm {np.round(mm, 2)} degrees "
                    f"{np.round(degrees, 2)} (median, 90 %, largest); {(time.process_time() - start) / seeds:.1f} s",
                    flush=True,
                )
    for exam, names in (
        ("lumbar_hitachi", ("T2",)),
        ("lumbar_hitachi", ("T1",)),
        ("prostate_a", ("",)),
        ("prostate_b", ("",)),
    ):
        with (
            tempfile.TemporaryDirectory() as folder,
            tarfile.open(shared / "mr_multi" / f"{exam}.tar.xz") as archive,
        ):
            archive.extractall(folder)
            stacks = [stack for stack in gm.read_stacks(folder) if stack.name.startswith(names)]
        start = time.process_time()
        found = register_stacks(stacks)
        print(f"{exam} {names[0]}: {time.process_time() - start:.1f} s")
        for stack in found.report["stacks"]:
            for block in stack["blocks"]:
                print("  ", stack["name"], block)


if __name__ == "__main__":
    import sys

    table(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
