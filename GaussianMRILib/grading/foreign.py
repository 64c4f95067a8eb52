"""Networks that were trained elsewhere: a TorchScript or ONNX file and a card in JSON become a checkpoint like any other.

The card says what goes in and comes out; `foreign_import` checks both and writes the checkpoint.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import GaussianMRIError
from ..files import number
from ..tensor_files import check_archive
from .labels import GRADES, INPUT_TYPES, LEVELS, SAGITTAL_TYPES, Task
from .roi import COLUMNS, COUNT, ROWS

CARD_FORMAT = "GaussianMRI foreign network"
KINDS = {".pt": "TorchScript", ".pth": "TorchScript", ".ts": "TorchScript", ".onnx": "ONNX"}
TOLERANCE = 1e-3  # of a probability, between two computers
_INSTALL = "Install it with `pip install onnxruntime`, or export the network as TorchScript."


@dataclass(frozen=True, kw_only=True)
class ForeignCard:
    """What a network from elsewhere takes and gives; the keys of its JSON file, beside "format" and "version" (1).

    Attributes:
        task: condition and side, such as "left_subarticular_stenosis" (`Task.name`).
        input_types: of `INPUT_TYPES`: which images it was trained on; axial ones, or one sagittal kind.
        classes: names of what `outputs` are, in the order of `GRADES`.
        outputs: numbers of the three outputs, of all outputs in a row, that are the grades.
        output: "logits" or "probabilities".
        layout: order of the axes: B (1), S slices, H rows, W columns, and C (1) where it wants one, such as "BCSHW".
        slices, rows, columns: of its input; at most nine slices, the middle ones.
        spacing: mm of a pixel, the same both ways.
        mean, std: subtracted from the intensities, and what these are divided by; intensities are 0 to 1, vertebrae .25.
        mask: it takes a second input (B, S), float 0 or 1: which slices exist.
        levels: that it was trained on.
        data, licence: training data, and under which licence it may be used, in words.
        synthetic: trained on data that are not of human beings.
        known: probabilities of the three classes for `known_input`, by whoever trained it.

    Raises:
        GaussianMRIError: a value that cannot be.
    """

    task: str
    input_types: tuple[str, ...]
    classes: tuple[str, ...]
    spacing: float
    data: str
    licence: str
    known: tuple[float, ...]
    outputs: tuple[int, ...] = (0, 1, 2)
    output: str = "logits"
    layout: str = "BSHW"
    slices: int = COUNT
    rows: int = ROWS
    columns: int = COLUMNS
    mean: float = 0.0
    std: float = 1.0
    mask: bool = False
    levels: tuple[str, ...] = LEVELS
    synthetic: bool = False

    def __post_init__(self) -> None:
        Task.named(self.task)
        for name, most in (("slices", COUNT), ("rows", 4096), ("columns", 4096)):
            number(getattr(self, name), name, 1, most)
        number(self.spacing, "spacing", 0.05, 10)
        number(self.mean, "mean", -1e6, 1e6)
        number(self.std, "std", 1e-6, 1e6)
        sagittal = [kind for kind in self.input_types if kind in SAGITTAL_TYPES]
        wrong = [name for name in (*self.input_types, *self.levels) if name not in (*INPUT_TYPES, *LEVELS)]
        if wrong or not self.input_types or not self.levels or (sagittal and len(self.input_types) > 1):
            raise GaussianMRIError(
                f"input_types are axial ones or one sagittal kind of {', '.join(INPUT_TYPES)}, levels of "
                f"{', '.join(LEVELS)}; got {list(self.input_types)} and {list(self.levels)}."
            )
        if sorted(self.layout.replace("C", "")) != sorted("BSHW") or self.layout.count("C") > 1:
            raise GaussianMRIError(f"layout has B, S, H and W once each, and C where it is wanted; got '{self.layout}'.")
        if self.output not in ("logits", "probabilities"):
            raise GaussianMRIError(f"output is logits or probabilities, not '{self.output}'.")
        if self.classes != GRADES:
            raise GaussianMRIError(f"classes have to be {list(GRADES)}, got {list(self.classes)}; order outputs by them.")
        if len(set(self.outputs)) != len(GRADES) or not all(isinstance(n, int) and n >= 0 for n in self.outputs):
            raise GaussianMRIError(f"outputs are {len(GRADES)} different numbers from 0 on, got {list(self.outputs)}.")
        if len(self.known) != len(GRADES) or abs(sum(number(p, "known", 0, 1) for p in self.known) - 1) > TOLERANCE:
            raise GaussianMRIError(f"known has {len(GRADES)} probabilities that sum to 1, got {list(self.known)}.")
        if not all(isinstance(word, str) and word for word in (self.data, self.licence)):
            raise GaussianMRIError("data and licence say in words what it was trained on, and how it may be used.")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ForeignCard:
        """From the keys of its file; lists stand for tuples.

        Raises:
            GaussianMRIError: a key that does not exist, is missing, or has a value that cannot be.
        """
        if content.get("format") != CARD_FORMAT or content.get("version") != 1:
            raise GaussianMRIError(f'A card has "format": "{CARD_FORMAT}" and "version": 1.')
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        del values["format"], values["version"]
        known = {one.name: one for one in fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise GaussianMRIError(f"A card has no {unknown[0]}; its keys are {', '.join(known)}.")
        try:
            return cls(**values)
        except TypeError as error:
            raise GaussianMRIError(f"The card is incomplete: {error}.") from error

    @property
    def width(self) -> float:
        """mm of the region that its input is cut out of, which is twice as wide as high."""
        return self.spacing * max(self.columns, 2 * self.rows)


def known_input() -> NDArray[np.float32]:
    """Images (9, 112, 224) of 0 to 1 in which no two axes, directions or halves are alike."""
    s, h, w = np.meshgrid(*(np.linspace(0, 1, n) for n in (COUNT, ROWS, COLUMNS)), indexing="ij")
    return np.asarray(0.5 * w**2 + 0.3 * h**3 + 0.2 * s * (1 - w), dtype=np.float32)


class ForeignNetwork:
    """A network from elsewhere in the place of a `GradingNetwork`; it is shown one view after the other.

    Args:
        model: content of the TorchScript or ONNX file.
        kind: "TorchScript" or "ONNX".
        name: for messages.

    Raises:
        GaussianMRIError: it cannot be read, or ONNX Runtime is not there.
    """

    def __init__(
        self, model: bytes, kind: str, card: ForeignCard, *, name: str = "the network", device: torch.device | str = "cpu"
    ) -> None:
        self.card, self.name = card, name
        self.cls = torch.zeros(1, device=device, dtype=torch.float32)
        with _readable(f"{name} cannot be read as {kind}"):
            self._run = _torchscript(model, self.cls.device) if kind == "TorchScript" else _onnx(model)

    def encode(self, images: Tensor, mask: Tensor, batch: int | None = None) -> Tensor:
        """The images (B, 9, H, W) themselves: what comes before the order of the slices matters is not known."""
        return images

    def classify(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, 3) of images (B, 9, 112, 224) of 0 to 1 and mask (B, 9).

        Raises:
            GaussianMRIError: it cannot be run on such images, or gives something else than its card says.
        """
        with torch.autocast(features.device.type, enabled=False):  # the check was made in float32
            return torch.stack([self._one(images, exists) for images, exists in zip(features.float(), mask, strict=True)])

    def _one(self, images: Tensor, mask: Tensor) -> Tensor:
        card = self.card
        per_mm = COLUMNS / card.width
        rows = min(ROWS, round(card.rows * card.spacing * per_mm))
        columns = min(COLUMNS, round(card.columns * card.spacing * per_mm))
        first = (COUNT - card.slices) // 2
        part = images[
            first : first + card.slices,
            (ROWS - rows) // 2 : (ROWS - rows) // 2 + rows,
            (COLUMNS - columns) // 2 : (COLUMNS - columns) // 2 + columns,
        ]
        exists = mask[first : first + card.slices]
        shown = torch.nn.functional.interpolate(
            part[:, None], (card.rows, card.columns), mode="bilinear", antialias=True, align_corners=False
        )[:, 0]
        shown = (shown - card.mean) / card.std * exists[:, None, None]
        axes = card.layout.replace("C", "")
        shown = shown[None].permute(*("BSHW".index(axis) for axis in axes))
        if "C" in card.layout:
            shown = shown.unsqueeze(card.layout.index("C"))
        given = [shown.contiguous(), *([exists[None].float()] if card.mask else [])]
        with _readable(f"{self.name} cannot be run on {tuple(shown.shape)}"):
            found = torch.as_tensor(self._run(*given)).float().flatten()
            chosen = found[list(card.outputs)]
        if not torch.isfinite(chosen).all():
            raise GaussianMRIError(f"{self.name} gives no finite numbers. Export it again, or correct its card.")
        if card.output == "logits":
            return chosen
        if (chosen < 0).any() or abs(float(chosen.sum()) - 1) > TOLERANCE:
            raise GaussianMRIError(
                f"{self.name} gives {[round(v, 4) for v in chosen.tolist()]}, which are no probabilities. Correct output or "
                "outputs of its card."
            )
        return chosen.clamp_min(1e-12).log()


