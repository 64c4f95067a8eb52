"""Training of a cinematic model from pictures of a path tracer, in two steps as ClipGS does it."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import native
from ..device import choose_device
from ..errors import GaussianMRIError
from ..files import number, reading, whole
from ..interruption import signals_later
from ..tensor_files import load_optimiser, load_weights, tensor
from .adjustment import Adjustment, AdjustmentShape
from .checkpoint import DAMAGED, read_checkpoint, write_checkpoint
from .dataset import CinematicDataset, Frame
from .densify import AdaptiveControl, GrowingSplats, Relocation, Schedule
from .model import CinematicModel
from .options import CLIPPINGS, TrainOptions, TrainProgress
from .rasterise import ScreenStatistics, rasterise
from .splats import Splats
from .start import random_splats, volume_splats

_LOG = logging.getLogger("GaussianMRI")

EXTENT = 4.4 / 1.3
"""3DGS's extent of a scene in half edges of its cube, as in the scenes of Blender that its settings come from."""

MEANS_RATE, MEANS_RATE_END = 1.6e-4 * EXTENT, 1.6e-6 * EXTENT  # in half edges of the cube
LEAST_OPACITY, LEAST_KEPT = 0.0045, 0.9
"""Opacity of splats that no plane hides (adaptive adjustment alone), and the part of them that stays.

In the first step neither a cut nor the network tells pictures apart that planes have cut open in other places, so opacities
fall to the part of the planes under which a splat shows, which says nothing of its use. Left to fall, three quarters are
pruned; all kept, nine of ten fall below the 1/255 that is drawn, and never have a gradient again. They fall to what is drawn
and no further, and densification takes a tenth of them at once for places that need more. On a head CT, planes along z,
64 x 64 pixels, 2,000 splats: 26.5 dB with all kept, 28.1 with these two.
"""
ADJUSTMENT_END = 0.1
"""Of the rate of the adjustment network, what is left at the end (4D Gaussian splatting, Wu et al. 2024)."""

RATES = {
    "quaternions": 1e-3,
    "log_scales": 5e-3,
    "sh_base": 2.5e-3,
    "sh_rest": 2.5e-3 / 20,
    "logit_opacities": 5e-2,
}
"""Learning rates of Kerbl et al. 2023."""


