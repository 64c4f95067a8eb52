"""Compiles every csrc/*/cuda.cuh at first use with NVRTC and launches its kernels on torch's current stream.

No compiler is needed on the user's machine: NVIDIA's `cuda-core` package brings NVRTC. Machine code (cubin), or PTX for GPUs
that are newer than NVRTC, is kept on disk, by source, architecture, NVRTC and driver, so that only the first run compiles.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import GaussianMRIError
from ...files import atomic_write
from .build import cache_folder, check_private, make_private, source_root

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("GaussianMRI")

#: cuda-core from this version on brings NVRTC with it.
_OLDEST_CUDA_CORE = "0.3.2"
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^()]*\)\s+)?(\w+)\(([^()]*)\)\s*{')
_POINTER = re.compile(r"(?:const )?(?:unsigned )?(?:long long|\w+)\* ?(?:const )?\w+")
_NUMBER = re.compile(r"(long long|int|float) \w+")
_LETTERS = {"long long": "q", "int": "i", "float": "f"}


class Launcher(Protocol):
    """Runs a CUDA kernel of csrc by name: on a GPU, or in a host emulation of one."""

    def launch(
        self, kernel: str, grid: tuple[int, int], block: int, *arguments: torch.Tensor | float
    ) -> None:
        """Queue `kernel` on `grid` blocks (x, y) of `block` threads; arguments as its signature has them."""
        ...


def source_folder() -> Path:
    """The folder `csrc` with the CUDA sources.

    Raises:
        GaussianMRIError: this installation does not have them.
    """
    root = source_root()
    if root is None or not list(root.glob("*/cuda.cuh")):
        raise GaussianMRIError(
            "The CUDA sources (csrc/*/cuda.cuh) are not part of this installation; install GaussianMRI again."
        )
    return root


def entry(folder: Path) -> str:
    """The source that is compiled: every capability's cuda.cuh. Include path: the folder."""
    files = sorted(folder.glob("*/cuda.cuh"))
    return "".join(f'#include "{file.relative_to(folder).as_posix()}"\n' for file in files)


def source_files(folder: Path) -> list[Path]:
    """Every file of csrc that the CUDA kernels are made of, sorted."""
    return sorted([*folder.glob("*/*math.h"), *folder.glob("*/*.cuh")])


def kernel_signatures(folder: Path) -> dict[str, str]:
    """One letter for each parameter of each kernel: p pointer, q long long, i int, f float.

    Raises:
        GaussianMRIError: a kernel is declared in another way, or has a parameter of another type.
    """
    signatures: dict[str, str] = {}
    for path in source_files(folder):
        source = _COMMENT.sub("", path.read_text(encoding="utf-8"))
        place = path.relative_to(folder).as_posix()
        found = _KERNEL.findall(source)
        if len(found) != source.count("__global__"):
            raise GaussianMRIError(
                f"csrc/{place} has a kernel that cannot be read: declare each as "
                'extern "C" __global__ void __launch_bounds__(threads) name(parameters), in this order.'
            )
        for name, parameters in found:
            signatures[name] = "".join(_letter(" ".join(p.split()), name, place) for p in parameters.split(","))
    return signatures


def _letter(parameter: str, kernel: str, place: str) -> str:
    number = _NUMBER.fullmatch(parameter)
    if number:
        return _LETTERS[number[1]]
    if _POINTER.fullmatch(parameter):
        return "p"
    raise GaussianMRIError(
        f"csrc/{place}: the parameter {parameter!r} of {kernel} cannot be passed; it must be a pointer, int, long long or "
        "float, by value and not const."
    )


def cuda_core() -> Any:
    """NVIDIA's cuda.core, from wherever its version keeps the interface.

    Raises:
        ImportError: the package cuda-core or its cuda-bindings are not installed.
    """
    from cuda import core

    if hasattr(core, "Program"):
        return core
    from cuda.core import experimental

    return experimental


def kernel_package() -> str:
    """What the kernels on a GPU need, for pip: for torch's CUDA version, or for 12, the oldest that there is."""
    import torch

    major = int((torch.version.cuda or "12").split(".")[0])
    return f"cuda-core[cu{max(12, major)}]>={_OLDEST_CUDA_CORE}"


