"""Work that is called off ends at the next kernel or layer, not at the next line of progress."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from fit_scenes import scan

from GaussianMRILib import Fitter, GaussianMRIError, native
from GaussianMRILib.interruption import checkpoint, interruptible, signals_later, termination_interrupts


class Called(Exception):
    """What a check raises."""


def refuse() -> None:
    raise Called


def test_only_work_within_the_block_and_its_thread_is_called_off() -> None:
    checkpoint()
    heard: list[str] = []

    def elsewhere() -> None:
        checkpoint()
        heard.append("not called off")

    with interruptible(lambda: None), pytest.raises(Called), interruptible(refuse):
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        checkpoint()
    checkpoint()
    assert heard == ["not called off"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_step(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        termination_interrupts()
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        done: list[str] = []
        with pytest.raises(KeyboardInterrupt):
            with signals_later():
                signal.raise_signal(number)
                done.append("the step")
            done.append("the next")
        assert done == ["the step"]
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_kernel_is_not_begun_once_the_work_is_called_off() -> None:
    image, shapes = torch.zeros(16), torch.tensor([[4, 4]], dtype=torch.int32)
    native.ssim(image, image, shapes)
    with interruptible(refuse), pytest.raises(Called):
        native.ssim(image, image, shapes)


def fitter() -> Fitter:
    return Fitter(scan(slices=9, side=(32, 32), pixel=2.0), passes=2)


def checks(fit: Fitter, cancel_at: int | None = None) -> tuple[int, int]:
    """How often a fit looked whether it was called off, and how often it told of its progress."""
    problem, looked, told = fit._fit.problem, 0, 0
    check = problem.check

    def counted() -> None:
        nonlocal looked
        looked += 1
        if looked == cancel_at:
            fit.cancel()
        check()

    problem.check = counted
    try:
        for _ in fit:
            told += 1
    except GaussianMRIError as error:
        assert cancel_at is not None and "cancelled" in str(error)
    return looked, told


def test_a_fit_looks_between_its_steps_and_ends_where_it_is() -> None:
    looked, told = checks(fitter())
    assert looked > 8 * told
    for moment in (1, looked // 3, looked // 2, looked - 2):
        assert checks(fitter(), cancel_at=moment)[0] == moment  # nothing swallows it, and nothing is computed after it


@pytest.mark.parametrize("leaves", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_worker_ends_when_its_parent_has_ended(tmp_path: Path, leaves: str) -> None:
    """The end of its output, which the worker has from its parent, is heard when both are gone."""
    (tmp_path / "main.py").write_text(f"""
import multiprocessing, os, time
from GaussianMRILib.interruption import end_with_parent

def worker(begun):
    end_with_parent(lambda: print("tidied", flush=True))
    begun.set()
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    context.Process(target=worker, args=(begun,)).start()
    begun.wait()
    print("begun", flush=True)
    {leaves}
""")
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, text=True, timeout=120, env=environment
    )
    assert done.stdout.split() == ["begun", "tidied"]
