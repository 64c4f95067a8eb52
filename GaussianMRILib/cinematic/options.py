"""Settings of a training, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import GaussianMRIError

CLIPPINGS: dict[str, tuple[str, bool]] = {
    "analytic": ("analytic", False),
    "ht": ("hard", False),
    "lt": ("learned", False),
    "aam": ("none", True),
    "aam+ht": ("hard", True),
    "aam+lt": ("learned", True),
}
"""(visibility, adjustment) by name: the analytic cut, and the rows of "ClipGS", table 2; "aam+lt" is ClipGS."""
LABELS = {
    "analytic": "3DGS + analytic cut",
    "ht": "3DGS + HT",
    "lt": "3DGS + LT",
    "aam": "3DGS + AAM",
    "aam+ht": "3DGS + AAM + HT",
    "aam+lt": "3DGS + AAM + LT (ClipGS)",
}
"""`CLIPPINGS` in tables."""
DENSIFICATIONS = ("mcmc", "3dgs", "none")
STARTS = ("volume", "random")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Settings of a training; the defaults are those of ClipGS but for the method and the densification.

    Attributes:
        method: one of `CLIPPINGS`.
        densify: "mcmc" (a fixed number at the end), "3dgs" (clone, split, prune), or "none".
        start: "volume" (where the tracer's volume can be seen, in its colours: what no picture has shown is there all the
            same when a plane opens it) or "random" (in the cube that holds the scene, as 3DGS and ClipGS).
        splats: how many to start with.
        cap: splats at most; "mcmc" needs it.
        first_step, second_step: iterations, the adjustment network learns in the second only.
        degree, degree_every: spherical harmonics, one degree more after so many iterations.
        densify_from, densify_until: first and last iteration of densification.
        opacity_reset: iterations between resets of the opacities ("3dgs"); None: never.
        ssim_weight: lambda of the loss (1 - lambda) L1 + lambda (1 - SSIM).
        width, depth: of the adjustment network.
        adjustment_rate: its learning rate; a tenth at the end.
        offsets_rate: learning rate of the learned truncation's offsets, in half edges of the scene's cube; a hundredth at
            the end, as that of the means.
        truncation_width: of the sigmoid whose gradient the offsets learn by, in half edges of the scene's cube.
        seed: the same seed and number of threads give the same model, bit for bit, on a CPU of the same kind.
        patience: stop after so many checks without a gain of 0.02 dB on frames that are kept out of training for
            that; None: never.
        check_every: iterations between those checks.
    """

    method: str = "analytic"
    densify: str = "mcmc"
    start: str = "volume"
    splats: int = 100_000
    cap: int | None = 100_000
    first_step: int = 7_000
    second_step: int = 33_000
    degree: int = 3
    degree_every: int = 1_000
    densify_from: int = 500
    densify_until: int = 15_000
    opacity_reset: int | None = 3_000
    ssim_weight: float = 0.2
    width: int = 128
    depth: int = 4
    # The paper leaves these open. Measured on a head CT, planes along z, 64 x 64 pixels, 700 + 3,300 iterations. ClipGS
    # with 2,000 splats: 28.6 dB with 3e-4, 28.8 with 1e-3 and with 3e-3.
    adjustment_rate: float = 1e-3
    # With 3,000 splats: hard truncation 28.7 dB; learned 28.8 with these two. A third of the rate 28.7; a width of .01
    # 28.6, .05 27.9, .1 27.5: what is hidden has no gradient, so that useful splats are pulled beyond the plane, as far as
    # the sigmoid reaches. A width of 1 28.5 at a rate of 1e-5, at which offsets hardly move.
    offsets_rate: float = 1.6e-4
    truncation_width: float = 0.02
    seed: int = 0
    patience: int | None = None
    check_every: int = 500

    def __post_init__(self) -> None:
        if self.method not in CLIPPINGS:
            raise GaussianMRIError(f"There is no method '{self.method}'; choose one of {', '.join(CLIPPINGS)}.")
        if self.densify not in DENSIFICATIONS:
            raise GaussianMRIError(
                f"There is no densification '{self.densify}'; choose one of {', '.join(DENSIFICATIONS)}."
            )
        if self.start not in STARTS:
            raise GaussianMRIError(f"There is no start '{self.start}'; choose one of {', '.join(STARTS)}.")
        if self.densify == "mcmc" and (self.cap is None or self.cap < self.splats):
            raise GaussianMRIError("MCMC densification needs a cap of at least the splats to start with.")
        if self.splats < 4 or self.first_step < 0 or self.second_step < 0 or self.iterations < 1:
            raise GaussianMRIError("A training needs at least 4 splats and one iteration.")
        if not 0 <= self.degree <= 3 or self.degree_every < 1 or not 0 <= self.ssim_weight <= 1:
            raise GaussianMRIError("Degree must be 0 to 3, degree_every at least 1, ssim_weight 0 to 1.")
        if not (self.adjustment_rate > 0 and self.offsets_rate > 0 and self.truncation_width > 0):
            raise GaussianMRIError("adjustment_rate, offsets_rate and truncation_width must be above 0.")
        if self.patience is not None and (self.patience < 1 or self.check_every < 1):
            raise GaussianMRIError("patience and check_every must be at least 1.")

    @property
    def iterations(self) -> int:
        """Of both steps."""
        return self.first_step + self.second_step

    @classmethod
    def of_quality(cls, name: str = "default", **changes: Any) -> TrainOptions:
        """ "default", "seed" (3DGS densification as the paper has it), or "quick" (small pictures, a CPU).

        Raises:
            GaussianMRIError: no such quality or option.
        """
        if name not in QUALITIES:
            raise GaussianMRIError(f"There is no quality '{name}'; choose one of {', '.join(QUALITIES)}.")
        try:
            return cls(**{**QUALITIES[name], **changes})
        except TypeError as error:
            raise GaussianMRIError(f"Training options: {error}.") from error

    def scaled(self, *, splats: int | None = None, iterations: int | None = None) -> TrainOptions:
        """The same settings for another number of splats, or of iterations with the schedules in proportion.

        Iterations from one densification to the next (`Schedule.every`) stay: it goes by the gradients of so many pictures.
        In proportion a training of a twentieth or a tenth was worse by 0.2 to 2.8 dB (a ball, 1,500 splats, both ways to
        densify, two seeds).
        """
        changes: dict[str, Any] = {}
        if splats is not None:
            changes |= {"splats": splats, "cap": None if self.cap is None else splats}
        if iterations is not None:
            part = iterations / self.iterations
            first = min(iterations, round(self.first_step * part))
            changes |= {"first_step": first, "second_step": iterations - first}
            for name in ("degree_every", "densify_from", "densify_until", "opacity_reset", "check_every"):
                value = getattr(self, name)
                changes[name] = None if value is None else max(1, round(value * part))
        return replace(self, **changes)


QUALITIES: dict[str, dict[str, Any]] = {
    "default": {},
    "seed": {"method": "aam+lt", "densify": "3dgs", "start": "random", "cap": None},
    "quick": {
        "densify": "3dgs",  # MCMC's noise needs more iterations to pay
        "splats": 16_000, "cap": 32_000, "first_step": 2_000, "second_step": 5_000, "degree": 2,
        "degree_every": 700, "densify_until": 5_000, "opacity_reset": None, "width": 64,
    },
}  # fmt: skip


@dataclass(frozen=True)
class TrainProgress:
    """How a training stands.

    Attributes:
        iteration, iterations: done, and of the whole.
        stage: in words.
        loss: mean of the last iterations.
        splats: present number.
        held_out_psnr: dB on the frames kept out for early stopping, None without.
        elapsed: seconds of training, earlier runs included.
    """

    iteration: int
    iterations: int
    stage: str
    loss: float
    splats: int
    held_out_psnr: float | None
    elapsed: float

    @property
    def fraction(self) -> float:
        return self.iteration / self.iterations
