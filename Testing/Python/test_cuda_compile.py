"""The CUDA sources compile for every supported architecture, and the Python side finds its way to them."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cuda_support import EMULATION, emulated, needs_compiler, random_scene
from seeds import chosen_seed

from GaussianMRILib import native
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.native import cuda, cuda_launch, ops

CHECK = Path(__file__).resolve().parents[1] / "Native" / "check_cuda_compiles.py"
_SPEC = importlib.util.spec_from_file_location("check_cuda_compiles", CHECK)
assert _SPEC is not None and _SPEC.loader is not None
check = importlib.util.module_from_spec(_SPEC)
sys.modules["check_cuda_compiles"] = check
_SPEC.loader.exec_module(check)


@pytest.fixture
def nvrtc() -> None:
    try:
        cuda_launch.cuda_core()
    except ImportError as error:
        pytest.skip(f"needs the package cuda-core: {error}")


@pytest.mark.parametrize(
    "architecture",
    [*(pytest.param(n, marks=pytest.mark.slow) for n in check.ARCHITECTURES[:-1]), check.ARCHITECTURES[-1]],
)
def test_nvcc_compiles_without_spills(architecture: str) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("needs nvcc")
    table = check.compile_with_nvcc(nvcc, architecture)
    assert {row.kernel for row in table} == set(cuda_launch.kernel_signatures(check.CSRC))
    for row in table:
        print(row)
        # A path is one long function: three blocks of 128 threads on a multiprocessor are enough.
        most = 168 if row.kernel == "gm_trace" else 128
        assert row.spill_bytes == 0 and row.registers <= most, row


def test_nvrtc_compiles_once(nvrtc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a user's first run, with cuda-core alone; the second time the cubin comes from the disk."""
    monkeypatch.setenv("GAUSSIANMRI_CACHE", str(tmp_path))
    code = cuda_launch.compile_cubin("sm_90")
    assert code.startswith(b"\x7fELF") and all(name.encode() in code for name in _kernels())
    (kept,) = tmp_path.glob("*.cubin")
    kept.write_bytes(b"kept")
    assert cuda_launch.compile_cubin("sm_90") == b"kept"


