"""A long job in a process of its own, which a timer polls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import GaussianMRIError


class ProcessJob:
    """A program that makes a file, started, polled and asked as a `Job` is.

    It writes its progress as lines of JSON, objects with `fraction` (0 to 1) and `text`; its output is kept in a file. When
    its standard input ends it is called off, and has to end: `interruption.end_of_input_terminates`. Signals would not do:
    Windows has none between programs, and nobody sends one when the application crashes.

    Example:
        >>> job = ProcessJob(command, folder / "log.txt", folder / "model.ply")   # doctest: +SKIP
        >>> job.start()                                                           # doctest: +SKIP
        >>> while not job.poll():                                                 # doctest: +SKIP
        ...     print(job.describe())
        >>> job.result()                                                          # doctest: +SKIP

    Args:
        command: program and arguments.
        log: file for all that it prints; replaced.
        made: the file that it makes.
        environment: variables to set besides the present ones.

    Attributes:
        last: the last report of the program; empty before the first.
    """

    def __init__(
        self, command: Sequence[str], log: Path, made: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.last: dict[str, Any] = {}
        self._command, self._log, self._made = list(command), log, made
        self._environment = environment or {}
        self._read = 0
        self._cancelled = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program."""
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        with open(self._log, "wb") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment},
                **options,
            )

    def poll(self) -> bool:
        """Whether the program has ended (done, failed or cancelled); reads what it has reported."""
        ended = self._status() is not None  # before the reports: a program that has ended has written them all
        text = b""
        with contextlib.suppress(OSError), open(self._log, "rb") as file:  # somebody may have removed the folder
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    self.last = value
        return ended

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return float(self.last.get("fraction", 0.0))

    def describe(self) -> str:
        """One line for a status label."""
        return str(self.last.get("text", "starting"))

    def result(self) -> Path:
        """The file that the program has made, once `poll` says that it has ended.

        Raises:
            GaussianMRIError: it was cancelled, or failed: with the last lines that it wrote, reports left out.
        """
        status = self._status()
        if self._cancelled:
            raise GaussianMRIError("The program was cancelled.")
        if status is None:
            raise GaussianMRIError("The program has not ended yet.")
        if status or not self._made.is_file():
            said = self._tail() or f"The program ended with status {status} and did not make {self._made}."
            raise GaussianMRIError(f"{said}\nAll that it wrote is in {self._log}.")
        return self._made

    def cancel(self, patience: float = 5.0) -> None:
        """End the program and all that it started; first politely, after `patience` seconds by force."""
        if self._process is None or self._process.poll() is not None:
            return
        self._cancelled = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._kill(self._process.pid)
            self._process.wait()

    def _status(self) -> int | None:
        """The exit status, or None while there is none."""
        return None if self._process is None else self._process.poll()

    def _tail(self, lines: int = 8) -> str:
        """The last lines that are no reports: what the program said when it failed."""
        written = ""
        with contextlib.suppress(OSError):
            written = self._log.read_text(encoding="utf-8", errors="replace")
        said = [line for line in written.splitlines() if line.strip() and not line.startswith("{")]
        return "\n".join(said[-lines:])

    @staticmethod
    def _kill(pid: int) -> None:
        if sys.platform == "win32":
            # Its tool ends what the program started, too.
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], capture_output=True)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
