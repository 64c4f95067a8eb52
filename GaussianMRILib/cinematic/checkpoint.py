"""The state of a training on disk: whole or not there, and readable without running code from it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from ..errors import GaussianMRIError
from ..files import atomic_write

FORMAT = "GaussianMRI cinematic training"
VERSION = 1


def write_checkpoint(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text and containers of them) beside `path` and rename it: a kill leaves the old one.

    Raises:
        GaussianMRIError: the folder cannot be written, or the disk is full; an existing checkpoint is left as it was.
    """
    with atomic_write(path) as temporary:
        try:
            torch.save({"format": FORMAT, "version": VERSION, **state}, temporary)
        except RuntimeError as error:  # torch's word for a disk that is full
            raise OSError(str(error).splitlines()[0]) from error


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `write_checkpoint` wrote, with tensors on the CPU.

    Raises:
        GaussianMRIError: no such file, another kind of file, a truncated one, or one of a newer version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError("it is another kind of file")
    except FileNotFoundError as error:
        raise GaussianMRIError(f"{path} does not exist; start the training without it.") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GaussianMRIError(
            f"{Path(path)} is not a checkpoint of a training, or it is truncated ({reason}). "
            "Take a copy of it, or delete it and train anew; the data set is not affected."
        ) from error
    if state["version"] > VERSION:
        raise GaussianMRIError(
            f"{path} was written by a newer version (checkpoint version {state['version']}); update GaussianMRI."
        )
    return state
