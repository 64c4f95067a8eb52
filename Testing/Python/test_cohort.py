"""One job per study: processes, other executors, resuming, failures, cancels."""

from __future__ import annotations

import csv
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from cohort_jobs import dies, double, process_and_threads, slow, troubled, unsendable

from GaussianMRILib.cohort import CohortReport, CohortRow, Outcome, run_cohort
from GaussianMRILib.cohort.report import with_row
from GaussianMRILib.errors import GaussianMRIError

FOLDER = Path(__file__).parent


@pytest.fixture(autouse=True)
def jobs_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started afresh find the jobs and the library by the path of this one."""
    paths = [str(FOLDER), str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def test_every_study_is_worked_on_once(tmp_path: Path) -> None:
    got: dict[str, int] = {}
    seen: list[tuple[int, int, str]] = []
    items = {f"study {n}": n for n in range(5)}
    report = run_cohort(
        items, double, tmp_path, workers=1,
        receive=got.__setitem__, progress=lambda done, total, row: seen.append((done, total, row.item)),
    )  # fmt: skip
    assert got == {f"study {n}": 2 * n for n in range(5)} and report.done == list(items)
    assert seen == [(n + 1, 5, f"study {n}") for n in range(5)]
    assert report.lines == [] and report.summary == "5 studies: 5 done (0 with remarks), 0 failed"
    assert CohortReport.read(tmp_path / "report.csv").rows.keys() == items.keys()


def test_processes_share_the_cores(tmp_path: Path) -> None:
    got: dict[str, tuple[int, str, int]] = {}
    report = run_cohort(
        {"a": 1, "b": 2, "c": 3}, process_and_threads, tmp_path, workers=2, threads=1, receive=got.__setitem__
    )
    assert report.done == ["a", "b", "c"]
    processes = {process for process, _, _ in got.values()}
    assert os.getpid() not in processes and len(processes) <= 2
    assert {(variable, threads) for _, variable, threads in got.values()} == {("1", 1)}


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    items = ["good", "refused", "bug", "memory", "remark"]
    values: list[str] = []
    report = run_cohort(
        items, troubled, tmp_path, workers=1, receive=lambda name, _value: values.append(name)
    )
    assert report.done == ["good", "remark"] == values and report.failed == ["refused", "bug", "memory"]
    lines = (tmp_path / "report.csv").read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) == 6 and lines[0] == "item,outcome,seconds,stacks,files,inputs,problems"
    assert lines[2].startswith("refused,failed,") and lines[2].endswith(
        "series 7 is truncated; copy it again"
    )
    assert "unexpected KeyError in cohort_jobs.py, line" in lines[3] and "not enough memory" in lines[4]
    assert report.rows["remark"].lines == ("two axial series", "the segment is not flat")
    assert report.lines[0] == "refused: failed: series 7 is truncated; copy it again"
    assert report.summary == "5 studies: 2 done (1 with remarks), 3 failed"


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    calls: list[str] = []

    def work(item: str) -> None:
        calls.append(item)
        if item == "b" and calls.count("b") == 1:
            raise GaussianMRIError("not yet")

    run_cohort("ab", work, tmp_path, workers=1)
    report = run_cohort("abc", work, tmp_path, workers=1)
    assert calls == ["a", "b", "b", "c"]  # done stays done, failed is tried again
    assert report.done == ["a", "b", "c"] and report.resumed == 1
    run_cohort("d", work, tmp_path, workers=1)
    assert run_cohort("abcd", work, tmp_path, workers=1).resumed == 4 and calls[-1] == "d"


def test_a_study_is_done_again_where_its_inputs_changed_or_its_files_are_gone(tmp_path: Path) -> None:
    given, out = tmp_path / "given", tmp_path / "out"
    calls: list[str] = []
    for name in "ab":
        (given / name / "series").mkdir(parents=True)
        (given / name / "series" / "1").write_text("image")

    def work(item: str) -> Outcome:
        calls.append(item)
        made = [f"{item}/{path.name}" for path in (given / item / "series").iterdir()]
        for name in made:
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text("volume")
        return Outcome(files=tuple(made), stacks=("t2", "t1"))

    def run() -> CohortReport:
        calls.clear()
        return run_cohort("ab", work, out, workers=1, inputs=lambda name: [given / name])

    run()
    assert CohortReport.read(out / "report.csv").rows["a"].stacks == ("t2", "t1")
    report = run()
    assert calls == [] and report.resumed == 2 and report.summary.endswith("; 2 kept from an earlier run")
    (given / "a" / "series" / "1").write_text("another image")
    assert run().resumed == 1 and calls == ["a"]
    (given / "a" / "series" / "2").write_text("one more")
    assert run().resumed == 1 and calls == ["a"] and (out / "a" / "2").exists()
    (given / "a" / "series" / "1").unlink()
    run()
    assert calls == ["a"] and [path.name for path in (out / "a").iterdir()] == ["2"]  # nothing of the image that is gone
    (out / "b" / "1").unlink()
    assert run().resumed == 1 and calls == ["b"] and run().resumed == 2


def test_a_failed_study_keeps_its_files_and_says_if_they_are_of_other_inputs(tmp_path: Path) -> None:
    given, made = tmp_path / "given", tmp_path / "out" / "a.nrrd"
    given.write_text("image")

    def work(_item: str) -> Outcome:
        if works:
            made.write_text("volume")
            return Outcome(files=("a.nrrd",))
        raise GaussianMRIError("the images are damaged")

    def run(keep: bool = True) -> CohortRow:
        run_cohort("a", work, tmp_path / "out", workers=1, inputs=lambda _: [given], keep=keep)
        return CohortReport.read(tmp_path / "out" / "report.csv").rows["a"]

    told = "its files are those of an earlier run, of other inputs than there are now"
    works = True
    assert run().files == ("a.nrrd",)
    made.unlink()  # the study is done again
    works = False
    row = run()
    assert row.files == ("a.nrrd",) and row.lines == ("the images are damaged",)  # of the same inputs
    works = True
    assert run().outcome == "done" and made.exists()
    works = False
    given.write_text("another image")
    for _ in "12":  # also when it is tried again
        row = run()
        assert row.outcome == "failed" and row.files == ("a.nrrd",) and made.exists()
        assert row.lines == ("the images are damaged", told)
    works = True
    row = run()
    assert row.outcome == "done" and row.lines == ()
    works = False
    given.write_text("a third image")
    row = run(keep=False)
    assert row.files == () and not made.exists() and row.lines == ("the images are damaged",)


def test_names_of_files_come_back_whole(tmp_path: Path) -> None:
    """A study may be called what stands between the stacks of the report."""
    turn = 0

    def work(item: str) -> Outcome:
        (tmp_path / item).mkdir(exist_ok=True)
        files = [f"{item}/{name}" for name in ("kept", f"of turn {turn}")]
        for name in files:
            (tmp_path / name).write_text("volume")
        return Outcome(files=tuple(files))

    names = ["a | b", "b", 'c, "d"', os.fsdecode(b"caf\xe9")]  # the last one of another system, no UTF-8
    if sys.platform != "linux":
        del names[3]
    if sys.platform == "win32":
        names = ["b", "c, d"]
    run_cohort(names, work, tmp_path, workers=1)
    assert run_cohort(names, work, tmp_path, workers=1).resumed == len(names)
    turn = 1
    (tmp_path / names[0] / "kept").unlink()
    assert run_cohort(names, work, tmp_path, workers=1).resumed == len(names) - 1
    assert {path.name for path in (tmp_path / names[0]).iterdir()} == {"kept", "of turn 1"}
    for name in names[1:]:
        assert {path.name for path in (tmp_path / name).iterdir()} == {"kept", "of turn 0"}


def test_a_file_that_another_study_has_too_stays(tmp_path: Path) -> None:
    files = {"a": ("shared", "alone"), "b": ("shared",)}

    def work(item: str) -> Outcome:
        for name in files[item]:
            (tmp_path / name).write_text("volume")
        return Outcome(files=files[item])

    run_cohort("ab", work, tmp_path, workers=1, inputs=lambda _: [])
    files["a"] = ()
    (tmp_path / "alone").rename(tmp_path / "moved")  # it is done again
    run_cohort("a", work, tmp_path, workers=1, inputs=lambda _: [])
    assert (tmp_path / "shared").exists()
    assert run_cohort("b", work, tmp_path, workers=1, inputs=lambda _: []).resumed == 1


def test_spreadsheets_know_the_letters_of_a_report(tmp_path: Path) -> None:
    """They take a table without the mark for one in the letters of their own country; one that they saved is read, too."""
    report = CohortReport(tmp_path / "report.csv", rows={"Köln": CohortRow("Köln", "done")})
    report.write()
    assert (tmp_path / "report.csv").read_bytes().startswith(b"\xef\xbb\xbfitem,")
    assert CohortReport.read(report.path).rows.keys() == {"Köln"}
    (tmp_path / "report.csv").write_bytes((tmp_path / "report.csv").read_bytes()[3:])  # of an earlier version
    assert CohortReport.read(report.path).rows.keys() == {"Köln"}


def test_a_study_with_thousands_of_remarks_ends_no_cohort(tmp_path: Path) -> None:
    remarks = tuple(f"image {n} is left out: it is damaged, copy it again" for n in range(4000))

    def work(item: str) -> Outcome:
        return Outcome(lines=remarks if item == "b" else ())

    limit = csv.field_size_limit(131072)  # as it is where nobody has changed it
    try:
        assert run_cohort("abc", work, tmp_path, workers=1).done == ["a", "b", "c"]
        assert run_cohort("abc", work, tmp_path, workers=1).rows["b"].lines == remarks
    finally:
        csv.field_size_limit(limit)


def test_rows_keep_their_places(tmp_path: Path) -> None:
    """New ones stand in the order of the studies, in whatever order they end."""
    run_cohort("xb", double, tmp_path, workers=1)
    assert list(run_cohort("bx", double, tmp_path, workers=1).rows) == ["x", "b"]
    assert list(run_cohort("abcd", double, tmp_path, workers=1).rows) == ["x", "a", "b", "c", "d"]
    rows = {name: CohortRow(name, "done") for name in "xb"}
    for name in "dac":
        rows = with_row(rows, CohortRow(name, "done"), "abcd")
    assert list(rows) == ["x", "a", "b", "c", "d"]


def test_runs_that_share_a_folder_keep_each_others_rows(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def work(_item: str) -> None:
        together.wait(60)  # all have read the report by now

    runs = [
        threading.Thread(target=run_cohort, args=(name, work, tmp_path), kwargs={"workers": 1}) for name in "abc"
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(CohortReport.read(tmp_path / "report.csv").done) == ["a", "b", "c"]


def test_a_folder_keeps_its_settings(tmp_path: Path) -> None:
    run_cohort("ab", double, tmp_path, workers=1, settings={"method": "fast", "levels": ["L5/S1"]})
    run_cohort("abc", double, tmp_path, workers=1, settings={"levels": ["L5/S1"], "method": "fast"})
    with pytest.raises(GaussianMRIError, match="other settings"):
        run_cohort("ab", double, tmp_path, workers=1, settings={"method": "voxel", "levels": ["L5/S1"]})
    (tmp_path / "report.csv").write_text("of, no, use\nfor us\n")
    with pytest.raises(GaussianMRIError, match="not a report of a cohort"):
        run_cohort("ab", double, tmp_path, workers=1, settings={"method": "fast", "levels": ["L5/S1"]})
    (tmp_path / "file").write_text("")
    with pytest.raises(GaussianMRIError, match="cannot be used"):
        run_cohort("ab", double, tmp_path / "file" / "below", workers=1)


def test_a_study_counts_as_done_only_when_its_value_was_taken(tmp_path: Path) -> None:
    def full_disk(name: str, _value: object) -> None:
        if name == "b":
            raise GaussianMRIError("no space left")

    with pytest.raises(GaussianMRIError, match="no space"):
        run_cohort("abc", double, tmp_path, workers=1, receive=full_disk)
    assert CohortReport.read(tmp_path / "report.csv").done == ["a"]


def test_a_process_that_dies_takes_its_study_and_no_other(tmp_path: Path) -> None:
    names = ["a", "deadly", "b", "c"]
    (tmp_path / "ran").mkdir()
    report = run_cohort({name: tmp_path / "ran" / name for name in names}, dies, tmp_path, workers=2)
    assert report.failed == ["deadly"] and report.done == ["a", "b", "c"]
    assert "process died" in report.rows["deadly"].lines[0]
    assert (tmp_path / "ran" / "deadly").read_text().count("ran") == 2  # among others, then alone


def test_what_cannot_be_sent_is_a_line(tmp_path: Path) -> None:
    report = run_cohort({"a": 0, "b": 1}, unsendable, tmp_path, workers=2)
    assert report.done == ["a"] and report.failed == ["b"]


def test_threads_of_another_executor(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        report = run_cohort({str(n): n for n in range(7)}, double, tmp_path, executor=pool)
        assert pool.submit(double, 4).result() == 8  # it stays open
    assert len(report.done) == 7 and list(report.rows) == [str(n) for n in range(7)]


def test_an_executor_gets_no_more_than_it_should(tmp_path: Path) -> None:
    busy, most = set[int](), [0]
    lock = threading.Lock()

    def work(item: int) -> None:
        with lock:
            busy.add(item)
            most[0] = max(most[0], len(busy))
        time.sleep(0.02)
        with lock:
            busy.remove(item)

    with ThreadPoolExecutor(6) as pool:
        run_cohort({str(n): n for n in range(8)}, work, tmp_path, executor=pool, workers=2)
    assert most[0] == 2


@pytest.mark.parametrize("processes", [False, True])
def test_a_cancel_leaves_nothing_half_written(tmp_path: Path, processes: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    items = {"short": (out / "short", 0.0), "long": (out / "long", 600.0), "next": (out / "next", 600.0)}

    def cancelled() -> bool:  # the short one is done, and a long one has begun
        begun = any(path.stat().st_size > 0 for path in out.glob(".partial-*-long"))
        return begun and (tmp_path / "report.csv").exists()

    began = time.monotonic()
    report = run_cohort(items, slow, tmp_path, workers=2 if processes else 1, cancelled=cancelled)
    assert report.cancelled and report.done == ["short"] and time.monotonic() - began < 300
    assert "then cancelled" in report.summary
    assert [path.name for path in out.iterdir()] == ["short"]
    again = run_cohort({"short": items["short"], "long": (out / "long", 0.0)}, slow, tmp_path, workers=1)
    assert again.done == ["short", "long"] and again.resumed == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_ctrl_c_ends_all_processes_in_good_order(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    code = f"""
