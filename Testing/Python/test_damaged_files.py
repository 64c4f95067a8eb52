"""Whatever a file has become, the answer is one sentence that names it; the long runs are `make fuzz`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import GaussianMRILib as gm

ROOT = Path(gm.__file__).resolve().parents[1]
CASES = ROOT.parent / "shared" / "cases" / "damaged"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork"),
    pytest.mark.usefixtures("needs_kernels"),
]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small valid files of every kind."""
    folder = tmp_path_factory.mktemp("fuzz") / "seeds"
    code = "import sys, pathlib; from Testing.Fuzz import seeds; seeds.make(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, env=ENVIRONMENT, check=True)
    return folder


@pytest.fixture
def program(seeds: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a program of Testing/Fuzz: in a process that has not computed, as its forks need."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"Testing.Fuzz{name}", *map(str, arguments), "--seeds", str(seeds)]
        return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)

    return run


def test_a_short_run_of_the_fuzzer(program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = program("", "--count", 99, "--seed", 7)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "99 mutations" in done.stdout


def test_the_fuzzer_sees_how_much_memory_a_command_takes(tmp_path: Path) -> None:
    code = (
        "import pathlib\nfrom Testing.Fuzz import harness\nharness.warm()\n"
        "folder = pathlib.Path('.').absolute()\n"
        "for size in (0, 300, 900):\n"
        "    verdict = harness.run(lambda *_: len(b'x' * (size << 20)), folder, [], memory=600 << 20)\n"
        "    print(verdict.kind, verdict.memory >> 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kinds, needed = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert kinds == ("accepted", "accepted", "memory")
    for found, asked in zip(map(int, needed), (0, 300, 900), strict=True):
        assert asked - 30 < found < asked + 60  # it is measured when the fork may have begun


def test_files_that_once_went_wrong(program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    if not CASES.is_dir():
        pytest.skip("needs the files in ../shared/cases")
    done = program(".cases", CASES)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "0 wrong" in done.stdout


def test_kills_leave_old_or_new(program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    for name in ("fit", "resample", "DICOM"):
        done = program(".kills", "--moments", 4, "--only", name)
        assert done.returncode == 0, done.stdout + done.stderr[-2000:]
