"""CUDA implementation of the operators: the order of kernel launches, prefix sums, sorting and memory limits.

The kernels are in csrc/cuda; `cuda_launch` compiles and launches them. `CudaOperators` takes its launcher as an
argument, and everything else it calls is torch, so the same code runs with a host emulation of the kernels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from ..errors import GaussianMRIError
from .cuda_launch import CudaLauncher, Launcher, cuda_core, source_folder

Tensor = torch.Tensor

_TILE = 16
_TILE_PIXELS = _TILE * _TILE
_ENTRY_BITS = 36  # kEntryBits of render.cuh
_PLANE_FLOATS = 19  # sizeof(GmPlane) / 4


@dataclass(frozen=True)
class CudaStatus:
    """Whether CUDA kernels can run here, and if not, why.

    Attributes:
        available: kernels can be compiled and launched.
        reason: one sentence for the user.
        device: name of the current GPU, if any.
    """

    available: bool
    reason: str
    device: str | None = None


def status() -> CudaStatus:
    """Find out whether CUDA kernels can run here; the first call on a GPU compiles them (seconds, then cached)."""
    if not torch.cuda.is_available():
        cause = "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        return CudaStatus(False, cause)
    index = torch.cuda.current_device()
    name = torch.cuda.get_device_name(index)
    try:
        cuda_core()
        source_folder()
        operators = _operators()
        assert isinstance(operators.launcher, CudaLauncher)
        operators.launcher.load(index)
    except ImportError as error:
        return CudaStatus(False, f"cuda-core is not installed ({error}): pip install cuda-core[cu13]", name)
    except Exception as error:  # whatever the driver or NVRTC says is the reason
        return CudaStatus(False, f"{error}", name)
    major, minor = torch.cuda.get_device_capability(index)
    return CudaStatus(True, f"kernels compiled for sm_{major}{minor}", name)


def describe() -> str:
    """`status()` in a sentence."""
    now = status()
    state = "available" if now.available else "not available"
    return f"{state}{f' on {now.device}' if now.device else ''}: {now.reason}"


@functools.cache
def _operators() -> CudaOperators:
    try:
        return CudaOperators(CudaLauncher())
    except ImportError as error:
        raise GaussianMRIError(
            f"Tensors on a GPU need the package cuda-core ({error}): pip install cuda-core[cu13], or use the CPU."
        ) from error


def render_planes(
    parameters: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor, weights: Tensor, background: float, cut: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`gaussianmri::render_planes` for CUDA tensors; `shapes` on the CPU. See `native.render_planes`."""
    return _operators().render_planes(parameters, frames, shapes, offsets, weights, background, cut)


def render_planes_backward(
    grad_image: Tensor, samples: Tensor, density: Tensor, parameters: Tensor, frames: Tensor, shapes: Tensor,
    offsets: Tensor, weights: Tensor, background: float, cut: float,
) -> Tensor:  # fmt: skip
    """`gaussianmri::render_planes_backward` for CUDA tensors. See `native.render_planes_backward`."""
    return _operators().render_planes_backward(
        grad_image, samples, density, parameters, frames, shapes, offsets, weights, background, cut
    )


