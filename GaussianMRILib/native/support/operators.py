"""Registration of torch operators `torch.ops.gaussianmri.*`, and checks of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

_library = torch.library.Library("gaussianmri", "FRAGMENT")
_Arguments = TypeVar("_Arguments")
CPU = torch.device("cpu")


def register(
    schema: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    gradient: Callable[..., Any] | None = None,
    save: Callable[..., None] | None = None,
) -> None:
    """Define an operator.

    Args:
        schema: its name, arguments and results in torch's notation.
        run: takes the device, the CPU or the GPU of the first argument that is on one, and the operator's arguments; checks
            them and computes.
        fake: takes the operator's arguments and gives empty results of the right shapes.
        gradient, save: autograd's backward and setup_context; without them it is not differentiable.
    """
    name = schema.split("(")[0]
    _library.define(schema)
    for kind in ("cpu", "cuda"):
        _library.impl(name, partial(_run, run, kind), kind.upper())
    torch.library.register_fake(f"gaussianmri::{name}", fake, lib=_library)
    if gradient is not None:
        torch.library.register_autograd(f"gaussianmri::{name}", gradient, setup_context=save, lib=_library)


def _run(run: Callable[..., Any], kind: str, *arguments: Any) -> Any:
    there = (a.device for a in arguments if isinstance(a, Tensor) and a.device.type == kind)
    return run(next(there, torch.device(kind)), *arguments)


def plain(tensor: Tensor) -> Tensor:
    """The tensor without a graph, contiguous: as implementations take it."""
    return tensor.detach().contiguous()


def plain_arguments(arguments: _Arguments) -> _Arguments:
    """A dataclass of arguments with `plain` tensors."""
    values = vars(arguments).items()
    return type(arguments)(**{name: plain(v) if isinstance(v, Tensor) else v for name, v in values})


def check(condition: bool, message: str) -> None:
    """Raise a ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def check_tensor(
    name: str, tensor: Tensor, shape: tuple[int | None, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """Complain unless the tensor has this shape (None: any size) and dtype, on this device: of GPUs on this very one."""
    expected = "(" + ", ".join("*" if size is None else str(size) for size in shape) + ")"
    fits = tensor.dim() == len(shape) and all(
        want is None or want == have for want, have in zip(shape, tensor.shape, strict=True)
    )
    check(fits, f"{name} must have the shape {expected}, got {tuple(tensor.shape)}.")
    check(tensor.dtype == dtype, f"{name} must be {dtype}, got {tensor.dtype}.")
    check(tensor.device == device, f"{name} must be on {device}, got {tensor.device}.")
