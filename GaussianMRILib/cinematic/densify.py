"""Splats that come and go during training: the rules of 3D Gaussian splatting, and MCMC with a fixed number."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .splats import Splats, rotation_matrices


class GrowingSplats:
    """Splat parameters under Adam whose number can change; the moments of the survivors are kept.

    Args:
        splats: where to start.
        rates: learning rate by the names in `NAMES`.
        offsets: (N,) of the learnable truncation, or None.
    """

    NAMES = ("means", "quaternions", "log_scales", "sh_base", "sh_rest", "logit_opacities", "offsets")

    def __init__(self, splats: Splats, rates: Mapping[str, float], offsets: Tensor | None = None) -> None:
        values = splats.tensors()
        sh = values.pop("sh")
        values |= {"sh_base": sh[:, :1], "sh_rest": sh[:, 1:]}
        if offsets is not None:
            values["offsets"] = offsets
        self.optimiser = torch.optim.Adam(
            [
                {"params": [value.detach().clone().requires_grad_()], "name": name, "lr": rates[name]}
                for name, value in values.items()
            ],
            eps=1e-15,
            fused=True,
        )

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The leaves by name."""
        return {group["name"]: group["params"][0] for group in self.optimiser.param_groups}

    def __len__(self) -> int:
        return len(self.parameters["means"])

    def splats(self, degree: int = 3) -> Splats:
        """The splats, attached to the leaves, with spherical harmonics up to `degree`."""
        leaves = self.parameters
        rest = leaves["sh_rest"][:, : (degree + 1) ** 2 - 1]
        return Splats(
            leaves["means"],
            leaves["quaternions"],
            leaves["log_scales"],
            torch.cat([leaves["sh_base"], rest], dim=1),
            leaves["logit_opacities"],
        )

    @property
    def offsets(self) -> Tensor | None:
        return self.parameters.get("offsets")

    def set_rate(self, name: str, rate: float) -> None:
        for group in self.optimiser.param_groups:
            if group["name"] == name:
                group["lr"] = rate

    def select(self, index: Tensor) -> None:
        """Keep the splats `index` (numbers or a mask), with their moments."""
        for group in self.optimiser.param_groups:
            leaf = group["params"][0].detach()
            self._replace(group, leaf[index], lambda moment: moment[index])

    def append(self, values: Mapping[str, Tensor]) -> None:
        """Add splats; their moments are zero."""
        for group in self.optimiser.param_groups:
            leaf, new = group["params"][0].detach(), values[group["name"]]
            self._replace(group, torch.cat([leaf, new]), functools.partial(_extended, count=len(new)))

    def overwrite(self, index: Tensor, values: Mapping[str, Tensor]) -> None:
        """Give the splats `index` new values; their moments become zero."""
        with torch.no_grad():
            for group in self.optimiser.param_groups:
                if group["name"] in values:
                    leaf = group["params"][0]
                    leaf[index] = values[group["name"]]
                    for moment in self._moments(leaf).values():
                        moment[index] = 0

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Copies of the parameters of the splats `index`."""
        return {name: leaf.detach()[index].clone() for name, leaf in self.parameters.items()}

    def _moments(self, leaf: Tensor) -> dict[str, Tensor]:
        state = self.optimiser.state.get(leaf, {})
        return {name: value for name, value in state.items() if name != "step"}

    def _replace(self, group: dict[str, Any], values: Tensor, change: Callable[[Tensor], Tensor]) -> None:
        """Make `values` the leaf of a group, and `change` its moments."""
        old, new = group["params"][0], values.clone().requires_grad_()
        state = self.optimiser.state
        if old in state:
            moments = {name: change(moment) for name, moment in self._moments(old).items()}
            state[new] = {**state.pop(old), **moments}
        group["params"][0] = new


def _extended(tensor: Tensor, count: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros(count, *tensor.shape[1:])])


@dataclass
class Schedule:
    """When splats come and go, in iterations.

    Attributes:
        start, stop, every: from, until and how often.
        reset: how often opacities are reset (3DGS only); None: never.
    """

    start: int = 500
    stop: int = 15_000
    every: int = 100
    reset: int | None = 3_000


class AdaptiveControl:
    """Clone, split, prune and reset of 3D Gaussian splatting (Kerbl et al. 2023, section 5.2, and their code's defaults).

    Args:
        extent: mm, 3DGS's extent of the scene.
        cap: no growth beyond this many splats; None: none.
        least: nothing is removed beyond this number; the most transparent go first.
    """

    GRADIENT = 2e-4  # of the loss, per unit of normalised device coordinates
    DENSE = 0.01  # of the extent: what is larger is split, what is smaller is cloned
    LOWEST_OPACITY = 0.005
    LARGEST_PIXELS, LARGEST_WORLD = 20, 0.1

    def __init__(self, schedule: Schedule, extent: float, cap: int | None = None, *, least: int = 0) -> None:
        self.schedule, self.extent, self.cap, self.least = schedule, extent, cap, least
        self._sum = self._count = self._radius = torch.zeros(0, dtype=torch.float32)

    def observe(self, count: int, index: Tensor | None, gradients: Tensor, radii: Tensor) -> None:
        """Note one picture.

        Args:
            count: splats there are.
            index: (M,) numbers of those that were given to the rasteriser, None for all.
            gradients: (M,) length of the loss's gradient by the place on a screen of -1 to 1.
            radii: (M,) pixels, 0 for those that were not drawn.
        """
        if len(self._sum) != count:
            self._sum, self._count, self._radius = (
                torch.zeros(count, dtype=gradients.dtype, device=gradients.device) for _ in range(3)
            )
        drawn = torch.nonzero(radii > 0)[:, 0]
        where = drawn if index is None else index[drawn]
        self._sum[where] += gradients[drawn]
        self._count[where] += 1
        self._radius[where] = torch.maximum(self._radius[where], radii[drawn].to(self._radius.dtype))

    def state(self) -> list[Tensor]:
        """For a checkpoint; `restore` takes it back."""
        return [self._sum, self._count, self._radius]

    def restore(self, state: list[Tensor], device: torch.device) -> None:
        self._sum, self._count, self._radius = (tensor.to(device) for tensor in state)

    def step(self, iteration: int, growing: GrowingSplats, generator: torch.Generator) -> None:
        """Do what is due after `iteration` (from 1)."""
        s = self.schedule
        if iteration >= s.stop:
            return
        if iteration > s.start and iteration % s.every == 0 and len(self._sum) == len(growing):
            self._densify(growing, generator, prune_large=s.reset is not None and iteration > s.reset)
            self._sum = self._sum[:0]
        if s.reset is not None and iteration % s.reset == 0:
            leaf = growing.parameters["logit_opacities"].detach()
            low = torch.full_like(leaf, math.log(0.01 / 0.99))
            growing.overwrite(
                torch.arange(len(leaf), device=leaf.device), {"logit_opacities": leaf.minimum(low)}
            )

    def _densify(self, growing: GrowingSplats, generator: torch.Generator, prune_large: bool) -> None:
        mean = self._sum / self._count.clamp_min(1)
        steep = mean >= self.GRADIENT
        largest = growing.parameters["log_scales"].detach().exp().amax(dim=1)
        if self.cap is not None:
            room = max(0, self.cap - len(growing))
            if int(steep.sum()) > room:  # the steepest first
                chosen = (
                    torch.topk(torch.where(steep, mean, -1), room).indices
                    if room
                    else mean.new_zeros(0).long()
                )
                steep = torch.zeros_like(steep).index_fill(0, chosen, True)
        large = largest > self.DENSE * self.extent
        clone, split = torch.nonzero(steep & ~large)[:, 0], torch.nonzero(steep & large)[:, 0]
        halves = growing.rows(split.repeat(2))
        spread = torch.randn(halves["means"].shape, generator=generator, dtype=torch.float32).to(halves["means"].device)
        rotations = rotation_matrices(halves["quaternions"])
        halves["means"] += (rotations @ (halves["log_scales"].exp() * spread)[:, :, None])[:, :, 0]
        halves["log_scales"] -= math.log(1.6)
        copies = growing.rows(clone)
        radius = self._radius
        growing.append({name: torch.cat([copies[name], halves[name]]) for name in copies})
        opacities = torch.sigmoid(growing.parameters["logit_opacities"].detach())
        keep = opacities >= self.LOWEST_OPACITY
        keep[split] = False
        if prune_large:
            scale = growing.parameters["log_scales"].detach().exp().amax(dim=1)
            keep &= scale <= self.LARGEST_WORLD * self.extent
            keep[: len(radius)] &= radius <= self.LARGEST_PIXELS
        short = self.least - int(keep.sum())
        if short > 0:
            gone = torch.where(keep, -1.0, opacities)
            gone[split] = -1.0  # their halves are there
            back = torch.topk(gone, min(short, int((gone >= 0).sum()))).indices
            keep = keep.index_fill(0, back, True)
        if keep.any():
            growing.select(keep)


class Relocation:
    """3DGS as Markov chain Monte Carlo (Kheradmand et al. 2024): dead splats move to live ones, the number grows to a cap,
    and noise lets splats explore.

    Args:
        unit: mm; the noise and the regularisers count in it.
        cap: splats at most.
    """

    DEAD = 0.005
    GROWTH = 1.05
    NOISE = 5e5
    REGULARISER = 0.01
    MOST_COPIES = 51

    def __init__(self, schedule: Schedule, unit: float, cap: int) -> None:
        self.schedule, self.unit, self.cap = schedule, unit, cap

    def regulariser(self, splats: Splats) -> Tensor:
        """0.01 (mean opacity + mean standard deviation in units of `unit`), to be added to the loss (their eq. 10)."""
        return self.REGULARISER * (splats.opacities.mean() + splats.scales.mean() / self.unit)

    def step(
        self, iteration: int, growing: GrowingSplats, generator: torch.Generator, means_rate: float
    ) -> None:
        """Do what is due after `iteration` (from 1): relocate, grow, and in every iteration add noise.

        Args:
            means_rate: present learning rate of the means, in units of `unit`.
        """
        s = self.schedule
        if s.start < iteration < s.stop and iteration % s.every == 0:
            self._relocate(growing, generator)
            self._grow(growing, generator)
        self._shake(growing, generator, means_rate)

    def _relocate(self, growing: GrowingSplats, generator: torch.Generator) -> None:
        opacities = torch.sigmoid(growing.parameters["logit_opacities"].detach())
        dead = torch.nonzero(opacities <= self.DEAD)[:, 0]
        alive = torch.nonzero(opacities > self.DEAD)[:, 0]
        if len(dead) and len(alive):
            source = alive[_draw(opacities[alive], len(dead), generator)]
            growing.overwrite(dead, self._share(growing, source))

    def _grow(self, growing: GrowingSplats, generator: torch.Generator) -> None:
        count = min(self.cap, int(self.GROWTH * len(growing)) + 1) - len(growing)
        if count > 0:
            opacities = torch.sigmoid(growing.parameters["logit_opacities"].detach())
            growing.append(self._share(growing, _draw(opacities, count, generator)))

    def _share(self, growing: GrowingSplats, source: Tensor) -> dict[str, Tensor]:
        """Values of new splats on `source`, whose opacity it shares with them so that the picture stays (their eq. 9)."""
        copies = torch.bincount(source, minlength=len(growing))
        touched = torch.nonzero(copies)[:, 0]
        shared = growing.rows(touched)
        number = (copies[touched] + 1).clamp_max(self.MOST_COPIES)
        opacities, factor = shared_opacity(torch.sigmoid(shared["logit_opacities"]), number)
        shared["logit_opacities"] = torch.logit(opacities.clamp(self.DEAD, 1 - 1e-6))
        shared["log_scales"] += factor.log()[:, None]
        growing.overwrite(touched, shared)
        return growing.rows(source)

    def _shake(self, growing: GrowingSplats, generator: torch.Generator, means_rate: float) -> None:
        with torch.no_grad():
            leaves = growing.parameters
            noise = torch.randn(leaves["means"].shape, generator=generator, dtype=torch.float32).to(leaves["means"].device)
            # 1 for transparent splats, 0 for those above a few per cent: what is seen does not shake.
            gate = torch.sigmoid(-100 * (torch.sigmoid(leaves["logit_opacities"]) - 0.005))
            half = (
                rotation_matrices(leaves["quaternions"])
                * (leaves["log_scales"].exp() / self.unit)[:, None, :]
            )
            step = (half @ (half.mT @ noise[:, :, None]))[:, :, 0]
            leaves["means"] += step * (gate * (self.NOISE * means_rate * self.unit))[:, None]


def shared_opacity(opacities: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity of each of `number` (N,) splats in one place that together look like one, and the factor of its scales.

    o' = 1 - (1 - o)^(1/n); the scales keep the integral of the blended alpha along a line
    (Kheradmand et al. 2024, eq. 9).
    """
    most = int(number.max()) if len(number) else 1
    one = opacities.double()
    each = 1 - (1 - one).clamp_min(1e-12) ** (1 / number)
    powers = torch.arange(most, device=one.device)
    signs = torch.where(powers % 2 == 0, 1.0, -1.0).to(torch.float64) / (powers + 1).double().sqrt()
    terms = signs * each[:, None] ** (powers + 1)  # (N, k)
    binomials = torch.tensor(
        [[math.comb(i, k) for i in range(most)] for k in range(most)], dtype=torch.float64, device=one.device
    )
    sums = torch.cumsum(terms @ binomials, dim=1)
    total = sums.gather(1, (number - 1)[:, None])[:, 0]
    return each.to(opacities.dtype), (one / total).to(opacities.dtype)


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` indices, each with a probability proportional to its weight, with repetition."""
    ends = torch.cumsum(weights.double(), 0)
    places = torch.rand(count, generator=generator, dtype=torch.float64).to(ends.device) * ends[-1]
    return torch.searchsorted(ends, places).clamp_max(len(weights) - 1)
