"""Checkpoints that say what they are: weights, and what a reader of a grade has to know of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import GaussianMRIError
from ..files import number, reading
from ..tensor_files import read_state, tensor, without_values, write_state
from .calibration import Calibration
from .crops import preprocessing
from .labels import AXIAL_TYPES, GRADES, Task, is_sagittal
from .options import NetworkOptions

if TYPE_CHECKING:
    import torch

    from .foreign import ForeignNetwork
    from .network import GradingNetwork

FORMAT = "GaussianMRI grader"
#: 2 has a calibration, 3 a network from elsewhere (`foreign`); without either 1 is written, which older versions read.
VERSION = FOREIGN_VERSION = 3
WHERE_FROM = (
    "No checkpoint comes with this software: train one on data that you have (`gaussianmri grade train`), or take one "
    "that somebody trained with it."
)


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint was trained for, on and how.

    Attributes:
        task: the condition and side that it grades.
        classes: names of its outputs, in order.
        shape: (slices, rows, columns) of the crops it takes.
        input_size: (rows, columns) that they are averaged down to; as they are where that is the same.
        preprocessing: how they are made (`crops.preprocessing`).
        levels, input_types: what it was trained on.
        data: the training data in the words of who prepared them; "" where nothing was declared.
        synthetic: trained on data that are not of human beings.
        cases: numbers of cases: {"train": {"Normal/Mild": 10, ...}, "validation": ...}.
        chosen: how the epoch was chosen, and the validation's figure.
        training: settings of the training.
        version: of this software.
        calibration: what was chosen on validation after the training; None: probabilities are not calibrated.
    """

    task: Task
    shape: tuple[int, int, int]
    input_size: tuple[int, int]
    network: NetworkOptions = field(default_factory=NetworkOptions)
    classes: tuple[str, ...] = GRADES
    preprocessing: Mapping[str, Any] = field(default_factory=preprocessing)
    levels: tuple[str, ...] = ()
    input_types: tuple[str, ...] = ()
    data: str = ""
    synthetic: bool = False
    cases: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    chosen: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    calibration: Calibration | None = None

    @property
    def sees(self) -> tuple[str, ...]:
        """Kinds of images that it can be shown: any axial ones, but of sagittal ones only those it was trained on."""
        return self.input_types if is_sagittal(self.input_types) else AXIAL_TYPES

    @property
    def trained_on(self) -> str:
        """In words, for people: "SYNTHETIC: phantom; L5/S1; A, R-GS; 400 cases"; no number where the card has none."""
        count = sum(self.cases.get("train", {}).values())
        what = self.data or "training data not declared"
        parts = [what, ", ".join(self.levels), ", ".join(self.input_types), f"{count} cases" if count else ""]
        return ("SYNTHETIC: " if self.synthetic else "") + "; ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = {**asdict(self), "task": self.task.name}
        if self.calibration is None:
            del values["calibration"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelCard:
        """The inverse of `to_dict`; lists may stand for tuples."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        plain |= {"task": Task.named(values["task"]), "network": NetworkOptions(**values["network"])}
        if values.get("calibration") is not None:
            plain["calibration"] = Calibration.from_dict(values["calibration"])
        return cls(**plain)

    def __post_init__(self) -> None:
        for name, length in (("shape", 3), ("input_size", 2)):
            size = getattr(self, name)
            if not isinstance(size, tuple) or len(size) != length:
                raise GaussianMRIError(f"A card's {name} has {length} numbers, not {size}.")
            for value in size:
                number(value, name, 1, 4096)
        if not all(isinstance(names, tuple) for names in (self.classes, self.levels, self.input_types)):
            raise GaussianMRIError("A card's classes, levels or kinds of images are no lists.")
        words = [self.data, self.chosen, self.version, *self.classes, *self.levels, *self.input_types]
        tables = [self.preprocessing, self.training, self.cases, *self.cases.values()]
        if not all(isinstance(word, str) for word in words) or not all(isinstance(t, Mapping) for t in tables):
            raise GaussianMRIError("A card's words or tables are none.")
        try:  # a tensor there could not be compared with anything
            json.dumps([self.preprocessing, self.training], default=dict)
        except (TypeError, ValueError) as error:
            raise GaussianMRIError("A card's tables have entries that are neither text nor numbers.") from error
        for counts in self.cases.values():
            for count in counts.values():
                number(count, "number of cases", 0)


@dataclass(frozen=True, eq=False)
class Grader:
    """A network that is ready to grade, and its card.

    Attributes:
        network: in evaluation mode, batch normalisation folded into the convolutions; or one from elsewhere.
        sha256: of the checkpoint's file, 64 hexadecimal digits.
        name: of the file.
    """

    network: GradingNetwork | ForeignNetwork
    card: ModelCard
    sha256: str
    name: str = ""

    @property
    def device(self) -> torch.device:
        return self.network.cls.device


def save_grader(path: str | os.PathLike[str], network: GradingNetwork, card: ModelCard) -> Path:
    """Write a checkpoint: weights in float32 and the card; the same weights and card make the same file.

    Raises:
        GaussianMRIError: the file cannot be written; one that is there is left as it was.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    _write(path, card, weights)
    return Path(path)


def save_calibrated(
    path: str | os.PathLike[str], output: str | os.PathLike[str], calibration: Calibration
) -> Path:
    """Write a copy of a checkpoint with a calibration, in place of the one that it may have; its weights are as they were.

    Args:
        path: the checkpoint that was calibrated.
        output: the file to write.

    Raises:
        GaussianMRIError: see `load_grader`, or the file cannot be written.
    """
    state, _ = _read(path)
    with reading(path, "a whole checkpoint", "Take a copy of it."):
        card, weights = ModelCard.from_dict(state["card"]), dict(state["weights"])
    foreign = {name: state[name] for name in ("foreign",) if name in state}
    _write(output, replace(card, calibration=calibration), weights, foreign)
    return Path(output)


def _write(
    path: str | os.PathLike[str], card: ModelCard, weights: dict[str, torch.Tensor], foreign: Mapping[str, Any] | None = None
) -> None:
    version = FOREIGN_VERSION if foreign else 1 if card.calibration is None else 2
    write_state(path, {"format": FORMAT, "version": version, "card": card.to_dict(), "weights": weights, **(foreign or {})})


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], str]:
    return read_state(
        path, FORMAT, VERSION, f"a {FORMAT} checkpoint", WHERE_FROM, "Take a copy of it, or train anew."
    )


