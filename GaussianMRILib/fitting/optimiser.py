"""Adam on the packed parameters of a field, straight on the kernels: no autograd graph in the loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .. import native
from ..gaussians import PlaneBatch

#: Update modes of the rows for `native.adam_`: 0 plain, 1 positive (log space), 2 within (0, 1) (logit space).
PLAIN, POSITIVE, UNIT = 0, 1, 2
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-15


@dataclass
class Rates:
    """Adam's step sizes by kind of parameter.

    Attributes:
        means: mm (of the frame, in `paper`).
        diagonal: of M, relative; in `paper` absolute, of its square roots.
        off_diagonal: of M, 1/mm (1 over units of the frame, in `paper`).
        colours: normalised intensity.
        amplitudes: relative (fast) or logit (paper).
    """

    means: float
    diagonal: float
    off_diagonal: float
    colours: float
    amplitudes: float

    def rows(self, device: torch.device) -> torch.Tensor:
        d, o = self.diagonal, self.off_diagonal
        values = [self.means] * 3 + [d, o, o, d, o, d, self.colours, self.amplitudes]
        return torch.tensor(values, dtype=torch.float32, device=device)


class FieldOptimiser:
    """Parameters (11, N) with Adam's state.

    Attributes:
        parameters: updated in place.
        gradient: (11, N) of the last step.
        iterations: steps done.
    """

    def __init__(
        self, parameters: torch.Tensor, *, diagonal_mode: int = POSITIVE, amplitude_mode: int = POSITIVE
    ) -> None:
        self.parameters = parameters.contiguous()
        self.first = torch.zeros_like(self.parameters)
        self.second = torch.zeros_like(self.parameters)
        self.gradient = torch.zeros_like(self.parameters)
        d = diagonal_mode
        modes = [PLAIN] * 3 + [d, PLAIN, PLAIN, d, PLAIN, d, PLAIN, amplitude_mode]
        self.modes = torch.tensor(modes, dtype=torch.int32, device=parameters.device)
        self.iterations = 0

    def drawn(self) -> torch.Tensor:
        """The Gaussians (11, N) as the kernels take them."""
        return self.parameters

    def chain(self, gradient: torch.Tensor) -> torch.Tensor:
        """Gradient (11, N) with respect to `parameters` from that with respect to `drawn()`."""
        return gradient

    def step(
        self,
        batch: PlaneBatch,
        target: torch.Tensor,
        weight: torch.Tensor | None,
        rates: Rates,
        ssim_weight: float,
        softness: float = 0.0,
    ) -> float:
        """One Adam step on (1 - s) * sum(weight * |I - target|) / pixels + s * (1 - mean SSIM of the planes).

        Args:
            target: (total,) normalised.
            weight: (total,) of the pixels, or None for 1.
            ssim_weight: s.
            softness: errors below this count quadratically (0: plain L1).

        Returns:
            The loss before the step.
        """
        gaussians = self.drawn()
        image, samples, density = batch.render(gaussians)
        error = image - target
        if softness > 0:
            length = torch.sqrt(error * error + softness * softness)
            slope, value = error / length, length - softness
        else:
            slope, value = torch.sign(error), error.abs()
        if weight is not None:
            slope, value = slope * weight, value * weight
        scale = (1 - ssim_weight) / len(error)
        gradient = slope * scale
        loss = float(value.sum()) * scale
        if ssim_weight > 0:
            similarity, slope = native.ssim(image, target, batch.shapes)
            gradient -= slope * (ssim_weight / len(similarity))
            loss += ssim_weight * (1 - float(similarity.mean()))
        self.gradient = self.chain(batch.render_backward(gradient, samples, density, gaussians))
        self.iterations += 1
        native.adam_(
            self.parameters,
            self.gradient,
            self.first,
            self.second,
            rates.rows(self.parameters.device),
            self.modes,
            self.iterations,
            beta1=BETA1,
            beta2=BETA2,
            eps=EPSILON,
        )
        return loss