from pathlib import Path
from cohort_jobs import slow
from GaussianMRILib.cohort import run_cohort
if __name__ == "__main__":
    out = Path({str(out)!r})
    items = {{"short": (out / "short", 0.0), "long": (out / "long", 600.0)}}
    run_cohort(items, slow, {str(tmp_path)!r}, workers=2)
"""
    (tmp_path / "main.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not (list(out.glob(".partial-*-long")) and (tmp_path / "report.csv").exists()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)
    # What a terminal sends: to the parent, to the worker that is busy and to the one that has nothing left to do.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0 and errors.count("Traceback") == 1 and "KeyboardInterrupt" in errors
    assert [path.name for path in out.iterdir()] == ["short"]
    assert CohortReport.read(tmp_path / "report.csv").done == ["short"]


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """The end of the workers' output, which they have from the run, is heard when all are gone."""
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "main.py").write_text(f"""
from pathlib import Path
from cohort_jobs import slow
from GaussianMRILib.cohort import run_cohort
if __name__ == "__main__":
    run_cohort({{n: (Path({str(out)!r}) / n, 600.0) for n in "abc"}}, slow, {str(tmp_path)!r}, workers=2)
""")
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob(".partial-*"))) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    output = threading.Thread(target=process.communicate)
    output.start()
    output.join(60)
    assert not output.is_alive() and list(out.iterdir()) == []


