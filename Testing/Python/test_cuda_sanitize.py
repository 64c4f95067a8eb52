"""The CUDA kernels' own tests once more, in an emulation where undefined behaviour is fatal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_support import needs_compiler

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
@needs_compiler
def test_emulation_is_clean_under_sanitizers() -> None:
    flags = "-fsanitize=undefined,float-cast-overflow -fno-sanitize-recover=all"
    environment = os.environ | {
        "GAUSSIANMRI_EMULATION_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    names = ("cuda_lattice", "cuda_render", "cuda_ssim_adam", "cinematic_raster_cuda", "cinematic_trace_cuda")
    tests = [str(HERE / f"test_{name}.py") for name in names]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", *tests],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
