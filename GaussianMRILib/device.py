"""Where torch computes."""

from __future__ import annotations

import logging

import torch

from .errors import GaussianMRIError

_LOG = logging.getLogger("GaussianMRI")
_said: set[str] = set()


def choose_device(device: str | torch.device, *, kernels: bool = True) -> torch.device:
    """The torch device for "auto", "cpu", "cuda", "cuda:1" or a device.

    "auto" is a GPU where there is one that can be used, else the processor; where a GPU is left unused, the log says why.

    Args:
        kernels: whether the library's own kernels will run there; what torch computes by itself needs less.

    Raises:
        GaussianMRIError: there is no such device, or it cannot be used.
    """
    if str(device) == "auto":
        return _automatic(kernels)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise GaussianMRIError(f"'{device}' is no device; use auto, cpu or cuda.") from error
    if chosen.type not in ("cpu", "cuda"):
        raise GaussianMRIError(f"'{device}' is no device that can be used; use auto, cpu or cuda.")
    if chosen.type == "cuda":
        _check_gpu(chosen, kernels)
    return chosen


def wait_for(device: str | torch.device) -> None:
    """Wait until a device has done what it was asked to: a GPU works on while the program does, and clocks with it."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def multiplies_bfloat16(device: str | torch.device) -> bool:
    """Whether the device has units for products of bfloat16 matrices; without them it would be slower than float32.

    Where torch is held to an older instruction set (`ATEN_CPU_CAPABILITY`) the processor's are not used, and bfloat16 is ten
    times as slow as float32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # Not public, and not in every version of torch.
    check = getattr(torch.cpu, "_is_amx_tile_supported", None)
    held = torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
    return device.type == "cpu" and check is not None and bool(check()) and not held


def _automatic(kernels: bool) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if kernels:
        from .native.support.cuda_launch import status

        found = status()
        if not found.available:
            reason = f"The GPU is not used, the processor is: {found.reason.rstrip('.')}."
            if reason not in _said:
                _said.add(reason)
                _LOG.warning("%s", reason)
            return torch.device("cpu")
    return torch.device("cuda")


def _check_gpu(chosen: torch.device, kernels: bool) -> None:
    if not torch.cuda.is_available():
        raise GaussianMRIError(
            "CUDA was asked for, but torch finds no CUDA GPU here; use the device 'cpu' or 'auto'."
        )
    if kernels and torch.version.cuda is None:
        raise GaussianMRIError("AMD GPUs are not supported, and this torch is for them; use the device 'cpu' or 'auto'.")
    count = torch.cuda.device_count()
    if (chosen.index or 0) >= count:
        there = "is one GPU, cuda:0" if count == 1 else f"are {count} GPUs, cuda:0 to cuda:{count - 1}"
        raise GaussianMRIError(f"There is no GPU {chosen} here: there {there}.")
