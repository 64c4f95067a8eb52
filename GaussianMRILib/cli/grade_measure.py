"""`gaussianmri grade measure`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ..errors import GaussianMRIError
from ..grading.labels import DISCLAIMER, LEVELS
from .app import (
    FAILED,
    advance,
    check_suffix,
    check_writable,
    common_options,
    load_stacks,
    progress_bar,
    stack_option,
    table,
)


@click.command(short_help="Canal area and diameter at every disc.")
@click.argument("label_files", metavar="LABELS...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--canal", "canal_file", type=click.Path(path_type=Path), metavar="FILE",
    help="Label map of the canal (dural sac), where LABELS has none or a better one is there.",
)  # fmt: skip
@click.option(
    "--discs", type=click.Path(path_type=Path), metavar="FILE",
    help="JSON of discs to measure at, in place of those in LABELS, which then say where a level disagrees.",
)  # fmt: skip
@click.option(
    "--scan", "inputs", multiple=True, metavar="INPUT", type=click.Path(path_type=Path),
    help="The segmented images, DICOM or volumes: labels have to lie on them, a canal cut by their edge is not measured.",
)  # fmt: skip
@stack_option
@click.option(
    "--level", "levels", type=click.Choice(LEVELS), multiple=True, default=LEVELS,
    help="Only this level; may be repeated.  [default: all]",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="MEASURES.csv", help="Write the table to a file."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the measures to a file.")
@click.option(
    "--sr", "report", type=click.Path(path_type=Path), metavar="REPORT.dcm",
    help="Write a DICOM Structured Report (TID 1500); needs --scan of DICOM.",
)  # fmt: skip
@common_options
def measure(
    label_files: tuple[Path, ...],
    canal_file: Path | None,
    discs: Path | None,
    inputs: tuple[Path, ...],
    chosen: tuple[int, ...],
    levels: tuple[str, ...],
    output: Path | None,
    json_file: Path | None,
    report: Path | None,
) -> int:
    """Measure the spinal canal on the plane of every disc of LABELS: area in mm², front-to-back diameter in mm.

    LABELS is the label map of TotalSpineSeg, or both of SPINEPS (seg-vert and seg-spine). No network is used. Exit status 1
    if no level could be measured. Research use only, not for diagnosis.

    \b
    Examples:
      gaussianmri grade measure step2_output/spine.nii.gz -o measures.csv
      gaussianmri grade measure seg-vert_msk.nii.gz seg-spine_msk.nii.gz --scan dicom/ --sr measures.dcm
    """
    check_suffix(output, ".csv")
    check_suffix(json_file, ".json")
    check_suffix(report, ".dcm")
    check_writable(output, json_file, report, inputs=(*label_files, canal_file, discs, *inputs))
    if not label_files and (canal_file is None or discs is None):
        raise click.UsageError("Give LABELS with discs and canal, or both --discs and --canal.")
    if report is not None and not inputs:
        raise click.UsageError("--sr needs --scan, the DICOM images that were segmented.")

    from ..files import all_or_none, atomic_write
    from ..grading.canal import CUTOFFS_TEXT, write_measures
    from ..grading.canal_report import check_highdicom, report_images, write_canal_report
    from ..grading.canal_study import measure_study
    from ..grading.disc_files import read_disc_file
    from ..labels import read_labels

    if report is not None:
        check_highdicom()
    stacks = load_stacks(inputs, chosen) if inputs else []
    images = report_images(inputs, stacks) if report is not None else []
    if report is not None and not images:
        raise GaussianMRIError("The scan is not DICOM, so that no report can refer to it. Leave --sr, or give its DICOM.")
    given = None
    if discs is not None:
        sagittal = next((stack for stack in stacks if stack.is_sagittal), None)
        given, _ = read_disc_file(discs, sagittal, levels)
    maps = {str(path): read_labels(path) for path in label_files}
    canal = None if canal_file is None else (str(canal_file), read_labels(canal_file))
    with progress_bar("Measuring") as bar:
        found = measure_study(
            maps, canal=canal, discs=given, stacks=stacks, levels=levels, progress=lambda part: advance(bar, part)
        )
    rows = [row.cells() for row in found.measures]
    names = [name for name in rows[0] if name != "remarks"]
    click.echo(table(names, [[row[name] or "-" for name in names] for row in rows]))
    for line in found.remarks:
        click.echo(line)
    for row in rows:
        if row["remarks"]:
            click.echo(f"{row['level']}: {row['remarks']}")
    click.echo(f"{CUTOFFS_TEXT} {DISCLAIMER}")
    with all_or_none():
        if output is not None:
            write_measures(output, found.measures)
        if json_file is not None:
            with atomic_write(json_file) as temporary:
                content = {
                    "measures": [asdict(row) for row in found.measures],
                    "remarks": found.remarks,
                    "cutoffs": CUTOFFS_TEXT,
                    "disclaimer": DISCLAIMER,
                }
                temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if report is not None:
            write_canal_report(report, images, found.measures)
    return 0 if any(row.area is not None for row in found.measures) else FAILED
