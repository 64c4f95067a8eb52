"""One job per study: on processes, on a cluster, or here; resumable, and a study that fails is one line."""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import GaussianMRIError
from ..files import atomic_write, locked, reading
from ..interruption import end_with_parent
from .inputs import fingerprint, is_done, remove_outdated
from .report import DONE, FAILED, CohortReport, CohortRow, with_row

REPORT, SETTINGS, LOCK = "report.csv", "cohort.json", ".lock"
_POLL_SECONDS = 0.2
_DIED = "its process died, most often for lack of memory; use fewer workers"
_OF_OTHER_INPUTS = "its files are those of an earlier run, of other inputs than there are now"
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)  # fmt: skip
_logger = logging.getLogger("GaussianMRI")
_GRACE_SECONDS = 10.0  # for a study to end in good order when the run that it is of was killed
_idle = threading.Event()  # in a worker: it has no study just now
_idle.set()
_never: Callable[[], bool] = lambda: False  # noqa: E731
_stopping = _never


@dataclass(frozen=True)
class Outcome:
    """What a job returns: a value for `receive`, and for the report remarks, the stacks that were used, and the files that
    were made, by their names below the folder."""

    value: Any = None
    _: KW_ONLY
    lines: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def stopping() -> bool:
    """Whether the run that called this job was cancelled; long jobs ask now and then, and end early.

    Known to jobs in this process and in the processes that `run_cohort` starts, not to those of other executors.
    """
    return _stopping()


