"""What `studies` does to one study: leaves slices out, predicts them in every way, and scores all on the same pixels.

Poses. Series are moved by registration, so left-out slices move with their stack: by the motion of their block, which was
found without them. All methods but the fused field get the stacks that `register_stacks` has moved. The fused field finds
its motions by itself, with the same call: where it has accepted them they are taken from its report, so that it is done
once (`--verify` calls it again and compares). It refuses motions that its own left-out slices do not confirm; then
`same_motions` is false, and only the other methods move. A stack that is left out whole has no motion that was found without
it: all stacks of the study are registered once, so it gives six numbers to its own prediction, the same for all methods.

With `refine` every slice of the fused field has a motion of its own, and no other slice says where a left-out one lies. Each
method looks for it itself: six numbers that make its image most like the slice, from the mean of its neighbours' motions on.
The other methods know no motion of slices and keep that of stacks.
"""

from __future__ import annotations

import functools
import hashlib
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import GaussianMRILib as gm
from GaussianMRILib import baselines
from GaussianMRILib.fitting.left_out import shared_centre
from GaussianMRILib.fitting.problem import crop
from GaussianMRILib.fitting.registration import Registration, register_stacks, turn_degrees
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.stacks import SliceStack

from .studies_places import (
    Render,
    found_plane,
    motions_in,
    placed,
    pose_of_whole,
    register,
)

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"

#: Edge of the box that is scored, mm, and how much more around it is given to every method.
BOX_MM, MARGIN_MM = 100.0, 6.0
#: Voxels of Tikhonov super-resolution, mm: its matrices do not fit the memory with finer ones.
TIKHONOV_MM = 0.8
#: Windows of the local NCC, mm.
WINDOW_MM = 7.0
#: A left-out slice with fewer pixels that every method shows says little.
FEWEST_PIXELS = 1000

Score = dict[str, float]
Images = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Case:
    """Stacks of one study and contrast.

    `whole`: each is also left out whole; `masked`: only pixels in the masks that come with it count; `refine`: slices
    move on their own.
    """

    archive: str
    stacks: tuple[str, ...]
    whole: bool = False
    masked: bool = False
    refine: bool = False


PLANES = ("ax_t2", "cor_t2", "sag_t2")
FETAL = tuple(f"{plane}_{n}" for plane in ("ax", "cor", "sag") for n in "ab")
CASES = {
    "prostate_a": Case("mr_multi/prostate_a", PLANES, whole=True),
    "prostate_b": Case("mr_multi/prostate_b", PLANES, whole=True),
    "lumbar_hitachi T2": Case("mr_multi/lumbar_hitachi", ("sag_t2", "ax_t2")),
    "lumbar_hitachi T1": Case("mr_multi/lumbar_hitachi", ("sag_t1", "ax_t1")),
    "fetal_haste, stacks moved": Case("mr_multi/fetal_haste", FETAL, masked=True),
    "fetal_haste, refine": Case("mr_multi/fetal_haste", FETAL, masked=True, refine=True),
}


@dataclass(frozen=True, eq=False)
class Study:
    """Stacks as they are given to the methods, the box that is scored, and masks of it where there are some."""

    name: str
    case: Case
    stacks: list[SliceStack]
    box: NDArray[np.float64]
    masks: list[SliceStack] | None

    @functools.cached_property
    def registration(self) -> Registration:
        return register_stacks(self.stacks)


