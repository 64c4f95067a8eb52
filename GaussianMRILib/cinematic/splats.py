"""The Gaussians of a cinematic model, as 3D Gaussian splatting holds them (Kerbl et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ..errors import GaussianMRIError
from ..native.splats.reference import rotation_matrices

SH_C0 = 0.28209479177387814
"""The spherical harmonic of degree 0: colour = 0.5 + SH_C0 * sh[:, 0]."""


@dataclass
class Splats:
    """N anisotropic Gaussians in patient space with a colour that depends on the direction they are seen from.

    Attributes:
        means: (N, 3) RAS mm.
        quaternions: (N, 4) rotation (w, x, y, z) of the principal axes, any norm but zero.
        log_scales: (N, 3) natural logarithm of the standard deviation along each axis, mm.
        sh: (N, K, 3) coefficients of the colour, K = 1, 4, 9 or 16 for spherical harmonics to degree 0 to 3,
            in 3DGS's order and sign; colour = max(0, 0.5 + sum).
        logit_opacities: (N,) logit of the opacity at the centre.

    All have one device and one floating point type; each may require gradients.

    Raises:
        GaussianMRIError: shapes, types or devices do not fit together.
    """

    means: Tensor
    quaternions: Tensor
    log_scales: Tensor
    sh: Tensor
    logit_opacities: Tensor

    def __post_init__(self) -> None:
        count = len(self.means)
        coefficients = self.sh.shape[1] if self.sh.ndim == 3 else 0
        expected = ((count, 3), (count, 4), (count, 3), (count, coefficients, 3), (count,))
        for field, shape in zip(fields(self), expected, strict=True):
            value: Tensor = getattr(self, field.name)
            if tuple(value.shape) != shape:
                raise GaussianMRIError(
                    f"Splats: {field.name} has shape {tuple(value.shape)}; for {count} splats it must be {shape}."
                )
            if value.dtype != self.means.dtype or value.device != self.means.device:
                raise GaussianMRIError(
                    f"Splats: {field.name} is {value.dtype} on {value.device}, but means are "
                    f"{self.means.dtype} on {self.means.device}; convert one of them."
                )
        if not self.means.is_floating_point():
            raise GaussianMRIError(f"Splats must be floating point numbers, not {self.means.dtype}.")
        if coefficients not in (1, 4, 9, 16):
            raise GaussianMRIError(
                f"Splats: sh has {coefficients} coefficients; it must have 1, 4, 9 or 16 (degree 0 to 3)."
            )

    def __len__(self) -> int:
        return len(self.means)

    def for_a_file(self) -> Splats:
        """The same on the CPU, without a graph.

        Raises:
            GaussianMRIError: there are none, and a file of none is of no use.
        """
        if not len(self):
            raise GaussianMRIError("There are no splats to export.")
        return self.map(lambda tensor: tensor.detach().float().cpu())

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[1]]

    @property
    def scales(self) -> Tensor:
        """(N, 3) standard deviations along the principal axes, mm."""
        return self._kept("scales", self.log_scales, torch.exp)

    @property
    def opacities(self) -> Tensor:
        """(N,) opacity at the centre, in (0, 1)."""
        return self._kept("opacities", self.logit_opacities, torch.sigmoid)

    def _kept(self, name: str, tensor: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of a tensor; computed once for all frames of a model, while it stays and no gradient is asked for."""
        if tensor.requires_grad:
            return function(tensor)
        of, version, value = self.__dict__.get(f"_{name}", (None, None, tensor))
        if of is not tensor or version != tensor._version:
            value = function(tensor)
            self.__dict__[f"_{name}"] = tensor, tensor._version, value
        return value

    @property
    def rotations(self) -> Tensor:
        """(N, 3, 3) rotation matrices whose columns are the principal axes."""
        return rotation_matrices(self.quaternions)

    @property
    def covariances(self) -> Tensor:
        """(N, 3, 3) covariance matrices, mm^2."""
        half = self.rotations * self.scales[:, None, :]
        return half @ half.mT

    def map(self, function: Callable[[Tensor], Tensor]) -> Splats:
        """New splats with `function` applied to each tensor: `splats.map(lambda t: t[keep])`."""
        return replace(self, **{name: function(value) for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        """The five tensors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, target: str | torch.device | torch.dtype) -> Splats:
        """The same on another device or of another floating point type."""
        return self.map(lambda tensor: tensor.to(target))
