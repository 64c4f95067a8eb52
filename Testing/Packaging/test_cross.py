"""The kernels cross-compiled for other systems, and their test programs run there where an emulator is at hand.

`make cross` runs this, with a Zig that it installs; it is not among the other tests, since a compiler for every system takes
minutes. GCC's cross-compilers, qemu and wine are used where the system has them.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = [path.stem for path in sorted((ROOT / "Testing" / "Native").glob("*_test.cpp"))]
ENVIRONMENT = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    "WINEDEBUG": "-all",
}


class Target(NamedTuple):
    """A system to compile for."""

    system: str  # CMAKE_SYSTEM_NAME
    processor: str  # CMAKE_SYSTEM_PROCESSOR
    zig: str  # the name of the system for Zig
    gcc: str  # the name of GCC's cross-compiler; empty where there is none
    library: str
    machine: tuple[int, bytes]  # where the library says which processor it is for, and what it has to say
    sets: set[str]  # instruction sets of which the emulator has to run one at least
    emulator: Sequence[str]  # empty where there is none
    files: str = ""  # what the emulator needs besides


_X86 = {"sse2", "avx2", "avx512"}
_PE = b"PE\0\0\x64\x86"  # its place is in the file itself
TARGETS = {
    "windows-x86_64": Target(
        "Windows", "AMD64", "x86_64-windows-gnu", "x86_64-w64-mingw32-g++-posix", "gaussianmri.dll", (0x3C, _PE), _X86,
        ["wine"],
    ),
    "linux-arm64": Target(
        "Linux", "aarch64", "aarch64-linux-gnu.2.28", "aarch64-linux-gnu-g++", "libgaussianmri.so", (18, b"\xb7\0"),
        {"neon"}, ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"], "/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1",
    ),
    "macos-arm64": Target(
        "Darwin", "arm64", "aarch64-macos", "", "libgaussianmri.dylib", (4, b"\x0c\0\0\x01"), {"neon"}, [],
    ),
    "macos-x86_64": Target(
        "Darwin", "x86_64", "x86_64-macos", "", "libgaussianmri.dylib", (4, b"\x07\0\0\x01"), _X86, [],
    ),
}  # fmt: skip
BUILDS = [(name, kind) for name, target in TARGETS.items() for kind in ("zig", "gcc") if kind == "zig" or target.gcc]


def compiler(target: Target, kind: str) -> list[str]:
    if kind == "gcc":
        if not shutil.which(target.gcc):
            pytest.skip(f"needs {target.gcc}")
        return [target.gcc]
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs Zig: pip install ziglang")
    return [sys.executable, "-m", "ziglang", "c++", "-target", target.zig]


def run(*command: str | Path) -> str:
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module", params=BUILDS, ids="-".join)
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Target, Path]:
    """A system, and the folder in which kernels and test programs are compiled for it; it is kept for the next time."""
    name, kind = request.param
    target = TARGETS[name]
    folder = ROOT / "build" / "cross" / f"{name}-{kind}"
    options = {
        "CMAKE_SYSTEM_NAME": target.system,
        "CMAKE_SYSTEM_PROCESSOR": target.processor,
        "CMAKE_CXX_COMPILER": ";".join(compiler(target, kind)),
        "GAUSSIANMRI_BUILD_TESTING": "ON",
        "CMAKE_RUNTIME_OUTPUT_DIRECTORY": str(folder / "out"),
        "CMAKE_LIBRARY_OUTPUT_DIRECTORY": str(folder / "out"),
        "CMAKE_CXX_FLAGS": "-Werror",
    }
    if target.system == "Windows":  # CMake asks for a compiler of resources, of which there are none
        # Outside of the checkout: its links lead to the whole disk, and what packs a source archive would follow them.
        ENVIRONMENT.setdefault("WINEPREFIX", str(tmp_path_factory.getbasetemp() / "wine"))
        options["CMAKE_RC_COMPILER"] = shutil.which("cmake", path=ENVIRONMENT["PATH"]) or "cmake"
        if kind == "gcc":
            options["CMAKE_SHARED_LINKER_FLAGS"] = options["CMAKE_EXE_LINKER_FLAGS"] = "-static"
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *(f"-D{key}={value}" for key, value in options.items()))
    said = run("cmake", "--build", folder, "--parallel", "2")
    assert "warning:" not in said, said
    return target, folder / "out"


def test_the_library_is_for_that_processor(build: tuple[Target, Path]) -> None:
    target, out = build
    content = (out / target.library).read_bytes()
    place, wanted = target.machine
    if target.system == "Windows":
        place = int.from_bytes(content[place : place + 4], "little")
    assert content[place : place + len(wanted)] == wanted


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_pass_there(build: tuple[Target, Path], program: str) -> None:
    target, out = build
    if not target.emulator:
        pytest.skip(f"compiled and linked; there is no emulator of {target.system}")
    if not shutil.which(target.emulator[0]):
        pytest.skip(f"compiled and linked, not run: needs {target.emulator[0]}")
    if target.files and not Path(target.files).exists():
        pytest.skip(f"compiled and linked, not run: needs {target.files}")
    path = out / (program + ".exe" * (target.system == "Windows"))
    said = run(*target.emulator, path)
    assert "all passed" in said and "scalar done" in said
    assert any(f"{name} done" in said for name in target.sets), said