def ssim(image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
    """`gaussianmri::ssim` for CUDA tensors. See `native.ssim`."""
    return _operators().ssim(image, target, shapes)


def adam_(
    parameters: Tensor, grad: Tensor, m: Tensor, v: Tensor, rates: Tensor, modes: Tensor, step: int, beta1: float,
    beta2: float, eps: float,
) -> None:  # fmt: skip
    """`gaussianmri::adam_` for CUDA tensors. See `native.adam_`."""
    _operators().adam_(parameters, grad, m, v, rates, modes, step, beta1, beta2, eps)


@dataclass(frozen=True)
class _Tiling:
    """The tables of csrc/cuda/tiles.cuh for one list of plane shapes."""

    planes: Tensor  # int32 [P, 5]: rows, columns, first pixel, first tile, tiles in a row
    tile_planes: Tensor  # int32 [tiles]
    first_tiles: list[int]  # [P + 1]
    total: int


@functools.lru_cache(maxsize=64)
def _tile(shapes: tuple[tuple[int, int], ...], device: torch.device) -> _Tiling:
    table, tile_planes, first_tiles, total = [], [], [0], 0
    for plane, (rows, columns) in enumerate(shapes):
        tiles_x = -(-columns // _TILE)
        tiles = tiles_x * -(-rows // _TILE)
        table.append((rows, columns, total, first_tiles[-1], tiles_x))
        tile_planes.append(torch.full((tiles,), plane, dtype=torch.int32))
        first_tiles.append(first_tiles[-1] + tiles)
        total += rows * columns
    if total >= 2**31:
        raise GaussianMRIError(f"{total} pixels in one call are too many; render fewer planes at a time.")
    return _Tiling(
        torch.tensor(table, dtype=torch.int32).reshape(-1, 5).to(device),
        torch.cat(tile_planes or [torch.empty(0, dtype=torch.int32)]).to(device),
        first_tiles,
        total,
    )


def _tiling(shapes: Tensor, device: torch.device) -> _Tiling:
    return _tile(tuple((int(rows), int(columns)) for rows, columns in shapes.tolist()), device)


class CudaOperators:
    """The operators on one launcher.

    Args:
        launcher: where kernels run.
        max_units: Gaussians x parallels looked at in one pass (16 bytes each).
        max_entries: footprints x tiles sorted in one pass (about 50 bytes each).
    """

    def __init__(self, launcher: Launcher, max_units: int = 1 << 23, max_entries: int = 1 << 24) -> None:
        self.launcher = launcher
        self.max_units = max_units
        self.max_entries = max_entries

    def render_planes(
        self, parameters: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor, weights: Tensor, background: float,
        cut: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Image [total], samples [Q, total], density [Q, total]."""
        parameters, frames, offsets, weights = (x.contiguous() for x in (parameters, frames, offsets, weights))
        tiling = _tiling(shapes, parameters.device)
        samples = parameters.new_zeros(offsets.shape[1], tiling.total)
        density = torch.zeros_like(samples)
        image = parameters.new_empty(tiling.total)
        tiles = tiling.first_tiles[-1]
        if tiles == 0:
            return image, samples, density
        scene = (parameters, self._prepare(frames), tiling, offsets, cut)
        units = parameters.shape[1] * offsets.numel()
        # Counts are summed in _ENTRY_BITS bits: even if every unit touched every tile of its plane they must fit.
        step = max(1, min(self.max_units, (1 << _ENTRY_BITS) // tiles - 1))
        for first in range(0, units, step):
            self._add_units(scene, first, min(step, units - first), samples, density)
        self.launcher.launch(
            "gm_finish_pixels", (tiles, 1), _TILE_PIXELS, tiling.planes, tiling.tile_planes, weights, samples, density,
            image, offsets.shape[1], tiling.total, background,
        )  # fmt: skip
        return image, samples, density

    def _add_units(
        self, scene: tuple[Tensor, Tensor, _Tiling, Tensor, float], first: int, units: int, numerator: Tensor,
        density: Tensor,
    ) -> None:  # fmt: skip
        """Add the units [first, first + units) to numerator and density; halves what would need too much memory."""
        parameters, prepared, tiling, offsets, cut = scene
        gaussians, (planes, samples) = parameters.shape[1], offsets.shape
        tiles = tiling.first_tiles[-1]
        device = parameters.device
        blocks = (-(-units // 256), 1)
        ends = torch.empty(units, dtype=torch.int64, device=device)
        self.launcher.launch(
            "gm_count_tiles", blocks, 256, parameters, prepared, tiling.planes, offsets, ends, first, units, gaussians,
            planes, samples, cut,
        )  # fmt: skip
        ends.cumsum_(0)
        packed = int(ends[-1])  # the forward pass's only wait for the GPU
        visible, entries = packed >> _ENTRY_BITS, packed & ((1 << _ENTRY_BITS) - 1)
        if visible == 0:
            return
        if entries > self.max_entries and units > 1:
            half = units // 2
            self._add_units(scene, first, half, numerator, density)
            self._add_units(scene, first + half, units - half, numerator, density)
            return
        records = torch.empty(visible, 8, dtype=torch.float32, device=device)
        keys = torch.empty(entries, dtype=torch.int32, device=device)
        entry_records = torch.empty_like(keys)
        self.launcher.launch(
            "gm_write_entries", blocks, 256, parameters, prepared, tiling.planes, offsets, ends, records, keys,
            entry_records, first, units, gaussians, planes, samples, tiles, cut,
        )  # fmt: skip
        keys, order = torch.sort(keys, stable=True)
        first_tile = self._tile_of(tiling, first // gaussians)
        end_tile = self._tile_of(tiling, (first + units - 1) // gaussians + 1)
        bounds = torch.arange(first_tile, end_tile + 1, dtype=torch.int32, device=device)
        starts = torch.searchsorted(keys, bounds, out_int32=True)
        self.launcher.launch(
            "gm_add_entries", (end_tile - first_tile, 1), _TILE_PIXELS, tiling.planes, tiling.tile_planes, records,
            entry_records, order, starts, numerator, density, first_tile, tiles, tiling.total, cut,
        )  # fmt: skip

    @staticmethod
    def _tile_of(tiling: _Tiling, parallel: int) -> int:
        """First tile of a parallel (sample * planes + plane) among all samples' tiles."""
        sample, plane = divmod(parallel, len(tiling.first_tiles) - 1)
        return sample * tiling.first_tiles[-1] + tiling.first_tiles[plane]

    def _prepare(self, frames: Tensor) -> Tensor:
        prepared = frames.new_empty(frames.shape[0], _PLANE_FLOATS)
        if frames.shape[0]:
            self.launcher.launch("gm_prepare_planes", (frames.shape[0], 1), 32, frames, prepared)
        return prepared

    def render_planes_backward(
        self, grad_image: Tensor, samples: Tensor, density: Tensor, parameters: Tensor, frames: Tensor, shapes: Tensor,
        offsets: Tensor, weights: Tensor, background: float, cut: float,
    ) -> Tensor:  # fmt: skip
        """Gradient [11, N]. `background` is part of `density` already."""
        del background
        grad_image, samples, density = grad_image.contiguous(), samples.contiguous(), density.contiguous()
        parameters, frames, offsets, weights = (x.contiguous() for x in (parameters, frames, offsets, weights))
        tiling = _tiling(shapes, parameters.device)
        gradient = torch.empty_like(parameters)
        gaussians = parameters.shape[1]
        if gaussians:
            self.launcher.launch(
                "gm_render_backward", (-(-gaussians // 4), 1), 128, grad_image, samples, density, parameters,
                self._prepare(frames), tiling.planes, offsets, weights, gradient, gaussians, *offsets.shape,
                tiling.total, cut,
            )  # fmt: skip
        return gradient

    def ssim(self, image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean SSIM [P] and its gradient [total]."""
        image, target = image.contiguous(), target.contiguous()
        tiling = _tiling(shapes, image.device)
        tiles, planes = tiling.first_tiles[-1], len(tiling.first_tiles) - 1
        gradient, mean = torch.empty_like(image), image.new_empty(planes)
        maps, sums = image.new_empty(3, tiling.total), image.new_empty(tiles)
        tables = (tiling.planes, tiling.tile_planes)
        if tiles:
            self.launcher.launch(
                "gm_ssim_maps", (tiles, 1), _TILE_PIXELS, *tables, image, target, maps, sums, tiling.total
            )
            self.launcher.launch(
                "gm_ssim_gradient", (tiles, 1), _TILE_PIXELS, *tables, image, target, maps, gradient, tiling.total
            )
        if planes:
            self.launcher.launch("gm_ssim_mean", (planes, 1), _TILE_PIXELS, tiling.planes, sums, mean)
        return mean, gradient

    def adam_(
        self, parameters: Tensor, grad: Tensor, m: Tensor, v: Tensor, rates: Tensor, modes: Tensor, step: int,
        beta1: float, beta2: float, eps: float,
    ) -> None:  # fmt: skip
        """One Adam step in place; `step` counts from 1."""
        rows, columns = parameters.shape
        if parameters.numel():
            self.launcher.launch(
                "gm_adam_step", (-(-columns // 256), rows), 256, parameters, grad.contiguous(), m, v,
                rates.to(parameters.device), modes.to(parameters.device), columns, beta1, beta2, 1.0 / (1.0 - beta1**step),
                1.0 / (1.0 - beta2**step), eps,
            )  # fmt: skip
