"""`gaussianmri demo`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from ..errors import GaussianMRIError
from .app import common_options, load_stack, run_fit
from .comparison import Renderer, comparison_picture, mask_truth, renderer, results_table, score_methods
from .evaluate import write_scores

MARGIN = 6.0  # mm of the scan beyond the planes that are fitted


@click.command(short_help="Everything once, on a synthetic lumbar spine.")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("out/demo"))
@click.option("--seed", default=0, show_default=True, help="The individual, and the fit.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def demo(folder: Path, seed: int, device: str) -> None:
    """Write a synthetic lumbar MRI to FOLDER (default out/demo), fit it, resample the L5-S1 disc, compare.

    \b
    FOLDER gets:
      axial/ sagittal/ truth/   DICOM series; the truth lies on the tilted disc
      L5-S1.mrk.json            the plane of the disc, for 3D Slicer
      field.npz                 the fitted Gaussians
      L5-S1.nrrd                nine planes resampled from the axial series
      comparison.png scores.json

    \b
    Example:
      gaussianmri demo
    """
    from ..fitting import Fitter
    from ..phantom import write_lumbar_phantom
    from ..writers import write_volume

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GaussianMRIError(
            f"{folder} cannot be made: {error.strerror or error}. Choose another folder."
        ) from error
    click.echo(f"Scanning a synthetic lumbar spine into {folder} ...")
    files = write_lumbar_phantom(folder, seed=seed)
    axial, sagittal, truth = (load_stack(path) for path in (files.axial, files.sagittal, files.truth))
    tilt = np.degrees(np.arccos(abs(float(truth.normal @ axial.normal))))
    click.echo(
        f"Axial {axial.shape}, {axial.spacing:.1f} mm apart; the L5-S1 disc is tilted {tilt:.0f} degrees."
    )

    planes = truth.planes()
    # Only the part around the planes is fitted: seconds instead of a minute.
    corners = np.concatenate([plane.corners() for plane in planes])
    box = np.stack([corners.min(axis=0) - MARGIN, corners.max(axis=0) + MARGIN], axis=1)
    field = run_fit(Fitter([axial], seed=seed, device=device, roi=box))
    field.save(folder / "field.npz")
    write_volume(folder / "L5-S1.nrrd", field.render_many(planes), planes)

    both = run_fit(Fitter([axial, sagittal], seed=seed, device=device, roi=box), "Fitting axial + sagittal")
    options = {"seed": seed, "device": device}
    renderers: dict[str, Renderer] = {
        "fast": field.render_many,
        "axial + sagittal": both.render_many,
        "voxel": renderer("voxel", [axial], options),
        "cubic": renderer("cubic", [axial], options),
    }
    truths, results = score_methods(renderers, planes, mask_truth(list(truth.pixels), planes, [axial]))
    comparison_picture(folder / "comparison.png", truths, results)
    write_scores(folder / "scores.json", results)
    click.echo(results_table(results))
    click.echo(
        f"Means over {len(truths)} thin planes on the disc; * best. The picture: {folder / 'comparison.png'}"
    )
