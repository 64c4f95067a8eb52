"""Training of a network for one condition on one side."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from ..errors import GaussianMRIError
from ..files import number, reading, whole
from ..tensor_files import load_optimiser, load_weights, read_state, write_state
from ..version import __version__
from .augment import change, draw_changes, mirrored, resize
from .crops import Case, CropSet
from .labels import GRADES, Task, is_sagittal
from .measures import chance_auroc, class_aurocs, macro_mean
from .model_card import ModelCard, save_grader
from .network import GradingNetwork, mixed_precision
from .options import GradingOptions, GradingProgress
from .train_log import LOG_COLUMNS, write_log

_LOG = logging.getLogger("GaussianMRI")
FORMAT = "GaussianMRI grading training"
VERSION = 1


@dataclass(frozen=True)
class Example:
    """A case as it is learned from: itself, or mirrored with the other side's grade."""

    case: Case
    mirror: bool
    label: int


def examples_of(cases: Sequence[Case], task: Task, mirror: bool) -> list[Example]:
    """Every case with a grade for `task`, and with `mirror` its mirror image where the other side has one."""
    found = []
    for case in cases:
        for flipped, judged in ((False, task), (True, task.mirrored)):
            label = case.label(judged)
            if label is not None and (mirror or not flipped):
                found.append(Example(case, flipped, label))
    return found

