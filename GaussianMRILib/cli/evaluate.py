"""`gaussianmri evaluate`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from ..errors import GaussianMRIError
from ..files import all_or_none
from ..methods import GAUSSIANS, METHODS
from .app import check_suffix, check_writable, common_options, load_stacks
from .comparison import (
    DEFAULT_METHODS,
    Image,
    comparison_picture,
    mask_truth,
    renderer,
    results_table,
    score_methods,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..evaluation import MethodScores
    from ..geometry import ImagePlane
    from ..stacks import SliceStack
    from ..volumes import Volume

LARGEST_ANISOTROPY = 1.5


@click.command(short_help="Compare methods with a known truth.")
@click.argument("inputs", metavar="[INPUT...]", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--truth", type=click.Path(path_type=Path), metavar="SERIES",
    help="A series acquired on the planes to compare; INPUT is what the methods see.",
)  # fmt: skip
@click.option(
    "--isotropic", type=click.Path(path_type=Path), metavar="SCAN",
    help="A scan with cubic voxels, of which thick slices are simulated; no INPUT then.",
)  # fmt: skip
@click.option(
    "--method", "methods", type=click.Choice(list(METHODS)), multiple=True, default=DEFAULT_METHODS,
    show_default=True, help="A method to compare; may be repeated.",
)  # fmt: skip
@click.option(
    "--planes",
    default=12,
    show_default=True,
    type=click.IntRange(1),
    help="With --isotropic: oblique planes.",
)
@click.option(
    "--thickness", default=None, type=float,
    help="Slice thickness in mm: of simulated slices (default 4), or of INPUT where the files do not say.",
)  # fmt: skip
@click.option(
    "--thick-truth",
    is_flag=True,
    help="With --isotropic: compare images of the slice thickness, not thin ones.",
)
@click.option(
    "--match-intensity", is_flag=True, help="Fit one scale and offset to the truth for each method."
)
@click.option("--png", type=click.Path(path_type=Path), help="Write a picture of truth and methods.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the scores of every plane.")
@click.option("--seed", default=0, show_default=True, help="Of noise, planes and fit.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def evaluate(
    inputs: tuple[Path, ...],
    truth: Path | None,
    isotropic: Path | None,
    methods: tuple[str, ...],
    planes: int,
    thickness: float | None,
    thick_truth: bool,
    match_intensity: bool,
    png: Path | None,
    json_file: Path | None,
    seed: int,
    device: str,
) -> None:
    """Compare methods of resampling on planes whose true image is known: PSNR, SSIM, LPIPS.

    Intensities are divided by the 99.9th percentile of the truth; pixels within 2 mm of the border of the
    slices are not judged.

    \b
    Examples:
      gaussianmri evaluate axial/ --truth aligned/ --match-intensity --png comparison.png
      gaussianmri evaluate --isotropic t2_space.nii.gz --method fast --method cubic --json scores.json
    """
    if (truth is None) == (isotropic is None):
        raise click.UsageError("Give either --truth SERIES (and INPUT) or --isotropic SCAN.")
    if (truth is not None) != bool(inputs):
        raise click.UsageError("INPUT goes with --truth, and --isotropic needs none.")
    check_suffix(png, ".png")
    check_suffix(json_file, ".json")
    check_writable(png, json_file, inputs=(*inputs, truth, isotropic))
    if truth is not None:
        stacks = load_stacks(inputs, thickness=thickness)
        planes_to_show, truths = _acquired(truth, stacks)
        _note_repeats(methods, stacks, planes_to_show)
    else:
        assert isotropic is not None
        stacks, planes_to_show, truths = _simulated(isotropic, thickness or 4.0, planes, thick_truth, seed)
    options = {"seed": seed, "device": device}
    renderers = {method: renderer(method, stacks, options) for method in methods}
    truths, results = score_methods(renderers, planes_to_show, truths, match_intensity)
    click.echo(results_table(results))
    click.echo(f"Means over {len(truths)} planes; * best")
    with all_or_none():
        if png is not None:
            comparison_picture(png, truths, results)
        if json_file is not None:
            write_scores(json_file, results)


def _note_repeats(methods: Sequence[str], stacks: list[SliceStack], planes: list[ImagePlane]) -> None:
    """Say where methods take the mean of two acquisitions of one place."""
    from ..stacks.agreement import without_repeats

    given = [(plane.points()[::8, ::8], kept) for plane, kept in zip(planes, without_repeats(stacks, planes), strict=True)]
    repeats = [
        stack.name
        for stack in stacks
        if any(all(stack is not other for other in kept) and stack.inside(points).any() for points, kept in given)
    ]
    averaging = [method for method in methods if method not in GAUSSIANS]
    if repeats and averaging:
        click.echo(
            f"{', '.join(averaging)}: the mean of {', '.join(repeats)} and what lies in its place. Give one alone.",
            err=True,
        )


def write_scores(path: Path, results: list[MethodScores]) -> None:
    """Scores of every plane and their means, as JSON."""
    from ..files import atomic_write

    content = {
        r.method: {**dataclasses.asdict(r.mean), "planes": _by_plane(r)} for r in results
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _by_plane(result: MethodScores) -> dict[str, list[float] | None]:
    """The scores of every plane by name; no LPIPS unless every plane has it."""
    rows = [dataclasses.asdict(score) for score in result.scores]
    columns = {name: [row[name] for row in rows] for name in ("psnr", "ssim", "lpips")}
    return {name: None if None in values else values for name, values in columns.items()}


def _acquired(truth: Path, stacks: list[SliceStack]) -> tuple[list[ImagePlane], list[Image]]:
    from ..stacks import check_same_frame

    true_stacks = load_stacks([truth])
    check_same_frame([*stacks, *true_stacks])
    planes = [plane for stack in true_stacks for plane in stack.planes()]
    images = [np.asarray(image) for stack in true_stacks for image in stack.pixels]
    return planes, mask_truth(images, planes, stacks)


def _simulated(
    path: Path, thickness: float, count: int, thick: bool, seed: int
) -> tuple[list[SliceStack], list[ImagePlane], list[Image]]:
    from ..evaluation import oblique_planes, simulate_stack
    from ..evaluation import truth as true_image

    scan = _isotropic_scan(path)
    stacks = [simulate_stack(scan, thickness=thickness, spacing=thickness, seed=seed)]
    planes = oblique_planes(stacks[0], count=count, seed=seed)
    truths = [true_image(scan, plane, thick, stacks=stacks, thickness=thickness) for plane in planes]
    if thick:
        planes = [dataclasses.replace(plane, thickness=thickness) for plane in planes]
    return stacks, planes, truths


def _isotropic_scan(path: Path) -> Volume:
    from ..evaluation.simulate import resample_isotropic
    from ..volumes import Volume

    stacks = load_stacks([path])
    if len(stacks) != 1:
        raise GaussianMRIError(f"{path} has {len(stacks)} stacks; give one isotropic scan.")
    grid = stacks[0].grid()
    if grid is None:
        raise GaussianMRIError(f"{path} is not a regular volume; give an isotropic scan.")
    steps = np.linalg.norm(grid[:3, :3], axis=0)
    if steps.max() > LARGEST_ANISOTROPY * steps.min():
        sizes = " x ".join(f"{step:.2f}" for step in steps)
        raise GaussianMRIError(
            f"{path} has voxels of {sizes} mm; a scan with cubic voxels is needed as the truth."
        )
    pixels, affine = resample_isotropic(stacks[0].pixels, grid, float(steps.max()))
    scale = float(np.percentile(pixels, 99.9))
    if scale <= 0:
        raise GaussianMRIError(f"{path} is empty (no positive intensity).")
    return Volume(np.maximum(pixels / scale, 0).astype(np.float32), affine, name=stacks[0].name)
