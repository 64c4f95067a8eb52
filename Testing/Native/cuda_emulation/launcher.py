"""Builds the host emulation of the CUDA kernels and launches them on tensors of a pretended GPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from GaussianMRILib.native.support.cuda_launch import (
    entry,
    gpu_of,
    kernel_signatures,
    pack,
    source_files,
    source_folder,
)

HERE = Path(__file__).resolve().parent
# One exported function for each kernel, with cuLaunchKernel's kind of arguments. A seed of 0: threads and blocks run in
# their natural order; else in an order drawn from it.
_HEAD = """#include "cuda_emulation.h"
#define EMULATE(kernel)                                                                                  \\
  extern "C" void emulate_##kernel(unsigned grid_x, unsigned grid_y, unsigned block, void** arguments) { \\
    emulation::launch(kernel, dim3{grid_x, grid_y, 1}, dim3{block, 1, 1}, arguments);                    \\
  }
extern "C" void emulation_seed(unsigned long long seed) { emulation::seed = seed; }
"""


def build(flags: str = "") -> Path:
    """The emulation as a shared library, built with `$CXX` (g++) and `flags`, kept in the temporary folder.

    Raises:
        RuntimeError: no compiler, or it refuses; the text is the compiler's.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise RuntimeError("no C++ compiler (g++, or $CXX)")
    folder = source_folder()
    text = _HEAD + entry(folder) + "".join(f"EMULATE({kernel})\n" for kernel in kernel_signatures(folder))
    sources = [HERE / "cuda_emulation.h", *source_files(folder)]
    digest = hashlib.sha256(f"{compiler} {flags} {text}".encode() + b"".join(path.read_bytes() for path in sources))
    library = (
        Path(tempfile.gettempdir()) / f"gaussianmri-emulation-{os.getuid()}-{digest.hexdigest()[:16]}.so"
    )
    if not library.is_file():
        partial, unit = (library.with_suffix(f".{os.getpid()}.{end}") for end in ("partial", "cpp"))
        unit.write_text(text, encoding="utf-8")
        command = [
            compiler,
            "-std=c++17",
            "-O2",
            "-g1",
            "-fPIC",
            "-shared",
            "-U_FORTIFY_SOURCE",
            *flags.split(),
            "-I",
            str(HERE),
            "-I",
            str(folder),
            "-o",
            str(partial),
            str(unit),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        unit.unlink()
        if result.returncode:
            raise RuntimeError(result.stderr)
        os.replace(partial, library)
    return library


class EmulationLauncher:
    """Runs kernels on the host: same names, grids and arguments as on a GPU, where tensors are pretended to be.

    Args:
        flags: for the compiler, for instance -fsanitize=undefined; `$GAUSSIANMRI_EMULATION_FLAGS` by default.
        seed: order in which blocks and threads run; 0 is their natural order.
    """

    def __init__(self, flags: str | None = None, seed: int = 0) -> None:
        chosen = os.environ.get("GAUSSIANMRI_EMULATION_FLAGS", "") if flags is None else flags
        self._library = ctypes.CDLL(str(build(chosen)))
        self._library.emulation_seed.argtypes = [ctypes.c_ulonglong]
        self._signatures = kernel_signatures(source_folder())
        self.seed = seed
        self.launched: list[str] = []

    def launch(
        self, kernel: str, grid: tuple[int, int], block: int, *arguments: torch.Tensor | float
    ) -> None:
        """As `cuda_launch.Launcher.launch`, and done on return."""
        gpu_of(kernel, arguments)
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                assert argument.is_contiguous(), f"{kernel}: {argument.stride()}"
        assert min(*grid, block) >= 1, f"{kernel}: nothing to launch"
        kinds = {"p": ctypes.c_void_p, "q": ctypes.c_longlong, "i": ctypes.c_int, "f": ctypes.c_float}
        signature = self._signatures[kernel]
        values = [
            kinds[kind](v if kind == "p" else v.item())
            for kind, v in zip(signature, pack(signature, arguments), strict=True)
        ]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        self._library.emulation_seed(self.seed)
        self.launched.append(kernel)
        getattr(self._library, f"emulate_{kernel}")(*map(ctypes.c_uint, (*grid, block)), pointers)
