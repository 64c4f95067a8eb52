"""Slicer is closed while something computes: Python ends under threads that are in native code.

In the real application (5.12.3) a daemon thread that comes back into an interpreter that is gone ends in "terminate called
without an active exception". A Python process that ends is the same thing without a window.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

resource = pytest.importorskip("resource", reason="needs a system that tells the processor time of a process")

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

ROOT = Path(__file__).resolve().parents[2]

FIT = """
import sys, time
import numpy as np
sys.path.insert(0, sys.argv[1])
from GaussianMRILib.fitting import Fitter
from GaussianMRILib.mrml.jobs import FitJob, end_jobs
from GaussianMRILib.stacks import SliceStack
pixels = np.random.default_rng(0).gamma(2, 100, (15, 256, 256)).astype(np.float32)
job = FitJob(Fitter(SliceStack.from_array(pixels, np.diag([.7, .7, 4.5, 1.]))))
job.start()
time.sleep(float(sys.argv[2]))
if sys.argv[3] == "cancel":
    job.cancel()
elif sys.argv[3] == "cleanup":
    assert end_jobs()
print("LEAVES", time.process_time(), job.describe(), flush=True)
"""
LIVE = """
import sys, time
import numpy as np
sys.path.insert(0, sys.argv[1])
from GaussianMRILib.cinematic import LivePicture, find_look
from GaussianMRILib.mrml.jobs import Job, end_jobs
volume = np.random.default_rng(0).gamma(2, 300, (200, 160, 160)).astype(np.float32)
live = LivePicture(volume, np.eye(4), find_look("MR head"))
live.look(live.camera(size=512))
def work(job):
    while not job.cancelled:
        live.refine()
job = Job(work, "picture")
job.start()
time.sleep(float(sys.argv[2]))
if sys.argv[3] == "cancel":
    job.cancel()
elif sys.argv[3] == "cleanup":
    assert end_jobs()
print("LEAVES", time.process_time(), live.done, flush=True)
"""
#: Processor seconds, of both cores together, that a fit may go on after it was called off, and Python's own end.
MOST = 3.0


def spent() -> float:
    """Processor seconds of the processes that this one has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(usage.ru_utime + usage.ru_stime)


def leave(moment: float, how: str, program: str = FIT) -> float:
    """End an interpreter `moment` seconds after a fit, or other work, began; processor seconds that it took to end.

    Not seconds on the clock: those depend on what else the computer does.
    """
    command = [sys.executable, "-c", program, str(ROOT), str(moment), how]
    before = spent()
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{moment} s, {how}: {done.returncode} {done.stdout} {done.stderr}"
    then = re.search(r"^LEAVES (\S+)", done.stdout, re.MULTILINE)
    assert then is not None, done.stdout
    return spent() - before - float(then[1])


@pytest.mark.parametrize("how", ["quit", "cancel", "cleanup"])
def test_a_process_ends_well_while_it_fits(how: str) -> None:
    assert leave(2.5, how) < MOST


@pytest.mark.parametrize("moment", [0.1, 2.0])  # while the volume is prepared, and while bands are traced
@pytest.mark.parametrize("how", ["quit", "cleanup"])
def test_a_process_ends_well_while_a_picture_is_refined(moment: float, how: str) -> None:
    assert leave(moment, how, LIVE) < MOST


@pytest.mark.slow
def test_a_process_ends_well_at_any_moment_of_a_fit() -> None:
    moments = random.Random(16)
    for number in range(20):
        assert leave(moments.uniform(0, 6), ("quit", "cancel", "cleanup")[number % 3]) < MOST
