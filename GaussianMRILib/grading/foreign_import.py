"""Checkpoints of networks that were trained elsewhere, see `foreign`.

Before one is written the network answers a known input, and the answer has to be the one that the card's author got: an
exchanged axis, another scale or order of classes is then found.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import torch

from ..errors import GaussianMRIError
from ..files import read_json, reading
from ..tensor_files import write_state
from ..version import __version__
from .crops import preprocessing
from .foreign import CARD_FORMAT, KINDS, TOLERANCE, ForeignCard, ForeignNetwork, known_input
from .labels import Task
from .model_card import FOREIGN_VERSION, FORMAT, ModelCard
from .roi import COLUMNS, COUNT, ROWS, RegionOptions


def import_network(
    model: str | os.PathLike[str], card: str | os.PathLike[str], output: str | os.PathLike[str]
) -> tuple[ModelCard, tuple[float, ...]]:
    """Check a network from elsewhere on the known input and write it as a checkpoint for `load_grader`.

    TorchScript and ONNX hold no Python code, but read files only from those whom you trust.

    Args:
        model: TorchScript (.pt, .pth, .ts) or ONNX (.onnx).
        card: JSON, see `ForeignCard`.

    Returns:
        what the checkpoint says of itself, and the probabilities of the known input.

    Raises:
        GaussianMRIError: files that cannot be read, a card that cannot be, or another answer than the card's.
    """
    path = Path(model)
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise GaussianMRIError(f"{path} is neither TorchScript nor ONNX by its name; it ends in {', '.join(KINDS)}.")
    with reading(card, "the card of a network"):
        content = read_json(Path(card))
        known = ForeignCard.from_dict(content)
        made = _model_card(known)
    with reading(path, f"a network in {kind}"):
        raw = path.read_bytes()
    network = ForeignNetwork(raw, kind, known, name=path.name)
    images, mask = torch.from_numpy(known_input())[None], torch.ones(1, COUNT, dtype=torch.bool)
    answers = [torch.softmax(network.classify(images, mask)[0], dim=0) for _ in range(2)]
    found = tuple(round(p, 6) for p in answers[0].tolist())
    if not torch.equal(*answers):
        raise GaussianMRIError(f"{path} answers the same input in two ways. Export it in evaluation mode, without dropout.")
    if max(abs(a - b) for a, b in zip(found, known.known, strict=True)) > TOLERANCE:
        raise GaussianMRIError(
            f"{path} gives {list(found)} for the known input, its card says {list(known.known)}. Correct layout, outputs, "
            "mean, std or spacing of the card, or its known."
        )
    model_bytes = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    write_state(
        output,
        {
            "format": FORMAT,
            "version": FOREIGN_VERSION,
            "card": made.to_dict(),
            "weights": {"model": model_bytes},
            "foreign": {"kind": kind, "card": {"format": CARD_FORMAT, "version": 1, **asdict(known)}},
        },
    )
    return made, found


def _model_card(card: ForeignCard) -> ModelCard:
    """What its checkpoint says of itself."""
    return ModelCard(
        Task.named(card.task),
        (COUNT, ROWS, COLUMNS),
        (ROWS, COLUMNS),
        preprocessing=preprocessing(RegionOptions(width=card.width)),
        levels=card.levels,
        input_types=card.input_types,
        data=f"{card.data}; licence: {card.licence}; trained elsewhere",
        synthetic=card.synthetic,
        version=__version__,
    )
