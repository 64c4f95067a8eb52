"""Packages that Slicer does not bring, installed when a user first asks for something that needs them."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer

from ..errors import GaussianMRIError

OLDEST_TORCH = (2, 4)
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_UNCHANGED = "Nothing was changed in the scene."


def ensure_packages(requester: str, cuda: bool = False, others: Sequence[str] = ()) -> None:
    """Make torch and the packages of `REQUIREMENTS` importable, asking the user before anything is fetched.

    torch comes through the PyTorch extension, which chooses the build that suits the computer; the rest through
    Slicer's own package installer.

    Args:
        requester: who asks, for the dialogs.
        cuda: also what computing on a CUDA GPU needs, where there is one.
        others: further requirements, of the form name or name>=version.

    Raises:
        GaussianMRIError: the user declined, there is no network, or no torch exists for this computer.
    """
    missing = packages_missing()
    if "torch" in missing:
        missing.remove("torch")
        _install_torch()
    if cuda:
        missing += _missing_for_cuda()
    missing += [line for line in others if not _installed(line)]
    if missing:
        _install_others(missing, requester)


def packages_missing(others: Sequence[str] = ()) -> list[str]:
    """What `ensure_packages` would have to install; imports nothing.

    Args:
        others: as there.
    """
    return ([] if _torch_version() >= OLDEST_TORCH else ["torch"]) + [
        line for line in (*_wanted(), *others) if not _installed(line)
    ]


def _missing_for_cuda() -> list[str]:
    """What the kernels need on a GPU of NVIDIA; nothing where torch finds none."""
    torch = importlib.import_module("torch")
    from ..native.support.cuda_launch import kernel_package

    if torch.version.cuda is None or not torch.cuda.is_available():
        return []
    kernels = kernel_package()
    return [] if _installed(kernels) and _installed("cuda-bindings") else [kernels]


def _install_torch() -> None:
    found = _torch_version()
    if platform.system() == "Darwin" and platform.machine() == "x86_64":
        raise GaussianMRIError(
            "PyTorch ended its support of Slicer for macOS on Intel processors with version 2.2, which is too old for "
            f"GaussianMRI (2.4 or newer is needed). {_UNCHANGED}"
        )
    if found > (0,):
        have = ".".join(map(str, found))
        raise GaussianMRIError(
            f"PyTorch {have} is installed, and GaussianMRI needs 2.4 or newer. Uninstall it in the module PyTorch Utils, "
            f"restart Slicer and try again. {_UNCHANGED}"
        )
    try:
        utilities: Any = importlib.import_module("PyTorchUtils")
    except ImportError as error:
        raise GaussianMRIError(
            "PyTorch is needed. Install the extension 'PyTorch' in the Extensions Manager, restart Slicer and try again. "
            + _UNCHANGED
        ) from error
    try:
        torch = utilities.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=">=" + ".".join(map(str, OLDEST_TORCH))
        )
    except Exception as error:
        raise GaussianMRIError(_failed("PyTorch", error)) from error
    if torch is None:
        raise GaussianMRIError(f"PyTorch is needed and was not installed. {_UNCHANGED}")


def _install_others(missing: list[str], requester: str) -> None:
    try:
        packaging: Any = importlib.import_module("slicer.packaging")
    except ImportError:
        packaging = None
    try:
        if packaging is not None:
            packaging.pip_ensure(missing, requester=requester)
            return
        # Slicer 5.10 and older have no installer that asks.
        question = f"{requester} needs these Python packages: {', '.join(missing)}. Install them now?"
        if not slicer.util.confirmOkCancelDisplay(question):
            raise RuntimeError("declined")
        slicer.util.pip_install(missing)
    except subprocess.CalledProcessError as error:
        raise GaussianMRIError(_failed(", ".join(missing), error)) from error
    except RuntimeError as error:
        raise GaussianMRIError(f"{', '.join(missing)} needed and not installed. {_UNCHANGED}") from error


def _failed(what: str, error: Exception) -> str:
    return (
        f"{what} could not be installed ({error}). Is there a network connection, and may Slicer use it? Without one, "
        f"install the packages with Slicer's pip from files. {_UNCHANGED}"
    )


def _wanted() -> list[str]:
    lines = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]


def _installed(requirement: str) -> bool:
    """Whether a requirement such as `pydicom>=2.4` is met."""
    match = re.fullmatch(r"([\w.-]+)(?:\[[\w,]+\])?\s*(?:>=\s*([\d.]+))?", requirement)
    if match is None:
        raise GaussianMRIError(f"'{requirement}' is no requirement of the form name or name>=version.")
    try:
        version = importlib.metadata.version(match[1])
    except importlib.metadata.PackageNotFoundError:
        return False
    return match[2] is None or _numbers(version) >= _numbers(match[2])


def _torch_version() -> tuple[int, ...]:
    """(0,) where torch is not installed. Without importing it: that takes seconds."""
    try:
        return _numbers(importlib.metadata.version("torch"))
    except importlib.metadata.PackageNotFoundError:
        return (0,)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