class Trainer:
    """A training as a loop: every few iterations report progress, and the model can be used whenever you stop.

    Leaving the loop, by `break`, an exception or Ctrl-C, saves the checkpoint.

    Example:
        >>> options = TrainOptions.of_quality("quick")
        >>> trainer = Trainer(read_dataset("head"), options=options, checkpoint="head.ckpt")    # doctest: +SKIP
        >>> for progress in trainer:                                                            # doctest: +SKIP
        ...     print(f"{progress.stage} {progress.fraction:.0%}")
        >>> save_model("head.ply", trainer.model)                                               # doctest: +SKIP

    Args:
        dataset: what `read_dataset` returned; its training frames are used.
        options: settings.
        checkpoint: file that the state goes to about every minute, when the loop is left, and at the end; a training that
            was stopped or killed goes on from there.
        device: "cpu", "cuda" or "auto".

    Raises:
        GaussianMRIError: no training frames, or a checkpoint that is truncated or of another data set or other options.
    """

    REPORT = 10  # iterations between reports
    SAVE = 60.0  # seconds between checkpoints
    MEMORY = 4 * 2**30  # bytes of pictures kept as 16-bit numbers

    def __init__(
        self,
        dataset: CinematicDataset,
        *,
        options: TrainOptions | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.dataset, self.options = dataset, options or TrainOptions()
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.device = choose_device(device)
        frames = list(dataset.train)
        self._held_out: list[Frame] = []
        if self.options.patience is not None and len(frames) > 1:
            count = min(8, max(1, len(frames) // 20))
            every = len(frames) // count
            self._held_out = frames[::every][:count]
            frames = [f for n, f in enumerate(frames) if n % every or n // every >= count]
        if not frames:
            raise GaussianMRIError(f"{dataset.folder} has no training frames; make a data set with some.")
        self._frames = frames
        self._pictures: dict[int, Tensor] = {}
        lower, upper = np.asarray(dataset.bounds, dtype=np.float64)
        self.center, self.unit = (lower + upper) / 2, float((upper - lower).max() / 2)
        self.antialiased = True
        self.iteration, self.elapsed, self.stopped_early = 0, 0.0, False
        self._loss, self._best, self._bad = math.nan, -math.inf, 0
        self._psnr: float | None = None
        self._order: list[int] = []
        self._generator = torch.Generator().manual_seed(self.options.seed)
        self.visibility, adjust = CLIPPINGS[self.options.method]
        offsets = torch.zeros(self.options.splats, dtype=torch.float32) if self.visibility == "learned" else None
        self.growing = self._grow(self._start(), offsets)
        self.adjustment: Adjustment | None = None
        if adjust:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.options.seed)
                shape = AdjustmentShape(self.options.depth, self.options.width)
                self.adjustment = Adjustment(torch.from_numpy(self.center), self.unit, shape).to(self.device)
            self._adjuster = torch.optim.Adam(self.adjustment.parameters(), lr=self.options.adjustment_rate, eps=1e-15)
        schedule = Schedule(
            self.options.densify_from, self.options.densify_until, reset=self.options.opacity_reset
        )
        self._control: AdaptiveControl | Relocation | None = None
        if self.options.densify == "3dgs":
            least = round(LEAST_KEPT * self.options.splats) if self.visibility == "none" else 0
            self._control = AdaptiveControl(schedule, EXTENT * self.unit, self.options.cap, least=least)
        elif self.options.densify == "mcmc":
            assert self.options.cap is not None
            self._control = Relocation(schedule, self.unit, self.options.cap)
        if self.checkpoint is not None and self.checkpoint.exists():
            state = read_checkpoint(self.checkpoint)
            with reading(self.checkpoint, "a checkpoint of a training", DAMAGED):
                self._restore(state)

    # ---- the loop ------------------------------------------------------------------------------------------------

    def __iter__(self) -> Generator[TrainProgress, None, None]:
        saved = started = time.monotonic()
        losses: list[Tensor] = []
        before = self.elapsed
        total = self.options.iterations
        try:
            while self.iteration < total and not self.stopped_early:
                with signals_later():
                    losses.append(self._iterate())
                    self.elapsed = before + time.monotonic() - started
                    if self.options.patience is not None and self.iteration % self.options.check_every == 0:
                        self._check()
                last = self.iteration == total or self.stopped_early
                if last or self.iteration % self.REPORT == 0:
                    self._loss = float(torch.stack(losses).mean())
                    losses.clear()
                    if not math.isfinite(self._loss):
                        raise GaussianMRIError(
                            f"The training diverged at iteration {self.iteration}. Train with another seed or data set."
                        )
                    if last or time.monotonic() - saved > self.SAVE:
                        self.save()
                        saved = time.monotonic()
                    yield self.progress
        except (KeyboardInterrupt, GeneratorExit):  # between two steps, wherever the loop was left
            self.save()
            raise
        self.elapsed = before + time.monotonic() - started

    @property
    def progress(self) -> TrainProgress:
        if self.stopped_early:
            stage = "stopped: no more gain"
        elif self.iteration <= self.options.first_step or self.adjustment is None:
            stage = "splats"
        else:
            stage = "splats and adjustment"
        return TrainProgress(
            self.iteration,
            self.options.iterations,
            stage,
            self._loss,
            len(self.growing),
            self._psnr,
            self.elapsed,
        )

    @property
    def model(self) -> CinematicModel:
        """The model as it stands, apart from the training's own tensors."""
        return replace(
            self._trained(), face=self.dataset.face(device=self.device) if self.visibility == "analytic" else None
        )

    def _trained(self) -> CinematicModel:
        facts = {
            "method": self.options.method,
            "options": asdict(self.options),
            "iterations": self.iteration,
            "training_s": round(self.elapsed, 3),
            "dataset": {"name": self.dataset.folder.name, "frames": len(self._frames), **self.dataset.facts},
        }
        splats = self.growing.splats(self._degree).map(lambda tensor: tensor.detach().clone())
        offsets = self.growing.offsets
        active = self.adjustment is not None and self.iteration > self.options.first_step
        adjustment = Adjustment.from_config(self.adjustment.config()) if active and self.adjustment else None
        if adjustment is not None and self.adjustment is not None:
            adjustment.load_state_dict(self.adjustment.state_dict())
            adjustment.to(self.device).requires_grad_(False)
        return CinematicModel(
            splats,
            self.center,
            self.unit,
            visibility=self.visibility,
            offsets=None if offsets is None else offsets.detach().clone(),
            adjustment=adjustment,
            background=self.dataset.background,
            antialiased=self.antialiased,
            facts=facts,
        )

    def _start(self) -> Splats:
        o = self.options
        if o.start == "random":
            return random_splats(o.splats, self.center, self.unit, o.degree, self._generator)
        return volume_splats(self.dataset.points(o.splats), o.splats, o.degree)

    @property
    def _degree(self) -> int:
        return min(self.options.degree, self.iteration // self.options.degree_every)

    def _grow(self, splats: Splats, offsets: Tensor | None) -> GrowingSplats:
        rates = {**RATES, "means": MEANS_RATE * self.unit, "offsets": self.options.offsets_rate}
        return GrowingSplats(
            splats.to(self.device), rates, None if offsets is None else offsets.to(self.device)
        )

    def _iterate(self) -> Tensor:
        """One step on one picture; returns the loss before it."""
        number = self._next()
        frame = self._frames[number]
        done = self.iteration / self.options.iterations
        rate = _decayed(MEANS_RATE, MEANS_RATE_END, done)
        self.growing.set_rate("means", rate * self.unit)
        if self.visibility == "learned":
            self.growing.set_rate("offsets", self.options.offsets_rate * rate / MEANS_RATE)
        splats = self.growing.splats(self._degree)
        adjusts = self.adjustment is not None and self.iteration >= self.options.first_step
        model = CinematicModel(
            splats,
            self.center,
            self.unit,
            visibility=self.visibility,
            offsets=self.growing.offsets,
            adjustment=self.adjustment if adjusts else None,
        )
        cut = model.cut(frame.plane, width=self.options.truncation_width)
        self.iteration += 1
        control = self._control
        watch = isinstance(control, AdaptiveControl) and self.iteration < self.options.densify_until
        statistics = ScreenStatistics() if watch else None
        image, _, _ = rasterise(
            cut.splats,
            frame.camera,
            self.dataset.background,
            weights=cut.weights,
            clip=cut.clip,
            statistics=statistics,
            antialiased=self.antialiased,
        )
        loss = photometric_loss(image, self._picture(number), self.options.ssim_weight)
        total = loss
        if isinstance(control, Relocation):
            total = loss + control.regulariser(splats)
        self.growing.optimiser.zero_grad()
        if adjusts:
            self._adjuster.zero_grad()
        if total.requires_grad:  # a plane can remove every splat
            total.backward()
            if statistics is not None and isinstance(control, AdaptiveControl):
                assert statistics.radii is not None
                control.observe(len(self.growing), cut.kept, statistics.gradient_norms, statistics.radii)
        self.growing.optimiser.step()
        if self.visibility == "none":
            with torch.no_grad():
                least = math.log(LEAST_OPACITY / (1 - LEAST_OPACITY))
                self.growing.parameters["logit_opacities"].clamp_(min=least)
        if adjusts:
            first = self.options.adjustment_rate
            second = (self.iteration - self.options.first_step) / max(1, self.options.second_step)
            self._adjuster.param_groups[0]["lr"] = _decayed(first, ADJUSTMENT_END * first, second)
            self._adjuster.step()
        if isinstance(control, AdaptiveControl):
            control.step(self.iteration, self.growing, self._generator)
        elif control is not None:
            control.step(self.iteration, self.growing, self._generator, rate)
        return loss.detach()

    def _next(self) -> int:
        """Number of the next frame: all of them in a random order, then all in another."""
        if not self._order:
            self._order = torch.randperm(len(self._frames), generator=self._generator).tolist()
        return self._order.pop()

    def _picture(self, number: int) -> Tensor:
        if number not in self._pictures:
            image = self._frames[number].image()
            camera = self._frames[number].camera
            if image.shape != (camera.height, camera.width, 3):
                raise GaussianMRIError(
                    f"Picture {self._frames[number].name} of {self.dataset.folder} is {image.shape[1::-1]} pixels, "
                    f"its camera has {camera.width} x {camera.height}."
                )
            picture = torch.from_numpy(np.ascontiguousarray(image)).to(torch.float16).to(self.device)
            if sum(p.numel() for p in self._pictures.values()) * 2 >= self.MEMORY:
                return picture.float()
            self._pictures[number] = picture
        return self._pictures[number].float()

    def _check(self) -> None:
        """Quality on the frames kept out, and whether to stop."""
        model = self._trained()  # without the volume's own faces, which say nothing of the splats
        errors = []
        for frame in self._held_out:
            image = model.render(frame.camera, frame.plane).image.clamp(0, 1).cpu()
            errors.append(float(((image - torch.from_numpy(frame.image())) ** 2).mean()))
        self._psnr = float(np.mean([-10 * math.log10(max(e, 1e-10)) for e in errors])) if errors else None
        if self._psnr is None:
            return
        self._bad = 0 if self._psnr > self._best + 0.02 else self._bad + 1
        self._best = max(self._best, self._psnr)
        assert self.options.patience is not None
        if self._bad >= self.options.patience and self.iteration > self.options.first_step:
            _LOG.info("No gain in %d checks; stopped at iteration %d.", self._bad, self.iteration)
            self.stopped_early = True

    # ---- files ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint, if there is to be one."""
        if self.checkpoint is None:
            return
        state: dict[str, Any] = {
            "dataset": self._identity(),
            "options": asdict(self.options),
            "antialiased": self.antialiased,
            "iteration": self.iteration,
            "elapsed": self.elapsed,
            "order": self._order,
            "generator": self._generator.get_state(),
            "parameters": {name: leaf.detach() for name, leaf in self.growing.parameters.items()},
            "optimiser": self.growing.optimiser.state_dict(),
            "early": [self._psnr, self._best, self._bad, self.stopped_early],
        }
        if self.adjustment is not None:
            state["adjustment"] = self.adjustment.state_dict()
            state["adjuster"] = self._adjuster.state_dict()
        if isinstance(self._control, AdaptiveControl):
            state["control"] = self._control.state()
        write_checkpoint(self.checkpoint, state)

    def _identity(self) -> str:
        return str(self.dataset.fingerprint)

    def _restore(self, state: dict[str, Any]) -> None:
        if state["dataset"] != self._identity():
            raise GaussianMRIError(
                f"{self.checkpoint} belongs to another data set than {self.dataset.folder}. Name that data set, "
                "or another checkpoint."
            )
        mine, free = asdict(self.options), {"second_step", "patience", "check_every"}
        changed = [name for name in mine if name not in free and mine[name] != state["options"].get(name)]
        if (mine["patience"] is None) != (state["options"].get("patience") is None):
            changed.append("patience")  # with it frames are kept out of the training, which has seen them without
        if changed:
            raise GaussianMRIError(
                f"{self.checkpoint} was made with other options ({', '.join(changed)}). Train with the same ones, "
                "or name another checkpoint."
            )
        self.antialiased = bool(state.get("antialiased", False))  # trainings of earlier versions were not, and end so
        leaves = state["parameters"]
        count, coefficients = len(leaves["means"]), (self.options.degree + 1) ** 2
        parts = {"means": (3,), "quaternions": (4,), "log_scales": (3,), "sh_base": (1, 3), "sh_rest": (coefficients - 1, 3)}
        checked = {name: tensor(leaves[name], (count, *shape), name) for name, shape in parts.items()}
        offsets = None if self.growing.offsets is None else tensor(leaves["offsets"], (count,), "offsets")
        if not count:
            raise GaussianMRIError("It has no splats.")
        splats = Splats(
            checked["means"],
            checked["quaternions"],
            checked["log_scales"],
            torch.cat([checked["sh_base"], checked["sh_rest"]], dim=1),
            tensor(leaves["logit_opacities"], (count,), "logit_opacities"),
        )
        self.growing = self._grow(splats, offsets)
        load_optimiser(self.growing.optimiser, state["optimiser"])
        frames = len(self._frames)
        self._order = [whole(n, "order of the frames", 0, frames - 1) for n in state["order"]]
        self._generator.set_state(state["generator"])
        self.iteration = whole(state["iteration"], "iteration", 0, self.options.iterations)
        self.elapsed = number(state["elapsed"], "time", 0)
        psnr, best, bad, stopped = state["early"]
        self._psnr = None if psnr is None else number(psnr, "PSNR")
        self._best = best if best == -math.inf else number(best, "best PSNR")
        self._bad, self.stopped_early = whole(bad, "checks without a gain", 0), bool(stopped)
        if self.adjustment is not None:
            load_weights(self.adjustment, state["adjustment"])
            load_optimiser(self._adjuster, state["adjuster"])
        if isinstance(self._control, AdaptiveControl):
            noted = state["control"]
            for part in noted:
                tensor(part, (len(noted[0]),), "gradients of the splats")
            if len(noted) != 3 or len(noted[0]) not in (0, count):
                raise GaussianMRIError("The gradients are not those of the splats.")
            self._control.restore(noted, self.device)
        _LOG.info("Training goes on from iteration %d of %s.", self.iteration, self.checkpoint)


def train_model(
    dataset: CinematicDataset,
    *,
    options: TrainOptions | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    progress: Callable[[TrainProgress], object] | None = None,
) -> CinematicModel:
    """Train a model; the arguments are those of `Trainer`.

    Args:
        progress: called every few iterations; when it returns False the training stops, its checkpoint is written, and the
            model is returned as it stands.

    Raises:
        GaussianMRIError: as `Trainer`; or the checkpoint cannot be written.
    """
    trainer = Trainer(dataset, options=options, checkpoint=checkpoint, device=device)
    # Closed here, which saves the checkpoint: what fails while a generator is only forgotten would not be heard of.
    with closing(iter(trainer)) as steps:
        for report in steps:
            if progress is not None and progress(report) is False:
                break
    return trainer.model


def photometric_loss(image: Tensor, truth: Tensor, ssim_weight: float) -> Tensor:
    """(1 - lambda) L1 + lambda (1 - SSIM) of images (H, W, 3) in 0..1 ("ClipGS", eq. 7), SSIM by channel."""
    loss = (image - truth).abs().mean() * (1 - ssim_weight)
    if ssim_weight > 0:
        loss = loss + ssim_weight * (1 - channel_ssim(image, truth))
    return loss


def channel_ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Mean over the colour channels of the SSIM of images (H, W, 3) in 0..1; differentiable in `image`."""
    height, width, channels = image.shape
    shapes = torch.tensor([[height, width]] * channels, dtype=torch.int32)
    mine, true = (part.permute(2, 0, 1).reshape(-1).contiguous() for part in (image, truth))
    means, gradient = native.ssim(mine.detach(), true, shapes)
    # The kernel gives the gradient with the value: a term of value 0 carries it, for any backend.
    return means.mean() + ((mine - mine.detach()) * gradient).sum() / channels


def _decayed(first: float, last: float, fraction: float) -> float:
    """From `first` to `last`, exponentially."""
    return math.exp((1 - fraction) * math.log(first) + min(1.0, fraction) * math.log(last))
