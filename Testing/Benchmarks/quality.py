"""Quality of resampled images on real scans by a fixed protocol: `python -m Testing.Benchmarks.quality`.

single    4 mm axial slices cut from an isotropic scan, 1 % Rician noise, planes tilted 5 to 30 degrees, thin and
          4 mm thick truth, every method.
pair      the same with a sagittal stack beside the axial one: each alone, Tikhonov super-resolution of both,
          Gaussians of both.
heldout   really acquired sparse stacks: every second slice is left out and predicted from the others.
disturbed only when named: the pair, the sagittal stack with another gain, shading, offset, noise and place.
recipe    only when named: the preset `paper` and voxel interpolation with three seeds, at the paper's size (22 axial slices
          of 112 x 224) and on left-out slices; the sharpness as well, and Gaussians that no slice showed in the end.

PSNR in dB (data range 1: the scan's 99.9th percentile), SSIM, LPIPS where its weights are on this computer;
the mean over planes. Seconds are those of preparing a method (fit, volume) and of rendering one plane.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import GaussianMRILib as gm
from GaussianMRILib import baselines, evaluation, metrics
from GaussianMRILib.gaussians import GaussianField
from GaussianMRILib.geometry import ImagePlane
from GaussianMRILib.stacks import SliceStack
from GaussianMRILib.volumes import Resampler

from . import disturbances
from .stored import RESULTS, store

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"

Render = Callable[[Sequence[ImagePlane]], list[np.ndarray]]
EXPERIMENTS = ("single", "pair", "heldout")
#: Experiments that run only when they are named.
LONG = ("disturbed", "recipe")
#: Isotropic scans of `single`, `pair` and `disturbed`.
SCANS = ("lumbar_t2", "brain_t1")
#: Real sparse stacks: file, and the box of slices, rows and columns that is used.
SPARSE = {
    "cervical GRE 5 mm": ("mr_spine/sct019_axial_mt0_5mm.nii.gz", np.s_[:, :, :]),
    "cervical T2 7.5 mm": ("mr_spine/sct_ms_axial_t2_7p5mm.nii.gz", np.s_[:, 32:224, 64:256]),
    "brain FSE T2 2.5 mm": ("mr_dicom/adi_ax_fse_t2_2p5mm.tar.xz", np.s_[16:41, 96:288, 160:352]),
}


def _one_by_one(resampler: Any) -> Render:
    return lambda planes: [resampler.render(plane) for plane in planes]


def _prior(make: Callable[[SliceStack], Any]) -> Callable[[list[SliceStack], int], Render]:
    def prepare(stacks: list[SliceStack], seed: int) -> Render:
        resampler = Resampler(stacks, make)
        return _one_by_one(resampler)

    return prepare


def _network(stacks: list[SliceStack], seed: int) -> Render:
    from GaussianMRILib.fitting.steered import Effort
    from GaussianMRILib.priors.network_prior import network_prior

    turns = Effort.of(stacks).turns  # as `fast` has it, whose prior this is
    return _prior(lambda stack: network_prior(stack, turns=turns))(stacks, seed)


def _ridge(stacks: list[SliceStack], seed: int) -> Render:
    from GaussianMRILib.priors.ridge import ridge_prior

    return _prior(lambda stack: ridge_prior(stack, seed=seed))(stacks, seed)


def _fit(preset: str, **options: Any) -> Callable[[list[SliceStack], int], Render]:
    return lambda stacks, seed: gm.fit(stacks, preset=preset, seed=seed, **options).render_many


#: A fifth of the recipe's 1,000 epochs, which would take most of the benchmark's time.
PAPER = "paper, 200 epochs"
PAPER_EPOCHS = {PAPER: 200, "paper, 1,000 epochs": 1000}
#: Of `recipe`, and its scan of the paper's size.
SEEDS, FINE = (0, 1, 2), "brain_t1_fine"
METHODS: dict[str, Callable[[list[SliceStack], int], Render]] = {
    "linear": lambda stacks, seed: _one_by_one(baselines.LinearInterpolator(stacks)),
    "voxel k=8": lambda stacks, seed: _one_by_one(baselines.VoxelInterpolator(stacks, k=8)),
    "cubic": lambda stacks, seed: _one_by_one(baselines.SplineInterpolator(stacks, slice_profile=False)),
    "cubic + profile": lambda stacks, seed: _one_by_one(baselines.SplineInterpolator(stacks)),
    "ridge": _ridge,
    "network": _network,
    **{name: _fit("paper", epochs=epochs) for name, epochs in PAPER_EPOCHS.items()},
    "fast": _fit("fast"),
    "Tikhonov": lambda stacks, seed: _one_by_one(baselines.SuperResolution(stacks)),
}
SINGLE = ("linear", "voxel k=8", "cubic", "cubic + profile", "ridge", "network", PAPER, "fast")
HELDOUT = SINGLE


class Judge:
    """Runs methods and keeps the scores; a method that is not available says so in its row."""

    def __init__(self, seed: int, lpips: metrics.Lpips) -> None:
        self.seed = seed
        self.lpips = lpips if lpips.available else None

    def row(
        self,
        label: str,
        method: str | Callable[[list[SliceStack], int], Render],
        stacks: list[SliceStack],
        views: Mapping[str, tuple[Sequence[ImagePlane], Sequence[np.ndarray]]],
    ) -> dict[str, Any]:
        """Score `method` on each view (planes, true images); prints the row."""
        row: dict[str, Any] = {"method": label}
        try:
            start = time.perf_counter()
            prepare = METHODS[method] if isinstance(method, str) else method
            render = prepare(stacks, self.seed)
            row["prepare_s"] = time.perf_counter() - start
            start = time.perf_counter()
            for view, (planes, truths) in views.items():
                score = evaluation.score(render(planes), truths, lpips=self.lpips)
                row[view] = {"psnr": score.psnr, "ssim": score.ssim, "lpips": score.lpips}
                if len(row) == 3:
                    row["plane_s"] = (time.perf_counter() - start) / len(planes)
        except (gm.GaussianMRIError, ImportError) as error:
            row["not_available"] = f"{type(error).__name__}: {error}"
        print(_line(row), flush=True)
        return row


def single(scans: Sequence[str], methods: Sequence[str], planes: int, judge: Judge) -> dict[str, Any]:
    """One axial stack of each isotropic scan."""
    results = {}
    for name in scans:
        case = evaluation.quality_case(name, SHARED_DATA, planes=planes, seed=judge.seed)
        views = {"thin": (case.planes, case.thin), "thick": (case.thick_planes, case.thick)}
        _title(f"{name}: one axial stack {case.stacks[0].shape}, {planes} planes", views)
        results[name] = [judge.row(method, method, case.stacks, views) for method in methods]
    return results


def pair(scans: Sequence[str], methods: Sequence[str], planes: int, judge: Judge) -> dict[str, Any]:
    """An axial and a sagittal stack of each isotropic scan, on the same planes and pixels."""
    results = {}
    for name in scans:
        case = evaluation.quality_case(name, SHARED_DATA, directions=("axial", "sagittal"), planes=planes, seed=judge.seed)
        views = {"thin": (case.planes, case.thin), "thick": (case.thick_planes, case.thick)}
        _title(f"{name}: axial and sagittal stack", views)
        rows = []
        for label, part in (("axial", case.stacks[:1]), ("sagittal", case.stacks[1:])):
            for method in ("cubic + profile", "fast"):
                if method in methods or method != "fast":
                    rows.append(judge.row(f"{label}: {method}", method, part, views))
        for method in ("cubic + profile", "Tikhonov", PAPER, "fast"):
            if method in methods or method not in (PAPER, "fast"):
                rows.append(judge.row(f"both: {method}", method, case.stacks, views))
        results[name] = rows
    return results


def disturbed(scans: Sequence[str], cases: Sequence[str], planes: int, judge: Judge) -> dict[str, Any]:
    """The axial stack alone, and with a sagittal one that is disturbed as series of real exams are, by `fast`."""
    fields: list[GaussianField] = []

    def prepare(stacks: list[SliceStack], seed: int) -> Render:
        fields[:] = [gm.fit(stacks, preset="fast", seed=seed)]
        return fields[0].render_many

    results = {}
    for name in scans:
        case = evaluation.quality_case(name, SHARED_DATA, directions=("axial", "sagittal"), planes=planes, seed=judge.seed)
        axial, clean = case.stacks[0], evaluation.simulate_stack(case.scan, direction="sagittal", noise=0)
        # The larger stack keeps place and intensities, and the truth has those of the axial one.
        assert axial.pixels.size >= clean.pixels.size
        views = {"thin": (case.planes, case.thin), "thick": (case.thick_planes, case.thick)}
        _title(f"{name}: axial and disturbed sagittal stack", views)
        rows: dict[str, dict[str, Any]] = {}
        for label in (*cases, "axial alone"):
            how = disturbances.CASES.get(label)
            second = [] if how is None else [disturbances.disturbed(clean, how, seed=judge.seed + 1)]
            row = rows[label] = judge.row(label, prepare, [axial, *second], views)
            if "not_available" in row:
                continue
            row["against"] = disturbances.against(label, rows, views)
            if how is not None:
                row["found"] = disturbances.found(fields[0].report, clean, how)
            print(f"{'':26}  against {row['against']}, found {row.get('found')}", flush=True)
        results[name] = list(rows.values())
    return results


def heldout(names: Sequence[str], methods: Sequence[str], judge: Judge) -> dict[str, Any]:
    """Every second slice of really acquired stacks from the others."""
    results = {}
    for name in names:
        kept, view = _left_out(name)
        views = {"left out": view}
        _title(f"{name}: {len(view[0])} slices left out, {kept.shape} kept", views)
        results[name] = [judge.row(method, method, [kept], views) for method in methods]
    return results


def _left_out(name: str) -> tuple[SliceStack, tuple[list[ImagePlane], list[np.ndarray]]]:
    """A really acquired stack without every second slice; these slices' planes and images."""
    stack = sparse_stack(name)
    left_out = range(1, stack.shape[0] - 1, 2)
    border = 2  # pixels: how a method treats the edge of the image does not matter
    truths = []
    for k in left_out:
        image = np.full(stack.shape[1:], np.nan, dtype=np.float32)
        image[border:-border, border:-border] = stack.pixels[k, border:-border, border:-border]
        truths.append(image)
    return stack.subset(range(0, stack.shape[0], 2)), ([stack.plane(k) for k in left_out], truths)


