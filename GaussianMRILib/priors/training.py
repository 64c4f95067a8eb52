"""Train the prior network: `python -m GaussianMRILib.priors.training --output weights.npz`.

Volumes are drawn by index from `synthetic.dead_leaves`, sliced by the profile of a scanner, given Rician noise, and the
network learns the sharp residual over cubic interpolation. A network with full kernels comes first; its kernels are
factorised, and with `--steps` the factors are trained on more ratios, with the full network as a teacher. Everything is
seeded, and a training that was stopped goes on when it is called again. About two hours on two CPU cores that multiply in
bfloat16; factorising alone, of given weights, takes a minute.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import os
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..files import atomic_write
from ..interruption import end_with_parent
from .factorisation import factorised
from .network import (
    FactorisedNetwork,
    PriorNetwork,
    SliceNetwork,
    basis_matrix,
    channels_last,
    condition_vector,
    load_network,
    save_weights,
    sub_slice_phases,
)
from .patches import RATIOS, Batch, make_batch, read_volume, write_volume

#: Rows and columns of a patch that are not judged: the network has not seen what is beside them.
BORDER = 3


def predict(network: PriorNetwork, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients (B, basis, K, S, S) and residual sub-slices (B, K * ratio, S, S)."""
    coefficients = network(batch.slices, batch.condition).float()
    cosines = basis_matrix(sub_slice_phases(batch.ratio), network.basis)
    residual = torch.einsum("pb,nbkyx->nkpyx", cosines, coefficients)
    return coefficients, residual.reshape(batch.truth.shape)