def test_changed_sources_are_compiled_anew(
    nvrtc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAUSSIANMRI_CACHE", str(tmp_path / "cache"))
    shutil.copytree(check.CSRC, tmp_path / "csrc")
    cuda_launch.compile_cubin("sm_80")
    with (tmp_path / "csrc" / "cuda" / "adam.cuh").open("a") as file:
        file.write("\nthis is not C++;\n")
    with pytest.raises(GaussianMRIError, match="do not compile for sm_80"):
        cuda_launch.compile_cubin("sm_80", tmp_path / "csrc")


def test_a_cache_that_cannot_be_written_is_no_error(
    nvrtc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAUSSIANMRI_CACHE", str(tmp_path / "file"))
    assert cuda_launch.compile_cubin("sm_86").startswith(b"\x7fELF")


def _kernels() -> list[str]:
    return list(cuda_launch.kernel_signatures(cuda_launch.source_folder()))


def test_arguments_are_packed_by_the_kernels_signature() -> None:
    tensor = torch.zeros(3)
    values = cuda_launch.pack("pqif", (tensor, 2**40, 7, 0.5))
    assert values[0] == tensor.data_ptr()
    assert [value.itemsize for value in values[1:]] == [8, 4, 4] and values[1] == 2**40
    with pytest.raises(TypeError, match="4 parameters was called with 1"):
        cuda_launch.pack("pqif", (tensor,))


def test_launcher_loads_once_and_follows_torchs_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU launcher with a recorder in place of cuda-core and of the GPU."""
    launches, loads, contexts = [], [], []
    core = SimpleNamespace(
        launch=lambda *call: launches.append(call),
        LaunchConfig=lambda grid, block: (grid, block),
        Stream=SimpleNamespace(from_handle=lambda handle: f"stream {handle}"),
        ObjectCode=SimpleNamespace(
            from_cubin=lambda code: SimpleNamespace(get_kernel=lambda name: (code, name))
        ),
        Device=lambda device: SimpleNamespace(set_current=lambda: contexts.append(device)),
    )
    handle = SimpleNamespace(cuda_stream=0)
    monkeypatch.setattr(cuda_launch, "cuda_core", lambda: core)
    monkeypatch.setattr(cuda_launch, "compile_cubin", lambda arch, folder: loads.append(arch) or arch)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: handle)
    launcher = cuda_launch.CudaLauncher()
    frames, prepared = torch.zeros(2, 12), torch.zeros(2, 19)
    launcher.launch("gm_prepare_planes", (2, 1), 32, frames, prepared)
    handle.cuda_stream = 77
    arguments = ("gm_prepare_planes", (3, 1), 32, frames, prepared)
    thread = threading.Thread(target=launcher.launch, args=arguments)
    thread.start()
    thread.join()
    pointers = (frames.data_ptr(), prepared.data_ptr())
    kernel = ("sm_90", "gm_prepare_planes")
    assert launches[0] == ("stream 1", ((2, 1, 1), (32, 1, 1)), kernel, *pointers)
    assert launches[1] == ("stream 77", ((3, 1, 1), (32, 1, 1)), kernel, *pointers)
    assert loads == ["sm_90"] and len(contexts) == 2  # one context for each thread


@needs_compiler
def test_emulation_has_every_kernel() -> None:
    library = emulated().launcher._library
    for name in _kernels():
        assert isinstance(getattr(library, f"emulate_{name}"), ctypes._CFuncPtr)


@needs_compiler
def test_emulation_refuses_what_hardware_leaves_undefined(tmp_path: Path) -> None:
    """A lane missing from a collective, and a barrier that not all threads reach, end the program aloud."""
    source = tmp_path / "wrong.cpp"
    source.write_text(
        '#include "cuda_emulation.h"\n'
        "void exited() { if (threadIdx.x) __shfl_xor_sync(~0u, 1, 1); }\n"
        "void stuck() { if (threadIdx.x % 2) __syncthreads(); else __syncwarp(); }\n"
        "void fine() { __syncthreads(); if (threadIdx.x) return; }\n"
        "int main(int, char** v) {\n"
        "  emulation::launch(v[1][0] == 'e' ? exited : v[1][0] == 's' ? stuck : fine, {2}, {64}, nullptr);\n"
        "}\n"
    )
    program = tmp_path / "wrong"
    subprocess.run(
        ["g++", "-std=c++17", "-O1", "-I", str(EMULATION), "-o", str(program), str(source)], check=True
    )
    assert subprocess.run([program, "fine"], check=False).returncode == 0
    for kernel, words in (("exited", "exited"), ("stuck", "deadlock")):
        result = subprocess.run([program, kernel], capture_output=True, text=True, check=False)
        assert result.returncode != 0 and words in result.stderr


@needs_compiler
def test_torch_operators_reach_the_cuda_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.ops does with CUDA tensors - checks, autograd - with the emulation in the GPU's place."""
    operators = emulated()
    scene = random_scene(chosen_seed(), gaussians=50)
    target = torch.rand(scene.total)
    gradients = []
    for on_cuda in (False, True):
        if on_cuda:
            monkeypatch.setattr(ops, "_implementation", lambda device: operators)
        parameters = scene.parameters.clone().requires_grad_()
        image, _, _ = native.render_planes(parameters, *scene[1:])
        mean, _ = native.ssim(image, target, scene.shapes)
        (mean.sum() + 0 * image.sum()).backward()
        assert parameters.grad is not None
        m, v = torch.zeros_like(parameters), torch.zeros_like(parameters)
        values = parameters.detach().clone()
        native.adam_(
            values, parameters.grad, m, v, torch.full((11,), 0.1), torch.zeros(11, dtype=torch.int32), 1
        )
        gradients.append(parameters.grad)
    assert operators.launcher.launched[-1] == "gm_adam_step"
    scale = gradients[0].abs().amax(dim=1, keepdim=True)
    # Edges of footprints may fall differently here; elsewhere the two agree.
    assert ((gradients[0] - gradients[1]).abs() < 1e-3 * scale).float().mean() > 0.95


def test_without_a_gpu_the_reason_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    state = cuda.status()
    assert not state.available and ("without CUDA" in state.reason or "no CUDA device" in state.reason)
    assert cuda.describe().startswith("not available: ")


def test_without_cuda_core_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    cuda._operators.cache_clear()
    state = cuda.status()
    assert not state.available and state.device == "Some GPU" and "pip install cuda-core" in state.reason
    with pytest.raises(GaussianMRIError, match="cuda-core"):
        cuda.ssim(torch.zeros(4), torch.zeros(4), torch.tensor([[2, 2]], dtype=torch.int32))
