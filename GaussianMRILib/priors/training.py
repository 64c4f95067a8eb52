"""Train the prior network: `python -m GaussianMRILib.priors.training --output weights.npz`.

Volumes are drawn by index from `synthetic.dead_leaves`, sliced by the profile of a scanner, given Rician noise, and the
network learns the sharp residual over cubic interpolation. Everything is seeded. About an hour on two CPU cores that
multiply in bfloat16, several on others. The weights in this repository come from the command without further options.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from .network import WEIGHTS, SliceNetwork, basis_matrix, condition_vector, save_weights, sub_slice_phases
from .synthetic import dead_leaves

SLICES, SIDE, VOLUME = 8, 40, 88
RATIOS = (3, 4, 5, 6, 7, 8, 9, 10)


def cubic_matrix(slices: int, factor: int) -> torch.Tensor:
    """Cubic spline through `slices` equally spaced values, evaluated at `factor` phases each: (slices * factor, slices)."""
    at = (torch.arange(slices)[:, None] + sub_slice_phases(factor)).reshape(-1).numpy()
    spline = make_interp_spline(np.arange(slices), np.eye(slices), k=3)
    return torch.from_numpy(spline(at.clip(0, slices - 1)).astype(np.float32))


def profile_matrix(slices: int, factor: int, fill: float, edge: float) -> torch.Tensor:
    """Average over the thickness of each slice, (slices, slices * factor): a box with a soft edge of `edge` pixels."""
    z = (torch.arange(slices)[:, None] + sub_slice_phases(factor)).reshape(1, -1)
    distance = (z - torch.arange(slices)[:, None]).abs() * factor
    weight = torch.sigmoid((0.5 * fill * factor - distance) * (4.0 / edge))
    return weight / weight.sum(1, keepdim=True)


def make_batch(
    volumes: list[torch.Tensor], rng: np.random.Generator, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Slices (B, 1, K, S, S), condition (B, 3), cubic upsampling and sharp truth (B, K * ratio, S, S) of one ratio."""
    weights = 1.0 / np.array(RATIOS) ** 0.7
    ratio = int(rng.choice(RATIOS, p=weights / weights.sum()))
    fill = float(rng.uniform(0.65, 1.1))
    noise = float(np.exp(rng.uniform(np.log(0.003), np.log(0.03))))
    average = profile_matrix(SLICES, ratio, fill, float(rng.uniform(0.3, 1.0)))
    upsample = cubic_matrix(SLICES, ratio)
    truth = torch.empty(count, SLICES * ratio, SIDE, SIDE)
    for n in range(count):
        volume = volumes[int(rng.integers(len(volumes)))]
        volume = volume.permute(*rng.permutation(3).tolist())
        z, y, x = (
            int(rng.integers(0, side - need + 1))
            for side, need in zip(volume.shape, truth.shape[1:], strict=True)
        )
        patch = volume[z : z + truth.shape[1], y : y + SIDE, x : x + SIDE].float()
        patch = patch.flip([axis for axis in range(3) if rng.random() < 0.5])
        if rng.random() < 0.3:
            patch = float(rng.uniform(0.8, 1.0)) - patch
            patch = patch.clamp(min=0)
        truth[n] = patch * float(rng.uniform(0.6, 1.2))
    slices = torch.einsum("kz,bzyx->bkyx", average, truth)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    real = slices + noise * torch.randn(slices.shape, generator=generator)
    slices = torch.sqrt(real**2 + (noise * torch.randn(slices.shape, generator=generator)) ** 2)
    base = torch.einsum("zk,bkyx->bzyx", upsample, slices)
    condition = torch.tensor([condition_vector(ratio, fill, noise)]).expand(count, 3)
    return slices[:, None], condition, base, truth, ratio


def predict(network: SliceNetwork, slices: torch.Tensor, condition: torch.Tensor, ratio: int) -> torch.Tensor:
    """Residual sub-slices (B, K * ratio, S, S)."""
    coefficients = network(slices, condition).float()
    cosines = basis_matrix(sub_slice_phases(ratio), network.basis)
    residual = torch.einsum("pb,nbkyx->nkpyx", cosines, coefficients)
    return residual.reshape(len(slices), -1, *slices.shape[3:])


