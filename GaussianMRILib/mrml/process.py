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


class ProcessJob:
    """A program that writes its progress as lines of JSON; its output is kept in a file.

    Example:
        >>> job = ProcessJob([sys.executable, "-m", "GaussianMRILib", ...], folder / "log.txt")   # doctest: +SKIP
        >>> while job.poll() is None:                                                             # doctest: +SKIP
        ...     for report in job.reports():
        ...         print(report)

    Args:
        command: program and arguments.
        log: file for all that it prints; replaced.
        environment: variables to set besides the present ones.
    """

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self._read = 0
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                **options,
            )

    def poll(self) -> int | None:
        """The exit status, or None while the program runs."""
        return self._process.poll()

    def reports(self) -> list[dict[str, Any]]:
        """The reports that came since the last call; other lines are left to `tail`."""
        with open(self.log, "rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        found = []
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append(value)
        return found

    def tail(self, lines: int = 8) -> str:
        """The last lines that are no reports: what the program said when it failed."""
        said = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() and not line.startswith("{"):
                said.append(line)
        return "\n".join(said[-lines:])

    def cancel(self, patience: float = 5.0) -> None:
        """End the program and all that it started; first politely, after `patience` seconds by force."""
        if self._process.poll() is not None:
            return
        self._signal(force=False)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._signal(force=True)
            self._process.wait()

    def _signal(self, force: bool) -> None:
        if sys.platform == "win32":
            # Windows knows no signals between programs; its tool ends children, too.
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self._process.pid)], capture_output=True)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL if force else signal.SIGTERM)
