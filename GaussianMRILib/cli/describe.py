"""`gaussianmri info` and `gaussianmri inspect`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..version import __version__
from .app import common_options, load_stacks, table

if TYPE_CHECKING:
    from ..stacks import SliceStack

_DIRECTIONS = ("sagittal", "coronal", "axial")
_LIBRARIES = ("torch", "numpy", "scipy", "SimpleITK", "pydicom", "cuda-core", "lpips")


@click.command(short_help="Version, active backend and why.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@common_options
def info(as_json: bool) -> None:
    """Say which version and which kernels are active, and why.

    \b
    Example:
      gaussianmri info
    """
    facts = _facts()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def _facts() -> dict[str, str]:
    import torch

    from .. import native
    from ..metrics import Lpips
    from ..priors.network import WEIGHTS

    backend, lpips = native.backend(), Lpips()
    weights = (
        f"{WEIGHTS.stat().st_size / 2**20:.2f} MB" if WEIGHTS.is_file() else "absent: the ridge prior is used"
    )
    facts = {
        "GaussianMRI": __version__,
        "Kernels": f"{backend.name} ({backend.reason})",
        "Library": str(backend.path or "none"),
        "SIMD": str(backend.simd or "none"),
        "Threads": str(torch.get_num_threads()),
        "CUDA": str(backend.cuda),
        "Prior network": weights,
        "LPIPS": "available" if lpips.available else f"not available: {lpips.reason}",
        "Python": f"{platform.python_version()} on {platform.platform()}",
    }
    for library in _LIBRARIES:
        try:
            facts[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            facts[library] = "not installed"
    return facts


@click.command(short_help="List the stacks of slices in files.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with the pose of every slice.")
@common_options
def inspect(inputs: tuple[Path, ...], as_json: bool) -> None:
    """List the stacks of slices in INPUT: DICOM folders or files, NIfTI, NRRD or MetaImage.

    Sizes are slices x rows x columns; lengths are millimetres; the tilt is the angle between the slices and
    the named plane of the body. Stacks of one group belong together by their headers (patient, study, frame of
    reference, contrast): a fit takes one group. Names of patients are not shown.

    \b
    Examples:
      gaussianmri inspect dicom/
      gaussianmri inspect axial.nii.gz sagittal.nii.gz --json
    """
    stacks = load_stacks(inputs)
    from ..stacks import belonging_together, copies, why_groups_apart

    groups = belonging_together(stacks)
    group_of = {n: number for number, members in enumerate(groups, 1) for n in members}
    facts_of = [{**_stack_facts(stack), "group": group_of[n]} for n, stack in enumerate(stacks)]
    for n, original in copies(stacks).items():
        facts_of[n]["notes"].append(f"its slices are those of stack {original + 1}; a fit takes them once")
    if as_json:
        click.echo(json.dumps(facts_of, indent=2))
        return
    frames: dict[str | None, str] = {None: "-"}
    rows = []
    for number, (stack, facts) in enumerate(zip(stacks, facts_of, strict=True), 1):
        frame = frames.setdefault(stack.frame_of_reference, chr(ord("A") + (len(frames) - 1) % 26))
        pixel = facts["pixel_spacing_mm"]
        rows.append(
            [
                f"{number}  {stack.name}",
                " x ".join(str(n) for n in facts["size"]),
                f"{pixel[0]:.2f} x {pixel[1]:.2f}",
                f"{facts['spacing_mm']:.2f}",
                f"{facts['thickness_mm']:.2f}",
                facts["orientation"],
                f"{facts['tilt_degrees']:.1f}",
                frame,
                str(facts["group"]),
            ]
        )
    click.echo(
        table(["Stack", "Size", "Pixel", "Spacing", "Thickness", "Orientation", "Tilt", "Frame", "Group"], rows)
    )
    for number, members in enumerate(groups[1:], 2):
        reason = why_groups_apart([stacks[n] for n in groups[0]], [stacks[n] for n in members])
        click.echo(f"Group {number} against group 1: {reason}")
    for number, facts in enumerate(facts_of, 1):
        for note in facts["notes"]:
            click.echo(f"Stack {number}: {note}")


def _stack_facts(stack: SliceStack) -> dict[str, Any]:
    cosines = np.abs(stack.normal)
    main = int(np.argmax(cosines))
    notes = list(stack.notes)
    shear = _shear(stack)
    if shear > 0.5:
        notes.append(f"slices are sheared by {shear:.1f} degrees (gantry tilt)")
    return {
        "name": stack.name,
        "size": list(stack.shape),
        "pixel_spacing_mm": list(stack.pixel_spacing),
        "spacing_mm": stack.spacing,
        "thickness_mm": stack.thickness,
        "orientation": _DIRECTIONS[main],
        "blocks": [len(block.pixels) for block in stack.blocks()],
        "tilt_degrees": float(np.degrees(np.arccos(min(1.0, cosines[main])))),
        "shear_degrees": shear,
        "frame_of_reference": stack.frame_of_reference,
        "notes": notes,
        "ijk_to_ras": stack.ijk_to_ras.tolist(),
    }


def _shear(stack: SliceStack) -> float:
    """Angle in degrees between the slices' normal and the line through their centres, in the largest block."""
    # From one block to the next the line is not the slices' own.
    block = max(stack.blocks(), key=lambda part: len(part.pixels))
    line = block.plane(len(block.pixels) - 1).center - block.plane(0).center
    length = float(np.linalg.norm(line))
    return (
        0.0
        if length == 0
        else float(np.degrees(np.arccos(min(1.0, abs(float(line @ block.normal)) / length))))
    )
