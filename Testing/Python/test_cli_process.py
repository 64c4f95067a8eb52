"""The command line as a process: signals, standard streams, start-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import GaussianMRILib as gm

ROOT = Path(gm.__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "GaussianMRILib"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small volume of smooth blobs in 4 mm slices."""
    plane = gm.ImagePlane.from_axes((0, 0, 0), (-1, 0, 0), (0, -1, 0), spacing=(1, 1), shape=(40, 40))
    planes = plane.stack(8, 4.0)
    points = np.stack([p.points() for p in planes])
    path = tmp_path_factory.mktemp("scan") / "scan.nrrd"
    gm.write_volume(path, (200 * (1 + np.sin(points / 5).prod(axis=-1))).astype(np.float32), planes)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_fit_leaves_nothing(scan: Path, tmp_path: Path, sent: signal.Signals) -> None:
    output = tmp_path / "field.npz"
    output.write_bytes(b"an older result")
    command = [*COMMAND, "fit", str(scan), "-o", str(output), "--preset", "paper", "-v", "--device", "cpu"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    try:
        assert process.stderr is not None
        while "Fitting" not in (line := process.stderr.readline()):
            assert line or process.poll() is None, "the fit did not start"
        time.sleep(1.0)
        assert process.poll() is None, "the fit was over before it could be interrupted"
        process.send_signal(sent)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Cancelled" in err and "Traceback" not in err and out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["field.npz"]
    assert output.read_bytes() == b"an older result"


def test_error_status_reaches_the_shell(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "inspect", str(tmp_path)], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 1
    assert done.stdout == "" and done.stderr.startswith("Error: ") and "Traceback" not in done.stderr


def test_streams_are_clean_when_piped(scan: Path) -> None:
    """No progress bars where stderr is no terminal, and a reader that leaves early is no error."""
    done = subprocess.run([*COMMAND, "inspect", str(scan)], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0 and done.stderr == "" and "8 x 40 x 40" in done.stdout


def test_help_imports_no_torch() -> None:
    """Help and version answer at once: torch alone takes seconds to import."""
    code = "import sys, GaussianMRILib.cli; sys.exit(bool({'torch', 'scipy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT).returncode == 0
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0 and gm.__version__ in done.stdout