def unpack(archive: str, folder: Path) -> Path:
    """The folder of an unpacked archive of the shared scans; it is unpacked once."""
    place = folder / Path(archive).name
    if not place.is_dir():
        with tarfile.open(SHARED_DATA / f"{archive}.tar.xz") as content:
            content.extractall(place, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return place


def read(case: Case, folder: Path, suffix: str = "t2") -> list[SliceStack]:
    """Whole stacks of a case, named as its series are."""
    place = unpack(case.archive, folder)
    found = []
    for name in case.stacks:
        paths = [*place.rglob(name), *place.rglob(f"{name}_{suffix}.nii.gz")]
        if not paths:
            raise FileNotFoundError(f"{case.archive} has no series {name}")
        found.append(replace(gm.read_stacks(paths[0])[0], name=name))
    return found


def study_of(name: str, folder: Path, whole: bool = False) -> Study:
    """A study, cropped to a box around the middle of what its stacks share; `whole`: not cropped."""
    case = CASES[name]
    stacks = read(case, folder)
    masks = read(case, folder, "mask") if case.masked else None
    if masks:
        points = np.concatenate(
            [plane.points()[mask > 0] for m in masks for plane, mask in zip(m.planes(), m.pixels, strict=True)]
        )
        low, high = np.percentile(points, (1, 99), axis=0)
    else:
        centre = shared_centre(stacks)
        assert centre is not None
        low, high = centre - BOX_MM / 2, centre + BOX_MM / 2
    box = np.stack([low, high], axis=1)
    if whole and not masks:
        return Study(name, case, stacks, np.array([[-1e4, 1e4]] * 3), None)
    wide = np.stack([low - MARGIN_MM, high + MARGIN_MM], axis=1)
    return Study(
        name, case, [_cropped(s, wide) for s in stacks], box, [_cropped(m, wide) for m in masks] if masks else None
    )


def _cropped(stack: SliceStack, box: NDArray[np.float64]) -> SliceStack:
    found = crop(stack, box)
    if found is None:
        raise gm.GaussianMRIError(f"{stack.name} has nothing in the box.")
    return found


# ---- what is left out


@dataclass(frozen=True, eq=False)
class Held:
    """A left-out slice: its plane as scanned, pixels, where they count, and the kept slices beside it (in the rest)."""

    plane: ImagePlane
    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    beside: tuple[int, int]


def leave_out(study: Study, number: int, whole: bool) -> tuple[list[SliceStack], list[Held]]:
    """The remaining stacks, and the slices left out of stack `number`: all, or every second one of each block."""
    stack = study.stacks[number]
    if whole:
        out = list(range(len(stack.pixels)))
    else:
        out, first = [], 0
        for block in stack.blocks():
            out += range(first + 1, first + len(block.pixels) - 1, 2)
            first += len(block.pixels)
    kept = [k for k in range(len(stack.pixels)) if k not in set(out)]
    rest = list(study.stacks)
    if whole:
        del rest[number]
    else:
        rest[number] = stack.subset(kept)
    held = []
    for k in out:
        plane = stack.plane(k)
        points = plane.points()
        valid = ((points >= study.box[:, 0]) & (points <= study.box[:, 1])).all(axis=-1)
        if study.masks:
            valid &= study.masks[number].pixels[k] > 0
        before = sum(i < k for i in kept) - 1
        held.append(Held(plane, stack.pixels[k], valid, (before, min(before + 1, len(kept) - 1))))
    return rest, held


# ---- methods


class Singles:
    """Fits of single stacks; a stack of parallel slices is fitted where it was scanned, once for all rows."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def renderer(self, stack: SliceStack, moved: SliceStack, motions: Sequence[NDArray[np.float64]]) -> Render:
        """Renders the moved stack's fit."""
        if not all(np.allclose(motion, motions[0], atol=1e-9) for motion in motions):
            render: Render = self._field(moved).render
            return render
        field, back = self._field(stack), np.linalg.inv(motions[0])
        return lambda plane: np.asarray(field.render(plane.transformed(back)))

    def _field(self, stack: SliceStack) -> Any:
        key = hashlib.sha256(stack.pixels.tobytes() + stack.ijk_to_ras.tobytes()).hexdigest()
        if key not in self._fields:
            self._fields[key] = gm.fit([stack], seed=0)
        return self._fields[key]


def best_oriented(stacks: Sequence[SliceStack], plane: ImagePlane) -> int:
    """The stack whose slices are most nearly parallel to a plane."""
    return int(np.argmax([abs(float(stack.normal @ plane.normal)) for stack in stacks]))


def _mean_of(renders: Sequence[Render], scales: Sequence[tuple[float, float]]) -> Render:
    """The mean of several methods, each brought to one mean and spread."""

    def render(plane: ImagePlane) -> NDArray[np.float64]:
        images = [(render(plane).astype(np.float64) - m) / s for render, (m, s) in zip(renders, scales, strict=True)]
        return np.asarray(np.mean(images, axis=0))

    return render


def _scales(images: Sequence[Images], valid: Sequence[NDArray[np.bool_]]) -> list[tuple[float, float]]:
    """Mean and spread of each method's images on the common pixels."""
    found = []
    for own in images:
        values = np.concatenate([image[v] for image, v in zip(own, valid, strict=True)])
        found.append((float(values.mean()), max(float(values.std()), 1e-9)))
    return found


# ---- scores


def score(image: NDArray[np.float64], truth: NDArray[np.float32], valid: NDArray[np.bool_], mm: float) -> Score:
    """PSNR (dB) over the slice's 99.5th percentile after a line through the intensities, NCC, and local NCC.

    The local NCC is that of windows that have most of their pixels, each as much as the slice varies there: where it is
    all noise there is nothing to predict.
    """
    from scipy.ndimage import uniform_filter

    u, v = image[valid].astype(np.float64), truth[valid].astype(np.float64)
    if u.std() <= 0 or v.std() <= 0:
        return {"psnr": float("nan"), "ncc": float("nan"), "local": float("nan")}
    slope, offset = np.polyfit(u, v, 1)
    error = float(np.mean((slope * u + offset - v) ** 2))
    psnr = 10 * np.log10(float(np.percentile(v, 99.5)) ** 2 / max(error, 1e-12))
    size = max(3, round(WINDOW_MM / mm) // 2 * 2 + 1)
    share = uniform_filter(valid.astype(np.float64), size, mode="constant")
    a = np.where(valid, (image - u.mean()) / u.std(), 0)
    b = np.where(valid, (truth - v.mean()) / v.std(), 0)

    def mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
        filtered: NDArray[np.float64] = uniform_filter(x, size, mode="constant") / np.maximum(share, 1e-9)
        return filtered

    ma, mb = mean(a), mean(b)
    spread_a = np.sqrt(np.maximum(mean(a * a) - ma**2, 1e-6))
    spread_b = np.sqrt(np.maximum(mean(b * b) - mb**2, 1e-6))
    chosen = valid & (share > 0.75)
    local = (mean(a * b) - ma * mb) / (spread_a * spread_b)
    weighted = float((local * spread_b)[chosen].sum() / max(spread_b[chosen].sum(), 1e-9))
    return {"psnr": float(psnr), "ncc": float(np.corrcoef(u, v)[0, 1]), "local": weighted}


def mean_score(scores: Sequence[Score]) -> Score:
    return {key: round(float(np.mean([s[key] for s in scores])), 4) for key in ("psnr", "ncc", "local")}


# ---- one row


def row_of(
    study: Study,
    number: int,
    whole: bool,
    singles: Singles,
    verify: bool = False,
    picture: Callable[[str, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The row of one stack that is left out, whole or every second slice."""
    rest, held = leave_out(study, number, whole)
    name = study.stacks[number].name
    label = f"{study.name}: {name}, {'whole' if whole else 'every second slice'}"
    result: dict[str, Any] = {"study": study.name, "left_out": name, "whole": whole, "label": label}
    result["refined"] = study.case.refine
    if not held:
        return {**result, "not_available": "no slices to leave out in the box"}
    try:
        started, used = time.perf_counter(), time.process_time()
        field = gm.fit(rest, seed=0, refine=study.case.refine)
        result["seconds"] = round(time.perf_counter() - started, 2)
        result["cpu_seconds"] = round(time.process_time() - used, 2)
    except Exception as error:  # whatever goes wrong is a finding about the fit, and the other rows go on
        return {**result, "not_available": f"{type(error).__name__}: {error}"}
    fusion = field.report.get("fusion") or {}
    result["chosen"] = fusion.get("method", "mean") + (f" {fusion['part']}" if fusion.get("part") else "")
    result["fusion"] = fusion
    moved, theirs, found, same = register(rest, field, verify)
    result["motion"] = _motion(rest, found)
    own = motions_in(field, rest)
    result["same_motions"] = all(
        np.allclose(a, b, atol=1e-6) for x, y in zip(own, theirs, strict=True) for a, b in zip(x, y, strict=True)
    )
    if same is not None:
        result["verified"] = same
    if whole:
        pose = pose_of_whole(study, number)
        planes = fused_planes = [one.plane.transformed(pose) for one in held]
        middle = held[len(held) // 2].plane.center
        shift = pose[:3, :3] @ middle + pose[:3, 3] - middle
        result["pose_of_left_out"] = {
            "shift_mm": [round(float(v), 2) for v in shift],
            "turn_degrees": round(turn_degrees(pose), 2),
        }
    else:
        planes, fused_planes = placed(held, theirs[number]), placed(held, own[number])
    renders: dict[str, Render] = {"fused": field.render}
    for stack, placed_stack, motions in zip(rest, moved, theirs, strict=True):
        renders[f"{stack.name} alone"] = singles.renderer(stack, placed_stack, motions)
    names = list(renders)[1:]
    images = {
        key: [render(plane) for plane in (fused_planes if key == "fused" else planes)] for key, render in renders.items()
    }
    every = [np.all([np.isfinite(i[n]) for i in images.values()], axis=0) & h.valid for n, h in enumerate(held)]
    places = [n for n, v in enumerate(every) if v.sum() >= FEWEST_PIXELS]
    if not places:
        return {**result, "not_available": "no slice has enough pixels that every method shows"}
    held, valid = [held[n] for n in places], [every[n] for n in places]
    planes, fused_planes = [planes[n] for n in places], [fused_planes[n] for n in places]
    scales = _scales([[images[key][n] for n in places] for key in names], valid)
    renders["mean"] = _mean_of([renders[key] for key in names], scales)
    scaled = [
        replace(stack, pixels=(stack.pixels - m) / s) for stack, (m, s) in zip(moved, scales, strict=True)
    ]
    started = time.process_time()
    renders["Tikhonov"] = baselines.SuperResolution(scaled, spacing=TIKHONOV_MM).render
    result["tikhonov_cpu_seconds"] = round(time.process_time() - started, 1)
    oriented = best_oriented(moved, planes[0])
    renders["spline"] = baselines.SplineInterpolator([moved[oriented]], slice_profile=False).render
    result["spline_of"] = rest[oriented].name
    images = {}
    for key, render in renders.items():
        own_planes = fused_planes if key == "fused" else planes
        if study.case.refine:
            own_planes = [found_plane(render, one, plane) for one, plane in zip(held, own_planes, strict=True)]
        images[key] = [render(plane).astype(np.float64) for plane in own_planes]
    valid = [
        v & np.all([np.isfinite(own_images[n]) for own_images in images.values()], axis=0) for n, v in enumerate(valid)
    ]
    result["slices"] = len(held)
    result["pixels"] = int(sum(v.sum() for v in valid))
    by_slice = {
        key: [score(i, h.pixels, v, h.plane.spacing[0]) for i, h, v in zip(own_images, held, valid, strict=True)]
        for key, own_images in images.items()
    }
    result["scores"] = {key: mean_score(scores) for key, scores in by_slice.items()}
    result["best_single"] = max(names, key=lambda key: result["scores"][key]["psnr"])
    if picture is not None:
        n = len(held) // 2
        picture(label, {
            "truth": held[n].pixels, "valid": valid[n], "best": result["best_single"],
            "images": {key: (own_images[n], by_slice[key][n]) for key, own_images in images.items()},
        })  # fmt: skip
    return result


def _motion(rest: Sequence[SliceStack], report: dict[str, Any]) -> list[dict[str, Any]]:
    keys = ("shift_mm_ras", "turn_degrees", "ncc_before", "ncc_after", "accepted")
    return [
        {"stack": stack.name, **{key: block[key] for key in keys}}
        for stack, line in zip(rest, report["stacks"], strict=True)
        for block in line["blocks"]
    ]
