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
from typing import Any

import pytest
import torch
from cuda_support import EMULATION, emulated, emulation_launcher, needs_compiler, random_scene
from pretended_gpu import Pretended, pretended_gpus
from seeds import chosen_seed

from GaussianMRILib import native
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.native.planes import operators
from GaussianMRILib.native.support import cuda_launch

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
    kind, code = cuda_launch.compile_kernels("sm_90")
    assert kind == "cubin" and code.startswith(b"\x7fELF") and all(name.encode() in code for name in _kernels())
    (kept,) = tmp_path.glob("*.cubin")
    kept.write_bytes(b"kept")
    assert cuda_launch.compile_kernels("sm_90") == ("cubin", b"kept")


def test_changed_sources_are_compiled_anew(
    nvrtc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAUSSIANMRI_CACHE", str(tmp_path / "cache"))
    shutil.copytree(check.CSRC, tmp_path / "csrc")
    cuda_launch.compile_kernels("sm_80")
    with (tmp_path / "csrc" / "planes" / "adam.cuh").open("a") as file:
        file.write("\nthis is not C++;\n")
    with pytest.raises(GaussianMRIError, match="do not compile for sm_80"):
        cuda_launch.compile_kernels("sm_80", tmp_path / "csrc")


def test_a_cache_that_cannot_be_written_is_no_error(
    nvrtc: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GAUSSIANMRI_CACHE", str(tmp_path / "file"))
    assert cuda_launch.compile_kernels("sm_86")[1].startswith(b"\x7fELF")


def _kernels() -> list[str]:
    return list(cuda_launch.kernel_signatures(cuda_launch.source_folder()))


def _signatures(folder: Path, source: str) -> dict[str, str]:
    (folder / "some").mkdir(exist_ok=True)
    (folder / "some" / "cuda.cuh").write_text(source)
    return cuda_launch.kernel_signatures(folder)


def test_signatures_are_read_from_the_sources(tmp_path: Path) -> None:
    source = (
        "// a __global__ word in a comment, and (brackets)\n"
        'extern "C" __global__ void gm_one(const float* a, long long* b, const unsigned char* c, int n) {}\n'
        'extern "C" __global__ void __launch_bounds__(256, 2)\n    gm_two(float x,\n           long long y) {}\n'
    )
    assert _signatures(tmp_path, source) == {"gm_one": "pppi", "gm_two": "fq"}


@pytest.mark.parametrize(
    ("declaration", "words"),
    [
        ("void gm_one(const int n)", "'const int n' of gm_one"),
        ("void gm_one(bool n)", "'bool n' of gm_one"),
        ("void gm_one(float* a, double n)", "'double n' of gm_one"),
        ("void gm_one(unsigned n)", "'unsigned n' of gm_one"),
        ("void gm_one(long n)", "'long n' of gm_one"),
        ("void gm_one()", "'' of gm_one"),
        ("__launch_bounds__(256) void gm_one(int n)", "cannot be read"),
        ("void __launch_bounds__(min(256, 2)) gm_one(int n)", "cannot be read"),
        ("int gm_one(int n)", "cannot be read"),
    ],
)
def test_what_a_signature_does_not_say_is_refused(tmp_path: Path, declaration: str, words: str) -> None:
    """A kernel that is read wrongly, or not at all, would fail only where there is a GPU."""
    source = f'extern "C" __global__ void gm_two(int n) {{}}\nextern "C" __global__ {declaration} {{}}\n'
    with pytest.raises(GaussianMRIError, match=f"csrc/some/cuda.cuh.*{words}"):
        _signatures(tmp_path, source)


def test_every_kernel_of_the_sources_is_known() -> None:
    declared = sum(path.read_text().count("__global__ void") for path in cuda_launch.source_files(check.CSRC))
    assert len(_kernels()) == declared >= 20


def test_arguments_are_packed_by_the_kernels_signature() -> None:
    tensor = torch.zeros(3)
    values = cuda_launch.pack("pqif", (tensor, 2**40, 7, 0.5))
    assert values[0] == tensor.data_ptr()
    assert [value.itemsize for value in values[1:]] == [8, 4, 4] and values[1] == 2**40
    with pytest.raises(TypeError, match="4 parameters was called with 1"):
        cuda_launch.pack("pqif", (tensor,))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU launcher with a recorder in place of cuda-core and of the GPU."""
    record = SimpleNamespace(launches=[], loads=[], contexts=[], stream=SimpleNamespace(cuda_stream=0), kind="cubin")

    def loaded(kind: str) -> Any:
        return lambda code: SimpleNamespace(get_kernel=lambda name: (kind, code, name))

    core = SimpleNamespace(
        launch=lambda *call: record.launches.append(call),
        LaunchConfig=lambda grid, block: (grid, block),
        Stream=SimpleNamespace(from_handle=lambda handle: f"stream {handle}"),
        ObjectCode=SimpleNamespace(from_cubin=loaded("cubin"), from_ptx=loaded("ptx")),
        Device=lambda device: SimpleNamespace(set_current=lambda: record.contexts.append(device)),
    )
    monkeypatch.setattr(cuda_launch, "cuda_core", lambda: core)
    monkeypatch.setattr(
        cuda_launch, "compile_kernels", lambda arch, folder: record.loads.append(arch) or (record.kind, arch)
    )
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: record.stream)
    record.launcher = cuda_launch.CudaLauncher()
    return record


def test_launcher_loads_once_and_follows_torchs_stream(recorded: SimpleNamespace) -> None:
    frames, prepared = (Pretended(torch.zeros(2, n), torch.device("cuda", 0)) for n in (12, 19))
    recorded.launcher.launch("gm_prepare_planes", (2, 1), 32, frames, prepared)
    recorded.stream.cuda_stream = 77
    arguments = ("gm_prepare_planes", (3, 1), 32, frames, prepared)
    thread = threading.Thread(target=recorded.launcher.launch, args=arguments)
    thread.start()
    thread.join()
    pointers = (frames.data_ptr(), prepared.data_ptr())
    kernel = ("cubin", "sm_90", "gm_prepare_planes")
    assert recorded.launches[0] == ("stream 1", ((2, 1, 1), (32, 1, 1)), kernel, *pointers)
    assert recorded.launches[1] == ("stream 77", ((3, 1, 1), (32, 1, 1)), kernel, *pointers)
    assert recorded.loads == ["sm_90"] and len(recorded.contexts) == 2  # one context for each thread


def test_a_launch_refuses_tensors_of_two_devices(recorded: SimpleNamespace) -> None:
    """A kernel that gets the address of another device's memory ends the program, or computes from anything."""
    here = torch.zeros(2, 12)
    there = [Pretended(torch.zeros(2, 19), torch.device("cuda", n)) for n in (0, 1)]
    for pair, places in (((here, there[0]), "cpu, cuda:0"), (there, "cuda:0, cuda:1"), ((here, here), "cpu")):
        with pytest.raises(ValueError, match=f"gm_prepare_planes must be on one GPU, but are on {places}"):
            recorded.launcher.launch("gm_prepare_planes", (2, 1), 32, *pair)
    assert not recorded.launches


def test_operators_refuse_tensors_of_two_gpus() -> None:
    scene = random_scene(chosen_seed(), gaussians=5)
    with pretended_gpus():
        parameters, *planes = scene.to("cuda:0")
        with pytest.raises(ValueError, match="frames must be on cuda:1, got cuda:0"):
            native.render_planes(parameters.to("cuda:1"), *planes)
        assert native.render_planes(parameters, *planes)[0].device == torch.device("cuda:0")


@pytest.mark.parametrize(
    ("architecture", "compiled"),
    [
        ("sm_90", ("sm_90", "cubin")),
        ("sm_130", ("compute_121", "ptx")),
        ("sm_110", ("compute_103", "ptx")),  # came after sm_121
        ("sm_30", ("sm_30", "cubin")),  # nothing would run there, and NVRTC says so
    ],
)
def test_gpus_that_nvrtc_does_not_know_get_ptx(architecture: str, compiled: tuple[str, str]) -> None:
    known = [50, 75, 90, 100, 103, 120, 121]
    assert cuda_launch.compiled_as(architecture, known) == compiled
    assert cuda_launch.compiled_as(architecture, []) == (architecture, "cubin")


def test_ptx_is_loaded_as_ptx(recorded: SimpleNamespace) -> None:
    recorded.kind = "ptx"
    assert recorded.launcher.load(0)["gm_adam_step"] == ("ptx", "sm_90", "gm_adam_step")


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
def test_torch_operators_reach_the_cuda_implementation() -> None:
    """What torch.ops does with CUDA tensors - checks, autograd - with the emulation in the GPU's place."""
    launcher = emulation_launcher()
    whole = random_scene(chosen_seed(), gaussians=50)
    gradients = []
    for device in ("cpu", "cuda:1"):
        with pretended_gpus(launcher):
            scene, target = whole.to(device), torch.rand(whole.total, generator=torch.Generator().manual_seed(1)).to(device)
            parameters = scene.parameters.clone().requires_grad_()
            image, _, _ = native.render_planes(parameters, *scene[1:])
            mean, _ = native.ssim(image, target, scene.shapes)
            (mean.sum() + 0 * image.sum()).backward()
            assert parameters.grad is not None and str(parameters.grad.device) == device
            m, v = torch.zeros_like(parameters), torch.zeros_like(parameters)
            values = parameters.detach().clone()
            native.adam_(
                values, parameters.grad, m, v, torch.full((11,), 0.1), torch.zeros(11, dtype=torch.int32), 1
            )
            gradients.append(parameters.grad.cpu())
    assert launcher.launched[-1] == "gm_adam_step"
    scale = gradients[0].abs().amax(dim=1, keepdim=True)
    # Edges of footprints may fall differently here; elsewhere the two agree.
    assert ((gradients[0] - gradients[1]).abs() < 1e-3 * scale).float().mean() > 0.95


def test_without_a_gpu_the_reason_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    state = cuda_launch.status()
    assert not state.available and ("without CUDA" in state.reason or "no CUDA device" in state.reason)
    assert cuda_launch.describe().startswith("not available: ")


def test_without_cuda_core_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Some GPU")
    cuda_launch.launcher.cache_clear()
    state = cuda_launch.status()
    assert not state.available and state.device == "Some GPU" and 'pip install "cuda-core[cu12]>=' in state.reason
    with pytest.raises(GaussianMRIError, match="cuda-core"):
        operators._implementation(torch.device("cuda"))
