"""`gaussianmri grade`: grades of spinal stenosis by networks that users train on data they have."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ..grading.labels import INPUT_TYPES, LEVELS, TASKS
from .app import (
    advance,
    check_suffix,
    check_writable,
    common_options,
    output_option,
    progress_bar,
)
from .grade_evaluate import calibrate, evaluate
from .grade_import import import_network
from .grade_measure import measure
from .grade_predict import predict
from .grade_prepare import prepare, validate


@click.group(short_help="Grades of spinal stenosis on planes.")
def grade() -> None:
    """Grade stenosis at lumbar discs with networks that you train. Research use only, not for diagnosis.

    No network comes with this software, and without one there is no grade.

    \b
    Example, from a copy of the RSNA 2024 lumbar spine data to the grades of a study:
      gaussianmri grade validate rsna/
      gaussianmri grade prepare rsna/ -o inputs/ --level L5/S1
      gaussianmri grade train inputs/ -o left.pt --task left_subarticular_stenosis --type A --type R-GS
      gaussianmri grade evaluate inputs/ left.pt
      gaussianmri grade predict *.pt --study dicom/ --labels segmentation.nii.gz -o table.csv
    """


@click.command(short_help="Train a network for one condition and side.")
@click.argument("folder", metavar="INPUTS", type=click.Path(path_type=Path))
@output_option("MODEL.pt")
@click.option(
    "--task",
    required=True,
    type=click.Choice([task.name for task in TASKS]),
    help="Condition and the patient's side.",
)
@click.option(
    "--type", "types", multiple=True, type=click.Choice(INPUT_TYPES), default=("A",), show_default=True,
    help="Kind of images to learn from; may be repeated.",
)  # fmt: skip
@click.option(
    "--level", "levels", multiple=True, type=click.Choice(LEVELS), help="Only this level; may be repeated."
)
@click.option(
    "--epochs", type=click.IntRange(1), default=60, show_default=True,
    help="Times through all cases; at most, with --patience.",
)  # fmt: skip
@click.option(
    "--epoch-steps", type=click.IntRange(1), default=None,
    help="Batches of an epoch, to compare trainings on more and on fewer cases.  [default: once through all cases]",
)  # fmt: skip
@click.option(
    "--patience", type=click.IntRange(1), default=None,
    help="End after so many epochs of validation without a better network, counted from half of --epochs at the earliest.  "
    "[default: train all epochs]",
)  # fmt: skip
@click.option(
    "--window", type=click.IntRange(1), default=10, show_default=True,
    help="Epochs of validation whose mean macro AUROC chooses the network.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Discs in a step.")
@click.option("--rate", type=float, default=1e-4, show_default=True, help="Learning rate at the start.")
@click.option(
    "--input-size", nargs=2, type=click.IntRange(16), default=None, metavar="ROWS COLUMNS",
    help="Average the images down to this size, such as 56 112: faster.  [default: as they are, 112 224]",
)  # fmt: skip
@click.option(
    "--mirror/--no-mirror", default=True, show_default=True,
    help="Learn the other side's grades from mirrored images too.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True,
    help="Of matrix products; auto is bfloat16 where the processor has units for it.",
)  # fmt: skip
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), default=None,
    help="Where the state is kept; a training that was stopped goes on from there. By default beside the model, and "
    "removed at the end.",
)  # fmt: skip
@click.option("--log", type=click.Path(path_type=Path), help="CSV file with a line for every epoch.")
@click.option("--seed", default=0, show_default=True, help="The same seed and --threads give the same network on a CPU.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def train(
    folder: Path,
    output: Path,
    task: str,
    types: tuple[str, ...],
    levels: tuple[str, ...],
    epochs: int,
    epoch_steps: int | None,
    patience: int | None,
    window: int,
    batch: int,
    rate: float,
    input_size: tuple[int, int] | None,
    mirror: bool,
    precision: str,
    checkpoint: Path | None,
    log: Path | None,
    seed: int,
    device: str,
) -> None:
    """Train on the cases of INPUTS (`gaussianmri grade prepare`); Ctrl-C keeps the checkpoint, and the same command goes on.

    \b
    Examples:
      gaussianmri grade train inputs/ -o left.pt --task left_subarticular_stenosis
      torchrun --nproc-per-node 4 -m GaussianMRILib grade train inputs/ -o left.pt --task left_subarticular_stenosis
    """
    from ..grading.crops import CropSet
    from ..grading.labels import Task
    from ..grading.options import GradingOptions
    from ..grading.train import GradingTrainer

    check_suffix(output, ".pt")
    check_suffix(log, ".csv")
    options = GradingOptions(
        input_types=types,
        levels=levels or None,
        input_size=input_size,
        mirror=mirror,
        epochs=epochs,
        epoch_steps=epoch_steps,
        patience=patience,
        window=window,
        batch=batch,
        learning_rate=rate,
        precision=precision,
        seed=seed,
    )
    kept = checkpoint or output.with_suffix(".ckpt")
    check_writable(output, kept, log, inputs=[folder / name for name in ("cases.csv", "crops.json")])
    with _processes(device) as (target, first):
        trainer = GradingTrainer(CropSet.read(folder), Task.named(task), options, kept, target, log)
        with progress_bar("Training") as bar, _kept(trainer):
            for report in trainer:
                bar.set_description_str(f"Training: epoch {report.epoch} of {report.epochs}", refresh=False)
                facts = {"loss": f"{report.loss:.4f}"}
                if report.validation_auroc is not None:
                    facts["AUROC"] = f"{report.validation_auroc:.3f}"
                bar.set_postfix(facts, refresh=False)
                advance(bar, report.fraction)
        if not first:
            return
        trainer.export(output)
    if checkpoint is None:
        kept.unlink(missing_ok=True)
    card = trainer.card
    click.echo(f"Task          {card.task.title}")
    click.echo(f"Trained on    {card.trained_on}")
    for split, counts in card.cases.items():
        click.echo(f"{split.capitalize():13} {', '.join(f'{n} {name}' for name, n in counts.items())}")
    click.echo(f"Chosen        {card.chosen}")
    if trainer.at_chance:
        click.echo(
            "Warning       Validation does not show that the network has learned anything. Try another --seed, more "
            "--epochs without --patience, or more cases."
        )
    click.echo(f"Time          {trainer.elapsed:.0f} s")
    click.echo(f"Written       {output} ({output.stat().st_size / 1e6:.1f} MB)")


@contextlib.contextmanager
def _kept(trainer: Any) -> Iterator[None]:
    """A cancel between two checkpoints loses nothing."""
    try:
        yield
    except KeyboardInterrupt:
        trainer.save()
        raise


@contextlib.contextmanager
def _processes(device: str) -> Iterator[tuple[str, bool]]:
    """The device of this process, and whether it is the first; under `torchrun` all processes know each other."""
    from torch import distributed

    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield device, True
        return
    import torch

    local = int(os.environ["LOCAL_RANK"])
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield f"cuda:{local}" if cuda else "cpu", distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()


for command in (prepare, validate, train, calibrate, predict, evaluate, measure, import_network):
    grade.add_command(command)