def compiled_as(architecture: str, known: Sequence[int]) -> tuple[str, str]:
    """What NVRTC compiles for a GPU, and as what: machine code ("cubin") for its architecture.

    Where NVRTC does not know that yet, it is "ptx" of the newest one before it, from which the driver makes machine code.

    Args:
        known: architectures, 90 for "sm_90"; empty where NVRTC does not say.
    """
    number = int(architecture.removeprefix("sm_"))
    older = [n for n in known if n < number]
    if number in known or not older:
        return architecture, "cubin"
    return f"compute_{max(older)}", "ptx"


def _known_architectures() -> list[int]:
    try:
        from cuda.bindings import nvrtc

        return [int(n) for n in nvrtc.nvrtcGetSupportedArchs()[1]]
    except Exception:  # without NVRTC compiling fails, too, and says why
        return []


def compile_kernels(architecture: str, folder: Path | None = None) -> tuple[str, bytes]:
    """All kernels for one architecture ("sm_90"), from the disk cache or from NVRTC: "cubin" or "ptx", see `compiled_as`.

    Raises:
        ImportError: cuda-core is not installed.
        GaussianMRIError: NVRTC is missing or refuses the sources.
    """
    folder = folder or source_folder()
    core = cuda_core()
    target, kind = compiled_as(architecture, _known_architectures())
    digest = hashlib.sha256(f"{architecture} {_toolchain()}".encode())
    for path in source_files(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    cached = cache_folder() / f"kernels-{architecture}-{digest.hexdigest()[:24]}.{kind}"
    sums = cached.with_suffix(".sha256")
    with contextlib.suppress(GaussianMRIError, OSError):  # compiled anew then
        check_private(cached.parent, cached, sums)
        code = cached.read_bytes()
        if hashlib.sha256(code).hexdigest() == sums.read_text(encoding="ascii").strip():
            return kind, code
    try:
        options = core.ProgramOptions(arch=target, std="c++17", include_path=str(folder))
        code = bytes(core.Program(entry(folder), "c++", options).compile(kind).code)
    except Exception as error:  # cuda-core's own exception types differ between its versions
        raise GaussianMRIError(f"The CUDA kernels do not compile for {architecture}: {error}") from error
    try:
        make_private(cached.parent)
        for path, content in ((cached, code), (sums, hashlib.sha256(code).hexdigest().encode())):
            with atomic_write(path) as partial:
                partial.write_bytes(content)
                partial.chmod(0o644)
    except (OSError, GaussianMRIError) as error:
        logger.info("CUDA machine code is not kept for the next run: %s", error)
    return kind, code


def _toolchain() -> str:
    """Versions of NVRTC and of the driver, as far as they can be asked."""
    versions = []
    try:
        from cuda.bindings import nvrtc

        versions.append(nvrtc.nvrtcVersion()[1:])
        from cuda.bindings import driver

        versions.append(driver.cuDriverGetVersion()[1])
    except Exception as error:  # no driver here: what is compiled here is not run here
        versions.append(type(error).__name__)
    return str(versions)


class CudaLauncher:
    """Launches kernels on the GPU that holds their tensors, on torch's current stream there."""

    def __init__(self) -> None:
        self._core = cuda_core()
        self._folder = source_folder()
        self._signatures = kernel_signatures(self._folder)
        self._kernels: dict[str, dict[str, Any]] = {}  # by architecture, then name
        self._lock = threading.Lock()
        self._thread = threading.local()
        self._architecture = functools.cache(_architecture)
        self._stream = functools.lru_cache(maxsize=64)(self._make_stream)
        self._config = functools.lru_cache(maxsize=256)(self._make_config)

    def launch(
        self, kernel: str, grid: tuple[int, int], block: int, *arguments: torch.Tensor | float
    ) -> None:
        """See Launcher."""
        import torch

        device = gpu_of(kernel, arguments).index
        with torch.cuda.device(device):
            function = self.load(device)[kernel]
            stream = self._stream(device, torch.cuda.current_stream(device).cuda_stream)
            packed = pack(self._signatures[kernel], arguments)
            self._core.launch(stream, self._config(grid, block), function, *packed)

    def load(self, device: int) -> dict[str, Any]:
        """All kernels for one GPU, by name: compiled, or fetched from the cache, at the first call.

        Raises:
            GaussianMRIError: the kernels do not compile.
            Exception: of cuda-core, when the driver does not take the machine code.
        """
        self._enter_context(device)
        architecture = self._architecture(device)
        if architecture not in self._kernels:
            with self._lock:
                if architecture not in self._kernels:
                    kind, code = compile_kernels(architecture, self._folder)
                    made = self._core.ObjectCode
                    module = made.from_cubin(code) if kind == "cubin" else made.from_ptx(code)
                    # Before this nothing reaches the driver: cuda-core loads when it is asked for a kernel.
                    self._kernels[architecture] = {name: module.get_kernel(name) for name in self._signatures}
        return self._kernels[architecture]

    def _make_stream(self, device: int, handle: int) -> Any:
        """cuda-core's stream for torch's. 1 names the legacy default stream, torch's 0, for every version."""
        return self._core.Stream.from_handle(handle or 1)

    def _make_config(self, grid: tuple[int, int], block: int) -> Any:
        return self._core.LaunchConfig(grid=(*grid, 1), block=(block, 1, 1))

    def _enter_context(self, device: int) -> None:
        """Make torch's (the primary) context current: a thread that never called CUDA has none."""
        entered = self._thread.__dict__.setdefault("entered", set())
        if device not in entered:
            self._core.Device(device).set_current()
            entered.add(device)


def _architecture(device: int) -> str:
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def gpu_of(kernel: str, arguments: Sequence[Any]) -> torch.device:
    """The GPU that holds the tensors among a kernel's arguments.

    Raises:
        ValueError: one is not there: a kernel would read another device's memory, or end the program.
    """
    import torch

    found = {a.device for a in arguments if isinstance(a, torch.Tensor)}
    if len(found) != 1 or next(iter(found)).type != "cuda":
        places = ", ".join(sorted(map(str, found))) or "nowhere"
        raise ValueError(f"The tensors of {kernel} must be on one GPU, but are on {places}.")
    return next(iter(found))


def pack(signature: str, arguments: tuple[Any, ...]) -> list[Any]:
    """Arguments as a kernel takes them: tensors as addresses, numbers as numpy scalars of the right width."""
    if len(signature) != len(arguments):
        raise TypeError(
            f"a kernel with {len(signature)} parameters was called with {len(arguments)} arguments"
        )
    kinds = {"q": np.int64, "i": np.int32, "f": np.float32}
    pairs = zip(signature, arguments, strict=True)
    return [a.data_ptr() if kind == "p" else kinds[kind](a) for kind, a in pairs]


@functools.cache
def launcher() -> CudaLauncher:
    """The launcher of this process.

    Raises:
        GaussianMRIError: the package cuda-core is missing, or the sources are.
    """
    try:
        return CudaLauncher()
    except ImportError as error:
        raise GaussianMRIError(
            f'Tensors on a GPU need the package cuda-core ({error}): pip install "{kernel_package()}", or use the CPU.'
        ) from error


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
    """Find out whether CUDA kernels can run; the first call on a GPU compiles them (seconds, then cached)."""
    import torch

    if torch.version.cuda is None:
        rocm = "this torch is for AMD GPUs, which are not supported"
        return CudaStatus(False, rocm if torch.cuda.is_available() else "this torch was built without CUDA")
    if not torch.cuda.is_available():
        return CudaStatus(False, "torch finds no CUDA device")
    index = torch.cuda.current_device()
    name = torch.cuda.get_device_name(index)
    try:
        launcher().load(index)
    except Exception as error:
        return CudaStatus(False, str(error), name)
    major, minor = torch.cuda.get_device_capability(index)
    return CudaStatus(True, f"kernels compiled for sm_{major}{minor}", name)


def describe() -> str:
    """`status()` in a sentence."""
    now = status()
    state = "available" if now.available else "not available"
    return f"{state}{f' on {now.device}' if now.device else ''}: {now.reason}"
