"""A small 3D network that predicts what lies between thick slices, trained on synthetic volumes only.

It works at slice resolution, which is what makes it quick: twelve 3x3x3 convolutions on the acquired pixels, then, per
pixel, coefficients of a cosine basis along the slice direction. Evaluating the basis gives the sub-slices, so
one network serves every ratio of slice spacing to pixel size.
"""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

WEIGHTS = Path(__file__).with_name("weights.npz")
RATIO_RANGE = (3.0, 10.0)


class SliceNetwork(nn.Module):
    """Residual network from slices to sub-slice residuals over cubic interpolation.

    Args:
        channels: width of the hidden layers.
        blocks: residual blocks of two convolutions.
        basis: cosine functions along one slice spacing.
    """

    def __init__(self, channels: int = 32, blocks: int = 6, basis: int = 8) -> None:
        super().__init__()
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

    def forward(self, slices: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Coefficients of the residual.

        Args:
            slices: (B, 1, K, rows, columns), normalised to about [0, 1].
            condition: (B, 3) from `condition_vector`.

        Returns:
            (B, basis, K, rows, columns); see `basis_matrix`.
        """
        shift = self.condition(condition).reshape(-1, self.blocks, self.channels, 1, 1, 1)
        x = self.entry(slices - 0.4)
        for n in range(self.blocks):
            hidden = torch.relu(self.first[n](x) + shift[:, n].to(x.dtype))
            x = x + self.second[n](hidden)
        return self.exit(torch.relu(x))


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
    return torch.cos(math.pi * torch.arange(basis) * (phases[:, None] + 0.5))


def sub_slice_phases(factor: int) -> torch.Tensor:
    """Centres of `factor` equal parts of one slice spacing, in spacings from the slice's centre."""
    return (torch.arange(factor) + 0.5) / factor - 0.5


def save_weights(network: SliceNetwork, path: str | os.PathLike[str], **facts: object) -> None:
    """Write the weights in half precision with the facts of their training to one .npz file."""
    arrays = {
        name: value.detach().cpu().numpy().astype(np.float16) for name, value in network.state_dict().items()
    }
    layout = np.array([network.channels, network.blocks, network.basis])
    np.savez_compressed(path, layout=layout, facts=np.array(repr(facts)), **arrays)


@functools.lru_cache(maxsize=1)
def load_network(path: str | os.PathLike[str] = WEIGHTS) -> SliceNetwork | None:
    """The trained network, or None where there is no weight file (the ridge filters then take its place)."""
    if not Path(path).is_file():
        return None
    with np.load(path) as stored:
        network = SliceNetwork(*(int(n) for n in stored["layout"]))
        state = {name: torch.from_numpy(stored[name].astype(np.float32)) for name in network.state_dict()}
    network.load_state_dict(state)
    return network.eval().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
