"""The adaptive adjustment model of ClipGS: a small network that deforms the visible splats for each clip plane."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .clip import ClipPlane
from .splats import Splats


@dataclass(frozen=True)
class AdjustmentShape:
    """Size of the network.

    Attributes:
        depth, width: layers and their width.
        position_frequencies, plane_frequencies: octaves of the positional encoding of the means and of the plane.
        scale_bound: a splat grows or shrinks by a factor of e^scale_bound at most, by a hyperbolic tangent.
    """

    depth: int = 4
    width: int = 128
    position_frequencies: int = 10
    plane_frequencies: int = 6
    scale_bound: float = 2.0


def positional_encoding(values: Tensor, frequencies: int) -> Tensor:
    """(..., D) to (..., D (1 + 2 L)): the values, and sine and cosine of 2^k times them (Mildenhall et al. 2020, eq. 4)."""
    octaves = 2.0 ** torch.arange(frequencies, dtype=values.dtype, device=values.device)
    angles = (values[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([values, torch.sin(angles), torch.cos(angles)], dim=-1)


class Adjustment(nn.Module):
    """Positional encoding of (mean, plane), a tiny MLP, and heads for position, rotation and scale ("ClipGS", eqs. 5 and 6).

    The plane's normal and offset come in as four numbers, so that planes of any direction are told apart. The heads start
    at zero: an untrained network changes nothing.

    Args:
        center: (3,) RAS mm and
        unit: mm, that bring the scene to about -1 to 1.
        shape: size of the network.
    """

    center: Tensor

    def __init__(self, center: Tensor, unit: float, shape: AdjustmentShape | None = None) -> None:
        super().__init__()
        self.shape = shape or AdjustmentShape()
        self.unit = float(unit)
        self.register_buffer("center", center.detach().to(torch.float32), persistent=False)
        width = self.shape.width
        inputs = 3 * (1 + 2 * self.shape.position_frequencies) + 4 * (1 + 2 * self.shape.plane_frequencies)
        sizes = [inputs] + [width] * self.shape.depth
        layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size))
                for name, size in (("position", 3), ("rotation", 4), ("scale", 3))
            }
        )
        for head in self.heads.values():
            last = head[-1]  # type: ignore[index]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.float()  # whatever the default is

    def forward(self, splats: Splats, plane: ClipPlane) -> Splats:
        """The splats as they are under `plane`; their colours and opacities stay."""
        dtype, bound = splats.means.dtype, self.shape.scale_bound
        center = self.center.to(dtype)
        # The step of the means must not depend on how steep the encoding's highest octave is.
        where = (splats.means.detach() - center) / self.unit
        offset = (plane.offset - float(plane.normal @ self.center.double().cpu().numpy())) / self.unit
        cut = torch.tensor([*plane.normal.tolist(), offset], dtype=dtype, device=where.device)
        plane_code = positional_encoding(cut, self.shape.plane_frequencies)
        position_code = positional_encoding(where, self.shape.position_frequencies)
        # The first layer sees the same plane for every splat: its part is computed once.
        first = self.body[0]
        assert isinstance(first, nn.Linear)
        split = position_code.shape[1]
        hidden = torch.addmm(
            first.weight[:, split:] @ plane_code + first.bias, position_code, first.weight[:, :split].T
        )
        feature = self.body[1:](hidden)
        return replace(
            splats,
            means=splats.means + self.unit * self.heads["position"](feature),
            quaternions=nn.functional.normalize(splats.quaternions, dim=1) + self.heads["rotation"](feature),
            log_scales=splats.log_scales + bound * torch.tanh(self.heads["scale"](feature) / bound),
        )

    def config(self) -> dict[str, Any]:
        """Size and normalisation for JSON; `from_config` reads it."""
        return {**asdict(self.shape), "center": self.center.tolist(), "unit": self.unit}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Adjustment:
        """An untrained network of the size that `config` described."""
        names = ("depth", "width", "position_frequencies", "plane_frequencies")
        sizes = {name: int(config[name]) for name in names}
        # A file of a version whose scale head had no bound does not name one.
        bound = float(config.get("scale_bound", 1e6))
        return cls(torch.tensor(config["center"]), float(config["unit"]), AdjustmentShape(**sizes, scale_bound=bound))
