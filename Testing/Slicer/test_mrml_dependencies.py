"""What is asked for and installed when a user first needs it. Nothing is installed here: the installers are recorded."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import types
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

import slicer

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.mrml import dependencies


class Computer:
    """A computer with these packages, whose installers record what they are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, packages: dict[str, str]) -> None:
        self.packages = packages
        self.asked: list[Any] = []
        self.torch: Any = types.SimpleNamespace(__version__="2.5.1")
        self.failure: Exception | None = None
        monkeypatch.setattr(importlib.metadata, "version", self.version)
        extension = types.ModuleType("PyTorchUtils")
        extension.PyTorchUtilsLogic = lambda: types.SimpleNamespace(installTorch=self.install_torch)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
        installer = types.ModuleType("slicer.packaging")
        installer.pip_ensure = self.pip_ensure  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "slicer.packaging", installer)

    def version(self, name: str) -> str:
        if name not in self.packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return self.packages[name]

    def install_torch(self, askConfirmation: bool, torchVersionRequirement: str) -> Any:
        self.asked.append(("torch", askConfirmation, torchVersionRequirement))
        if self.failure:
            raise self.failure
        return self.torch

    def pip_ensure(self, requirements: list[str], requester: str) -> None:
        self.asked.append((requirements, requester))
        if self.failure:
            raise self.failure


COMPLETE = {
    "torch": "2.13.0+cpu",
    "numpy": "2.4.1",
    "scipy": "1.17",
    "SimpleITK": "2.5",
    "pydicom": "3.0.2",
    "pillow": "12.0",
}


def test_nothing_is_asked_where_everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(monkeypatch, dict(COMPLETE))
    dependencies.ensure_packages("test")
    assert not computer.asked and not dependencies.packages_missing()


def test_torch_comes_from_the_extension_and_the_rest_from_slicers_installer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computer = Computer(monkeypatch, {**COMPLETE, "pydicom": "2.3.9"})
    del computer.packages["torch"]
    assert dependencies.packages_missing() == ["torch", "pydicom>=2.4.1"]
    dependencies.ensure_packages("Resampling")
    assert computer.asked == [("torch", True, ">=2.4"), (["pydicom>=2.4.1"], "Resampling")]


def test_declining_torch_is_a_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(monkeypatch, {})
    computer.torch = None
    with pytest.raises(GaussianMRIError, match=r"not installed.*Nothing was changed"):
        dependencies.ensure_packages("test")
    assert len(computer.asked) == 1  # and nothing else is asked for


def test_declining_the_rest_is_a_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(monkeypatch, {**COMPLETE, "pydicom": "2.1"})
    computer.failure = RuntimeError("User declined package installation")
    with pytest.raises(GaussianMRIError, match=r"pydicom.*not installed"):
        dependencies.ensure_packages("test")


@pytest.mark.parametrize("packages", [{}, {**COMPLETE, "pydicom": "2.1"}])
def test_offline_is_a_clear_message(monkeypatch: pytest.MonkeyPatch, packages: dict[str, str]) -> None:
    computer = Computer(monkeypatch, dict(packages))
    computer.failure = subprocess.CalledProcessError(1, ["pip"])
    with pytest.raises(GaussianMRIError, match="network"):
        dependencies.ensure_packages("test")


def test_without_the_pytorch_extension_the_user_is_told_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    Computer(monkeypatch, {})
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(GaussianMRIError, match="Extensions Manager"):
        dependencies.ensure_packages("test")


def test_an_old_torch_is_not_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(monkeypatch, {**COMPLETE, "torch": "2.2.2"})
    with pytest.raises(GaussianMRIError, match=r"PyTorch 2\.2\.2.*2\.4"):
        dependencies.ensure_packages("test")
    assert not computer.asked


def test_macs_with_intel_processors_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Computer(monkeypatch, {})
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(GaussianMRIError, match="Intel"):
        dependencies.ensure_packages("test")


@pytest.mark.parametrize("agrees", [True, False])
def test_slicer_5_10_asks_and_installs_by_its_older_means(
    monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    Computer(monkeypatch, {**COMPLETE, "pydicom": "2.1"})
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    questions, installed = [], []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text: questions.append(text) or agrees, raising=False
    )
    monkeypatch.setattr(slicer.util, "pip_install", installed.append, raising=False)
    if agrees:
        dependencies.ensure_packages("Resampling")
        assert installed == [["pydicom>=2.4.1"]]
    else:
        with pytest.raises(GaussianMRIError, match="not installed"):
            dependencies.ensure_packages("Resampling")
        assert not installed
    assert "Resampling" in questions[0] and "pydicom" in questions[0]


@pytest.mark.parametrize(
    ("found", "cuda", "asked"),
    [
        ({}, "12.8", "cuda-core[cu12]>=0.3.2"),
        ({}, "11.8", "cuda-core[cu12]>=0.3.2"),
        ({"cuda-core": "0.3.0", "cuda-bindings": "12.9"}, "12.8", "cuda-core[cu12]>=0.3.2"),
        ({"cuda-core": "0.4.0"}, "13.0", "cuda-core[cu13]>=0.3.2"),
        ({"cuda-core": "0.4.0", "cuda-bindings": "12.9"}, "12.8", None),
        ({}, None, None),  # torch for AMD's GPUs calls them CUDA, too
    ],
)
def test_a_gpu_needs_the_package_that_compiles_for_it(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, str], cuda: str | None, asked: str | None
) -> None:
    import torch

    computer = Computer(monkeypatch, {**COMPLETE, **found})
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    dependencies.ensure_packages("test", cuda=True)
    assert computer.asked == ([] if asked is None else [([asked], "test")])