class _Lost(Executor):
    """An executor whose workers are gone."""

    def submit(self, *_arguments: object, **_more: object) -> None:  # type: ignore[override]
        from concurrent.futures import BrokenExecutor

        raise BrokenExecutor("gone")


def test_an_executor_that_breaks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GaussianMRIError, match="lost its workers"):
        run_cohort("ab", double, tmp_path, executor=_Lost())


def test_dask(tmp_path: Path) -> None:
    """As documented, on a cluster of this machine with a process for each worker."""
    pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    got: dict[str, int] = {}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        pool = client.get_executor()
        items: dict[str, int | str] = {str(n): n for n in range(6)}
        report = run_cohort(items, double, tmp_path / "sums", executor=pool, receive=got.__setitem__)
        failing = run_cohort(["good", "refused", "bug"], troubled, tmp_path / "trouble", executor=pool)
        where = run_cohort("ab", functools.partial(_process, 0), tmp_path / "where", executor=pool)
    assert got == {str(n): 2 * n for n in range(6)} and len(report.done) == 6
    assert failing.done == ["good"] and failing.failed == ["refused", "bug"]
    assert failing.rows["refused"].lines == ("series 7 is truncated; copy it again",)
    assert len(where.done) == 2


def _process(_zero: int, _item: str) -> int:
    return os.getpid()
