"""The compiled kernels behind ctypes: one shared library for every torch and every Python."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import GaussianMRIError
from . import tiles

ABI = 5  # GAUSSIANMRI_ABI in csrc/support/api.h
_MESSAGE_SIZE = 512
_TYPES = {"p": ctypes.c_void_p, "q": ctypes.c_int64, "i": ctypes.c_int32, "f": ctypes.c_float}


class KernelLibrary:
    """The kernels of one shared library, which says itself what its functions take and how large its structures are.

    Raises:
        OSError: the file is not a library of this system.
        GaussianMRIError: it is a library of another version of GaussianMRI.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._library = ctypes.CDLL(os.fspath(self.path))
        if not hasattr(self._library, "gaussianmri_abi") or self._library.gaussianmri_abi() != ABI:
            raise self._other_version()
        self._library.gaussianmri_describe.restype = ctypes.c_char_p
        self._library.gaussianmri_simd.restype = ctypes.c_char_p
        self._library.gaussianmri_set_simd.argtypes = [ctypes.c_char_p]
        self._numbers: dict[str, int] = {}
        self._functions: dict[str, Any] = {}
        for line in self._library.gaussianmri_describe().decode().splitlines():
            name, value = line.split()
            if value.isdecimal():
                self._numbers[name] = int(value)
            else:
                function = getattr(self._library, name)
                function.argtypes, function.restype = [_TYPES[letter] for letter in value], ctypes.c_int
                self._functions[name] = function
        self.agree(tiles.NUMBERS)

    def _other_version(self, difference: str = "") -> GaussianMRIError:
        return GaussianMRIError(
            f"{self.path} belongs to another version of GaussianMRI{difference}. "
            "Remove it or install GaussianMRI again."
        )

    @property
    def simd(self) -> str:
        """Instruction set in use: avx512, avx2, sse2, neon or scalar."""
        return str(self._library.gaussianmri_simd().decode())

    def set_simd(self, name: str) -> bool:
        """Use another instruction set (for tests); False if it is unknown or this machine lacks it."""
        return bool(self._library.gaussianmri_set_simd(name.encode()) == 0)

    def agree(self, numbers: Mapping[str, int]) -> None:
        """Compare the bytes of structures and the constants that Python has with the library's, by their names in csrc.

        Raises:
            GaussianMRIError: one differs.
        """
        for name, ours in numbers.items():
            if self._numbers.get(name) != ours:
                raise self._other_version(f": {name} is {self._numbers.get(name)} there and {ours} here")

    def call(self, name: str, *arguments: Tensor | ctypes.Array | float) -> None:
        """Call `gaussianmri_<name>` with its arguments up to the message; tensors are on the CPU and contiguous.

        Raises:
            ValueError: it refuses an argument.
            GaussianMRIError: it failed, or there is none.
        """
        function = self._functions.get(f"gaussianmri_{name}")
        if function is None:
            raise self._other_version(f": it has no function {name}")
        message = ctypes.create_string_buffer(_MESSAGE_SIZE)
        given = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
        code = function(*given, ctypes.addressof(message), _MESSAGE_SIZE)
        if code == 1:
            raise ValueError(f"{name}: {message.value.decode()}.")
        if code != 0:
            raise GaussianMRIError(f"Rendering failed: {message.value.decode()}.")


def threads() -> int:
    """Threads that the kernels may use: as many as torch."""
    return torch.get_num_threads()