@contextlib.contextmanager
def _readable(what: str) -> Iterator[None]:
    """Whatever a network of somebody else raises, in one line."""
    try:
        yield
    except GaussianMRIError:
        raise
    except Exception as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        raise GaussianMRIError(f"{what}: {lines[-1] if lines else type(error).__name__}. Export it again.") from error


def _torchscript(model: bytes, device: torch.device) -> Callable[..., Any]:
    check_archive(model)
    network = torch.jit.load(io.BytesIO(model), map_location=device).eval()

    def run(*given: Tensor) -> Any:
        with torch.inference_mode():
            return network(*given)

    return run


def _onnx(model: bytes) -> Callable[..., Any]:
    try:
        import onnxruntime
    except ImportError as error:
        raise GaussianMRIError(f"Networks in ONNX need the Python package onnxruntime. {_INSTALL}") from error
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*given: Tensor) -> Any:
        values = {name: tensor.cpu().numpy() for name, tensor in zip(names, given, strict=True)}
        return session.run(None, values)[0]

    return run


def from_state(state: Mapping[str, Any], name: str, device: torch.device | str) -> ForeignNetwork:
    """The network in a checkpoint that `import_network` wrote; see `load_grader`."""
    foreign = state["foreign"]
    model = state["weights"]["model"].numpy().tobytes()
    if foreign["kind"] not in KINDS.values():
        raise ValueError("it holds a network of an unknown kind")
    return ForeignNetwork(model, foreign["kind"], ForeignCard.from_dict(foreign["card"]), name=name, device=device)