def run_cohort(
    items: Mapping[str, Any] | Iterable[str],
    work: Callable[[Any], Any],
    folder: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    workers: int | None = None,
    threads: int | None = None,
    settings: Mapping[str, Any] | None = None,
    inputs: Callable[[str], Iterable[Path]] | None = None,
    keep: bool = True,
    receive: Callable[[str, Any], object] | None = None,
    progress: Callable[[int, int, CohortRow], object] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CohortReport:
    """Run `work(item)` for every study; an error of one is its line in the report, and the others go on.

    `folder/report.csv` is rewritten after every study. A run that was stopped, in whatever way, goes on when it is called
    again: studies that are done are left out, those that failed are tried again, and so are those whose inputs have changed
    or whose files are gone. Studies of earlier runs stay in the report; several runs may share the folder, say one for each
    study on a cluster. A study that fails keeps its files of an earlier run; a line says so where its inputs are others now.

    Args:
        items: names of studies and what `work` gets for each; or names alone.
        work: picklable (a function of a module, `functools.partial` of one, an object with `__call__`), unless the executor
            is of threads. Returns anything, or an `Outcome`. What it logs as a warning becomes a remark.
        folder: made if absent.
        executor: any `concurrent.futures.Executor`, which stays open. Dask's is
            `distributed.Client(address).get_executor()`: its workers need this library, and see the same files. By default
            processes, started afresh (spawn) and ended with the run: a script that calls this does so below
            `if __name__ == "__main__":`.
        workers: studies at a time: processes (by default one per core), 1 to work in this process; with an `executor`, how
            many it is given at a time (by default all).
        threads: of torch and of kernels for each study; by default the cores shared among the workers; with an `executor`
            nothing is changed unless it is given.
        settings: JSON; the folder refuses to go on with others.
        inputs: files and folders that a study is made of, by its name.
        keep: whether a study that fails keeps its files of an earlier run; where nobody who uses them sees the report it
            does not.
        receive: called in this process with the name and the value, before the study counts as done.
        progress: called after each study with studies finished, studies in all, and the row.
        cancelled: asked several times a second; when it says yes, running studies are told (`stopping`) and dropped.

    Raises:
        GaussianMRIError: the folder holds another run or cannot be written, or the executor broke.
        KeyboardInterrupt: after running studies have ended; everything done is kept.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(8) as pool:                                      # doctest: +SKIP
        ...     report = run_cohort(["a", "b"], work, "out", executor=pool)
    """
    root = Path(folder)
    named = dict(items) if isinstance(items, Mapping) else {name: name for name in items}
    _claim(root, settings)
    report = CohortReport.read(root / REPORT)
    report.asked = tuple(named)
    # Before the work: what changes meanwhile is seen by the next run.
    made_of = {name: fingerprint(inputs(name)) if inputs is not None else "" for name in named}
    todo = [name for name in named if not is_done(report.rows.get(name), made_of[name], root)]
    report.resumed = len(named) - len(todo)
    finished = 0

    def finish(name: str, result: _Result) -> None:
        nonlocal finished
        if not result.failed and receive is not None:
            receive(name, result.value)
        with locked(root / LOCK):
            rows = CohortReport.read(root / REPORT).rows  # with those of other runs
            before = rows.get(name)
            row = CohortRow(
                name, FAILED if result.failed else DONE, seconds=result.seconds, lines=result.lines, stacks=result.stacks,
                files=result.files, inputs=made_of[name],
            )  # fmt: skip
            if result.failed and keep and before is not None and before.files:
                other = () if before.inputs == row.inputs else (_OF_OTHER_INPUTS,)
                row = replace(before, outcome=FAILED, seconds=row.seconds, lines=(*row.lines, *other))
            report.rows = with_row(rows, row, list(named))
            report.write()
            remove_outdated(before, report.rows, root)
        finished += 1
        if progress is not None:
            progress(report.resumed + finished, len(named), row)

    ask = _Once(cancelled)
    cores = _cores()
    if executor is not None:
        job = _Job(work, named, threads)
        if not _drive(executor, job, todo, workers or len(todo), finish, ask):
            report.cancelled = True
        return report
    count = max(1, min(workers or cores, len(todo)))
    job = _Job(work, named, threads or _share(cores, count))
    if workers == 1:
        report.cancelled = not _here(job, todo, finish, ask)
    else:
        report.cancelled = not _on_processes(job, todo, count, finish, ask)
    return report


class _Once:
    """A cancel that was asked for stays asked for."""

    def __init__(self, cancelled: Callable[[], bool] | None) -> None:
        self.cancelled, self.said = cancelled, False

    def __call__(self) -> bool:
        self.said = self.said or (self.cancelled is not None and self.cancelled())
        return self.said


def _claim(root: Path, settings: Mapping[str, Any] | None) -> None:
    """Make the folder, or check that what it holds was made with the same settings."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        wanted = json.dumps(settings or {}, sort_keys=True, indent=2)
        path = root / SETTINGS
        with locked(root / LOCK):
            if path.exists():
                with reading(path, "the settings of a run"):
                    there = path.read_text(encoding="utf-8").strip()
                if there != wanted:
                    raise GaussianMRIError(
                        f"{root} holds a run with other settings. Choose another folder, or repeat its settings to go on "
                        f"with it (they are in {SETTINGS})."
                    )
                return
            with atomic_write(path) as temporary:
                temporary.write_text(wanted + "\n", encoding="utf-8")
    except OSError as error:
        raise GaussianMRIError(f"{root} cannot be used: {error.strerror or error}.") from error


def _share(cores: int, workers: int) -> int:
    """Threads for each of several workers; no more than the environment allows one process."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    share = max(1, cores // workers)
    return min(share, int(allowed)) if allowed.isdigit() and int(allowed) > 0 else share


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ---- one study -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Result:
    failed: bool
    seconds: float
    value: Any
    lines: tuple[str, ...]
    stacks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """The work and its arguments, for one study after the other."""

    work: Callable[[Any], Any]
    items: Mapping[str, Any]
    threads: int | None

    def submit(self, executor: Executor, name: str) -> Future[_Result]:
        return executor.submit(_call, self.work, self.items[name], self.threads)


class _Remarks(logging.Handler):
    """Warnings of one study."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.lines[_one_line(record.getMessage())] = None


@contextlib.contextmanager
def _remarks() -> Iterator[dict[str, None]]:
    handler = _Remarks()
    _logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        _logger.removeHandler(handler)


def _call(work: Callable[[Any], Any], item: Any, threads: int | None) -> _Result:
    """Run one study where the executor put it; whatever goes wrong comes back as text, which any process can take."""
    _limit_threads(threads)
    _idle.clear()
    began = time.perf_counter()
    failed = False
    value: Any = None
    lines: tuple[str, ...] = ()
    outcome = Outcome()
    with _remarks() as remarks:
        try:
            if stopping():  # it was queued; nobody waits for it
                raise GaussianMRIError("The run was cancelled.")
            value = work(item)
            if isinstance(value, Outcome):
                outcome, value = value, value.value
                lines = tuple(_one_line(line) for line in outcome.lines)
        except GaussianMRIError as error:
            failed, lines = True, (_one_line(str(error)),)
        except MemoryError:
            failed, lines = True, ("not enough memory; use fewer workers",)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            failed, lines = True, (_one_line(f"unexpected {type(error).__name__} in {where}: {error}"),)
        finally:
            _idle.set()
    said = tuple(dict.fromkeys([*lines, *remarks]))
    stacks = tuple(_one_line(stack) for stack in outcome.stacks)
    return _Result(failed, time.perf_counter() - began, value, said, stacks, outcome.files)


def _one_line(text: str) -> str:
    return " ".join(text.replace(" | ", "; ").split())


def _limit_threads(threads: int | None) -> None:
    if threads is None:
        return
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


# ---- where studies run ---------------------------------------------------------------------------------------

Finish = Callable[[str, _Result], None]


def _here(job: _Job, todo: list[str], finish: Finish, cancelled: Callable[[], bool]) -> bool:
    """In this process, one after the other; False when cancelled."""
    global _stopping
    _stopping = cancelled
    try:
        for name in todo:
            if cancelled():
                return False
            result = _call(job.work, job.items[name], None)
            if cancelled() and result.failed:
                return False  # it was told to end
            finish(name, result)
    finally:
        _stopping = _never
    return True


class _Broken(Exception):
    """An executor lost a worker; `names` are the studies that it had."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names


def _drive(
    executor: Executor,
    job: _Job,
    todo: list[str],
    limit: int,
    finish: Finish,
    cancelled: Callable[[], bool],
) -> bool:
    """Give `todo` to an executor, at most `limit` at a time; False when cancelled."""
    waiting = iter(todo)
    running: dict[Future[_Result], str] = {}
    try:
        while True:
            while len(running) < limit and (name := next(waiting, None)) is not None:
                try:
                    with _interrupts_later():
                        running[job.submit(executor, name)] = name
                except BrokenExecutor:
                    raise _Broken([*running.values(), name]) from None
            if not running:
                return True
            done, _ = wait(running, _POLL_SECONDS, FIRST_COMPLETED)
            if cancelled():
                return False
            for future in done:
                try:
                    result = future.result()
                except BrokenExecutor:
                    raise _Broken(list(running.values())) from None
                except Exception as error:  # the study could not be sent there, or its value not back
                    line = f"{type(error).__name__}: {error}"
                    result = _Result(True, 0.0, None, (_one_line(line),))
                finish(running.pop(future), result)
    except _Broken as broken:
        if not isinstance(executor, ProcessPoolExecutor):
            raise GaussianMRIError(
                "The executor lost its workers. Start it anew; the same call goes on with what is done."
            ) from broken
        raise
    finally:
        for future in running:
            future.cancel()


def _on_processes(
    job: _Job, todo: list[str], workers: int, finish: Finish, cancelled: Callable[[], bool]
) -> bool:
    """On processes of our own; one that dies takes its study with it and no other."""
    left = dict.fromkeys(todo)

    def finished(name: str, result: _Result) -> None:
        del left[name]
        finish(name, result)

    suspects: list[str] = []
    while left:
        try:
            if suspects:  # studies that were running when a worker died: alone, to see which one it was
                with _processes(1, job.threads) as pool:
                    if not _drive(pool, job, suspects[:1], 1, finished, cancelled):
                        return False
                suspects = suspects[1:]
                continue
            with _processes(workers, job.threads) as pool:
                if not _drive(pool, job, list(left), workers, finished, cancelled):
                    return False
        except _Broken as broken:
            if suspects:
                finished(suspects[0], _Result(True, 0.0, None, (_DIED,)))
                suspects = suspects[1:]
            else:
                suspects = [name for name in broken.names if name in left]
    return True


@contextlib.contextmanager
def _processes(workers: int, threads: int | None) -> Iterator[ProcessPoolExecutor]:
    """A pool whose jobs are told when the block is left, by a cancel too."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(stop, threads))
    try:
        yield pool
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C waits until the block is left; worker processes that begin in it, at a submit, never get it.

    `_begin` would be too late: a worker imports for seconds before it comes there.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(stop: Any, threads: int | None) -> None:
    """Start of a worker: Ctrl-C is for the parent, which tells its workers to end in good order."""
    global _stopping
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_threads(threads)
    alone = threading.Event()
    _stopping = lambda: alone.is_set() or stop.is_set()  # noqa: E731

    def tidy() -> None:
        alone.set()
        _idle.wait(_GRACE_SECONDS)

    end_with_parent(tidy)
    _logger.addHandler(logging.NullHandler())
    _logger.propagate = False
