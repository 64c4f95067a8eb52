"""Files of tensors: whole or not there, and readable without running code from them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import GaussianMRIError
from .files import atomic_write, number, reading

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Networks that are made in it have shapes only: no memory, and no random weights that are replaced at once."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Untouched(TorchFunctionMode):
        """Initialisers change nothing: for tensors without memory torch would load its compiler first, a second or two."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs, home = kwargs or {}, getattr(func, "__module__", None)
            if func in (torch.Tensor.normal_, torch.Tensor.uniform_) or home == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with torch.device("meta"), Untouched():
        yield


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

    with reading(path, what, damaged, missing):
        raw = Path(path).read_bytes()
        check_archive(raw)
        state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != kind:
            raise ValueError("it is another kind of file")
        found = state.get("version")
        if not isinstance(found, int) or isinstance(found, bool):
            raise ValueError("it does not say its version")
        if found > version:
            raise GaussianMRIError(
                f"{path} was written by a newer version (version {found} of the {kind}); update GaussianMRI."
            )
    return state, hashlib.sha256(raw).hexdigest()


def check_archive(raw: bytes) -> None:
    """Refuse an archive with a flipped bit, which torch reads without a word, or one that is larger unpacked.

    Raises:
        ValueError, zipfile.BadZipFile: see above.
    """
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        raise ValueError("it is truncated or of another kind")
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        # torch stores without compressing, so whatever is much larger than its file is none of ours.
        if sum(member.file_size for member in archive.infolist()) > 2 * len(raw) + (1 << 20):
            raise ValueError("it is compressed, which no such file is")
        broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"the checksum of {broken} is wrong")


def tensor(value: Any, shape: Sequence[int], what: str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`value` after a check that it is a tensor of that shape, of real and finite numbers.

    Args:
        dtype: float32 where it is not given.

    Raises:
        GaussianMRIError: it is something else.
    """
    import torch

    wanted = dtype or torch.float32
    if not isinstance(value, torch.Tensor) or tuple(value.shape) != tuple(shape) or value.dtype != wanted:
        found = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
        raise GaussianMRIError(f"The {what} must be a tensor {tuple(shape)} {wanted}, got {found}.")
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise GaussianMRIError(f"The {what} has numbers that are not finite.")
    return value


def load_weights(module: torch.nn.Module, state: Any) -> None:
    """Give a module the weights of a file, after a check that they are its own.

    Raises:
        GaussianMRIError: other names, shapes or types, or numbers that are not finite.
    """
    mine = module.state_dict()
    if not isinstance(state, dict) or set(state) != set(mine):
        raise GaussianMRIError("The weights are not those of this network.")
    for name, value in mine.items():
        tensor(state[name], value.shape, f"weights {name}", value.dtype)
    module.load_state_dict(state)


def load_optimiser(optimiser: torch.optim.Optimizer, state: Any) -> None:
    """Give an optimiser the moments of a file and its learning rates; all its other settings stay its own.

    Raises:
        GaussianMRIError: moments of other parameters, numbers that are not finite, or a rate that is none.
    """
    import torch

    mine = optimiser.state_dict()
    groups, moments = state["param_groups"], state["state"]
    leaves = [leaf for group in optimiser.param_groups for leaf in group["params"]]
    if [group["params"] for group in groups] != [group["params"] for group in mine["param_groups"]]:
        raise GaussianMRIError("The optimiser's groups are those of another training.")
    for group, own in zip(groups, mine["param_groups"], strict=True):
        for name in ("name", "betas", "eps", "weight_decay"):
            if name in own and group[name] != own[name]:
                raise GaussianMRIError(f"The optimiser's {name} is {group[name]}, not {own[name]}.")
        own["lr"] = number(group["lr"], "learning rate", 0, 1e6)
    for key, values in moments.items():
        for name, value in values.items():
            shape, dtype = ((), torch.float32) if name == "step" else (leaves[key].shape, leaves[key].dtype)
            tensor(value, shape, f"optimiser's {name}", dtype)
            if name in ("step", "exp_avg_sq") and bool((value < 0).any()):
                raise GaussianMRIError(f"The optimiser's {name} is negative.")
        if set(values) != {"step", "exp_avg", "exp_avg_sq"}:
            raise GaussianMRIError("The optimiser's moments are not those of Adam.")
    optimiser.load_state_dict({"state": moments, "param_groups": mine["param_groups"]})
