"""The extension for 3D Slicer: configured, built and packaged with a stand-in for Slicer's CMake macros."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fit_scenes import scan

import GaussianMRILib as gm
from GaussianMRILib.native.support.cuda_launch import source_files
from Testing.Slicer.extension_index import metadata

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = ROOT / "Testing" / "CMake"
MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")
MODULE = ROOT / "GaussianMRI" / "GaussianMRIResampling"
SHARED = ROOT / "GaussianMRI" / "GaussianMRIPanelLib"
MODULE_FOLDERS = [path for path in sorted((ROOT / "GaussianMRI").iterdir()) if path.is_dir() and path != SHARED]

# Programs of this Python's environment (cmake, ninja) come first.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": PATH}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def cmake() -> str:
    found = shutil.which("cmake", path=PATH)
    if not found or not shutil.which("ninja", path=PATH):
        pytest.skip("needs cmake and ninja")
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("needs a C++ compiler")
    return found


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build tree of the extension."""
    folder = tmp_path_factory.mktemp("extension")
    launcher = f"{sys.executable};{STAND_IN / 'launcher.py'}"
    options = ["-G", "Ninja", f"-DSlicer_DIR={STAND_IN}", f"-DSlicer_LAUNCHER_EXECUTABLE={launcher}"]
    for command in (["-S", str(ROOT), "-B", str(folder), *options], ["--build", str(folder), "-j", "2"]):
        done = run(cmake(), *command)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def installed(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user gets: the package of the extension, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    done = run(str(Path(cmake()).with_name("cpack")), "-B", folder, cwd=build)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with tarfile.open(folder / "0-GaussianMRI.tar.gz") as package:
        if hasattr(tarfile, "data_filter"):
            package.extractall(folder, filter="data")
        else:
            package.extractall(folder)
    return folder / "0-GaussianMRI"


def files(folder: Path, *suffixes: str) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in suffixes and not {"__pycache__", "Testing"} & set(path.relative_to(folder).parts)
    }


@pytest.mark.slow
def test_every_file_is_packaged(installed: Path) -> None:
    modules = installed / MODULES
    kinds = (".py", ".npz", ".json", ".txt")
    library = files(ROOT / "GaussianMRILib", *kinds) - {"CMakeLists.txt"}
    assert files(modules / "GaussianMRILib", *kinds) == library and len(library) > 80
    # Slicer puts the files of all modules into one folder, where their names must not meet.
    each = [files(folder, ".py", ".ui", ".png", ".txt") - {"CMakeLists.txt"} for folder in MODULE_FOLDERS]
    shared = {f"{SHARED.name}/{name}" for name in files(SHARED, ".py")}
    module = set().union(shared, *each)
    assert len(module) == len(shared) + sum(len(names) for names in each) and len(shared) > 4
    packaged = {
        name for name in files(modules, ".py", ".ui", ".png", ".txt") if "GaussianMRILib/" not in name
    }
    assert packaged == module
    assert {"GaussianMRIResampling.py", "Resources/UI/GaussianMRIResampling.ui"} <= packaged
    kernels = {path.name for path in (modules / "GaussianMRILib" / "native").glob("*gaussianmri.*")}
    assert len(kernels) == 1
    sources = {path.relative_to(ROOT / "csrc").as_posix() for path in source_files(ROOT / "csrc")}
    assert files(modules / "GaussianMRILib" / "native" / "csrc", ".cuh", ".h") == sources
    assert {"planes/render.cuh", "lattice/cuda.cuh", "lattice/math.h", "support/tiles.cuh"} <= sources


@pytest.mark.slow
def test_kernels_are_built_without_torch_and_python(build: Path) -> None:
    done = run("ninja", "-t", "deps", cwd=build)
    assert "kernels.cpp" in done.stdout and "support/api.h" in done.stdout
    assert not re.findall(r"\S*(?:Python\.h|/torch/|/ATen/|/c10/)\S*", done.stdout)


