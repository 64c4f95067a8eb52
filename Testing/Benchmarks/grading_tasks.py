"""One network for each condition and side, or one for all: `python -m Testing.Benchmarks.grading_tasks`.

Both are trained by one loop on coarse graded phantoms (axial slices aligned with L5-S1, reported grades) and tested on
others (true grades). A network for all has one encoder and transformer and a head for each task; it is trained as
many steps as one of the others, and as many as all of them together. The networks are small: the figures compare the two
ways and nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from GaussianMRILib.grading.augment import change, draw_changes, mirrored, resize
from GaussianMRILib.grading.inputs import acquired_input
from GaussianMRILib.grading.labels import LATERAL_TASKS, Task
from GaussianMRILib.grading.measures import macro_auroc
from GaussianMRILib.grading.network import GradingNetwork
from GaussianMRILib.grading.options import AugmentOptions, NetworkOptions
from GaussianMRILib.phantom.scanner import acquire
from GaussianMRILib.stacks import SliceStack
from Testing.Experiment import cohort
from Testing.Experiment.graded import CANAL, GradedPhantom

SIZE, BATCH, RATE, WEIGHTS = (28, 56), 16, 2e-3, torch.tensor([1.0, 2.0, 4.0])
AUGMENT = AugmentOptions(rotation=5, shift=4, slice_shift=1, offset=0.05)
COARSE = {"PIXEL": 0.86, "SAMPLES": 1, "SAGITTAL_PIXEL": 5.0, "SAGITTAL_FIELD": (20, 20)}


def phantoms(count: int, first: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (n, 9, H, W), masks (n, 9), reported and true grades (n, tasks)."""
    for name, value in COARSE.items():
        setattr(cohort, name, value)
    images, masks, labels, truth = [], [], [], []
    for seed in range(first, first + count):
        phantom = GradedPhantom(seed, {CANAL: 0.0})
        sagittal, aligned = cohort.graded_scans(phantom, paired=False)
        pixels = acquire(phantom, aligned, seed=1)
        stack = SliceStack.from_array(pixels, np.stack([plane.ijk_to_ras for plane in aligned.planes]), thickness=4.0)
        found = acquired_input(cohort.true_disc(phantom, sagittal.planes), stack)
        images.append(resize(torch.from_numpy(found.images), SIZE))
        masks.append(torch.from_numpy(found.mask))
        labels.append([phantom.stenoses[task].label for task in LATERAL_TASKS])
        truth.append([phantom.stenoses[task].grade for task in LATERAL_TASKS])
    return torch.stack(images), torch.stack(masks), torch.tensor(labels), torch.tensor(truth)


def trained(
    tasks: Sequence[Task], data: Any, steps: int, seed: int, options: NetworkOptions, *, sagittal: bool = False
) -> GradingNetwork:
    """A network with a head for each task; `sagittal`: slices run from right to left and are not turned round."""
    images, masks, labels, _ = data
    own = [LATERAL_TASKS.index(task) for task in tasks]
    other = [LATERAL_TASKS.index(task.mirrored) for task in tasks]
    torch.manual_seed(seed)
    network = GradingNetwork(options)
    network.head = nn.Linear(options.features, 3 * len(tasks))
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    augment = replace(AUGMENT, flip_slices=0.0) if sagittal else AUGMENT
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        flip = torch.rand(BATCH, generator=generator) < 0.5
        shown = torch.where(flip[:, None, None, None], mirrored(images[chosen], sagittal), images[chosen])
        there = masks[chosen]
        if sagittal:
            there = torch.where(flip[:, None], mirrored(there, True), there)
        target = torch.where(flip[:, None], labels[chosen][:, other], labels[chosen][:, own])
        changes = draw_changes(BATCH, shown.shape[1], augment, generator)
        logits = network(*change(shown, there, changes)).reshape(BATCH, len(tasks), 3)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), WEIGHTS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def probabilities(network: GradingNetwork, tasks: Sequence[Task], data: Any) -> NDArray[np.float32]:
    """(n, tasks, grades)."""
    images, masks, *_ = data
    logits = torch.cat([network(i, m) for i, m in zip(images.split(32), masks.split(32), strict=True)])
    found: NDArray[np.float32] = torch.softmax(logits.reshape(len(images), len(tasks), 3), dim=2).numpy()
    return found


def aurocs(network: GradingNetwork, tasks: Sequence[Task], data: Any) -> dict[str, float]:
    """Macro AUROC of each task, against the true grades."""
    p, truth = probabilities(network, tasks, data), data[3]
    places = [LATERAL_TASKS.index(task) for task in tasks]
    return {task.name: macro_auroc(p[:, n], truth[:, places[n]].tolist()) for n, task in enumerate(tasks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--test", type=int, default=120)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--widen", type=float, default=0.125)
    o = parser.parse_args()
    options = NetworkOptions(widen=o.widen, layers=1, feed_forward=128)
    started = time.perf_counter()
    train, test = phantoms(o.train, 7_000_000), phantoms(o.test, 8_000_000)
    print(f"{o.train} + {o.test} phantoms in {time.perf_counter() - started:.0f} s", flush=True)
    ways = {
        "several": ([[task] for task in LATERAL_TASKS], o.steps),
        "one, as many steps as one of several": ([list(LATERAL_TASKS)], o.steps),
        "one, as many steps as all of several": ([list(LATERAL_TASKS)], o.steps * len(LATERAL_TASKS)),
    }
    for seed in range(o.seeds):
        for name, (groups, steps) in ways.items():
            started, found = time.perf_counter(), {}
            for tasks in groups:
                found |= aurocs(trained(tasks, train, steps, seed, options), tasks, test)
            seconds, mean = time.perf_counter() - started, float(np.mean(list(found.values())))
            values = "  ".join(f"{value:.3f}" for value in found.values())
            print(f"seed {seed}  {name:40} macro AUROC {mean:.3f}  ({values})  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
