"""Settings of a network and of its training, and how a training stands."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import GaussianMRIError
from ..files import number
from .labels import GRADES, INPUT_TYPES, LEVELS, SAGITTAL_TYPES, is_sagittal

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Shape of a `GradingNetwork`; the defaults are the paper's, 17.5 million parameters.

    Attributes:
        slices: of an input.
        layers, heads, feed_forward, dropout: of the transformer encoder.
        widen: factor of ResNet18's numbers of channels; 1 gives 512 features a slice.
    """

    slices: int = 9
    layers: int = 2
    heads: int = 2
    feed_forward: int = 2048
    dropout: float = 0.1
    widen: float = 1.0

    def __post_init__(self) -> None:
        for name, most in (("slices", 1024), ("layers", 64), ("heads", 256), ("feed_forward", 65536), ("widen", 16)):
            value = number(getattr(self, name), f"network's {name}", 0, most)
            if name != "widen" and value != int(value):
                raise GaussianMRIError(f"The network's {name} must be a whole number, got {value:g}.")
        counts = (self.slices, self.layers, self.heads, self.feed_forward, int(64 * self.widen))
        if min(counts) < 1 or not 0 <= self.dropout < 1 or self.features % self.heads:
            raise GaussianMRIError(
                f"No network can have these options: {asdict(self)}. Slices, layers, heads and feed_forward are at least "
                "1, dropout is 0 to 1, and the features (512 x widen) can be divided by the heads."
            )

    @property
    def features(self) -> int:
        """Of a slice, and the transformer's width."""
        return int(512 * self.widen)


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Random changes of a training's images; pixels are those of crops 224 wide, whatever the network's input size.

    Attributes:
        rotation: degrees, at most, either way.
        scale: a factor of 1 - scale to 1 + scale.
        shift: pixels, at most, in each direction, of all slices together.
        slice_shift: the same for every slice on its own.
        offset: added to the intensities (0 to 1), at most, either way.
        flip_slices: how often axial slices come in reverse order; left stays left. Never done to sagittal ones.
    """

    rotation: float = 15.0
    scale: float = 0.1
    shift: float = 8.0
    slice_shift: float = 2.0
    offset: float = 0.1
    flip_slices: float = 0.5

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 0 or self.scale >= 1 or self.flip_slices > 1:
            raise GaussianMRIError(
                f"Augmentation: values cannot be negative, scale is below 1: {asdict(self)}."
            )


@dataclass(frozen=True, kw_only=True)
class GradingOptions:
    """Settings of a training. The paper gives none but the choice of the epoch: the rest are this software's defaults.

    Attributes:
        input_types: kinds of images to learn from (and to validate with), of `INPUT_TYPES`.
        levels: discs to learn from, of `LEVELS`; None: all.
        input_size: (rows, columns) that crops are averaged down to; None: as they are.
        mirror: learn from mirrored images (with the other side's grade) too, which doubles the cases.
        epochs: times through all cases, at most where there is a `patience`.
        epoch_steps: batches of an epoch, whatever the number of cases; None: as many as it takes to go through all of them.
        patience: epochs without a better window (see there) after which a training ends, counted from half of `epochs` at
            the earliest, since a network can stay at chance for long before it begins to learn; None: it never ends early.
        window: epochs of validation whose mean macro AUROC chooses the model (section 4.1); it is the one at the end of
            the best such window.
        batch, learning_rate, weight_decay: of AdamW; the rate falls to 0 as a cosine over all steps of `epochs`.
        warmup: share of the steps in which the rate rises from 0 first.
        class_weights: of the cross-entropy, for `GRADES`; those of the RSNA 2024 competition.
        precision: of the matrix products: "bfloat16", "float32", or "auto" for bfloat16 where the processor has units
            for it.
        seed: the same seed and number of threads give the same model, bit for bit, on a CPU of the same kind.
        network, augment: see there.

    Raises:
        GaussianMRIError: a value that makes no training.
    """

    input_types: tuple[str, ...] = ("A",)
    levels: tuple[str, ...] | None = None
    input_size: tuple[int, int] | None = None
    mirror: bool = True
    epochs: int = 60
    epoch_steps: int | None = None
    patience: int | None = None
    window: int = 10
    batch: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 1e-2
    warmup: float = 0.0
    class_weights: tuple[float, ...] = (1.0, 2.0, 4.0)
    precision: str = "auto"
    seed: int = 0
    network: NetworkOptions = field(default_factory=NetworkOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)

    def __post_init__(self) -> None:
        wrong = [name for name in self.input_types if name not in INPUT_TYPES]
        wrong += [name for name in self.levels or () if name not in LEVELS]
        if wrong or not self.input_types or self.levels == ():
            raise GaussianMRIError(
                f"Cannot train on {', '.join(wrong) or 'nothing'}; input types are {', '.join(INPUT_TYPES)}, levels "
                f"{', '.join(LEVELS)}."
            )
        if is_sagittal(self.input_types) and not set(self.input_types) <= set(SAGITTAL_TYPES):
            raise GaussianMRIError("One network cannot learn from axial and sagittal images; train one for each.")
        counts = (self.epochs, self.epoch_steps, self.patience, self.window, self.batch)
        if min(1 if count is None else count for count in counts) < 1 or self.learning_rate <= 0 or self.weight_decay < 0:
            raise GaussianMRIError("epochs, their steps, patience, window and batch are at least 1, rates are positive.")
        if len(self.class_weights) != len(GRADES) or min(self.class_weights) <= 0:
            raise GaussianMRIError(f"class_weights needs a positive number for each of {', '.join(GRADES)}.")
        if self.precision not in PRECISIONS or not 0 <= self.warmup < 1:
            raise GaussianMRIError(f"precision is one of {', '.join(PRECISIONS)}, warmup 0 to 1.")
        if self.input_size is not None and (len(self.input_size) != 2 or min(self.input_size) < 16):
            raise GaussianMRIError("input_size is (rows, columns), 16 at least.")

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `asdict` of everything."""
        return asdict(self)


@dataclass(frozen=True)
class GradingProgress:
    """How a training stands.

    Attributes:
        epoch, epochs: finished, and of the whole; with a patience it may end before.
        step, steps: the same in batches.
        loss: mean of the training's since the last report.
        validation_loss, validation_auroc: of the last epoch; None before the first, without validation cases, and the AUROC
            where a class is missing among them.
        best: highest mean over the window so far.
        elapsed: seconds, earlier runs included.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    validation_loss: float | None
    validation_auroc: float | None
    best: float | None
    elapsed: float

    @property
    def fraction(self) -> float:
        return self.step / self.steps

    @property
    def remaining(self) -> float | None:
        """Seconds, at the present pace; None at the start."""
        return None if not self.step else self.elapsed * (self.steps - self.step) / self.step