def _write_volumes(folder: str, first: int, last: int, step: int) -> None:
    torch.set_num_threads(1)
    os.nice(5)
    for index in range(first, last, step):
        path = Path(folder, f"{index:05d}.npy")
        if not path.exists():
            volume = (dead_leaves(index, VOLUME) * 50000).round().numpy().astype(np.uint16)
            with open(path.with_suffix(".tmp"), "wb") as file:
                np.save(file, volume)
            path.with_suffix(".tmp").rename(path)


def train(
    output: str,
    steps: int,
    count: int,
    volumes: int,
    folder: str,
    threads: int,
    seed: int,
    monitor: Callable[[int, SliceNetwork], object] | None = None,
) -> None:
    """Run the whole training and write the weight file (also every 500 steps).

    Args:
        output: the .npz file.
        steps: optimiser steps of `count` patches.
        volumes: how many synthetic volumes; volume n is drawn from seed n. Step s uses those up to
            48 + s / 6, so that training can begin while the others are being made.
        folder: where volumes are kept between runs.
        monitor: called with (step, network) after every saved file.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    Path(folder).mkdir(parents=True, exist_ok=True)
    maker = multiprocessing.get_context("spawn").Process(
        target=_write_volumes, args=(folder, 0, volumes, 1), daemon=True
    )
    maker.start()
    network = SliceNetwork()
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    pool: list[torch.Tensor] = []
    started, running = time.time(), 0.0
    for step in range(steps):
        wanted = min(volumes, 48 + step // 6)
        while len(pool) < wanted:
            path = Path(folder, f"{len(pool):05d}.npy")
            while not path.exists():
                time.sleep(0.2)
            pool.append(torch.from_numpy((np.load(path) * np.float32(2e-5)).astype(np.float16)))
        progress = step / steps
        rate = 1e-3 * min(1, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        slices, condition, base, truth, ratio = make_batch(pool, rng, count)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            residual = predict(
                network, slices.contiguous(memory_format=torch.channels_last_3d), condition, ratio
            )
        error = (base + residual - truth)[:, ratio:-ratio, 3:-3, 3:-3]
        # Quadratic for small errors, as PSNR counts them; linear beyond 0.1, so that a few hard edges do not rule.
        loss = (torch.sqrt(error**2 + 0.01) - 0.1).mean() * 20
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(0.998, 0.9 + step / 5000)
        for name, value in network.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        base_error = ((base - truth)[:, ratio:-ratio, 3:-3, 3:-3] ** 2).mean()
        gain = 10 * math.log10(float(base_error / (error.detach() ** 2).mean()))
        running += 0.01 * (gain - running)
        if step % 50 == 49:
            print(
                f"step {step + 1}/{steps}  gain over cubic {running / (1 - 0.99 ** (step + 1)):.3f} dB  "
                f"volumes {len(pool)}  {time.time() - started:.0f} s",
                flush=True,
            )
        if step % 500 == 499 or step == steps - 1:
            smooth = SliceNetwork()
            smooth.load_state_dict(average)
            save_weights(smooth, output, steps=step + 1, seed=seed, data="synthetic dead leaves only")
            if monitor is not None:
                monitor(step + 1, smooth.eval())
    maker.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the prior network on synthetic volumes.")
    parser.add_argument("--output", default=str(WEIGHTS))
    parser.add_argument("--steps", type=int, default=4600)
    parser.add_argument("--batch", type=int, default=10, help="patches of 8 x 40 x 40 pixels a step")
    parser.add_argument("--volumes", type=int, default=800)
    parser.add_argument("--volume-folder", default="synthetic-volumes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(
        options.output,
        options.steps,
        options.batch,
        options.volumes,
        options.volume_folder,
        options.threads,
        options.seed,
    )


if __name__ == "__main__":
    main()