def recipe(methods: Sequence[str], planes: int, lpips: metrics.Lpips) -> dict[str, Any]:
    """Rows of voxel interpolation and the preset `paper` with several seeds, at the paper's size and on a real stack.

    Rows have the gradient energy as a share of the truth's and the number of Gaussians that the fit removed because no slice
    showed them. All epochs are for the first seed and the paper's size alone.
    """
    results: dict[str, Any] = {}
    for name in (FINE, "cervical GRE 5 mm"):
        results[name] = []
        runs = [(method, seed) for method in ("voxel k=8", PAPER) for seed in SEEDS]
        runs += [(method, SEEDS[0]) for method in PAPER_EPOCHS if method != PAPER and name == FINE]
        for method, seed in runs:
            if method not in methods:
                continue
            if name == FINE:
                case = evaluation.quality_case(name, SHARED_DATA, planes=planes, seed=seed)
                stacks, views = case.stacks, {"thin": (case.planes, case.thin)}
            else:
                kept, view = _left_out(name)
                stacks, views = [kept], {"left out": view}
            if not results[name]:
                _title(f"{name}: {stacks[0].shape}", views)
            results[name].append(_recipe_row(method, seed, stacks, views, lpips))
    return results


def _recipe_row(
    method: str,
    seed: int,
    stacks: list[SliceStack],
    views: Mapping[str, tuple[Sequence[ImagePlane], Sequence[np.ndarray]]],
    lpips: metrics.Lpips,
) -> dict[str, Any]:
    fields: list[GaussianField] = []
    images: list[np.ndarray] = []

    def prepare(stacks: list[SliceStack], seed: int) -> Render:
        if method in PAPER_EPOCHS:
            fields.append(gm.fit(stacks, preset="paper", seed=seed, epochs=PAPER_EPOCHS[method]))
        render = fields[0].render_many if fields else METHODS[method](stacks, seed)

        def remembered(planes: Sequence[ImagePlane]) -> list[np.ndarray]:
            images[:] = render(planes)
            return images

        return remembered

    row = Judge(seed, lpips).row(f"{method}, seed {seed}", prepare, stacks, views)
    if "not_available" in row:
        return row
    (_, truths), *_ = views.values()
    row["seed"], row["recipe"] = seed, method
    row["energy"] = float(np.mean([metrics.gradient_energy(*pair) for pair in zip(images, truths, strict=True)]))
    text = f"{'':26}  gradient energy {row['energy']:.2f} of the truth's"
    if fields:
        row["gaussians"] = len(fields[0])
        row["without_slice"] = fields[0].report["gaussians_without_slice"]
        text += f", {row['gaussians']:,} Gaussians, {row['without_slice']:,} without a slice removed"
    print(text, flush=True)
    return row


