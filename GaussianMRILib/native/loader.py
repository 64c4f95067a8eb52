"""The compiled kernels behind ctypes: one shared library for every torch and every Python."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch
from torch import Tensor

from ..errors import GaussianMRIError

ABI = 4  # GAUSSIANMRI_ABI in csrc/include/gaussianmri.h
_MESSAGE_SIZE = 512
_POINTER, _LONG, _FLOAT, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
_PLANES = [_POINTER, _LONG, _POINTER, _POINTER, _POINTER, _POINTER, _LONG, _LONG, _FLOAT, _FLOAT, _INT]
_LATTICE = [_LONG, *[_POINTER] * 7, _LONG, _LONG, _FLOAT, _INT]
_MESSAGE = [_POINTER, _LONG]
_SIGNATURES = {
    "gaussianmri_render": [*_PLANES, _POINTER, _POINTER, _POINTER, *_MESSAGE],
    "gaussianmri_render_backward": [_POINTER, _POINTER, _POINTER, *_PLANES, _POINTER, *_MESSAGE],
    "gaussianmri_ssim": [_POINTER, _POINTER, _POINTER, _LONG, _INT, _POINTER, _POINTER, *_MESSAGE],
    "gaussianmri_adam": [
        *[_POINTER] * 4, _LONG, _LONG, _POINTER, _POINTER, _LONG, _FLOAT, _FLOAT, _FLOAT, _INT, *_MESSAGE
    ],
    "gaussianmri_trace": [
        _POINTER, _LONG, *[_POINTER] * 5, ctypes.c_uint32, ctypes.c_int32, ctypes.c_int32, _INT, _POINTER, *_MESSAGE
    ],
    "gaussianmri_trace_faces": [
        _POINTER, _LONG, *[_POINTER] * 4, _FLOAT, ctypes.c_int32, _INT, *[_POINTER] * 3, *_MESSAGE
    ],
    "gaussianmri_splat": [
        _POINTER, _INT, _INT, *[_POINTER] * 5, _LONG, _INT, _INT, *[_POINTER] * 4, *_MESSAGE
    ],
    "gaussianmri_splat_backward": [
        *[_POINTER] * 7, _INT, _INT, *[_POINTER] * 5, _LONG, _INT, _INT, *[_POINTER] * 6, *_MESSAGE
    ],
    "gaussianmri_lattice_render": [_POINTER, *_LATTICE, _POINTER, _POINTER, *_MESSAGE],
    "gaussianmri_lattice_render_backward": [_POINTER, *_LATTICE, _POINTER, *_MESSAGE],
    "gaussianmri_lattice_smooth": [
        _POINTER, _POINTER, _LONG, *[_POINTER] * 3, _FLOAT, _INT, _POINTER, *_MESSAGE
    ],
}  # fmt: skip


class KernelLibrary:
    """The kernels of one shared library, on CPU tensors that `ops` has checked (float32, contiguous, shapes).

    Raises:
        OSError: the file is not a library of this system.
        GaussianMRIError: it is a library of another version of GaussianMRI.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._library = ctypes.CDLL(os.fspath(self.path))
        if not hasattr(self._library, "gaussianmri_abi") or self._library.gaussianmri_abi() != ABI:
            raise GaussianMRIError(
                f"{self.path} belongs to another version of GaussianMRI. "
                "Remove it or install GaussianMRI again."
            )
        self._library.gaussianmri_simd.restype = ctypes.c_char_p
        self._library.gaussianmri_set_simd.argtypes = [ctypes.c_char_p]
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int

    @property
    def simd(self) -> str:
        """Instruction set in use: avx512, avx2, sse2, neon or scalar."""
        return str(self._library.gaussianmri_simd().decode())

    def set_simd(self, name: str) -> bool:
        """Use another instruction set (for tests); False if it is unknown or this machine lacks it."""
        return bool(self._library.gaussianmri_set_simd(name.encode()) == 0)

    def _call(self, name: str, *arguments: object) -> None:
        message = ctypes.create_string_buffer(_MESSAGE_SIZE)
        code = getattr(self._library, name)(*arguments, ctypes.addressof(message), _MESSAGE_SIZE)
        if code == 1:
            raise ValueError(f"{name.removeprefix('gaussianmri_')}: {message.value.decode()}.")
        if code != 0:
            raise GaussianMRIError(f"Rendering failed: {message.value.decode()}.")

    @staticmethod
    def _planes(
        parameters: Tensor,
        frames: Tensor,
        shapes: Tensor,
        offsets: Tensor,
        weights: Tensor,
        background: float,
        cut: float,
    ) -> tuple[object, ...]:
        return (
            parameters.data_ptr(), parameters.shape[1], frames.data_ptr(), shapes.data_ptr(),
            offsets.data_ptr(), weights.data_ptr(), frames.shape[0], offsets.shape[1],
            background, cut, torch.get_num_threads(),
        )  # fmt: skip

    def render_planes(
        self,
        parameters: Tensor,
        frames: Tensor,
        shapes: Tensor,
        offsets: Tensor,
        weights: Tensor,
        background: float,
        cut: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        total = int(shapes.long().prod(1).sum())
        image = torch.empty(total)
        samples, density = torch.empty(offsets.shape[1], total), torch.empty(offsets.shape[1], total)
        planes = self._planes(parameters, frames, shapes, offsets, weights, background, cut)
        self._call("gaussianmri_render", *planes, image.data_ptr(), samples.data_ptr(), density.data_ptr())
        return image, samples, density

    def render_planes_backward(
        self,
        grad_image: Tensor,
        samples: Tensor,
        density: Tensor,
        parameters: Tensor,
        frames: Tensor,
        shapes: Tensor,
        offsets: Tensor,
        weights: Tensor,
        background: float,
        cut: float,
    ) -> Tensor:
        gradient = torch.empty_like(parameters)
        planes = self._planes(parameters, frames, shapes, offsets, weights, background, cut)
        given = (grad_image.data_ptr(), samples.data_ptr(), density.data_ptr())
        self._call("gaussianmri_render_backward", *given, *planes, gradient.data_ptr())
        return gradient

    def ssim(self, image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        mean, gradient = torch.empty(len(shapes)), torch.empty_like(image)
        arguments = (
            image.data_ptr(),
            target.data_ptr(),
            shapes.data_ptr(),
            len(shapes),
            torch.get_num_threads(),
        )
        self._call("gaussianmri_ssim", *arguments, mean.data_ptr(), gradient.data_ptr())
        return mean, gradient

    def adam_(
        self,
        parameters: Tensor,
        grad: Tensor,
        m: Tensor,
        v: Tensor,
        rates: Tensor,
        modes: Tensor,
        step: int,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        values = (parameters.data_ptr(), grad.data_ptr(), m.data_ptr(), v.data_ptr(), *parameters.shape)
        rules = (rates.data_ptr(), modes.data_ptr(), step, beta1, beta2, eps, torch.get_num_threads())
        self._call("gaussianmri_adam", *values, *rules)