def load_grader(
    path: str | os.PathLike[str], task: Task | None = None, device: torch.device | str = "cpu"
) -> Grader:
    """Read a checkpoint. No Python code in it is run; one from elsewhere (`foreign`) is a TorchScript or ONNX program.

    Args:
        task: what it has to be for; None for any.
        device: where it will run.

    Raises:
        GaussianMRIError: no such file, one that is truncated, of another kind or version, or for another task.
    """
    state, sha256 = _read(path)
    with reading(path, "a whole checkpoint", "Take a copy of it."):
        card = ModelCard.from_dict(state["card"])
        network: Any
        if "foreign" in state:
            from .foreign import from_state

            network = from_state(state, Path(path).name, device)
        else:
            network = _own(card, state["weights"], device)
    if card.classes != GRADES:
        raise GaussianMRIError(
            f"{path} tells apart {', '.join(card.classes)}, not {', '.join(GRADES)}; take another."
        )
    if task is not None and card.task != task:
        raise GaussianMRIError(
            f"{path} grades {card.task.title}, not {task.title}. Take the checkpoint of that condition and side."
        )
    return Grader(network, card, sha256, Path(path).name)


def _own(card: ModelCard, weights: Mapping[str, torch.Tensor], device: torch.device | str) -> GradingNetwork:
    from .network import GradingNetwork, for_inference

    with without_values():
        network = GradingNetwork(card.network)
    for name, value in network.state_dict().items():
        tensor(weights[name], value.shape, f"weights {name}", value.dtype)
    network.load_state_dict(dict(weights), assign=True)
    return for_inference(network).to(device)
