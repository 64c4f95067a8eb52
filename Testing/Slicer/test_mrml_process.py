"""A program that makes a file, as a job."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.mrml.process import ProcessJob

REPORT = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
print("a line for people", flush=True)
print(json.dumps({"fraction": 0.25, "text": "a quarter"}), flush=True)
"""
WAIT = "while not (folder / 'go').exists(): time.sleep(0.01)\n"


def job(folder: Path, code: str) -> ProcessJob:
    folder.mkdir(exist_ok=True)
    made = ProcessJob([sys.executable, "-c", REPORT + code, str(folder)], folder / "log.txt", folder / "made.txt")
    made.start()
    return made


def until(done: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_program_reports_and_its_file_is_the_result(tmp_path: Path) -> None:
    running = job(tmp_path, WAIT + "(folder / 'made.txt').write_text('x')\n")
    assert running.fraction == 0 and running.describe() == "starting"
    until(lambda: running.poll() or running.last)
    assert not running.poll() and running.fraction == 0.25 and running.describe() == "a quarter"
    with pytest.raises(GaussianMRIError, match="has not ended"):
        running.result()
    (tmp_path / "go").touch()
    until(running.poll)
    assert running.result() == tmp_path / "made.txt"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("sys.exit('no memory')", "a line for people\nno memory"),
        ("sys.exit(0)", "a line for people"),  # ended well, and made nothing
    ],
)
def test_a_program_that_makes_nothing_says_why(tmp_path: Path, code: str, said: str) -> None:
    failed = job(tmp_path, code)
    until(failed.poll)
    with pytest.raises(GaussianMRIError) as caught:
        failed.result()
    assert str(caught.value) == f"{said}\nAll that it wrote is in {tmp_path / 'log.txt'}."


def test_a_cancelled_program_ends_and_has_no_result(tmp_path: Path) -> None:
    running = job(tmp_path, WAIT + "(folder / 'made.txt').write_text('x')\n")
    running.cancel(patience=0.1)  # it hears nothing
    assert running.poll()
    with pytest.raises(GaussianMRIError, match="cancelled"):
        running.result()
    (tmp_path / "go").touch()
    time.sleep(0.2)
    assert not (tmp_path / "made.txt").exists()


LISTENS = """
from GaussianMRILib.interruption import end_of_input_terminates, termination_interrupts
import subprocess
termination_interrupts()
end_of_input_terminates()
subprocess.run([sys.executable, "-c", "import sys; sys.stdin.read()"], check=True)  # its input is another
(folder / "listens").touch()
try:
    while True:
        sum(range(1000))
except KeyboardInterrupt:
    (folder / "kept").touch()
"""


def test_a_program_that_listens_keeps_its_work(tmp_path: Path) -> None:
    running = job(tmp_path, LISTENS)
    until((tmp_path / "listens").exists)
    running.cancel(patience=30)
    assert running.poll() and (tmp_path / "kept").exists()


def test_a_program_does_not_outlive_the_application(tmp_path: Path) -> None:
    """Its application crashed: the work is kept, and nothing goes on computing that nobody sees."""
    application = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_mrml_process import LISTENS, job, until
running = job(Path({str(tmp_path)!r}), LISTENS)
until((Path({str(tmp_path)!r}) / "listens").exists)
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", application]).returncode == 9
    until((tmp_path / "kept").exists)


@pytest.mark.skipif(sys.platform == "win32", reason="there, a folder with an open file cannot be removed")
def test_a_program_whose_folder_is_removed_has_no_result(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    running = job(folder, "time.sleep(0.5)")
    shutil.rmtree(folder)
    until(running.poll)
    with pytest.raises(GaussianMRIError, match=r"status 0 and did not make .*made\.txt"):
        running.result()
