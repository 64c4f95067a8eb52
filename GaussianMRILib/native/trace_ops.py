"""The path tracer and its cut faces as torch operators, `torch.ops.gaussianmri.trace_` and `trace_faces_`;
csrc/common/trace_math.h says what they do.

Importing this module registers it, once per process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .backend import kernels
from .ops import _check, _check_tensor

CELL = 4  # kTraceCell
SUMS = 12  # kTraceSums
MAX_PLANES, MAX_LIGHTS = 16, 4  # kTracePlanes, with the six of the box; kTraceLights
GRADIENT_LEVELS = 256

_VECTOR = (np.float32, 3)
_PLANE = np.dtype([("voxel", np.float32, 4), ("normal", *_VECTOR), ("unused", np.float32)])
_LIGHT = np.dtype(
    [(name, *_VECTOR) for name in ("centre", "u", "v", "normal", "radiance")] + [("area", np.float32)]
)
#: GmTraceScene, member by member.
SCENE = np.dtype(
    [("size", np.int32, 3), ("cells", np.int32, 3)]
    + [(name, np.int32) for name in ("planes", "lights", "levels", "events", "width", "height")]
    + [("to_voxel", np.float32, (3, 4))]
    + [(name, *_VECTOR) for name in ("eye", "corner", "right", "down")]
    + [(name, np.float32) for name in ("value_scale", "gradient_scale", "face")]
    + [(name, np.float32) for name in ("anisotropy", "reflectance", "shininess")]
    + [(name, *_VECTOR) for name in ("up", "zenith", "horizon", "nadir")]
    + [("plane", _PLANE, MAX_PLANES), ("light", _LIGHT, MAX_LIGHTS)]
)

_library = torch.library.Library("gaussianmri", "FRAGMENT")
_library.define(
    "trace_(Tensor(a!) sums, Tensor scene, Tensor values, Tensor gradients, Tensor majorants, Tensor skips, "
    "Tensor table, int seed, int first, int count) -> ()"
)


def _check_volume(
    scene: Tensor, values: Tensor, gradients: Tensor, table: Tensor, device: str, **others: Tensor
) -> Any:
    """What both operators take; the scene's header. `others` have to be contiguous as well."""
    _check_tensor("scene", scene, (SCENE.itemsize // 4,), torch.int32, "cpu")
    header = np.frombuffer(scene.numpy().tobytes(), SCENE)[0]
    i, j, k = (int(n) for n in header["size"])
    _check_tensor("values", values, (k, j, i), torch.uint16, device)
    if gradients.numel():
        _check_tensor("gradients", gradients, (k, j, i), torch.uint8, device)
    _check_tensor("table", table, (4 * int(header["levels"]) + GRADIENT_LEVELS,), torch.float32, device)
    for name, tensor in {"values": values, "gradients": gradients, "table": table, **others}.items():
        _check(tensor.is_contiguous(), f"{name} must be contiguous.")
    return header


def _grid(size: Sequence[int]) -> tuple[int, int]:
    """Blocks of 16 x 8 pixels over (height, width)."""
    height, width = size
    return -(-width // 16), -(-height // 8)


def _check_trace(
    sums: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, majorants: Tensor, skips: Tensor,
    table: Tensor, seed: int, first: int, count: int, device: str,
) -> None:  # fmt: skip
    header = _check_volume(
        scene, values, gradients, table, device, sums=sums, majorants=majorants, skips=skips
    )
    ci, cj, ck = (int(n) for n in header["cells"])
    _check_tensor("sums", sums, (int(header["height"]), int(header["width"]), SUMS), torch.float32, device)
    _check_tensor("majorants", majorants, (ck, cj, ci), torch.float32, device)
    _check_tensor("skips", skips, (ck, cj, ci), torch.uint8, device)
    # A kernel would go on for ever, or beyond its memory.
    for name, tensor in (("majorants", majorants), ("table", table)):
        low, high = (float(x) for x in tensor.aminmax())
        _check(low >= 0 and high < float("inf"), f"{name} must be finite and not negative, are {low:g} to {high:g}.")
    _check(0 <= seed < 2**31, f"seed must lie in [0, 2^31), got {seed}.")
    _check(first >= 0 and count >= 0 and first + count < 2**31, "samples are numbered from 0 to 2^31.")


def _trace_cpu(
    sums: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, majorants: Tensor, skips: Tensor,
    table: Tensor, seed: int, first: int, count: int,
) -> None:  # fmt: skip
    _check_trace(sums, scene, values, gradients, majorants, skips, table, seed, first, count, "cpu")
    library = kernels()
    if library is None:
        from .trace_reference import trace_

        trace_(sums, scene, values, gradients, majorants, skips, table, seed, first, count)
        return
    volume = [x.data_ptr() or None for x in (values, gradients, majorants, skips, table)]
    samples = (seed, first, count, torch.get_num_threads())
    library._call("gaussianmri_trace", scene.data_ptr(), scene.numel(), *volume, *samples, sums.data_ptr())


def _trace_cuda(
    sums: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, majorants: Tensor, skips: Tensor,
    table: Tensor, seed: int, first: int, count: int,
) -> None:  # fmt: skip
    from .cuda import _operators

    _check_trace(sums, scene, values, gradients, majorants, skips, table, seed, first, count, "cuda")
    launch_trace(
        _operators().launcher, sums, scene, values, gradients, majorants, skips, table, seed, first, count
    )


def launch_trace(
    launcher: object, sums: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, majorants: Tensor,
    skips: Tensor, table: Tensor, seed: int, first: int, count: int,
) -> None:  # fmt: skip
    """Queue the kernel on a `cuda_launch.Launcher`."""
    launcher.launch(  # type: ignore[attr-defined]
        "gm_trace", _grid(sums.shape[:2]), 128, scene.to(sums.device), values, gradients, majorants, skips, table,
        seed, first, count, sums,
    )  # fmt: skip


_library.impl("trace_", _trace_cpu, "CPU")
_library.impl("trace_", _trace_cuda, "CUDA")


@torch.library.register_fake("gaussianmri::trace_", lib=_library)
def _trace_fake(
    sums: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, majorants: Tensor, skips: Tensor,
    table: Tensor, seed: int, first: int, count: int,
) -> None:  # fmt: skip
    return None


# ---- cut faces -------------------------------------------------------------------------------------------------

_library.define(
    "trace_faces_(Tensor(a!) image, Tensor(b!) alpha, Tensor(c!) depth, Tensor scene, Tensor values, Tensor gradients, "
    "Tensor table, Tensor dome, float exposure, int side) -> ()"
)


def _check_faces(
    image: Tensor, alpha: Tensor, depth: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, table: Tensor,
    dome: Tensor, exposure: float, side: int, device: str,
) -> None:  # fmt: skip
    header = _check_volume(
        scene, values, gradients, table, device, image=image, alpha=alpha, depth=depth, dome=dome
    )
    size = int(header["height"]), int(header["width"])
    _check_tensor("image", image, (*size, 3), torch.float32, device)
    _check_tensor("alpha", alpha, size, torch.float32, device)
    _check_tensor("depth", depth, size, torch.float32, device)
    _check_tensor("dome", dome, (int(header["planes"]), 3), torch.float32, device)
    _check(exposure > 0 and 1 <= side <= 16, "exposure must be more than 0, side 1 to 16.")


def _faces_cpu(
    image: Tensor, alpha: Tensor, depth: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, table: Tensor,
    dome: Tensor, exposure: float, side: int,
) -> None:  # fmt: skip
    _check_faces(image, alpha, depth, scene, values, gradients, table, dome, exposure, side, "cpu")
    library = kernels()
    if library is None:
        from .trace_reference import trace_faces_

        trace_faces_(image, alpha, depth, scene, values, gradients, table, dome, exposure, side)
        return
    volume = [x.data_ptr() or None for x in (values, gradients, table, dome)]
    out = [x.data_ptr() for x in (image, alpha, depth)]
    library._call(
        "gaussianmri_trace_faces", scene.data_ptr(), scene.numel(), *volume, exposure, side, torch.get_num_threads(), *out
    )  # fmt: skip


def _faces_cuda(
    image: Tensor, alpha: Tensor, depth: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, table: Tensor,
    dome: Tensor, exposure: float, side: int,
) -> None:  # fmt: skip
    from .cuda import _operators

    _check_faces(image, alpha, depth, scene, values, gradients, table, dome, exposure, side, "cuda")
    out = image, alpha, depth
    launch_faces(_operators().launcher, *out, scene, values, gradients, table, dome, exposure, side)


def launch_faces(
    launcher: object, image: Tensor, alpha: Tensor, depth: Tensor, scene: Tensor, values: Tensor, gradients: Tensor,
    table: Tensor, dome: Tensor, exposure: float, side: int,
) -> None:  # fmt: skip
    """Queue the kernel on a `cuda_launch.Launcher`."""
    launcher.launch(  # type: ignore[attr-defined]
        "gm_trace_faces", _grid(alpha.shape), 128, scene.to(image.device), values, gradients, table, dome, exposure, side,
        image, alpha, depth,
    )  # fmt: skip


_library.impl("trace_faces_", _faces_cpu, "CPU")
_library.impl("trace_faces_", _faces_cuda, "CUDA")


@torch.library.register_fake("gaussianmri::trace_faces_", lib=_library)
def _faces_fake(
    image: Tensor, alpha: Tensor, depth: Tensor, scene: Tensor, values: Tensor, gradients: Tensor, table: Tensor,
    dome: Tensor, exposure: float, side: int,
) -> None:  # fmt: skip
    return None