def loss_of(
    batch: Batch, coefficients: torch.Tensor, residual: torch.Tensor, trust: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and the error (B, Z, S, S) away from the patches' borders; `trust` is the teacher's share of the loss."""
    ratio = batch.ratio
    error = (batch.base + residual - batch.truth)[:, ratio:-ratio, BORDER:-BORDER, BORDER:-BORDER]
    # Quadratic for small errors, as PSNR counts them; linear beyond 0.1, so that a few hard edges do not rule.
    loss = (torch.sqrt(error**2 + 0.01) - 0.1).mean() * 20
    if batch.taught is not None and trust > 0:
        # The same scale: the basis is orthogonal, and a cosine's mean square is a half.
        apart = (coefficients - batch.taught.float())[:, :, 1:-1, BORDER:-BORDER, BORDER:-BORDER] ** 2
        taught = 50 * (apart.sum(1) + apart[:, 0]).mean()
        loss = (1 - trust) * loss + trust * taught
    return loss, error


def _write_volumes(folder: str, first: int, last: int, long_every: int) -> None:
    """Cubes first to last - 1, and after each `long_every` of them a long volume."""
    end_with_parent()
    torch.set_num_threads(1)
    os.nice(5)
    for index in range(first, last):
        write_volume(folder, index, long=False)
        if index % long_every == 0:
            write_volume(folder, index // long_every, long=True)


@dataclass(frozen=True)
class Course:
    """What a training is made of; everything that decides about its result.

    Attributes:
        steps: of the optimiser, `count` patches each.
        volumes: cubes, drawn from the seeds 0, 1 ...; a quarter as many long ones. Step s uses those up to 48 + s / 6,
            so that training can begin while the others are being made.
        rate: of Adam at its largest.
        trust: the teacher's share of the loss, at the start and at the end.
        ratios: of slice spacing to pixel size.
    """

    steps: int
    count: int
    volumes: int
    seed: int
    rate: float
    trust: tuple[float, float] = (0.8, 0.2)
    ratios: tuple[int, ...] = RATIOS

    def volumes_at(self, step: int) -> int:
        return min(self.volumes, 48 + step // 6)

    def rate_at(self, step: int) -> float:
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * min(1, (step + 1) / 100) * (0.01 + 0.99 * fall)

    def trust_at(self, step: int) -> float:
        first, last = self.trust
        return first + (last - first) * step / self.steps


LONG_EVERY = 4
#: Ratios of clinical slices that a full network of ratios up to 10 is used for.
BEYOND = (14, 25, 35)


def make_batches(
    output: multiprocessing.Queue, course: Course, folder: str, teacher: str | None, first: int
) -> None:
    """Put the batches of steps first, first + 1 ... into a queue: a process of its own, beside the optimiser's.

    Each step has its own random numbers, so a training that goes on sees what it would have seen.
    """
    end_with_parent()
    torch.set_num_threads(1)
    master = load_network(teacher) if teacher else None
    cubes: list[torch.Tensor] = []
    columns: list[torch.Tensor] = []
    for step in range(first, course.steps):
        while len(cubes) < course.volumes_at(step):
            if len(cubes) % LONG_EVERY == 0:
                columns.append(read_volume(folder, len(cubes) // LONG_EVERY, long=True))
            cubes.append(read_volume(folder, len(cubes), long=False))
        rng = np.random.default_rng((course.seed, step))
        batch = make_batch(cubes, columns, rng, course.count, course.ratios)
        taught = None
        if master is not None and batch.ratio <= master.ratio_range[1] and course.trust_at(step) > 0:
            with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
                taught = predict(master, batch)[0].half().numpy()
        whole = (batch.slices, batch.condition, batch.base.half(), batch.truth.half())
        output.put((step, batch.ratio, [part.numpy() for part in whole], taught))


def train(
    output: str,
    course: Course,
    folder: str,
    threads: int = 1,
    teacher: str | None = None,
    network: PriorNetwork | None = None,
    monitor: Callable[[int, PriorNetwork], object] | None = None,
) -> None:
    """Run the whole training and write the weight file (also every 200 steps).

    The state is kept beside it (`.state`) every 50 steps: the same call goes on from there.

    Args:
        output: the .npz file.
        folder: where volumes are kept between runs.
        threads: of the optimiser; a second process makes the batches, a third one the volumes.
        teacher: weight file of a network whose predictions are learned beside the truth. What lies between slices is
            mostly chance; the teacher's answer is its mean, from which far fewer steps are needed.
        network: default: a `FactorisedNetwork`.
        monitor: called with (step, network) after every saved file.
    """
    torch.manual_seed(course.seed)
    torch.set_num_threads(threads)
    Path(folder).mkdir(parents=True, exist_ok=True)
    network = network or FactorisedNetwork()
    network.ratio_range = (float(min(course.ratios)), float(max(course.ratios)))
    channels_last(network)
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=course.rate)
    state_file = Path(output).with_suffix(".state")
    first, running = 0, 0.0
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        if state["course"] != repr(course):
            raise SystemExit(f"{state_file} is of another training; remove it, or give its options again.")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        average, first, running = state["average"], state["step"], state["running"]
        print(f"going on from step {first}", flush=True)
    context = multiprocessing.get_context("spawn")
    batches: multiprocessing.Queue = context.Queue(maxsize=6)
    helpers = [
        context.Process(
            target=_write_volumes, args=(folder, 0, course.volumes_at(course.steps), LONG_EVERY), daemon=True
        ),
        context.Process(target=make_batches, args=(batches, course, folder, teacher, first), daemon=True),
    ]
    for helper in helpers:
        helper.start()
    started = time.time()
    for step in range(first, course.steps):
        batch = _next_batch(batches, step, helpers[1])
        for group in optimiser.param_groups:
            group["lr"] = course.rate_at(step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coefficients, residual = predict(network, batch)
        loss, error = loss_of(batch, coefficients, residual, course.trust_at(step))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(0.998, 0.9 + step / 5000)
        for name, value in network.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        edge = (slice(None), slice(batch.ratio, -batch.ratio), *[slice(BORDER, -BORDER)] * 2)
        base_error = ((batch.base - batch.truth)[edge] ** 2).mean()
        gain = 10 * math.log10(float(base_error / (error.detach() ** 2).mean()))
        running += 0.01 * (gain - running)
        done = step + 1
        if done % 25 == 0:
            seen = running / (1 - 0.99**done)
            print(
                f"step {done}/{course.steps}  gain over cubic {seen:.3f} dB  {time.time() - started:.0f} s",
                flush=True,
            )
        if done % 200 == 0 or done == course.steps:
            smooth = type(network)(*network.layout)
            smooth.load_state_dict(average)
            smooth.ratio_range = network.ratio_range
            facts = {"seed": course.seed, "data": "synthetic dead leaves only", "taught": teacher is not None}
            save_weights(smooth, output, steps=done, **facts)
            if monitor is not None:
                monitor(done, smooth.eval())
        if done % 50 == 0 or done == course.steps:
            state = {"course": repr(course), "step": done, "running": running, "average": average}
            state |= {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            with atomic_write(state_file) as partial:
                torch.save(state, partial)
    for helper in helpers:
        helper.terminate()


def _next_batch(
    batches: multiprocessing.Queue, step: int, maker: multiprocessing.process.BaseProcess
) -> Batch:
    while True:
        try:
            number, ratio, whole, taught = batches.get(timeout=5)
            break
        except queue.Empty:
            if not maker.is_alive():
                raise SystemExit("The process that makes the batches has ended.") from None
    assert number == step
    slices, told, base, truth = (torch.from_numpy(part).float() for part in whole)
    batch = Batch(slices, told, base, truth, ratio)
    return batch if taught is None else replace(batch, taught=torch.from_numpy(taught))


def start_from(teacher: str, folder: str, seed: int) -> FactorisedNetwork:
    """The factors of a full network's kernels, at what it sees in the first synthetic volumes.

    Ratios beyond those that it was trained on are among that, told as the largest of these: slices of clinics lie as far
    apart, and factors that were fitted without them lost .05 dB there.
    """
    network = load_network(teacher)
    if not isinstance(network, SliceNetwork):
        raise SystemExit(
            f"{teacher} does not hold a full network (SliceNetwork), whose kernels can be factorised."
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    cubes, columns = (_first_volumes(folder, count, long) for count, long in ((40, False), (10, True)))
    low, high = network.ratio_range
    taught = tuple(range(int(low), int(high) + 1))
    batches = [make_batch(cubes, [], np.random.default_rng((seed, n)), 3, taught) for n in range(10)]
    largest = condition_vector(high, 1.0, 0.01)[0]
    for n, ratio in itertools.product(range(6), BEYOND):
        batch = make_batch(cubes, columns, np.random.default_rng((seed + 7, n, ratio)), 4, (ratio,))
        told = batch.condition.clone()
        told[:, 0].clamp_(max=largest)
        batches.append(replace(batch, condition=told))
    return factorised(network, batches)


def _first_volumes(folder: str, count: int, long: bool) -> list[torch.Tensor]:
    for index in range(count):
        write_volume(folder, index, long=long)
    return [read_volume(folder, index, long=long) for index in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the prior network on synthetic volumes.")
    parser.add_argument("--output", required=True)
    parser.add_argument(
        "--steps", type=int, default=0, help="of training the factors; default: they stay as they are found"
    )
    parser.add_argument("--batch", type=int, default=6, help="patches of 8 x 40 x 40 pixels a step")
    parser.add_argument("--volumes", type=int, default=800)
    parser.add_argument("--volume-folder", default="synthetic-volumes")
    parser.add_argument("--threads", type=int, default=1, help="of the optimiser; batches are made beside it")
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher", help="weights of a full network; default: it is trained first")
    options = parser.parse_args()
    folder, teacher = options.volume_folder, options.teacher
    if teacher is None:
        teacher = str(Path(options.output).with_suffix(".teacher.npz"))
        first = Course(4600, 10, options.volumes, options.seed, 1e-3, ratios=tuple(range(3, 11)))
        train(teacher, first, folder, options.threads, network=SliceNetwork())
    network = start_from(teacher, folder, options.seed)
    if options.steps == 0:
        facts = {"seed": options.seed, "data": "synthetic dead leaves only"}
        save_weights(network, options.output, steps=0, factorised=Path(teacher).name, **facts)
        return
    course = Course(options.steps, options.batch, options.volumes, options.seed, options.rate)
    train(options.output, course, folder, options.threads, teacher, network)


if __name__ == "__main__":
    main()
