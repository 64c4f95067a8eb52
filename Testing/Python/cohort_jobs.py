"""Jobs of test_cohort.py: functions of a module, so that other processes can import them."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

from GaussianMRILib.cohort import Outcome, stopping
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.files import atomic_write


def double(item: int) -> int:
    return 2 * item


def process_and_threads(item: int) -> tuple[int, str, int]:
    import torch

    return os.getpid(), os.environ["OMP_NUM_THREADS"], torch.get_num_threads()


def troubled(item: str) -> object:
    """Whatever can go wrong in one study."""
    if item == "refused":
        raise GaussianMRIError("series 7 is\ntruncated | copy it again")
    if item == "bug":
        return {}["key"]
    if item == "memory":
        raise MemoryError
    if item == "remark":
        logging.getLogger("GaussianMRI").warning("the segment is not flat")
        return Outcome("value", lines=("two axial series",))
    return "value"


def dies(item: Path) -> str:
    """The study "deadly" takes its process with it; the others leave a file each time they run."""
    with open(item, "a") as file:
        file.write("ran\n")
    if item.name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return item.name


def unsendable(item: int) -> object:
    return (lambda: item) if item == 1 else item


def slow(item: tuple[Path, float]) -> str:
    """Write a file in small steps, as a fit would, asking whether to stop."""
    target, seconds = item
    end = time.monotonic() + seconds
    with atomic_write(target) as temporary:
        while time.monotonic() < end:
            if stopping():
                raise GaussianMRIError("cancelled")
            with temporary.open("a") as file:
                file.write("step\n")
            time.sleep(0.02)
    return target.name
