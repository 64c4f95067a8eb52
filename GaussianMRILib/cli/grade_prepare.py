"""`gaussianmri grade validate` and `gaussianmri grade prepare`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..errors import GaussianMRIError
from ..grading.labels import INPUT_TYPES, LEVELS
from .app import FAILED, advance, check_writable, common_options, progress_bar
from .cohort import check_all_done, discs_option, show_report

_part = click.option(
    "--part",
    type=click.Choice(["train", "test"]),
    default="train",
    show_default=True,
    help="Part of the data.",
)
_chosen = click.option(
    "--study", "chosen", multiple=True, metavar="ID", help="Only this study; may be repeated."
)
_workers = click.option(
    "--workers",
    type=click.IntRange(1),
    default=None,
    help="Studies at a time, a process each.  [default: one per core]",
)


@click.command(short_help="What is wrong in a copy of the RSNA data.")
@click.argument("folder", type=click.Path(path_type=Path))
@_part
@_chosen
@_workers
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the lines to a text file too.")
@common_options
def validate(
    folder: Path, part: str, chosen: tuple[str, ...], workers: int | None, output: Path | None
) -> int:
    """Read every image and table of FOLDER, a copy of the RSNA 2024 lumbar spine data, and list what is wrong.

    Nothing is changed. Exit status 1 if there is anything to list; each line begins with the study's id.

    \b
    Example:
      gaussianmri grade validate rsna-2024-lumbar-spine-degenerative-classification/
    """
    from ..files import atomic_write
    from ..grading.rsna import validate as check

    check_writable(output, inputs=folder.glob(f"{part}*.csv"))
    with progress_bar("Reading") as bar:
        lines = check(
            folder, part, chosen or None, workers=workers, progress=lambda n, all_, _: advance(bar, n / all_)
        )
    for line in lines:
        click.echo(line)
    if output is not None:
        with atomic_write(output) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    click.echo(f"{len(lines)} problem{'' if len(lines) == 1 else 's'} found")
    return FAILED if lines else 0


@click.command(short_help="Studies to inputs of networks.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FOLDER",
    help="Folder of the inputs; the same command goes on with an unfinished one.",
)  # fmt: skip
@click.option(
    "--type", "types", type=click.Choice(INPUT_TYPES), multiple=True, default=INPUT_TYPES, show_default=True,
    help="Acquired axial slices, aligned (A) or not (N); those that are not, resampled by interpolation (R-VI) or Gaussians "
    "(R-GS); sagittal slices (S-T1, S-T2). May be repeated.",
)  # fmt: skip
@click.option(
    "--level", "levels", type=click.Choice(LEVELS), multiple=True, default=LEVELS, show_default=True
)
@discs_option
@click.option(
    "--region", metavar="JSON", default="{}",
    help="How regions are read from discs, such as '{\"depth\": \"half\"}'; see the documentation of RegionOptions.",
)  # fmt: skip
@click.option(
    "--split", nargs=3, type=click.FloatRange(0, 1), default=None, metavar="TRAIN VALIDATION TEST",
    help="Shares of the patients.  [default: 0.7 0.15 0.15; of the test part 0 0 1]",
)  # fmt: skip
@click.option(
    "--overlays", is_flag=True, help="Write a picture of each disc and region, to be checked by eye."
)
@click.option("--seed", default=0, show_default=True, help="Of the split and of fits.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda, for Gaussians.")
@_part
@_chosen
@_workers
@common_options
def prepare(
    folder: Path,
    output: Path,
    types: tuple[str, ...],
    levels: tuple[str, ...],
    discs: str | None,
    region: str,
    split: tuple[float, float, float] | None,
    overlays: bool,
    seed: int,
    device: str,
    part: str,
    chosen: tuple[str, ...],
    workers: int | None,
) -> None:
    """Make inputs of networks (9 x 112 x 224 around each disc) from FOLDER, a copy of the RSNA 2024 or SPIDER data.

    Splits are by patient and stratified by grade. What cannot be used is a line in report.csv. Exit status 1 if a study
    failed, which the next run tries again.

    \b
    Examples:
      gaussianmri grade prepare rsna/ -o inputs/ --type A --type N --level L5/S1
      gaussianmri grade prepare phantoms/ -o inputs/ --discs discs.json --overlays
    """
    from ..grading.prepare import PrepareOptions
    from ..grading.prepare import prepare as make
    from ..grading.roi import RegionOptions

    try:
        options = PrepareOptions(
            types=types, levels=levels, region=RegionOptions(**json.loads(region)), discs=discs, device=device,
            fit={"seed": seed}, overlays=overlays,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise GaussianMRIError(f"--region must be a JSON object of RegionOptions: {error}.") from error
    fractions = None if split is None else dict(zip(("train", "validation", "test"), split, strict=True))
    if workers is None and device != "cpu":
        workers = 1
    with progress_bar("Preparing") as bar:
        crops, report = make(
            folder, output, options, part, chosen or None, fractions, seed=seed, workers=workers,
            progress=lambda done, total, _row: advance(bar, done / total),
        )  # fmt: skip
    show_report(report)
    for kind in types:
        cases = crops.chosen(input_types=[kind])
        by_split = ", ".join(
            f"{len([c for c in cases if c.split == name])} {name}" for name in ("train", "validation", "test")
        )
        click.echo(f"{kind:13} {len(cases)} cases: {by_split}")
    click.echo(f"Written       {output}")
    check_all_done(report)