class GradingTrainer:
    """A training as a loop: every few batches report progress, and it can be stopped whenever you like.

    What happens in a step depends on the seed, the step's number and the weights only: a training that was killed goes on
    from its checkpoint to the same result, bit for bit, on the same CPU with as many threads. Started by `torchrun`, the
    cases of each batch are shared among the processes.

    Example:
        >>> task = Task("subarticular_stenosis", "left")
        >>> trainer = GradingTrainer(CropSet.read("crops"), task, GradingOptions(), "left.ckpt")  # doctest: +SKIP
        >>> for progress in trainer:                                                            # doctest: +SKIP
        ...     print(f"{progress.fraction:.0%}  loss {progress.loss:.3f}")
        >>> trainer.export("left_subarticular.pt")                                              # doctest: +SKIP

    Args:
        crops: cases with the splits "train" and "validation".
        task: condition and side.
        options: settings.
        checkpoint: file that the state goes to about every minute and at the end.
        device: "cpu", "cuda" or "auto".
        log: CSV file with a line for every epoch; where TensorBoard is installed its events go into the same folder.

    Raises:
        GaussianMRIError: no cases to learn from, or a checkpoint that is truncated or of other cases, task or options.
    """

    REPORT = 5  # steps between reports
    SAVE = 60.0  # seconds between checkpoints
    MEMORY = 4 * 2**30  # bytes of images kept as 16-bit numbers

    def __init__(
        self,
        crops: CropSet,
        task: Task,
        options: GradingOptions | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
        log: str | os.PathLike[str] | None = None,
    ) -> None:
        from ..device import choose_device

        self.crops, self.task, self.options = crops, task, options or GradingOptions()
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.log = None if log is None else Path(log)
        self.device = choose_device(device, kernels=False)
        o = self.options
        self._sagittal = is_sagittal(o.input_types)  # their order is left and right
        self._augment = replace(o.augment, flip_slices=0.0) if self._sagittal else o.augment
        self._world, self._rank = 1, 0
        if distributed.is_available() and distributed.is_initialized():
            self._world, self._rank = distributed.get_world_size(), distributed.get_rank()
        chosen = {split: crops.chosen(split, o.input_types, o.levels) for split in ("train", "validation")}
        self.examples = examples_of(chosen["train"], task, o.mirror)
        self.held_out = examples_of(chosen["validation"], task, mirror=False)
        if len({example.label for example in self.examples}) < 2 or len(self.examples) < self._world:
            raise GaussianMRIError(
                f"{crops.folder} has {len(self.examples)} training cases of {task.title} with input type "
                f"{', '.join(o.input_types)}; at least two, of different grades, are needed. See its cases.csv."
            )
        self._known: dict[str, tuple[Tensor, Tensor]] = {}
        self.shape = tuple(crops.images(self.examples[0].case)[0].shape)
        if self.shape[0] != o.network.slices:
            raise GaussianMRIError(
                f"{crops.folder} has {self.shape[0]} slices a case, the network takes {o.network.slices}."
            )
        self.input_size = o.input_size or self.shape[1:]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(o.seed)
            network = GradingNetwork(o.network).to(self.device)
        encoder: Any = network.encoder
        encoder.to(memory_format=torch.channels_last)  # faster, most of all in bfloat16
        if self._world > 1 and self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self._network = network
        self._model: nn.Module = network
        if self._world > 1:
            self._model = nn.parallel.DistributedDataParallel(network)
        self._optimiser = torch.optim.AdamW(network.parameters(), lr=o.learning_rate, weight_decay=o.weight_decay)
        self._weights = torch.tensor(o.class_weights, dtype=torch.float32)
        self.step, self.elapsed = 0, 0.0
        self.history: list[dict[str, Any]] = []
        self._best: dict[str, Tensor] | None = None
        self._best_score, self._best_epoch = -math.inf, 0
        self._sum, self._count, self._loss = 0.0, 0, math.nan
        labels = [example.label for example in self.held_out]
        self._chance = chance_auroc(labels)
        self._score = "validation_auroc" if len(set(labels)) == len(GRADES) else "validation_loss"
        if self._score == "validation_loss":
            _LOG.warning(
                "The validation cases of %s do not have every grade, so that there is no macro AUROC; %s.",
                task.title,
                "the epoch is chosen by their loss" if labels else "the last epoch is taken",
            )
        if o.patience is not None and not self.held_out:
            raise GaussianMRIError(
                f"{crops.folder} has no validation cases of {task.title}, which decide when a training with a patience "
                "ends. Train without one, or assign some."
            )
        if self.checkpoint is not None and self.checkpoint.exists():
            hints = "Start the training without it.", "Take a copy of it, or train anew."
            what = f"a {FORMAT} checkpoint"
            state = read_state(self.checkpoint, FORMAT, VERSION, what, *hints)[0]
            with reading(self.checkpoint, what, hints[1]):
                self._restore(state)

    # ---- the loop ------------------------------------------------------------------------------------------------

    @property
    def _batches(self) -> int:
        """Of all cases."""
        whole, rest = divmod(len(self.examples), self.options.batch)
        return whole + (rest >= self._world)

    @property
    def steps_per_epoch(self) -> int:
        return self.options.epoch_steps or self._batches

    @property
    def steps(self) -> int:
        """Of all epochs."""
        return self.options.epochs * self.steps_per_epoch

    @property
    def converged(self) -> bool:
        """None of the last `patience` epochs brought a better network."""
        o = self.options
        waited = len(self.history) - max(self._best_epoch, o.epochs // 2)
        return o.patience is not None and self._best is not None and waited >= o.patience

    @property
    def at_chance(self) -> bool:
        """There is a macro AUROC of validation, and it does not show that the chosen network has learned anything."""
        return self._score == "validation_auroc" and self._best is not None and self._best_score < self._chance

    @property
    def finished(self) -> bool:
        return self.step >= self.steps or self.converged

    def __iter__(self) -> Iterator[GradingProgress]:
        saved = started = time.monotonic()
        before = self.elapsed
        while not self.finished:
            loss = self._iterate()
            if not math.isfinite(loss):
                raise GaussianMRIError(
                    f"The training diverged at step {self.step}. Train with a lower learning rate or another seed."
                )
            self._sum, self._count = self._sum + loss, self._count + 1
            self._loss = self._sum / self._count
            whole = self.step % self.steps_per_epoch == 0
            if whole:
                self._end_epoch()
            self.elapsed = before + time.monotonic() - started
            if whole and self.history:
                self.history[-1]["seconds"] = round(self.elapsed, 3)
                if self.log is not None and not self._rank:
                    write_log(self.log, self.task, self.history)
            if self.finished or time.monotonic() - saved > self.SAVE:
                self.save()
                saved = time.monotonic()
            if whole or self.step % self.REPORT == 0:
                yield self.progress
        self.elapsed = before + time.monotonic() - started

    @property
    def progress(self) -> GradingProgress:
        last = self.history[-1] if self.history else {}
        return GradingProgress(
            self.step // self.steps_per_epoch,
            self.options.epochs,
            self.step,
            self.step if self.finished else self.steps,
            self._loss,
            last.get("validation_loss"),
            last.get("validation_auroc"),
            self._best_score if self._best is not None and self._score == "validation_auroc" else None,
            self.elapsed,
        )

    def _iterate(self) -> float:
        """One step on one batch; returns the loss before it, of all processes' cases."""
        o = self.options
        turn, place = divmod(self.step, self._batches)
        order = torch.randperm(len(self.examples), generator=self._generator(turn, 1)).tolist()
        numbers = order[place * o.batch : (place + 1) * o.batch]
        changes = draw_changes(len(numbers), self.shape[0], self._augment, self._generator(self.step, 2))
        labels = torch.tensor([self.examples[n].label for n in numbers])
        total = self._weights[labels].sum()
        mine = slice(self._rank, None, self._world)
        images, mask = self._batch([self.examples[n] for n in numbers[mine]])
        self._set_rate()
        self._model.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self._seed(self.step, 3) + self._rank)  # of the dropout
            images, mask = change(images, mask, changes[mine])
            with mixed_precision(self.device, o.precision):
                logits = self._model(images, mask)
        target = labels[mine].to(self.device)
        weights = self._weights.to(self.device)
        loss = nn.functional.cross_entropy(logits.float(), target, weights, reduction="sum")
        loss = loss / total.to(self.device)
        self._optimiser.zero_grad(set_to_none=True)
        (loss * self._world).backward()  # processes' gradients are averaged, the loss is their sum
        self._optimiser.step()
        self.step += 1
        value = loss.detach()
        if self._world > 1:
            distributed.all_reduce(value)
        return float(value)

    def _set_rate(self) -> None:
        o, done = self.options, self.step / self.steps
        rate = o.learning_rate * (1 + math.cos(math.pi * done)) / 2
        if done < o.warmup:
            rate *= (done * self.steps + 1) / (o.warmup * self.steps + 1)
        for group in self._optimiser.param_groups:
            group["lr"] = rate

    def _seed(self, number: int, stream: int) -> int:
        text = f"{self.options.seed}/{stream}/{number}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:6], "big")

    def _generator(self, number: int, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed(number, stream))

    # ---- images --------------------------------------------------------------------------------------------------

    def _batch(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        """Images (B, S, H, W) float32 and masks (B, S) on the device."""
        pairs = [self._images(example.case) for example in examples]
        images = torch.stack([pair[0] for pair in pairs]).to(self.device).float()
        flip = torch.tensor([example.mirror for example in examples], device=self.device)
        mask = torch.stack([pair[1] for pair in pairs]).to(self.device)
        images = torch.where(flip[:, None, None, None], mirrored(images, self._sagittal), images)
        if self._sagittal:
            mask = torch.where(flip[:, None], mirrored(mask, True), mask)
        return images, mask

    def _images(self, case: Case) -> tuple[Tensor, Tensor]:
        if case.case_id in self._known:
            return self._known[case.case_id]
        images, mask = self.crops.images(case)
        if images.shape != self.shape:
            raise GaussianMRIError(
                f"{self.crops.folder / case.file} has {images.shape} pixels, others {self.shape}; prepare it again."
            )
        small = resize(torch.from_numpy(images.astype(np.float32)), self.input_size).half()
        pair = small, torch.from_numpy(mask)
        if (len(self._known) + 1) * small.nbytes <= self.MEMORY:
            self._known[case.case_id] = pair
        return pair

    # ---- validation ----------------------------------------------------------------------------------------------

    def _end_epoch(self) -> None:
        rate = self._optimiser.param_groups[0]["lr"]
        row: dict[str, Any] = {"epoch": len(self.history) + 1, "rate": rate, "loss": self._sum / self._count}
        self._sum, self._count = 0.0, 0
        if self.held_out:
            logits, labels = self._validate()
            row["validation_loss"] = float(nn.functional.cross_entropy(logits, labels, self._weights))
            values = class_aurocs(torch.softmax(logits, dim=1).numpy(), labels.numpy())
            row |= dict(zip(GRADES, values, strict=True))
            row["validation_auroc"] = macro_mean(values)
        self.history.append(row)
        if not self.held_out:
            self._keep(len(self.history))
            return
        window = min(self.options.window, self.options.epochs)
        if len(self.history) >= window:
            mean = float(np.mean([line[self._score] for line in self.history[-window:]]))
            row["window"] = mean
            if (score := mean if self._score == "validation_auroc" else -mean) > self._best_score:
                self._keep(score)

    def _keep(self, score: float) -> None:
        self._best_score, self._best_epoch = score, len(self.history)
        self._best = {
            name: value.detach().cpu().clone() for name, value in self._network.state_dict().items()
        }

    @torch.inference_mode()
    def _validate(self) -> tuple[Tensor, Tensor]:
        """Logits (n, 3) and labels (n,) of the validation cases, as they are."""
        if self._world > 1:
            for buffer in self._network.buffers():
                distributed.broadcast(buffer, 0)
        self._network.eval()
        result = torch.zeros(len(self.held_out), len(GRADES), device=self.device, dtype=torch.float32)
        numbers = list(range(self._rank, len(self.held_out), self._world))
        for first in range(0, len(numbers), self.options.batch):
            part = numbers[first : first + self.options.batch]
            images, mask = self._batch([self.held_out[n] for n in part])
            with mixed_precision(self.device, self.options.precision):
                result[part] = self._network(images, mask).float()
        if self._world > 1:
            distributed.all_reduce(result)
        return result.cpu(), torch.tensor([example.label for example in self.held_out])

    # ---- what comes of it ------------------------------------------------------------------------------------------

    @property
    def network(self) -> GradingNetwork:
        """A copy with the chosen epoch's weights, or the present ones while no epoch can be chosen yet."""
        chosen = GradingNetwork(self.options.network)
        state = self._best if self._best is not None else self._network.state_dict()
        chosen.load_state_dict({name: value.detach().cpu() for name, value in state.items()})
        return chosen.eval()

    @property
    def card(self) -> ModelCard:
        """What a checkpoint has to say of this training, as it stands."""
        epochs, o = len(self.history), self.options
        window = min(o.window, o.epochs)
        if self._best is None:
            chosen = f"step {self.step}, not chosen: {epochs} epochs are fewer than the window of {window}"
        elif not self.held_out:
            chosen = f"epoch {self._best_epoch} of {epochs}, the last: there are no validation cases"
        else:
            what = "macro AUROC" if self._score == "validation_auroc" else "loss"
            chosen = (
                f"epoch {self._best_epoch} of {epochs}, the end of the {window} epochs with the best mean {what} "
                f"of validation ({abs(self._best_score):.4f})"
            )
            if self.converged:
                chosen += f"; ended after {o.patience} epochs without a better one"
            if self.at_chance:
                chosen += f"; no better than chance, which reaches {self._chance:.2f} on them"
        facts = self.crops.facts
        counts = {
            split: {grade: sum(e.label == n for e in examples) for n, grade in enumerate(GRADES)}
            for split, examples in (("train", self.examples), ("validation", self.held_out))
        }
        cases = [example.case for example in self.examples]
        levels, types = {case.level for case in cases}, {case.input_type for case in cases}
        slices, rows, columns = self.shape
        return ModelCard(
            self.task,
            (slices, rows, columns),
            (self.input_size[0], self.input_size[1]),
            o.network,
            preprocessing=dict(facts["preprocessing"]),
            levels=tuple(sorted(levels)),
            input_types=tuple(kind for kind in o.input_types if kind in types),
            data=str(facts.get("data", "")),
            synthetic=bool(facts.get("synthetic")) or any(case.synthetic for case in cases),
            cases=counts,
            chosen=chosen,
            training=asdict(o),
            version=__version__,
        )

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Write the network of the chosen epoch for `load_grader`."""
        return save_grader(path, self.network, self.card)

    # ---- files ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.checkpoint is None or self._rank:
            return
        state = {
            "format": FORMAT,
            "version": VERSION,
            "cases": self._identity(),
            "task": self.task.name,
            "options": asdict(self.options),
            "step": self.step,
            "elapsed": self.elapsed,
            "running": [self._sum, self._count],
            "network": self._network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "history": self.history,
            "best": self._best,
            "best_of": [self._best_score, self._best_epoch],
        }
        write_state(self.checkpoint, state)

    def _identity(self) -> str:
        rows = [[e.case.row(), e.mirror, e.label] for e in [*self.examples, *self.held_out]]
        text = json.dumps([self.crops.facts, rows], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _restore(self, state: dict[str, Any]) -> None:
        mine = asdict(self.options)
        changed = [name for name in mine if mine[name] != state["options"].get(name)]
        if state["task"] != self.task.name:
            changed.append("task")
        if changed:
            raise GaussianMRIError(
                f"{self.checkpoint} was made with other options ({', '.join(changed)}). Train with the same ones, "
                "or name another checkpoint."
            )
        if state["cases"] != self._identity():
            raise GaussianMRIError(
                f"{self.checkpoint} belongs to other cases than {self.crops.folder} has now. Name that folder, or "
                "another checkpoint."
            )
        load_weights(self._network, state["network"])
        load_optimiser(self._optimiser, state["optimiser"])
        self.step = whole(state["step"], "step", 0, self.steps)
        self.elapsed, self.history = number(state["elapsed"], "time", 0), state["history"]
        for line in self.history:
            for name, value in line.items():
                if name not in LOG_COLUMNS or value is not None:
                    number(value, f"history's {name}")
        if len(self.history) != self.step // self.steps_per_epoch:
            raise GaussianMRIError("Its history does not have a line for every epoch.")
        total, count = state["running"]
        self._sum, self._count = number(total, "loss"), whole(count, "cases", 0)
        best, (score, epoch) = state["best"], state["best_of"]
        if best is not None:
            load_weights(GradingNetwork(self.options.network), best)
        self._best, self._best_epoch = best, whole(epoch, "best epoch", 0, self.options.epochs)
        self._best_score = score if score == -math.inf else number(score, "best score")
        _LOG.info("Training goes on from step %d of %s.", self.step, self.checkpoint)


def train_grader(
    crops: CropSet,
    task: Task,
    options: GradingOptions | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    log: str | os.PathLike[str] | None = None,
    progress: Callable[[GradingProgress], object] | None = None,
) -> GradingTrainer:
    """Run a training; the arguments are those of `GradingTrainer`.

    Args:
        progress: called every few batches; when it returns False the training stops and its checkpoint is written.

    Returns:
        The training as it stands; `export` writes its network.
    """
    trainer = GradingTrainer(crops, task, options, checkpoint, device, log)
    for report in trainer:
        if progress is not None and progress(report) is False:
            trainer.save()
            break
    return trainer
