"""`gaussianmri fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .app import (
    check_suffix,
    check_writable,
    common_options,
    fit_options,
    output_option,
    run_fit,
    stacks_to_fit,
)


@click.command(short_help="Fit Gaussians to slices.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_option("FIELD")
@fit_options
@click.option(
    "--roi", nargs=6, type=float, default=None, metavar="R0 R1 A0 A1 S0 S1",
    help="Fit only this box, RAS millimetres.",
)  # fmt: skip
@click.option(
    "--stack", "chosen", type=int, multiple=True, metavar="N",
    help="Fit only stack N of `gaussianmri inspect`; may be repeated.",
)  # fmt: skip
@click.option("--group", type=int, metavar="N", help="Fit the stacks of group N of `gaussianmri inspect`.")
@click.option(
    "--thickness", type=float, help="Slice thickness in mm, where the files do not say it (NIfTI, NRRD)."
)
@click.option(
    "--same-frame", is_flag=True,
    help="Trust positions across frames of reference of one study: the patient lay still.",
)  # fmt: skip
@click.option(
    "--register/--no-register", default=True, show_default=True,
    help="Move several stacks onto each other, where slices left out agree.",
)  # fmt: skip
@click.option(
    "--pitch", type=click.FloatRange(0, min_open=True),
    help="Distance of the Gaussians of several stacks, mm.  "
    "[default: the smallest pixel; less for small scans]",
)
@click.option("--any-contrast", is_flag=True, help="Take stacks whose headers show different contrasts.")
@common_options
def fit(
    inputs: tuple[Path, ...],
    output: Path,
    preset: str,
    seed: int,
    device: str,
    refine: bool,
    roi: tuple[float, ...] | None,
    chosen: tuple[int, ...],
    group: int | None,
    thickness: float | None,
    same_frame: bool,
    register: bool,
    pitch: float | None,
    any_contrast: bool,
) -> None:
    """Fit 3D Gaussians to the slices of INPUT: DICOM folders or files, NIfTI, NRRD or MetaImage.

    Several stacks (axial and sagittal, say) of one patient, study, frame of reference and contrast go into one field. A
    folder that holds several such groups is not fitted before you choose one. Stacks are moved onto each other and put
    together as far as slices that were left out agree; the last lines say what that brought.

    \b
    Examples:
      gaussianmri fit dicom/ -o spine.npz
      gaussianmri fit axial.nii.gz sagittal.nii.gz --thickness 4 -o spine.npz
      gaussianmri fit dicom/ --group 1 -o t2.npz
      gaussianmri fit dicom/ --stack 2 --roi -40 40 -60 30 -50 40 -o l5s1.npz
    """
    check_writable(output, inputs=inputs)
    check_suffix(output, ".npz")
    options: dict[str, Any] = {"register": register, "pitch": pitch}
    if preset == "paper":
        if not register or pitch is not None:
            raise click.UsageError("--no-register and --pitch are options of the preset fast; the preset paper has neither.")
        options = {}
    stacks = stacks_to_fit(
        inputs, chosen, group, thickness, output, same_frame=same_frame, any_contrast=any_contrast
    )
    from ..fitting import Fitter
    from ..fitting.quality import Quality, why_unmeasured

    box = None if roi is None else [roi[0:2], roi[2:4], roi[4:6]]
    fitter = Fitter(
        stacks, preset=preset, seed=seed, device=device, roi=box, refine=refine,
        same_frame=same_frame, any_contrast=any_contrast, **options,
    )  # fmt: skip
    field = run_fit(fitter)
    field.save(output)
    quality = Quality.of(field.report)
    click.echo(f"Stacks        {', '.join(stack['name'] for stack in field.report['stacks'])}")
    if trusted := field.report.get("same_frame"):
        click.echo(f"Frames        {trusted}")
    for warning in field.report.get("warnings", []):
        click.echo(f"Warning       {warning}")
    for facts in field.report["stacks"]:
        for note in facts["notes"]:
            click.echo(f"Note          {facts['name']}: {note}")
    click.echo(f"Gaussians     {len(field):,}")
    for line in moves(field.report.get("registration")):
        click.echo(f"Moved         {line}")
    for name, (least, most) in field.report.get("shading", {}).get("gain", {}).items():
        click.echo(f"Brightness    {name} corrected by {least:.2f} to {most:.2f} over the body")
    if fusion := field.report.get("fusion"):
        click.echo(f"Together      {fusion['note']}")
    if quality is None:
        click.echo(f"Held out      how good it is was not measured: {why_unmeasured(field.report)}")
    else:
        of = "" if quality.series is None else f" of {quality.series}, fitted alone"
        click.echo(
            f"Held out      {quality.psnr:.2f} dB PSNR on {quality.slices} slice{'s' * (quality.slices > 1)} left out{of} "
            f"({quality.other} {quality.other_psnr:.2f})"
        )
    click.echo(f"Time          {field.report.get('elapsed_s', float('nan')):.1f} s")
    click.echo(f"Written       {output}")


def moves(registration: dict[str, Any] | None) -> list[str]:
    """A line for each stack that was moved, or that was not for a reason."""
    lines = []
    for stack in (registration or {}).get("stacks", []):
        moved = [block for block in stack["blocks"] if block["accepted"]]
        for block in moved:
            r, a, s = block["shift_mm_ras"]
            where = "" if len(stack["blocks"]) == 1 else f", slices {block['slices'][0] + 1} to {block['slices'][1] + 1}"
            lines.append(
                f"{stack['name']}{where}: R {r:+.1f} A {a:+.1f} S {s:+.1f} mm, {block['turn_degrees']:.1f} degrees; "
                f"local NCC {block['ncc_before']:.2f} to {block['ncc_after']:.2f}"
            )
    return lines
