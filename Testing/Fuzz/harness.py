"""One command in a process of its own, under limits, and what its end means."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What a command on small files may take: more is a hang or a blow-up.
SECONDS, MEMORY = 60.0, 2 << 30
GOOD = ("accepted", "clean")


@dataclass(frozen=True)
class Verdict:
    """How a command ended.

    Attributes:
        kind: "accepted", "clean" (an error that names its file), or what is wrong: "unnamed", "traceback", "crash", "hang",
            "memory".
        detail: the error's line, or the place of the traceback.
        seconds, memory: wall clock, and bytes that the command needed on top of what its process began with.
    """

    kind: str
    detail: str
    seconds: float
    memory: int

    @property
    def good(self) -> bool:
        return self.kind in GOOD


@contextlib.contextmanager
def ready(seeds: Path | None) -> Iterator[Path]:
    """The folder of seeds, made where it is not there (None: a temporary one), and this process warm."""
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as name:
        folder = (seeds or Path(name) / "seeds").absolute()
        if not folder.is_dir():
            make_seeds(folder)
        # A fork that is killed while it builds the kernels leaves the next one to begin anew.
        subprocess.run([sys.executable, "-m", "GaussianMRILib", "info"], check=True, stdout=subprocess.DEVNULL)
        os.environ["GAUSSIANMRI_PATIENT_KEY"] = str(folder / "grade" / "patients.key")
        warm()
        yield folder


def make_seeds(folder: Path) -> None:
    """Write the seeds from another process: this one must not compute, see `warm`."""
    code = "import sys, pathlib; from Testing.Fuzz import seeds; seeds.make(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, stdout=subprocess.DEVNULL)


def warm() -> None:
    """Import what commands import, so that a fork of this process begins at once.

    Nothing is computed here: a parallel region of torch or a thread of ITK in the parent would hang its forks.
    """
    import pydicom.pixels  # noqa: F401
    import scipy.ndimage
    import scipy.spatial  # noqa: F401
    import SimpleITK  # noqa: F401
    import torch
    import torch._dynamo

    import GaussianMRILib.cinematic.dataset
    import GaussianMRILib.cinematic.export
    import GaussianMRILib.cinematic.train
    import GaussianMRILib.cli
    import GaussianMRILib.fitting
    import GaussianMRILib.grading.network
    import GaussianMRILib.grading.resample_studies
    import GaussianMRILib.grading.train
    import GaussianMRILib.native.planes.operators  # noqa: F401

    try:
        import monai.networks.nets  # noqa: F401

        import Testing.Experiment.run  # noqa: F401
    except ImportError:
        pass
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def run(
    command: Sequence[str] | Callable[[Path, Path], Any],
    folder: Path,
    names: Sequence[str],
    seconds: float = SECONDS,
    memory: int = MEMORY,
    seeds: Path | None = None,
) -> Verdict:
    """Run `gaussianmri COMMAND` in `folder`, in a fork of this process.

    Args:
        command: arguments; or a function, called with `seeds` and `folder`, whose errors are shown as a command's are.
        names: of the damaged files; a clean error has one of them, or the name of a folder they lie in, in its text.
        seconds: of wall clock; more is a hang.
        memory: bytes on top of what the fork begins with; more is a blow-up.
    """
    log = folder / "output.log"
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(command, folder, log, memory, seeds or folder)
    # Of the fork itself: what this process has of files, such as libraries, is no part of it before it is used there.
    before = _pages(child, 1)
    status, usage = _wait(child, begun + seconds)
    took = time.monotonic() - begun
    needed = max(0, usage - before)
    text = log.read_text(errors="replace") if log.exists() else ""
    if status is None:
        return Verdict("hang", f"more than {seconds:.0f} s", took, needed)
    if needed > memory:
        return Verdict("memory", f"{needed / 2**30:.1f} GB", took, needed)
    if os.WIFSIGNALED(status):
        return Verdict("crash", signal.Signals(os.WTERMSIG(status)).name, took, needed)
    if "Traceback (most recent call last)" in text:
        return Verdict("traceback", _place(text), took, needed)
    code = os.WEXITSTATUS(status)
    errors = [line for line in text.splitlines() if line.startswith(("Error: ", "Usage: "))]
    if code == 0:
        return Verdict("accepted", "", took, needed)
    # `grade validate` does not fail where it finds something: it lists problems, and says how many there are.
    listed = re.search(r"^\d+ problems? found$", text, re.MULTILINE)
    named = listed is not None or any(name in text for name in names)
    return Verdict("clean" if named else "unnamed", (errors or [text[-300:]])[-1], took, needed)


def _child(
    command: Sequence[str] | Callable[[Path, Path], Any], folder: Path, log: Path, memory: int, seeds: Path
) -> None:
    code = 99
    try:  # os._exit whatever happens, also where a signal's exception comes late: the parent's frames lie above these
        code = _work(command, folder, log, memory, seeds)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code)


def _work(
    command: Sequence[str] | Callable[[Path, Path], Any], folder: Path, log: Path, memory: int, seeds: Path
) -> int:
    """Exit status of a command, with its output in `log`."""
    try:
        os.setsid()
        os.chdir(folder)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # Of the address space, which more is reserved of than used, hence the room.
        limit = _pages(os.getpid(), 0) + 2 * memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
        from GaussianMRILib import GaussianMRIError
        from GaussianMRILib.cli import main
        from GaussianMRILib.interruption import termination_interrupts

        if not callable(command):
            main(args=list(command), prog_name="gaussianmri")
        termination_interrupts()
        try:
            command(seeds, folder)
        except GaussianMRIError as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 99
    return 0


def _wait(child: int, until: float) -> tuple[int | None, int]:
    """The status of a process (None: killed for taking too long) and the bytes it had at most."""
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage.ru_maxrss * 1024
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            return None, usage.ru_maxrss * 1024
        time.sleep(0.005)


def _pages(process: int, column: int) -> int:
    """Bytes of a process: its address space (column 0), or what is in memory of it (1)."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")


def _place(text: str) -> str:
    """The last line of ours in a traceback, and what was raised."""
    places = re.findall(r'File "[^"]*(GaussianMRILib[^"]*)", line (\d+), in (\S+)', text)
    where = "{}:{} {}".format(*places[-1]) if places else "?"
    last = [line for line in text.splitlines() if re.match(r"^[\w.]+(Error|Exception|Warning|Interrupt)\b", line)]
    return f"{where}: {(last or ['?'])[-1][:160]}"
