"""`gaussianmri grade evaluate`."""

from __future__ import annotations

import csv
import functools
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GaussianMRIError
from .app import advance, check_suffix, check_writable, common_options, progress_bar, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..grading.crops import Case, CropSet
    from ..grading.model_card import Grader

    Cases = tuple[list[Case], NDArray[np.float64]]


@click.command(short_help="Test networks on cases they have not seen.")
@click.argument("folder", metavar="INPUTS", type=click.Path(path_type=Path))
@click.argument("models", metavar="MODEL.pt...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True
)
@click.option(
    "--views", type=click.IntRange(1, 16), default=16, show_default=True, help="Views that are averaged."
)
@click.option(
    "--resamples", type=click.IntRange(1), default=2000, show_default=True, help="Of the bootstrap."
)
@click.option(
    "--reliability", is_flag=True, help="Print the table of how often grades of a probability are right."
)
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write every case's probabilities.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def evaluate(
    folder: Path,
    models: tuple[Path, ...],
    split: str,
    views: int,
    resamples: int,
    reliability: bool,
    csv_file: Path | None,
    json_file: Path | None,
    device: str,
) -> None:
    """One-vs-rest AUROC of each MODEL on each kind of image in INPUTS, with 95 % intervals by bootstrap over patients.

    An AUROC is undefined where no case has one of the grades. Of several models for one task the differences are
    printed as well, from the same resamples.

    \b
    Example:
      gaussianmri grade evaluate inputs/ left-A.pt left-A-GS.pt --json auroc.json
    """
    from ..files import all_or_none, atomic_write
    from ..fitting.problem import choose_device
    from ..grading.auroc import bootstrap, calibration_error, class_aurocs
    from ..grading.auroc import reliability as reliability_table
    from ..grading.crops import CropSet, labels_of
    from ..grading.labels import DISCLAIMER, GRADES, INPUT_TYPES
    from ..grading.model_card import load_grader
    from ..grading.predict import grade_cases

    check_suffix(csv_file, ".csv")
    check_suffix(json_file, ".json")
    check_writable(csv_file, json_file, inputs=[*models, *(folder / name for name in ("cases.csv", "crops.json"))])
    crops, target = CropSet.read(folder), choose_device(device)
    rows: list[list[str]] = []
    figures: list[dict[str, Any]] = []
    results: dict[tuple[str, str], dict[str, Cases]] = {}
    lines = [["model", "task", "case", "patient", "level", "input_type", "grade", *GRADES]]
    tables = []
    used: dict[str, tuple[str, str]] = {}
    for model in models:
        grader = load_grader(model, device=target)
        task = grader.card.task
        used[str(model)] = grader.sha256, grader.card.trained_on
        for kind in INPUT_TYPES:
            cases = _cases(crops, grader, split, kind)
            if not cases:
                continue
            with progress_bar(f"{model.name}, {kind}") as bar:
                p = grade_cases(grader, crops, cases, views, progress=functools.partial(advance, bar))
            labels = labels_of(cases, task)
            results.setdefault((task.name, kind), {})[str(model)] = (cases, p)
            interval = bootstrap(p, labels, [case.patient for case in cases], resamples)
            by_class, bins = class_aurocs(p, labels), reliability_table(p, labels)
            error = calibration_error(bins)
            synthetic = " SYNTHETIC" if grader.card.synthetic or any(case.synthetic for case in cases) else ""
            values = ["undefined" if value is None else f"{value:.3f}" for value in by_class]
            title = f"{model.name}{synthetic}"
            rows.append([title, task.title, kind, str(len(cases)), *values, interval.text, f"{error:.3f}"])
            tables.append((title, kind, bins))
            figures.append(
                {
                    "model": str(model),
                    "sha256": grader.sha256,
                    "trained_on": grader.card.trained_on,
                    "synthetic": bool(synthetic),
                    "task": task.name,
                    "input_type": kind,
                    "cases": len(cases),
                    "auroc": dict(zip(GRADES, by_class, strict=True)),
                    "macro_auroc": interval.__dict__,
                    "calibration_error": error,
                    "reliability": [row.__dict__ for row in bins],
                }
            )
            for case, probabilities in zip(cases, p, strict=True):
                facts = [str(model), task.name, case.case_id, case.patient, case.level, kind]
                lines.append([*facts, case.grades[task.name], *(f"{v:.6f}" for v in probabilities)])
    if not rows:
        raise GaussianMRIError(
            f"{folder} has no case of the split {split} that these models can grade; see its cases.csv."
        )
    header = ["model", "task", "images", "cases", *GRADES, "macro AUROC (95 %)", "ECE"]
    click.echo(table(header, rows))
    differences = _differences(results, resamples)
    for line in differences:
        pair = f"{Path(line['first']).name} - {Path(line['second']).name}"
        click.echo(f"{line['task']}, {line['input_type']}: {pair}: {line['text']}")
    for name, (sha256, trained_on) in used.items():
        click.echo(f"{Path(name).name}: checkpoint {sha256}, trained on: {trained_on}")
    if reliability:
        for title, kind, bins in tables:
            cells = [
                [f"{b.low:.1f} to {b.high:.1f}", str(b.count), f"{b.confidence:.3f}", f"{b.accuracy:.3f}"]
                for b in bins
                if b.count
            ]
            click.echo(f"\n{title}, {kind}")
            click.echo(table(["probability of the grade", "cases", "mean", "right"], cells))
    click.echo(f"{views} views, split {split}. Probabilities are not calibrated (ECE: their mean error).")
    click.echo(DISCLAIMER)
    with all_or_none():
        if json_file is not None:
            with atomic_write(json_file) as temporary:
                content = {"split": split, "views": views, "results": figures, "differences": differences}
                temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if csv_file is not None:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(lines)
            with atomic_write(csv_file) as temporary:
                temporary.write_text(text.getvalue(), encoding="utf-8")


def _cases(crops: CropSet, grader: Grader, split: str, kind: str) -> list[Case]:
    card = grader.card
    return crops.chosen(split, [kind], card.levels or None, card.task)


def _differences(results: dict[tuple[str, str], dict[str, Cases]], resamples: int) -> list[dict[str, Any]]:
    """Differences in macro AUROC between models of the same task, on the same cases."""
    from ..grading.auroc import paired_bootstrap
    from ..grading.crops import labels_of
    from ..grading.labels import Task

    found = []
    for (task, kind), by_model in results.items():
        lists = [[case.case_id for case in cases] for cases, _ in by_model.values()]
        if len(by_model) < 2 or any(ids != lists[0] for ids in lists):
            continue
        cases = next(iter(by_model.values()))[0]
        labels = labels_of(cases, Task.named(task))
        patients = [case.patient for case in cases]
        paired = paired_bootstrap({n: p for n, (_, p) in by_model.items()}, labels, patients, resamples)
        for (first, second), interval in paired.differences.items():
            found.append(
                {
                    "task": task,
                    "input_type": kind,
                    "first": first,
                    "second": second,
                    **interval.__dict__,
                    "text": interval.text,
                }
            )
    return found
