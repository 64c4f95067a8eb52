"""Files of tensors: whole or not there, and readable without running code from them."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

from .errors import GaussianMRIError
from .files import atomic_write


def write_state(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write tensors, numbers, text and containers of them beside `path` and rename: a kill leaves the file before.

    Args:
        state: with "format" and "version", by which `read_state` knows it. The same state makes the same file.

    Raises:
        GaussianMRIError: the folder cannot be written, or the disk is full.
    """
    import torch

    with atomic_write(path) as temporary, open(temporary, "wb") as file:  # a name would get into the file
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch's word for a disk that is full
            raise OSError(str(error).splitlines()[0]) from error


def read_state(
    path: str | os.PathLike[str], kind: str, version: int, what: str, missing: str, damaged: str
) -> tuple[dict[str, Any], str]:
    """What `write_state` wrote, with tensors on the CPU, and the file's SHA-256.

    Args:
        kind: what its "format" has to be.
        version: the newest that is understood.
        what: the file's kind in words, with its article, for messages.
        missing: what to do where there is no such file, for the message.
        damaged: the same for a file that is truncated or another kind of file.

    Raises:
        GaussianMRIError: no such file, a truncated one, one of another kind or of a newer version.
    """
    import torch

    try:
        raw = Path(path).read_bytes()
        state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != kind:
            raise ValueError("it is another kind of file")
    except FileNotFoundError as error:
        raise GaussianMRIError(f"{path} does not exist. {missing}") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GaussianMRIError(f"{path} is not {what}, or it is truncated ({reason}). {damaged}") from error
    if state["version"] > version:
        raise GaussianMRIError(
            f"{path} was written by a newer version (version {state['version']} of the {kind}); update GaussianMRI."
        )
    return state, hashlib.sha256(raw).hexdigest()
