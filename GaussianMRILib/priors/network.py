"""Small networks that predict what lies between thick slices, trained on synthetic volumes only.

They work at slice resolution, which is what makes them quick: convolutions on the acquired pixels, then, per
pixel, coefficients of a cosine basis along the slice direction. Evaluating the basis gives the sub-slices, so
one network serves every ratio of slice spacing to pixel size.

`SliceNetwork` has full 3x3x3 kernels. They turn out to have so low a rank that two factors of a third of the work say
nearly the same: that is `FactorisedNetwork`, whose convolutions are two small ones each, within the slices (1x3x3) and
across them (3x1x1); see `factorisation.factorised`. A weight file says which of them it holds.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..files import atomic_write
from ..interruption import checkpoint

WEIGHTS = Path(__file__).with_name("weights.npz")
#: Slice spacings in pixels that the training draws; a network is told the nearest end beyond them.
RATIO_RANGE = (3.0, 40.0)
#: Called after each block of a network with the share that is done, 0 to 1; it may raise to stop.
Step = Callable[[float], object]


class PriorNetwork(nn.Module):
    """What networks from slices to sub-slice residuals over cubic interpolation have in common.

    Attributes:
        layout: the arguments that make this network again.
        channels: width of the hidden layers.
        basis: cosine functions along one slice spacing.
        ratio_range: of slice spacing to pixel size, that it has seen in its training.
    """

    layout: tuple[int, ...]
    channels: int
    basis: int
    ratio_range: tuple[float, float] = RATIO_RANGE

    def forward(
        self, slices: torch.Tensor, condition: torch.Tensor, step: Step | None = None
    ) -> torch.Tensor:
        """Coefficients of the residual.

        Args:
            slices: (B, 1, K, rows, columns), normalised to about [0, 1].
            condition: (B, 3) from `condition_vector`.

        Returns:
            (B, basis, K, rows, columns); see `basis_matrix`.
        """
        raise NotImplementedError


class SliceNetwork(PriorNetwork):
    """Residual network of 3x3x3 convolutions.

    Args:
        channels: width of the hidden layers.
        blocks: residual blocks of two convolutions.
        basis: cosine functions along one slice spacing.
    """

    def __init__(self, channels: int = 32, blocks: int = 6, basis: int = 8) -> None:
        super().__init__()
        self.layout = (channels, blocks, basis)
        self.channels, self.blocks, self.basis = channels, blocks, basis
        self.entry = nn.Conv3d(1, channels, 3, padding=1)
        self.first = nn.ModuleList(nn.Conv3d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Conv3d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.condition = nn.Linear(3, channels * blocks)
        self.exit = nn.Conv3d(channels, basis, 3, padding=1)
        for layer in [*self.second, self.condition, self.exit]:
            assert isinstance(layer, (nn.Conv3d, nn.Linear)) and layer.bias is not None
            gain = 0.05 if isinstance(layer, nn.Linear) else 0.1 / math.sqrt(27 * channels)
            nn.init.normal_(layer.weight, std=gain)
            if isinstance(layer, nn.Conv3d):
                nn.init.zeros_(layer.bias)
        self.float()  # whatever the default is

    def forward(
        self, slices: torch.Tensor, condition: torch.Tensor, step: Step | None = None
    ) -> torch.Tensor:
        shift = self.condition(condition).reshape(-1, self.blocks, self.channels, 1, 1, 1)
        x = self.entry((slices - 0.4).contiguous(memory_format=torch.channels_last_3d))
        for n in range(self.blocks):
            hidden = torch.relu(self.first[n](x) + shift[:, n].to(x.dtype))
            x = x + self.second[n](hidden)
            if step is not None:
                step((n + 1) / (self.blocks + 1))
        return self.exit(torch.relu(x))


class FactorisedConvolution(nn.Module):
    """1x3x3 within slices to `rank` channels, then 3x1x1 across them, on (B, K, rows, columns, channels).

    Both are two-dimensional convolutions on views of the same memory, channels last: processors without matrix units
    run the same as three-dimensional ones at a quarter of the speed.
    """

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.within = nn.Conv2d(channels, rank, 3, padding=1, bias=False)
        self.across = nn.Conv2d(rank, channels, (3, 1), padding=(1, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As it is trained, and on a GPU: a layer at once."""
        checkpoint()
        inner = self.within(x.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        flat = self.across(inner.flatten(2, 3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return flat.reshape(*inner.shape[:4], -1)

    def parts(self, x: torch.Tensor, inner: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
        """The same of one image, some columns of pixels at a time: (columns, (K, columns, channels)).

        A layer as a whole is new memory each time, which the system has to clear, a quarter of the network's time, and
        leaves the cache before it is used.

        Args:
            x: (K, rows, columns, channels); not needed any more when the first part is yielded.
            inner: memory for K x rows x columns x rank numbers.
        """
        inner = inner[: x[..., 0].numel() * self.within.out_channels].view(*x.shape[:3], -1)
        for k, one in enumerate(x):
            checkpoint()
            inner[k] = self.within(one.permute(2, 0, 1)[None])[0].permute(1, 2, 0)
        flat = inner.flatten(1, 2)
        columns = max(NUMBERS_AT_ONCE // (len(x) * x.shape[-1]), 1)
        for start in range(0, flat.shape[1], columns):
            checkpoint()
            pixels = slice(start, start + columns)
            yield pixels, self.across(flat[:, pixels].permute(2, 0, 1)[None])[0].permute(1, 2, 0)


#: Of a convolution across the slices: 8 MB of single precision stay in the cache, and in less two threads mostly wait.
NUMBERS_AT_ONCE = 2_000_000
#: Of the first convolutions of six blocks, then of the second ones. Multiples of eight fill vector registers; the image is
#: plain enough before the third block for a smaller one.
RANKS = (16, 16, *(24,) * 10)


class FactorisedNetwork(PriorNetwork):
    """A `SliceNetwork` whose hidden convolutions are factorised.

    Args:
        channels, basis: as there.
        ranks: of the first convolution of each block, then of the second ones.
    """

    def __init__(self, channels: int = 32, basis: int = 8, *ranks: int) -> None:
        super().__init__()
        ranks = ranks or RANKS
        blocks = len(ranks) // 2
        self.layout = (channels, basis, *ranks)
        self.channels, self.blocks, self.basis = channels, blocks, basis
        self.entry = nn.Conv3d(1, channels, 3, padding=1)
        self.first = nn.ModuleList(FactorisedConvolution(channels, rank) for rank in ranks[:blocks])
        self.second = nn.ModuleList(FactorisedConvolution(channels, rank) for rank in ranks[blocks:])
        self.condition = nn.Linear(3, channels * blocks)
        self.exit = nn.Conv3d(channels, basis, 3, padding=1)
        self.float()  # whatever the default is

    def forward(
        self, slices: torch.Tensor, condition: torch.Tensor, step: Step | None = None
    ) -> torch.Tensor:
        shift = self.condition(condition).reshape(-1, self.blocks, 1, 1, 1, self.channels)
        x = self.entry((slices - 0.4).contiguous(memory_format=torch.channels_last_3d))
        # As it lies in memory already, where convolutions keep the format.
        x = x.permute(0, 2, 3, 4, 1).contiguous()
        in_parts = x.device.type == "cpu" and not torch.is_grad_enabled()
        if in_parts:  # one image's memory, for all layers
            hidden = torch.empty_like(x[0]).flatten(1, 2)
            inner = x.new_empty(hidden[..., 0].numel() * max(self.layout[2:]))
        for n, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            assert isinstance(first, FactorisedConvolution) and isinstance(second, FactorisedConvolution)
            if not in_parts:
                x = x + second(torch.relu(first(x) + shift[:, n].to(x.dtype)))
            else:
                for image, shift_of in zip(x, shift[:, n].to(x.dtype), strict=True):
                    for pixels, part in first.parts(image, inner):
                        hidden[:, pixels] = torch.relu_(part.add_(shift_of[0, 0]))
                    for pixels, part in second.parts(hidden.view_as(image), inner):
                        image.flatten(1, 2)[:, pixels] += part
            if step is not None:
                step((n + 1) / (self.blocks + 1))
        if in_parts:
            del hidden, inner  # the last convolution needs as much
        last = torch.relu(x) if torch.is_grad_enabled() else x.relu_()
        return self.exit(last.permute(0, 4, 1, 2, 3))


def condition_vector(ratio: float, fill: float, noise: float) -> list[float]:
    """What the network is told of an acquisition, each number about in [-1, 1].

    Args:
        ratio: distance between slices over pixel size.
        fill: slice thickness over distance between slices.
        noise: standard deviation of the noise, normalised intensity.
    """
    return [math.log(ratio / 5.5) / 0.6, (fill - 0.9) / 0.2, math.log(max(noise, 0.002) / 0.01) / 0.8]


def basis_matrix(phases: torch.Tensor, basis: int) -> torch.Tensor:
    """Cosines at sub-slice phases in (-0.5, 0.5), (len(phases), basis): function b is cos(pi b (t + 0.5))."""
    return torch.cos(math.pi * torch.arange(basis, dtype=torch.float32) * (phases[:, None] + 0.5))


def sub_slice_phases(factor: int) -> torch.Tensor:
    """Centres of `factor` equal parts of one slice spacing, in spacings from the slice's centre."""
    return (torch.arange(factor, dtype=torch.float32) + 0.5) / factor - 0.5


ARCHITECTURES: dict[str, type[PriorNetwork]] = {"slices": SliceNetwork, "factorised": FactorisedNetwork}


def save_weights(network: PriorNetwork, path: str | os.PathLike[str], **facts: object) -> None:
    """Write the weights in half precision with layout and the facts of their training to one .npz file."""
    arrays = {
        name: value.detach().cpu().numpy().astype(np.float16) for name, value in network.state_dict().items()
    }
    with atomic_write(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(
            file,
            architecture=np.array(next(n for n, kind in ARCHITECTURES.items() if type(network) is kind)),
            layout=np.array(network.layout),
            ratio_range=np.array(network.ratio_range),
            facts=np.array(repr(facts)),
            **arrays,
        )


@functools.lru_cache(maxsize=1)
def load_network(path: str | os.PathLike[str] = WEIGHTS) -> PriorNetwork | None:
    """The trained network, or None where there is no weight file (the ridge filters then take its place)."""
    if not Path(path).is_file():
        return None
    with np.load(path) as stored:
        # Files of version 0.1 name no architecture and no ratios: there was one, trained on 3 to 10.
        kind = str(stored["architecture"]) if "architecture" in stored else "slices"
        network = ARCHITECTURES[kind](*(int(n) for n in stored["layout"]))
        low, high = stored["ratio_range"] if "ratio_range" in stored else (3.0, 10.0)
        network.ratio_range = (float(low), float(high))
        state = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in network.state_dict()}
    network.load_state_dict(state)
    return channels_last(network.eval())


def channels_last(network: PriorNetwork) -> PriorNetwork:
    """The network with kernels in the format in which convolutions are fastest."""
    for part in network.modules():
        if isinstance(part, nn.Conv3d):
            part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        elif isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
