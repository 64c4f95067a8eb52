"""`gaussianmri grade evaluate` and `gaussianmri grade calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .app import advance, check_suffix, check_writable, common_options, output_option, progress_bar, table

if TYPE_CHECKING:
    from ..grading.evaluation import Result

views_option = click.option(
    "--views", type=click.IntRange(1, 16), default=16, show_default=True, help="Views that are averaged."
)
device_option = click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")


@click.command(short_help="Test networks on cases they have not seen.")
@click.argument("folder", metavar="INPUTS", type=click.Path(path_type=Path))
@click.argument("models", metavar="MODEL.pt...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True,
    help="Of INPUTS.",
)  # fmt: skip
@click.option(
    "--external", multiple=True, metavar="INPUTS", type=click.Path(path_type=Path),
    help="Another cohort's inputs: all its graded cases are tested as well; may be repeated.",
)  # fmt: skip
@views_option
@click.option(
    "--resamples", type=click.IntRange(1), default=2000, show_default=True, help="Of the bootstrap."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--reliability", is_flag=True, help="Print the table of how often grades of a probability are right."
)
@click.option(
    "--reliability-plot", "plot_file", type=click.Path(path_type=Path), metavar="FILE",
    help="The same as a picture (.png, .svg, .pdf).",
)  # fmt: skip
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write every case's probabilities.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures.")
@device_option
@common_options
def evaluate(
    folder: Path,
    models: tuple[Path, ...],
    split: str,
    external: tuple[Path, ...],
    views: int,
    resamples: int,
    seed: int,
    reliability: bool,
    plot_file: Path | None,
    csv_file: Path | None,
    json_file: Path | None,
    device: str,
) -> None:
    """Measures of each MODEL on each kind of image in INPUTS, which it was trained on, and in other cohorts.

    AUROC, Cohen's kappa, balanced accuracy, the log loss of the RSNA 2024 challenge and the expected calibration error, with
    95 % intervals by bootstrap over patients. A measure is undefined where no case has one of the grades that it needs.
    Sensitivity and specificity need a threshold of severe, see `gaussianmri grade calibrate`. Of several models for one task
    the differences are printed as well, from the same resamples.

    \b
    Example:
      gaussianmri grade evaluate inputs/ left-A.pt left-A-GS.pt --external other/ --json measures.json
    """
    from ..device import choose_device
    from ..grading.crops import CropSet
    from ..grading.evaluation import TITLES, write_evaluation
    from ..grading.evaluation import evaluate as judge
    from ..grading.labels import DISCLAIMER
    from ..grading.model_card import load_grader

    check_suffix(csv_file, ".csv")
    check_suffix(json_file, ".json")
    check_suffix(plot_file, ".png", ".svg", ".pdf")
    sets = [where / name for where in (folder, *external) for name in ("cases.csv", "crops.json")]
    check_writable(csv_file, json_file, plot_file, inputs=[*models, *sets])
    crops, others = CropSet.read(folder), [CropSet.read(where) for where in external]
    target = choose_device(device, kernels=False)
    graders = {str(model): load_grader(model, device=target) for model in models}
    with progress_bar("Grading") as bar:

        def show(part: float, what: str) -> None:
            bar.set_description_str(what, refresh=False)
            advance(bar, part)

        found = judge(
            graders, crops, split=split, external=others, views=views, resamples=resamples, seed=seed, progress=show
        )
    for result in found.results:
        _show(result, resamples, reliability)
    for line in found.differences:
        pair = f"{Path(line.first).name} - {Path(line.second).name}"
        values = "; ".join(f"{TITLES[name]} {interval.text}" for name, interval in line.measures.items())
        click.echo(f"{line.task.name}, {_place(line.cohort, split)}{line.input_type}: {pair}: {values}")
    for model, grader in graders.items():
        click.echo(f"{Path(model).name}: checkpoint {grader.sha256}, trained on: {grader.card.trained_on}")
    for note in found.notes:
        click.echo(note)
    click.echo(f"{views} views, split {split}. ECE: mean difference between probability and share of right grades.")
    click.echo(DISCLAIMER)
    write_evaluation(found, json_file=json_file, csv_file=csv_file, plot_file=plot_file)


def _place(cohort: str, split: str) -> str:
    return "" if cohort == split else f"{cohort}, "


def _show(result: Result, resamples: int, reliability: bool) -> None:
    """Measures of one network on one kind of images as a table, and its reliability."""
    from ..grading.calibration import calibration_error
    from ..grading.evaluation import TITLES
    from ..grading.labels import GRADES

    mark = " SYNTHETIC" if result.synthetic else ""
    click.echo(
        f"\n{Path(result.model).name}{mark}, {result.task.title}, {result.cohort}, {result.input_type}: "
        f"{len(result.cases)} cases of {result.patients} patients"
    )
    rows = [
        [f"AUROC {grade}", "undefined" if value is None else f"{value:.3f}", ""]
        for grade, value in zip(GRADES, result.aurocs, strict=True)
    ]
    for name, interval in result.measures.items():
        rows.append([TITLES[name], interval.text, f"{interval.resamples} of {resamples}"])
    rows.append(["ECE", f"{calibration_error(result.bins):.3f}", ""])
    if result.raw_bins:
        rows.append(["ECE before calibration", f"{calibration_error(result.raw_bins):.3f}", ""])
    click.echo(table(["measure", "value (95 %)", "resamples with a value"], rows))
    if reliability:
        cells = [
            [f"{b.low:.1f} to {b.high:.1f}", str(b.count), f"{b.confidence:.3f}", f"{b.accuracy:.3f}"]
            for b in result.bins
            if b.count
        ]
        click.echo(table(["probability of the grade", "cases", "mean", "right"], cells))


@click.command(short_help="Calibrate a network on validation cases.")
@click.argument("folder", metavar="INPUTS", type=click.Path(path_type=Path))
@click.argument("model", metavar="MODEL.pt", type=click.Path(path_type=Path))
@output_option("CALIBRATED.pt")
@views_option
@click.option(
    "--sensitivity", type=click.FloatRange(0, 1, min_open=True),
    help="The least one of severe against the rest.  [default: largest sum of sensitivity and specificity]",
)  # fmt: skip
@device_option
@common_options
def calibrate(
    folder: Path, model: Path, output: Path, views: int, sensitivity: float | None, device: str
) -> None:
    """Fit the temperature of MODEL, and choose from which probability on a disc is severe.

    Both come from the validation cases of INPUTS, which it was trained on, never from test cases, and go into a copy of the
    checkpoint with what they were chosen on. `predict` and `evaluate` then give calibrated probabilities.

    \b
    Example:
      gaussianmri grade calibrate inputs/ left.pt -o left-calibrated.pt --sensitivity 0.9
    """
    from ..device import choose_device
    from ..grading.crops import CropSet
    from ..grading.evaluation import calibrate as choose
    from ..grading.model_card import load_grader, save_calibrated

    check_suffix(output, ".pt")
    check_writable(output, inputs=[model])
    crops, grader = CropSet.read(folder), load_grader(model, device=choose_device(device, kernels=False))
    with progress_bar("Grading") as bar:
        found = choose(
            grader, crops, views=views, sensitivity=sensitivity, progress=lambda part: advance(bar, part)
        )
    save_calibrated(model, output, found)
    click.echo(f"Task          {grader.card.task.title}")
    click.echo(f"Validation    {', '.join(f'{n} {grade}' for grade, n in found.cases.items())}, {found.patients} patients")
    click.echo(f"Temperature   {found.temperature:.3f}: ECE {found.error:.3f}, {found.raw_error:.3f} without")
    click.echo(
        f"Severe        probability of at least {found.threshold:.3f} ({found.rule}): sensitivity "
        f"{found.sensitivity:.3f}, specificity {found.specificity:.3f} on these cases"
    )
    click.echo(f"Written       {output} ({output.stat().st_size / 1e6:.1f} MB)")
