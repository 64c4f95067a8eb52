"""`gaussianmri grade`: grades of spinal stenosis by networks that users train on data they have."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import GaussianMRIError
from ..grading.labels import INPUT_TYPES, LEVELS, TASKS
from .app import (
    advance,
    check_suffix,
    check_writable,
    common_options,
    load_stacks,
    output_option,
    progress_bar,
    table,
)
from .grade_evaluate import calibrate, evaluate
from .grade_measure import measure
from .grade_prepare import prepare, validate

if TYPE_CHECKING:
    from ..grading.inputs import GradingInput
    from ..grading.model_card import Grader
    from ..stacks import SliceStack


@click.group(short_help="Grades of spinal stenosis on planes.")
def grade() -> None:
    """Grade stenosis at lumbar discs with networks that you train. Research use only, not for diagnosis.

    No network comes with this software, and without one there is no grade.

    \b
    Example, from a copy of the RSNA 2024 lumbar spine data to the grades of one scan:
      gaussianmri grade validate rsna/
      gaussianmri grade prepare rsna/ -o inputs/ --level L5/S1
      gaussianmri grade train inputs/ -o left.pt --task left_subarticular_stenosis --type A --type R-GS
      gaussianmri grade evaluate inputs/ left.pt
      gaussianmri grade predict left.pt --scan dicom/ --discs discs.json --level L5/S1 --type R-GS
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
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True)
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
                bar.set_description(f"Training: epoch {report.epoch} of {report.epochs}", refresh=False)
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


@click.command(short_help="Grade a disc of a scan.")
@click.argument("models", metavar="MODEL.pt...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--scan", "inputs", multiple=True, required=True, metavar="INPUT", type=click.Path(path_type=Path),
    help="Folder of DICOM or a volume file; axial slices, and sagittal ones where --discs needs them.",
)  # fmt: skip
@click.option(
    "--stack", "chosen", type=click.IntRange(1), multiple=True, metavar="N",
    help="Only this stack of the scan, numbered as `gaussianmri inspect` does; may be repeated.",
)  # fmt: skip
@click.option(
    "--discs", required=True, type=click.Path(path_type=Path), metavar="FILE",
    help="JSON of discs, SpineNet's exported detections, or a label map of TotalSpineSeg or SPINEPS (seg-vert).",
)  # fmt: skip
@click.option("--level", required=True, type=click.Choice(LEVELS))
@click.option(
    "--type", "kind", type=click.Choice(["acquired", "R-VI", "R-GS"]), default="acquired", show_default=True,
    help="Acquired slices, or planes aligned with the disc by voxel interpolation or Gaussians.",
)  # fmt: skip
@click.option(
    "--views", type=click.IntRange(1, 16), default=16, show_default=True, help="Views that are averaged."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the grades to a file.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def predict(
    models: tuple[Path, ...],
    inputs: tuple[Path, ...],
    chosen: tuple[int, ...],
    discs: Path,
    level: str,
    kind: str,
    views: int,
    json_file: Path | None,
    device: str,
) -> None:
    """Grade one disc of a scan with each MODEL. Research use only, not for diagnosis.

    \b
    Example:
      gaussianmri grade predict left.pt right.pt --scan dicom/ --discs discs.json --level L5/S1 --type R-GS
    """
    from ..device import choose_device
    from ..files import atomic_write
    from ..grading.model_card import load_grader
    from ..grading.predict import grade as grade_disc

    check_suffix(json_file, ".json")
    check_writable(json_file, inputs=(*models, *inputs, discs))
    target = choose_device(device)
    graders = [load_grader(model, device=target) for model in models]
    seen = _input(graders, load_stacks(inputs, chosen), discs, level, kind, str(target))
    with progress_bar("Grading") as bar:
        grades = grade_disc(graders, seen, views, level, progress=lambda part: advance(bar, part))
    names = grades[0].to_dict()["probabilities"]
    rows = [[g.text, *(f"{p:.3f}" for p in g.probabilities), g.checkpoint[:12]] for g in grades]
    click.echo(table(["grade", *names, "checkpoint"], rows))
    for line in dict.fromkeys(line for found in grades for line in found.notes):
        click.echo(line)
    if json_file is not None:
        with atomic_write(json_file) as temporary:
            content = [found.to_dict() | {"input": seen.facts} for found in grades]
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _input(
    graders: list[Grader], stacks: list[SliceStack], discs: Path, level: str, kind: str, device: str
) -> GradingInput:
    """What the networks see of a disc, its region as they know it."""
    from ..grading.crops import region_options
    from ..grading.disc_files import read_disc_file
    from ..grading.inputs import resampled_input
    from ..grading.prepare import PrepareOptions, disc_inputs
    from ..grading.rsna_series import slabs

    sagittal = next((stack for stack in stacks if stack.is_sagittal), None)
    axial = [slab for stack in stacks if not stack.is_sagittal for slab in slabs(stack)]
    found, problems = read_disc_file(discs, sagittal, [level])
    if level not in found:
        reason = f": {'; '.join(problems)}" if problems else ""
        raise GaussianMRIError(f"{discs} has no disc {level}{reason}. Give a file that has it.")
    if not axial:
        raise GaussianMRIError("The scan has no axial slices; give them with --scan.")
    region = region_options(graders[0].card.preprocessing)
    if kind == "acquired":
        types = PrepareOptions(types=("A", "N"), region=region)
        inputs, problems = disc_inputs(found[level], axial, types)
        if not inputs:
            raise GaussianMRIError(f"{level} cannot be graded on acquired slices: {'; '.join(problems)}.")
        return next(iter(inputs.values()))
    with progress_bar("Resampling") as bar:
        return resampled_input(
            found[level], axial, kind, region, device, progress=lambda part, _what: advance(bar, part)
        )


for command in (prepare, validate, train, calibrate, predict, evaluate, measure):
    grade.add_command(command)