def sparse_stack(name: str) -> SliceStack:
    """A box of a really acquired stack, intensities divided by their 99.9th percentile."""
    file, box = SPARSE[name]
    path = SHARED_DATA / file
    if ".tar" in path.name:
        with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
            archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            stack = gm.read_stacks(folder)[0]
    else:
        stack = gm.read_stacks(path)[0]
    slices, rows, columns = box
    poses = stack.ijk_to_ras[slices].copy()
    poses[:, :3, 3] += (columns.start or 0) * poses[:, :3, 0] + (rows.start or 0) * poses[:, :3, 1]
    pixels = stack.pixels[box]
    pixels = pixels / np.percentile(pixels, 99.9)
    return SliceStack.from_array(pixels, poses, thickness=stack.slice_thickness[slices], name=name)


def _merged(earlier: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table, those of earlier runs for methods that did not run now; new methods come before the last."""
    fresh = {row["method"]: row for row in rows}
    kept = [fresh.pop(row["method"], row) for row in earlier]
    return [*kept[:-1], *fresh.values(), *kept[-1:]]


def _title(text: str, views: dict[str, Any]) -> None:
    print(f"\n{text}")
    heads = "".join(f"{view + ' PSNR':>16}{'SSIM':>7}{'LPIPS':>8}" for view in views)
    print(f"{'method':26}{heads}{'prepare':>11}{'plane':>10}")


def _line(row: dict[str, Any]) -> str:
    text = f"{row['method']:26}"
    if "not_available" in row:
        return f"{text}  not available: {row['not_available'][:120]}"
    for value in row.values():
        if isinstance(value, dict):
            perceptual = "n/a" if value["lpips"] is None else f"{value['lpips']:.3f}"
            text += f"{value['psnr']:16.2f}{value['ssim']:7.3f}{perceptual:>8}"
    return f"{text}{row['prepare_s']:9.2f} s{row['plane_s'] * 1e3:7.1f} ms"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=(*EXPERIMENTS, *LONG), default=EXPERIMENTS, help="experiments to run"
    )
    parser.add_argument("--scans", nargs="+", choices=SCANS, default=SCANS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), help="default: all")
    cases = list(disturbances.CASES)
    parser.add_argument("--cases", nargs="+", choices=cases, default=cases, help="disturbances; default: all")
    parser.add_argument("--planes", type=int, default=12, help="planes per scan")
    parser.add_argument("--seed", type=int, default=0, help="of noise, planes and fits")
    parser.add_argument("--quick", action="store_true", help="6 planes, without the paper's slow recipe")
    parser.add_argument("--json", type=Path, default=RESULTS / "quality.json", help="file for the figures")
    options = parser.parse_args(argv)
    if not SHARED_DATA.is_dir():
        print(f"The shared scans are not in {SHARED_DATA.relative_to(ROOT.parent)} beside the repository.")
        return 1
    lpips = metrics.Lpips()
    if not lpips.available:
        print(f"LPIPS is not available: {lpips.reason}")
    chosen = options.methods or [m for m in METHODS if not (options.quick and m in PAPER_EPOCHS)]
    planes = min(options.planes, 6) if options.quick else options.planes
    judge = Judge(options.seed, lpips)
    results: dict[str, Any] = {"planes": planes, "seed": options.seed}
    if options.json.is_file():
        # What is not run now, rows as well, keeps its figures, unless they are of other planes or another seed.
        earlier = json.loads(options.json.read_text(encoding="utf-8"))
        if all(earlier.get(key) == value for key, value in results.items()):
            results = earlier
    found: dict[str, Any] = {}
    if "single" in options.only:
        found["single"] = single(options.scans, [m for m in SINGLE if m in chosen], planes, judge)
    if "pair" in options.only:
        found["pair"] = pair(options.scans, chosen, planes, judge)
    if "heldout" in options.only:
        found["heldout"] = heldout(list(SPARSE), [m for m in HELDOUT if m in chosen], judge)
    if "disturbed" in options.only:
        chosen_cases = [name for name in cases if name in options.cases]  # in order, for the comparisons
        found["disturbed"] = disturbed(options.scans, chosen_cases, planes, judge)
    if "recipe" in options.only:
        found["recipe"] = recipe(chosen, planes, lpips)
    for experiment, tables in found.items():
        for name, rows in tables.items():
            table = results.setdefault(experiment, {})
            table[name] = _merged(table.get(name, []), rows)
    store(options.json, results, list(found))
    print(f"\nWrote {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
