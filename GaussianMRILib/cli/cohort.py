"""`gaussianmri cohort`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import GaussianMRIError
from ..grading.labels import LEVELS
from ..methods import METHODS
from .app import advance, common_options, progress_bar

if TYPE_CHECKING:
    from ..cohort import CohortReport

discs_option = click.option(
    "--discs", metavar="PATH",
    help="Discs: a folder with STUDY.json, .csv (SpineNet) or .nii.gz (label map), a name with {study} in it, or the name "
    "of a file in each study's folder.  [default: RSNA's label coordinates]",
)  # fmt: skip


@click.command(short_help="Resample planes of many studies.")
@click.argument("studies", metavar="STUDIES", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER",
    help="Gets a folder for each study, and report.csv; the same command goes on with an unfinished run.",
)  # fmt: skip
@click.option(
    "--level", "levels", type=click.Choice(LEVELS), multiple=True,
    help="Planes aligned with this disc; may be repeated.",
)  # fmt: skip
@discs_option
@click.option(
    "--planes", metavar="X.mrk.json", help="Planes placed in 3D Slicer; the name may have {study} in it."
)
@click.option(
    "--method", "methods", type=click.Choice(list(METHODS)), multiple=True, default=("fast",), show_default=True,
    help="May be repeated.",
)  # fmt: skip
@click.option(
    "--count", type=click.IntRange(1), default=None, help="Parallel planes.  [default: 9 at a disc, else 1]"
)
@click.option(
    "--step",
    type=click.FloatRange(0, min_open=True),
    default=None,
    help="Distance between them, mm.  [default: 4 at a disc]",
)
@click.option(
    "--thickness",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Slice thickness in mm; 0 is thin.",
)
@click.option(
    "--spacing",
    type=click.FloatRange(0, min_open=True),
    default=None,
    help="Pixel spacing in mm of --planes.  [default: 0.5]",
)
@click.option(
    "--direction", type=click.Choice(["axial", "sagittal", "coronal", "all"]), default="axial", show_default=True,
    help="Stacks to resample from; all needs series of one contrast.",
)  # fmt: skip
@click.option("--series", default="", metavar="TEXT", help="Only stacks whose name has this text.")
@click.option(
    "--format", "suffix", type=click.Choice(["nrrd", "nii.gz", "mha"]), default="nrrd", show_default=True
)
@click.option("--png", is_flag=True, help="Write the middle planes as pictures too.")
@click.option("--study", "chosen", multiple=True, metavar="NAME", help="Only this study; may be repeated.")
@click.option(
    "--workers", type=click.IntRange(1), default=None,
    help="Studies at a time, a process each.  [default: one per core; 1 on a GPU]",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@common_options
def cohort(
    studies: Path,
    output: Path,
    levels: tuple[str, ...],
    discs: str | None,
    planes: str | None,
    methods: tuple[str, ...],
    count: int | None,
    step: float | None,
    thickness: float,
    spacing: float | None,
    direction: str,
    series: str,
    suffix: str,
    png: bool,
    chosen: tuple[str, ...],
    workers: int | None,
    seed: int,
    device: str,
) -> None:
    """Resample planes of every study in STUDIES: a folder with a folder of images each, or a copy of the RSNA data.

    A study that cannot be resampled is a line in report.csv; the exit status is 1, and the next run tries it again. Studies
    that are done are left out unless their images, planes or discs have changed, or their volumes are gone.

    \b
    Examples:
      gaussianmri cohort rsna/ -o planes/ --level L5/S1 --level L4/L5
      gaussianmri cohort scans/ -o planes/ --planes "planes/{study}.mrk.json" --method fast --method voxel --png
    """
    from ..grading.resample_studies import ResampleOptions, resample_cohort

    options = ResampleOptions(
        methods=methods, levels=levels, discs=discs, planes=planes, count=count, step=step,
        thickness=thickness, spacing=spacing, direction=direction, series=series, suffix=f".{suffix}", picture=png,
        device=device, seed=seed,
    )  # fmt: skip
    if workers is None and device != "cpu":
        workers = 1
    with progress_bar("Resampling") as bar:
        report = resample_cohort(
            studies, output, options, chosen or None, workers=workers,
            progress=lambda done, total, _row: advance(bar, done / total),
        )  # fmt: skip
    show_report(report)
    check_all_done(report)


def show_report(report: CohortReport) -> None:
    """Print a line for each study with something to say, and the sum; a run in which every study failed is an error."""
    for line in report.lines:
        click.echo(line)
    click.echo(report.summary)
    click.echo(f"Report        {report.path}")
    if report.asked and len(failed_now(report)) == len(report.asked):
        raise GaussianMRIError(f"No study could be used; see {report.path}.")


def check_all_done(report: CohortReport) -> None:
    """The end of a command over many studies: whoever only sees its exit status has to learn that one failed.

    Raises:
        GaussianMRIError: a study of this run failed.
    """
    if failed := failed_now(report):
        raise GaussianMRIError(
            f"{len(failed)} of {len(report.asked)} studies failed, the others are done; see {report.path}. The same command "
            "tries them again."
        )


def failed_now(report: CohortReport) -> list[str]:
    """Studies of this run that failed; the report may have those of other runs too."""
    return [study for study in report.failed if study in report.asked]
