"""Where torch computes."""

from __future__ import annotations

import torch

from .errors import GaussianMRIError


def choose_device(device: str | torch.device) -> torch.device:
    """The torch device for "auto", "cpu", "cuda", "cuda:1" or a device."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise GaussianMRIError(f"'{device}' is no device; use auto, cpu or cuda.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise GaussianMRIError(
            "CUDA was asked for, but torch finds no CUDA GPU here; use the device 'cpu' or 'auto'."
        )
    return chosen