def in_fresh_python(modules: Path, code: str) -> str:
    """Standard output of code that has the folder of modules on its path, and nothing of this checkout."""
    paths = f"import sys; sys.path.insert(0, {str(modules)!r})\n"
    done = run(sys.executable, "-I", "-c", paths + code, cwd=modules)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_package_works_alone(installed: Path, tmp_path: Path) -> None:
    """Fit and render with nothing but the package: the same image as from the checkout, by the packaged kernels."""
    stack = scan(slices=6, side=(24, 28), pixel=2.0)
    plane = gm.ImagePlane.from_normal((1, 2, 0), (0.2, 0.5, 0.8), shape=(30, 40))
    expected = gm.fit([stack], seed=0).render(plane)
    given = {"pixels": stack.pixels, "poses": stack.ijk_to_ras, "thickness": stack.slice_thickness}
    np.savez(tmp_path / "scan.npz", plane=plane.ijk_to_ras, **given)
    output = in_fresh_python(
        installed / MODULES,
        f"""
import json, sys
import numpy as np
import GaussianMRILib as gm
from GaussianMRILib.native.support.backend import backend
given = np.load({str(tmp_path / "scan.npz")!r})
stack = gm.SliceStack(given["pixels"], given["poses"], given["thickness"])
plane = gm.ImagePlane(given["plane"], {plane.shape}, thickness={plane.thickness})
np.save({str(tmp_path / "image.npy")!r}, gm.fit([stack], seed=0).render(plane))
used = sorted(m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "GaussianMRILib")
info = backend()
print(json.dumps([info.name, str(info.path), used]))
""",
    )
    name, path, used = json.loads(output.splitlines()[-1])
    package = installed / MODULES / "GaussianMRILib"
    assert name == "native" and Path(path).parent == package / "native"
    assert len(used) > 20 and all(Path(file).is_relative_to(package) for file in used)
    image = np.load(tmp_path / "image.npy")
    assert np.isfinite(image).mean() > 0.2
    np.testing.assert_allclose(image, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_ctest_runs_the_tests_of_the_module(build: Path) -> None:
    """Loads the module from the build tree, with its panel, and runs its own tests."""
    pytest.importorskip("slicer", reason="needs slicer-core", exc_type=ImportError)
    pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6_Essentials", exc_type=ImportError)
    done = run(str(Path(cmake()).with_name("ctest")), "--verbose", cwd=build)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "py_GaussianMRIResamplingModuleTest" in done.stdout
    assert re.search(r"Ran [1-9]\d* tests? in", done.stdout)
    assert f"Loaded {build / MODULES / 'GaussianMRIResampling.py'}" in done.stdout
    assert f"The library is {build / MODULES / 'GaussianMRILib'}" in done.stdout
    assert f"What the panels share is {build / MODULES / 'GaussianMRIPanelLib'}" in done.stdout


@pytest.mark.slow
def test_modules_load_from_the_package(installed: Path) -> None:
    """With their panels, and with nothing of this checkout but the stand-in for Slicer."""
    pytest.importorskip("slicer", reason="needs slicer-core", exc_type=ImportError)
    pytest.importorskip("PySide6.QtWidgets", reason="needs PySide6_Essentials", exc_type=ImportError)
    names = [folder.name for folder in MODULE_FOLDERS]
    code = f"import slicer; [getattr(slicer.modules, name.lower()).widgetRepresentation() for name in {names}]"
    options = ("--additional-module-paths", installed / MODULES, "--python-code", code)
    done = run(sys.executable, STAND_IN / "launcher.py", *options, cwd=installed)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(re.findall(r"^Loaded ", done.stdout, re.MULTILINE)) == len(names) == 3
    assert f"What the panels share is {installed / MODULES / 'GaussianMRIPanelLib'}" in done.stdout
    assert f"The library is {installed / MODULES / 'GaussianMRILib'}" in done.stdout


@pytest.mark.slow
def test_the_package_describes_the_extension(installed: Path) -> None:
    values = metadata(ROOT)
    described = (installed / "share/Slicer-5.12/GaussianMRI.s4ext").read_text(encoding="utf-8")
    assert f"description {values['DESCRIPTION']}\n" in described and "depends PyTorch\n" in described


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("slicerMacroBuildScriptedModule(NAME A SCRIPTS A.py WITH_SUBDIRS)", "WITH_SUBDIRS"),
        ("slicerMacroBuildScriptedModule(NAME A SCRIPT A.py)", "SCRIPT;A.py"),
        ("slicerMacroBuildScriptedModule(NAME A SCRIPTS A.py B.py)", "nonexistent file 'B.py'"),
        ("slicerMacroBuildScriptedModule(NAME A SCRIPTS A.py RESOURCES no.ui)", "nonexistent file 'no.ui'"),
        ("slicerMacroBuildScriptedModule(SCRIPTS A.py)", "NAME is mandatory"),
        ("slicer_add_python_unittest(SCRIPT no.py)", "nonexistent file 'no.py'"),
        ("slicer_add_python_unittest(SCRIPTS A.py)", "SCRIPTS;A.py"),
        ("slicer_macro_that_is_not(A)", "slicer_macro_that_is_not"),
        ("slicerMacroBuildScriptedModule(NAME A SCRIPTS A.py)\nslicer_add_python_unittest(SCRIPT A.py)", ""),
    ],
)
def test_the_stand_in_refuses_what_slicer_refuses(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "A.py").write_text("", encoding="utf-8")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16.3)\nproject(Example LANGUAGES NONE)\n"
        "set(CMAKE_C_COMPILER_LOADED 1)\nset(CMAKE_CXX_COMPILER_LOADED 1)\n"
        f"find_package(Slicer REQUIRED)\ninclude(${{Slicer_USE_FILE}})\n{text}\n",
        encoding="utf-8",
    )
    done = run(cmake(), "-G", "Ninja", "-S", tmp_path, "-B", tmp_path / "build", f"-DSlicer_DIR={STAND_IN}")
    assert (done.returncode != 0) == bool(error), done.stderr
    assert error in re.sub(r"\s+", " ", done.stderr)
