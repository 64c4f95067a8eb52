"""`gaussianmri experiment`: does resampling help grading? The answer on phantoms, with tables and plots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from GaussianMRILib.cli.app import common_options

from .run import STEPS

if TYPE_CHECKING:
    from .run import ExperimentProgress


@click.group(short_help="Experiments that show what resampling is worth.")
def experiment() -> None:
    """Experiments on synthetic data. Research use only, not for diagnosis.

    \b
    Example:
      gaussianmri experiment phantom --folder experiment/ --reduced
    """


@click.command(short_help="Grades from aligned, straight and resampled slices of phantoms.")
@click.option(
    "--folder", required=True, type=click.Path(path_type=Path, file_okay=False),
    help="Where everything goes; the same command goes on with what is there.",
)  # fmt: skip
@click.option(
    "--reduced", is_flag=True,
    help="About two hours on one processor core: fewer patients, small networks and images.",
)  # fmt: skip
@click.option("--train", type=click.IntRange(1), default=None, help="Training patients.")
@click.option("--validation", type=click.IntRange(1), default=None, help="Validation patients.")
@click.option("--test", type=click.IntRange(1), default=None, help="Test patients; each has two sides.")
@click.option(
    "--paired", type=click.FloatRange(0, 1, min_open=True), default=None,
    help="Share of training and validation patients with straight slices too.",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=None, help="Of every network, at most.")
@click.option("--views", type=click.IntRange(1, 16), default=None, help="Of the test-time augmentation.")
@click.option("--seed", default=0, show_default=True, help="Another seed, other patients.")
@click.option(
    "--until", type=click.Choice(STEPS), default=STEPS[-1], show_default=True, help="Stop after this step."
)
@click.option("--workers", type=click.IntRange(1), default=None, help="Processes.  [default: one per core]")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def phantom(
    folder: Path,
    reduced: bool,
    train: int | None,
    validation: int | None,
    test: int | None,
    paired: float | None,
    epochs: int | None,
    views: int | None,
    seed: int,
    until: str,
    workers: int | None,
    device: str,
) -> None:
    """Scan phantoms with graded stenosis, resample, train 20 networks, test, and write FOLDER/report.html.

    Image quality and AUROC as in "Rendering Novel Views of MRI using 3D Gaussian Splatting", Tables 1 and 2, with
    bootstrap intervals. Ctrl-C stops; the same command goes on.

    \b
    Examples:
      gaussianmri experiment phantom --folder experiment/ --reduced
      gaussianmri experiment phantom --folder full/ --device cuda
    """
    from GaussianMRILib.device import choose_device

    from .options import ExperimentOptions
    from .run import run_experiment

    changes: dict[str, Any] = {
        "train": train,
        "validation": validation,
        "test": test,
        "paired": paired,
        "views": views,
    }
    changes = {name: value for name, value in changes.items() if value is not None} | {"seed": seed}
    options = ExperimentOptions.reduced(**changes) if reduced else ExperimentOptions(**changes)
    if epochs is not None:
        options = replace(options, training=replace(options.training, epochs=epochs))
    click.echo(
        f"SYNTHETIC phantoms: {options.train} training, {options.validation} validation, {options.test} test patients; "
        f"at most {options.training.epochs} epochs; settings in {folder / 'experiment.json'}"
    )
    report = run_experiment(folder, options, until, workers, str(choose_device(device)), _Lines())
    if report is not None:
        click.echo(report.read_text(encoding="utf-8"))
        click.echo(f"{report}\n{report.with_suffix('.html')}")


class _Lines:
    """Progress as lines, so that a log of hours can be read; a line every few percent, and every remark."""

    def __init__(self) -> None:
        self._last = ("", -1)

    def __call__(self, state: ExperimentProgress) -> None:
        context = click.get_current_context(silent=True)
        if state.line:
            click.echo(f"  {state.line}", err=True)
        if context is not None and context.meta.get("quiet", False):
            return
        share = 100 * state.done // max(1, state.total)
        if (state.step, share // 5) == self._last and state.done < state.total:
            return
        self._last = (state.step, share // 5)
        left = "" if state.remaining is None else f", {_duration(state.remaining)} left in this step"
        click.echo(f"{state.title}: {state.done} of {state.total}{left}", err=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


experiment.add_command(phantom)
