"""The kernels as torch operators: registration, misuse, and the choice of a backend."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from instruction_sets import NAMES
from native_scenes import random_scene

from GaussianMRILib import native
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.native.planes import reference
from GaussianMRILib.native.planes.arguments import PlaneScene
from GaussianMRILib.native.support import build

backend = importlib.import_module("GaussianMRILib.native.support.backend")  # its function hides it in the package

ROOT = Path(__file__).resolve().parents[2]


def operators():
    from GaussianMRILib.native.planes import operators  # noqa: F401

    return torch.ops.gaussianmri


def test_opcheck() -> None:
    ops = operators()
    scene = random_scene(3, gaussians=30, shapes=[(6, 7), (4, 4)])
    leaf = scene._replace(parameters=scene.parameters.clone().requires_grad_(True))
    torch.library.opcheck(ops.render_planes, tuple(leaf))
    image, samples, density = native.render_planes(*scene)
    torch.library.opcheck(ops.render_planes_backward, (torch.ones_like(image), samples, density, *scene))
    torch.library.opcheck(
        ops.ssim, (image.clone().requires_grad_(True), torch.rand_like(image), scene.shapes)
    )
    values = [torch.rand(2, 5) for _ in range(4)]
    rules = (torch.full((2,), 0.1), torch.tensor([0, 1], dtype=torch.int32))
    torch.library.opcheck(ops.adam_, (*values, *rules, 1, 0.9, 0.999, 1e-8))


def test_misuse_is_an_error_that_says_what_is_wrong() -> None:
    scene = random_scene(4, gaussians=10, shapes=[(5, 6)])
    wrong = {
        "parameters must have the shape": {"parameters": scene.parameters[:10]},
        "parameters must be torch.float32": {"parameters": scene.parameters.double()},
        "frames must have the shape": {"frames": scene.frames[:, :11]},
        "shapes must be torch.int32": {"shapes": scene.shapes.long()},
        "shapes must not be negative": {"shapes": -scene.shapes},
        "shapes must have the shape": {"shapes": scene.shapes.repeat(2, 1)},
        "weights must have the shape": {"weights": scene.weights[:, :2]},
        "at least one sample": {"offsets": scene.offsets[:, :0], "weights": scene.weights[:, :0]},
        "background must be": {"background": -1.0},
        "cut must lie": {"cut": 0.0},
        "cut must lie ": {"cut": float("nan")},
    }
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=message.strip()):
            native.render_planes(*scene._replace(**change))
    with pytest.raises(ValueError, match="samples must have the shape"):
        native.render_planes_backward(torch.ones(30), torch.ones(2, 30), torch.ones(3, 30), *scene)
    with pytest.raises(ValueError, match="target must have the shape"):
        native.ssim(torch.ones(30), torch.ones(29), scene.shapes)
    values = [torch.ones(2, 4) for _ in range(4)]
    rates = torch.ones(2)
    with pytest.raises(ValueError, match="modes must be 0, 1 or 2"):
        native.adam_(*values, rates, torch.tensor([0, 7], dtype=torch.int32), 1)
    with pytest.raises(ValueError, match="step counts from 1"):
        native.adam_(*values, rates, torch.zeros(2, dtype=torch.int32), 0)
    with pytest.raises(ValueError, match="must be contiguous"):
        native.adam_(torch.ones(4, 2).T, *values[1:], rates, torch.zeros(2, dtype=torch.int32), 1)


@pytest.mark.usefixtures("needs_kernels")
@pytest.mark.parametrize("column", [3, 9])
def test_impossible_frames_are_refused(column: int) -> None:
    scene = random_scene(5, gaussians=3, shapes=[(5, 6)])
    for value in (float("nan"), 1e3):
        frames = scene.frames.clone()
        frames[0, column] = value
        with pytest.raises(ValueError, match=r"plane|frames"):
            native.render_planes(*scene._replace(frames=frames))


def test_arguments_need_not_be_contiguous() -> None:
    scene = random_scene(6, gaussians=50, shapes=[(9, 8)])
    strided = scene._replace(
        parameters=scene.parameters.T.contiguous().T, frames=scene.frames.T.contiguous().T
    )
    assert not strided.parameters.is_contiguous()
    assert torch.equal(native.render_planes(*strided)[0], native.render_planes(*scene)[0])


def test_backend_says_what_it_is() -> None:
    info = native.backend()
    assert info.name in ("native", "built", "reference") and info.reason and info.cuda
    assert (info.path is None) == (info.name == "reference")
    if info.path:
        assert info.path.is_file() and info.simd in NAMES


def in_a_new_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


def test_the_reference_can_be_asked_for_and_warns() -> None:
    code = (
        "import logging; logging.basicConfig()\n"
        "import torch; from GaussianMRILib import native\n"
        "p = torch.zeros(11, 1); p[3] = p[6] = p[8] = p[9] = p[10] = 1\n"
        "f = torch.tensor([[0., 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]])\n"
        "one = torch.ones(1, 1)\n"
        "image = native.render_planes(p, f, torch.ones(1, 2, dtype=torch.int32), 0 * one, one, 1.0)[0]\n"
        "print(native.backend().name, float(image))\n"
    )
    done = in_a_new_process(code, GAUSSIANMRI_BACKEND="reference")
    assert done.stdout.split() == ["reference", "0.5"], done.stderr
    assert "slow" in done.stderr
    done = in_a_new_process(code, GAUSSIANMRI_BACKEND="fastest")
    assert done.returncode != 0 and "must be one of native, build, reference" in done.stderr


@pytest.mark.usefixtures("needs_kernels")
@pytest.mark.parametrize("name", ["scalar", "nonsense"])
def test_instruction_set_from_the_environment(name: str) -> None:
    code = "from GaussianMRILib import native; print(native.backend().simd)"
    done = in_a_new_process(code, GAUSSIANMRI_SIMD=name)
    assert done.stdout.strip() == ("scalar" if name == "scalar" else backend.kernels().simd), done.stderr


def test_without_sources_or_library_the_reference_takes_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backend, "_chosen", None)
    monkeypatch.setattr(backend, "library_name", lambda: "no-such-library.so")
    monkeypatch.setattr(build, "source_root", lambda: None)
    monkeypatch.delenv("GAUSSIANMRI_BACKEND", raising=False)
    with caplog.at_level(logging.WARNING, "GaussianMRI"):
        info = native.backend()
    assert (
        info.name == "reference"
        and "no prebuilt" in info.reason
        and "not part of this installation" in info.reason
    )
    assert "slow" in caplog.text
    scene = random_scene(9, gaussians=5, shapes=[(3, 4)])
    assert torch.equal(native.render_planes(*scene)[0], reference.render_planes(PlaneScene(*scene))[0])


@pytest.mark.skipif(sys.platform == "win32", reason="there CMake is called by hand")
@pytest.mark.parametrize("name", ["cmake", "ninja"])
def test_a_tool_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found = shutil.which
    monkeypatch.setattr(build.shutil, "which", lambda tool: None if tool == name else found(tool) or tool)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(GaussianMRIError, match=f"{name} was not found .* `pip install {name}`"):
        build.building_tools()


def test_a_file_that_is_no_library_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(backend, "_chosen", None)
    monkeypatch.setattr(backend, "library_name", lambda: str(broken))
    monkeypatch.setenv("GAUSSIANMRI_BACKEND", "native")
    with pytest.raises(GaussianMRIError, match="cannot be loaded"):
        native.backend()


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.usefixtures("needs_kernels")
def test_a_forked_child_can_render() -> None:
    code = (
        "import os, sys, torch; sys.path.insert(0, 'Testing/Python'); torch.set_num_threads(3)\n"
        "from native_scenes import random_scene; from GaussianMRILib import native\n"
        "s = random_scene(1, gaussians=3000, shapes=[(40, 40), (30, 30)])\n"
        "a = native.render_planes(*s)[0].sum().item()\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(0 if native.render_planes(*s)[0].numpy().sum() > 0 else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0


def test_structures_and_constants_are_the_librarys(needs_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each capability compares what it has of csrc's layouts and constants when it is first used."""
    from GaussianMRILib.native.lattice import arguments as lattice
    from GaussianMRILib.native.paths import arguments as paths
    from GaussianMRILib.native.planes import arguments as planes
    from GaussianMRILib.native.planes.cpu import CpuPlanes
    from GaussianMRILib.native.splats import arguments as splats
    from GaussianMRILib.native.support import tiles

    library = backend.kernels()
    for part in (planes, lattice, splats, paths, tiles):
        assert part.NUMBERS
        library.agree(part.NUMBERS)
        for name, ours in part.NUMBERS.items():
            with pytest.raises(GaussianMRIError, match=f"another version.*{name} is {ours} there and {ours + 4} here"):
                library.agree({name: ours + 4})
    with pytest.raises(GaussianMRIError, match="kNothing is None there"):
        library.agree({"kNothing": 1})
    with pytest.raises(GaussianMRIError, match="has no function nothing"):
        library.call("nothing")
    monkeypatch.setitem(planes.NUMBERS, "GmPlane", 80)
    with pytest.raises(GaussianMRIError, match="GmPlane is 76 there and 80 here"):
        CpuPlanes(library)


def test_implementations_have_every_operator() -> None:
    """What a capability's protocol asks for, each implementation has, with the same parameters."""
    import inspect

    for name in ("planes", "lattice", "splats", "paths"):
        parts = {
            part: importlib.import_module(f"GaussianMRILib.native.{name}.{part}")
            for part in ("arguments", "reference", "cpu", "cuda")
        }
        asked = inspect.getmembers(parts["arguments"].Implementation, inspect.isfunction)
        asked = [(method, function) for method, function in asked if not method.startswith("_")]
        assert asked
        for method, function in asked:
            parameters = list(inspect.signature(function).parameters)
            assert list(inspect.signature(getattr(parts["reference"], method)).parameters) == parameters[1:]
            for part, kind in (("cpu", f"Cpu{name.capitalize()}"), ("cuda", f"Cuda{name.capitalize()}")):
                found = getattr(getattr(parts[part], kind), method)
                assert list(inspect.signature(found).parameters) == parameters, (name, part, method)
