"""Where the library computes: what is automatic, and what is refused."""

from __future__ import annotations

import sys

import pytest
import torch
from pretended_gpu import pretended_gpus

from GaussianMRILib import device
from GaussianMRILib.device import choose_device, multiplies_bfloat16
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.native.support import cuda_launch
from GaussianMRILib.native.support.cuda_launch import kernel_package


@pytest.fixture
def nvidia(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch with CUDA, and one GPU, but no cuda-core."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(device, "_said", set())
    monkeypatch.setitem(sys.modules, "cuda", None)
    cuda_launch.launcher.cache_clear()


def test_a_gpu_without_its_packages_is_left_unused(nvidia: None, caplog: pytest.LogCaptureFixture) -> None:
    """As `pip install .` leaves a computer with a GPU of NVIDIA; the reason is said once."""
    assert [choose_device("auto").type for _ in range(3)] == ["cpu"] * 3
    (said,) = caplog.messages
    assert said.startswith("The GPU is not used") and 'pip install "cuda-core[cu12]>=' in said
    assert choose_device("auto", kernels=False).type == "cuda"  # torch alone can use it
    assert choose_device("cuda").type == "cuda"  # what was asked for is tried


def test_automatic_is_a_gpu_that_can_be_used() -> None:
    with pretended_gpus():
        assert str(choose_device("auto")) == "cuda"


def test_gpus_of_amd_are_not_supported(
    nvidia: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """torch for ROCm says that CUDA is available, too."""
    monkeypatch.setattr(torch.version, "cuda", None)
    assert choose_device("auto").type == "cpu" and "AMD" in caplog.text
    with pytest.raises(GaussianMRIError, match=r"AMD GPUs are not supported.*'cpu'"):
        choose_device("cuda")
    assert choose_device("cuda", kernels=False).type == "cuda"
    assert not cuda_launch.status().available and "AMD" in cuda_launch.describe()


def test_a_gpu_that_is_not_there_is_refused(nvidia: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cuda:0").index == 0
    with pytest.raises(GaussianMRIError, match="no GPU cuda:7 here: there is one GPU, cuda:0"):
        choose_device("cuda:7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert choose_device(torch.device("cuda", 2)).index == 2
    with pytest.raises(GaussianMRIError, match="there are 3 GPUs, cuda:0 to cuda:2"):
        choose_device("cuda:3")


@pytest.mark.parametrize("name", ["gpu", "mps", "meta", "cuda:-1", ""])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(GaussianMRIError, match="use auto, cpu or cuda"):
        choose_device(name)


@pytest.mark.parametrize(
    ("torchs", "extra"), [("11.8", "cu12"), ("12.1", "cu12"), ("13.0", "cu13"), (None, "cu12")]
)
def test_the_package_that_is_asked_for_exists(monkeypatch: pytest.MonkeyPatch, torchs: str | None, extra: str) -> None:
    """cuda-core has no extra for CUDA 11; its own CUDA 12 works beside torch's 11."""
    monkeypatch.setattr(torch.version, "cuda", torchs)
    assert kernel_package().startswith(f"cuda-core[{extra}]>=")


def test_units_for_bfloat16_count_where_torch_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    for capability, used in (("AVX512", True), ("AVX2", False), ("DEFAULT", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        assert multiplies_bfloat16("cpu") is used
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert not multiplies_bfloat16(torch.device("cpu"))
