"""`gaussianmri grade predict`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..grading.inputs import AXIAL_KINDS
from ..grading.labels import LEVELS
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

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..grading.disc import DiscGeometry
    from ..grading.heatmap import HeatMap
    from ..grading.spine_labels import SpineLabels
    from ..grading.study import StudyGrade, StudyGrades
    from ..stacks import SliceStack


@click.command(short_help="Grade all discs of a study.")
@click.argument(
    "models", metavar="MODEL.pt...", nargs=-1, envvar="GAUSSIANMRI_GRADERS", type=click.Path(path_type=Path)
)
@click.option(
    "--study", "--scan", "inputs", multiple=True, required=True, metavar="INPUT", type=click.Path(path_type=Path),
    help="Folder of DICOM or a volume file: axial T2, sagittal T1 and T2. May be repeated.",
)  # fmt: skip
@stack_option
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="FILE",
    help="Label map of TotalSpineSeg or SPINEPS (seg-vert), whose discs are graded.",
)  # fmt: skip
@click.option(
    "--discs", type=click.Path(path_type=Path), metavar="FILE",
    help="JSON of discs or SpineNet's exported detections, in place of those in --labels.",
)  # fmt: skip
@click.option(
    "--level", "levels", type=click.Choice(LEVELS), multiple=True, default=LEVELS,
    help="Only this level; may be repeated.  [default: all]",
)  # fmt: skip
@click.option(
    "--type", "kind", type=click.Choice(AXIAL_KINDS), default=None,
    help="What networks of axial images see: acquired slices, or planes aligned with the disc by voxel interpolation or "
    "Gaussians.  [default: what each was trained on]",
)  # fmt: skip
@click.option(
    "--views", type=click.IntRange(1, 16), default=16, show_default=True, help="Views that are averaged."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="TABLE.csv", help="Write the table to a file."
)
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="PAGE.html",
    help="Write a page with each crop and, beside it, where the network looked; takes some four times as long as grading.",
)  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the grades to a file.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def predict(
    models: tuple[Path, ...],
    inputs: tuple[Path, ...],
    chosen: tuple[int, ...],
    labels: Path | None,
    discs: Path | None,
    levels: tuple[str, ...],
    kind: str | None,
    views: int,
    output: Path | None,
    report: Path | None,
    json_file: Path | None,
    device: str,
) -> int:
    """Grade every disc of a study for every condition: spinal canal, left and right subarticular and foraminal stenosis.

    MODEL is a checkpoint, or a folder of them; without one GAUSSIANMRI_GRADERS names them. What is missing (a network, a
    series, a disc) is a row that says so. Exit status 1 if nothing could be graded. Research use only, not for diagnosis.

    \b
    Examples:
      gaussianmri grade predict models/ --study dicom/ --labels segmentation.nii.gz -o table.csv
      gaussianmri grade predict left.pt right.pt --study dicom/ --discs discs.json --level L5/S1 --type R-GS
    """
    from ..device import choose_device
    from ..files import all_or_none, atomic_write
    from ..grading.checkpoints import NO_CHECKPOINT, find_checkpoints
    from ..grading.heatmap import write_report
    from ..grading.labels import DISCLAIMER
    from ..grading.model_card import load_grader
    from ..grading.study import grade_study, write_grades

    check_suffix(output, ".csv")
    check_suffix(json_file, ".json")
    check_suffix(report, ".html")
    check_writable(output, report, json_file, inputs=(*models, *inputs, labels, discs))
    if not models:
        raise click.UsageError(NO_CHECKPOINT)
    if labels is None and discs is None:
        raise click.UsageError("Give --labels, a label map of TotalSpineSeg or SPINEPS, or --discs.")
    target = choose_device(device)
    graders = [load_grader(path, device=target) for model in models for path in find_checkpoints(model)]
    stacks = load_stacks(inputs, chosen)
    spine, given = _discs(labels, discs, stacks)
    with progress_bar("Grading") as bar:

        def tell(part: float, stage: str) -> None:
            bar.set_postfix_str(stage, refresh=False)
            advance(bar, part)

        found = grade_study(
            graders, stacks, labels=spine, discs=given, levels=levels, kind=kind, views=views, device=str(target),
            progress=tell,
        )  # fmt: skip
    _show(found)
    maps = [] if report is None else _maps(found)
    with all_or_none():
        if report is not None:
            write_report(report, found, maps)
        if output is not None:
            write_grades(output, found)
        if json_file is not None:
            with atomic_write(json_file) as temporary:
                content = {
                    "grades": [row.to_dict() for row in found.rows],
                    "remarks": found.remarks,
                    "disclaimer": DISCLAIMER,
                }
                temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if any(row.grade is not None for row in found.rows):
        return 0
    click.echo(f"Nothing was graded: {', '.join(str(path) for path in (*inputs, labels, discs) if path)}.", err=True)
    return FAILED


def _discs(
    labels: Path | None, discs: Path | None, stacks: list[SliceStack]
) -> tuple[SpineLabels | None, dict[str, DiscGeometry] | None]:
    """The label map, and the discs that stand in place of its own."""
    from ..grading.disc_files import read_disc_file
    from ..grading.spine_labels import read_spine_labels
    from ..stacks.volumes import is_volume

    if labels is None and discs is not None and is_volume(discs):
        labels, discs = discs, None
    given = None
    if discs is not None:
        given, _ = read_disc_file(discs, next((stack for stack in stacks if stack.is_sagittal), None))
    return (None if labels is None else read_spine_labels(labels)), given


def _maps(found: StudyGrades) -> list[tuple[StudyGrade, HeatMap]]:
    """Where each network looked, with a line for each."""
    from ..grading.heatmap import heat_map

    graded = [row for row in found.rows if row.grade is not None]
    maps: list[tuple[StudyGrade, HeatMap]] = []
    with progress_bar("Heat-maps") as bar:
        for row in graded:
            assert row.grader is not None and row.inputs is not None and row.grade is not None
            done = len(maps)
            tell = functools.partial(_tell, bar, done, len(graded))
            maps.append((row, heat_map(row.grader, row.inputs, grade=row.grade.label, progress=tell)))
    for row, one in maps:
        click.echo(f"{row.level} {row.task.title}: {one.text}")
    return maps


def _tell(bar: tqdm[Any], done: int, whole: int, part: float) -> None:
    advance(bar, (done + part) / whole)


def _show(found: StudyGrades) -> None:
    """The table, then every reason with the rows that it stands for."""
    from ..grading.labels import GRADES

    graded = [row for row in found.rows if row.grade is not None]
    if graded:
        cells = [row.cells() for row in graded]
        names = [f"P {name.lower()}" for name in GRADES]
        rows = [
            [row.text, *(line[name] for name in (*names, "input type", "series")), line["checkpoint"][:12]]
            for row, line in zip(graded, cells, strict=True)
        ]
        click.echo(table(["grade", *names, "images", "series", "checkpoint"], rows))
    for line in found.remarks:
        click.echo(line)
    reasons: dict[tuple[bool, str], list[str]] = {}
    for row in found.rows:
        for remark in row.remarks:
            reasons.setdefault((row.grade is None, remark), []).append(f"{row.level} {row.task.title}")
    for (missing, remark), places in reasons.items():
        click.echo(f"{'No grade' if missing else 'Note'}: {remark} ({', '.join(places)})")
    for line in found.notes:
        click.echo(line)
