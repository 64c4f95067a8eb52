"""The native test programs under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the sanitizers are used on Linux")
def test_sanitize_kernels() -> None:
    if not shutil.which("cmake") or not (
        shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    ):
        pytest.skip("needs cmake and a C++ compiler")
    build = ROOT / "build" / "sanitize"  # kept, so that only what has changed is compiled again
    options = ["-DGAUSSIANMRI_SANITIZE=ON", "-DGAUSSIANMRI_BUILD_TESTING=ON", "-DCMAKE_BUILD_TYPE=Debug"]
    for command in (
        ["cmake", "-S", ROOT, "-B", build, *options],
        ["cmake", "--build", build, "--parallel", "2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("kernels", "cinematic", "lattice"):
        program = build / "Testing" / "Native" / f"{name}_test"
        done = subprocess.run([program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "all passed" in done.stdout
