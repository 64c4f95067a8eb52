"""Which implementation of the kernels is used, and why."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import GaussianMRIError
from .build import build_library, building_tools, library_name

if TYPE_CHECKING:
    from .library import KernelLibrary

_LOG = logging.getLogger("GaussianMRI")
_CHOICES = ("native", "build", "reference")


@dataclass(frozen=True, kw_only=True)
class BackendInfo:
    """The implementation in use.

    Attributes:
        name: "native" (prebuilt library), "built" (from csrc, cached) or "reference" (pure torch, slow).
        path: the library's file, None for the reference.
        simd: instruction set in use, "torch" for the reference.
        reason: a sentence why this one was taken.
        cuda: a sentence about the CUDA kernels: available, or why not.
    """

    name: str
    path: Path | None
    simd: str
    reason: str
    cuda: str


_lock = threading.Lock()
_chosen: tuple[str, KernelLibrary | None, str] | None = None


def _prebuilt_path() -> Path:
    """Where an installed library is: beside the folders of the capabilities."""
    return Path(__file__).resolve().parents[1] / library_name()


def _prebuilt() -> KernelLibrary:
    path = _prebuilt_path()
    from .library import KernelLibrary

    if not path.is_file():
        raise GaussianMRIError(f"there is no prebuilt {library_name()}")
    try:
        return KernelLibrary(path)
    except OSError as error:
        raise GaussianMRIError(f"{path} cannot be loaded: {error}") from error


def _built() -> KernelLibrary:
    from .library import KernelLibrary

    try:
        return KernelLibrary(build_library())
    except OSError as error:
        raise GaussianMRIError(f"the library built from csrc cannot be loaded: {error}") from error


def _choose() -> tuple[str, KernelLibrary | None, str]:
    wish = os.environ.get("GAUSSIANMRI_BACKEND", "")
    if wish and wish not in _CHOICES:
        raise GaussianMRIError(f"GAUSSIANMRI_BACKEND is {wish!r}; it must be one of {', '.join(_CHOICES)}.")
    if wish == "reference":
        return "reference", None, "GAUSSIANMRI_BACKEND asks for it"
    if wish:
        library = _prebuilt() if wish == "native" else _built()
        return ("native" if wish == "native" else "built"), library, "GAUSSIANMRI_BACKEND asks for it"
    reasons: list[str] = []
    for name, load, taken in (
        ("native", _prebuilt, "a prebuilt library is installed"),
        ("built", _built, "built from csrc on this machine"),
    ):
        try:
            return name, load(), "; ".join([*reasons, taken])
        except GaussianMRIError as error:
            reasons.append(str(error).rstrip("."))
    return "reference", None, "; ".join(reasons)


def _selected() -> tuple[str, KernelLibrary | None, str]:
    global _chosen
    if _chosen is None:
        with _lock:
            if _chosen is None:
                chosen = _choose()
                if chosen[1] is None:
                    _LOG.warning(
                        "GaussianMRI runs on its reference implementation, which is slow: %s.", chosen[2]
                    )
                _chosen = chosen
    return _chosen


def kernels() -> KernelLibrary | None:
    """The compiled kernels, or None where the reference implementation has to do."""
    return _selected()[1]


def why_slow() -> str:
    """Why the reference implementation has to do, a sentence; empty where compiled kernels are there or can be built.

    Loads and builds nothing, so it is quick; a compiler that fails is found out by `backend` only.
    """
    if _chosen is not None:
        return "" if _chosen[1] is not None else f"{_chosen[2]}."
    if os.environ.get("GAUSSIANMRI_BACKEND") == "reference":
        return "GAUSSIANMRI_BACKEND asks for it."
    if _prebuilt_path().is_file():
        return ""
    try:
        building_tools()
    except GaussianMRIError as error:
        return str(error)
    return ""


def _cuda_state() -> str:
    import torch

    if not torch.cuda.is_available():
        return "not available: torch sees no CUDA device"
    from .cuda_launch import describe

    return describe()


def backend() -> BackendInfo:
    """The implementation in use, chosen at the first call: a prebuilt library, else one built from csrc, else
    the reference. GAUSSIANMRI_BACKEND = native | build | reference forces one.

    Raises:
        GaussianMRIError: the one that was forced is not available.
    """
    name, library, reason = _selected()
    simd = library.simd if library else "torch"
    return BackendInfo(name=name, path=library.path if library else None, simd=simd, reason=reason, cuda=_cuda_state())
