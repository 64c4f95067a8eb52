"""Files: outputs whole or not there, together or not at all; inputs whose every fault is one sentence with their name."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from GaussianMRILib import GaussianMRIError, files
from GaussianMRILib.files import (
    all_or_none,
    atomic_folder,
    atomic_write,
    exchange,
    file_name,
    files_below,
    finite,
    number,
    printable,
    read_arrays,
    read_json,
    reading,
    whole,
)
from GaussianMRILib.interruption import termination_interrupts

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")


# ---- outputs ---------------------------------------------------------------------------------------------------


@posix
def test_permissions_and_links_survive(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and real.read_text() == "new" and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.txt", "real.txt"]


@posix
@posix
def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.png").symlink_to("pipe")
    for name in ("pipe", "link.png"):
        with pytest.raises(GaussianMRIError, match="it is a folder, a pipe or a device"), atomic_write(tmp_path / name):
            raise AssertionError("nothing is computed for it")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and len(list(tmp_path.iterdir())) == 2


def test_the_umask_of_the_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda _mask: pytest.fail("another thread's files would be public"))
        with atomic_write(tmp_path / "x") as temporary:
            temporary.write_text("x")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_outputs_appear_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with all_or_none():
        for name in ("a", "b"):
            with atomic_write(tmp_path / name) as temporary:
                temporary.write_text("new")
        assert (tmp_path / "a").read_text() == "old" and not (tmp_path / "b").exists()
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, GaussianMRIError("no"), OSError(errno.ENOSPC, "full")])
def test_after_an_error_none_appears(tmp_path: Path, error: type[BaseException] | BaseException) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises((KeyboardInterrupt, GaussianMRIError)), all_or_none():
        with atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("new")
        with atomic_folder(tmp_path / "folder") as temporary:
            (temporary / "x").write_text("new")
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"
    with atomic_write(tmp_path / "b") as temporary:  # and the next one is as ever
        temporary.write_text("b")
    assert (tmp_path / "b").exists()


@pytest.mark.parametrize("exchanges", [True, False])
def test_where_one_name_cannot_be_had_none_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    """Windows refuses to replace a file that a program has open."""
    (tmp_path / "a").write_text("old")
    (tmp_path / "open").write_text("old")
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "0").write_text("old")
    rename, swap = os.replace, files.exchange

    def refused(one: Path, other: Path) -> bool:
        if "open" in (Path(one).name, Path(other).name):
            raise PermissionError(errno.EACCES, "Permission denied", str(one), None, str(other))
        return True

    monkeypatch.setattr(os, "replace", lambda *names: refused(*names) and rename(*names))
    monkeypatch.setattr(files, "exchange", lambda *names: exchanges and refused(*names) and swap(*names))
    with pytest.raises(GaussianMRIError, match=r"open cannot be written: Permission denied\. Close"), all_or_none():
        for name in ("a", "new", "open", "last"):
            with atomic_write(tmp_path / name) as temporary:
                temporary.write_text("new")
            if name == "a":
                with atomic_folder(tmp_path / "series") as temporary:
                    (temporary / "0").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "open", "series"]
    assert all(path.read_text() == "old" for path in (tmp_path / "a", tmp_path / "open", tmp_path / "series" / "0"))
    monkeypatch.undo()
    monkeypatch.setattr(files, "exchange", lambda *names: exchanges and swap(*names))
    with all_or_none():
        for name in ("a", "open", "a"):
            with atomic_write(tmp_path / name) as temporary:
                temporary.write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "open", "series"]
    assert (tmp_path / "a").read_text() == (tmp_path / "open").read_text() == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="a process there cannot send itself a signal that it hears")
def test_a_signal_does_not_come_between_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where a second thread, such as one of kernels, takes it."""
    before, stop, rename = signal.getsignal(signal.SIGTERM), threading.Event(), os.replace
    other = threading.Thread(target=stop.wait)
    other.start()

    def killed(*names: Path) -> None:
        rename(*names)
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(20):  # the interpreter hears between two lines, once the other thread has woken
            time.sleep(0.005)

    monkeypatch.setattr(os, "replace", killed)
    try:
        termination_interrupts()
        with pytest.raises(KeyboardInterrupt), all_or_none():
            for name in ("a", "b"):
                with atomic_write(tmp_path / name) as temporary:
                    temporary.write_text("new")
    finally:
        signal.signal(signal.SIGTERM, before)
        stop.set()
        other.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_is_never_missing(tmp_path: Path) -> None:
    """Seen from another thread: it is there at every moment, with the old file or with the new one."""
    target = tmp_path / "series"
    target.mkdir()
    (target / "0").write_text("x")
    if not exchange(target, tmp_path):  # the kinds do not matter, only whether the call exists
        probe = tmp_path / "a", tmp_path / "b"
        for path in probe:
            path.mkdir()
        if not exchange(*probe):
            pytest.skip("this file system exchanges no names")
    missing, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if not target.is_dir():
                missing.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for n in range(1, 200):
        with atomic_folder(target) as temporary:
            (temporary / str(n)).write_text("x")
        assert [path.name for path in target.iterdir()] == [str(n)]
    stop.set()
    watcher.join()
    assert not missing


# ---- inputs ----------------------------------------------------------------------------------------------------


@posix
def test_files_below_a_folder_with_links(tmp_path: Path) -> None:
    for name in ("study/a/1", "study/.hidden/2", "archive/b/3", "archive/4", "other/5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    study = tmp_path / "study"
    (study / "a0").symlink_to("a")  # comes first by its name, but the folder itself is here
    (study / "all").symlink_to("../archive")
    (study / "once").symlink_to("../archive/b")
    (study / "up").symlink_to("..")  # would bring other studies
    (tmp_path / "archive" / "loop").symlink_to("../archive")
    (study / "nowhere").symlink_to("gone")
    (tmp_path / "link").symlink_to("study")
    for folder in ("study", "link"):
        found = [os.fspath(path.relative_to(tmp_path / folder)) for path in files_below(tmp_path / folder)]
        assert found == ["nowhere", "a/1", "all/4", "all/b/3"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("center"), "is not a thing, or it is damaged (no 'center')"),
        (ValueError("bad\nmore"), "is not a thing, or it is damaged (bad)"),
        (RecursionError("deep"), "nested too deeply"),
        (MemoryError(), "needs more memory than there is"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "needs more memory"),
        (GaussianMRIError("The size is 0."), "x.json: The size is 0."),
        (PermissionError(errno.EACCES, "Permission denied"), "x.json cannot be read: Permission denied"),
        (FileNotFoundError(), "x.json cannot be read: it does not exist. Make it."),
    ],
)
def test_every_fault_names_the_file(error: Exception, words: str) -> None:
    with pytest.raises(GaussianMRIError) as caught, reading("x.json", "a thing", "Copy it.", "Make it."):
        raise error
    assert words in str(caught.value) and "x.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_cancel_passes() -> None:
    with pytest.raises(KeyboardInterrupt), reading("x", "a thing"):
        raise KeyboardInterrupt


def test_deep_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    with pytest.raises(GaussianMRIError, match=r"deep\.json is not a list"), reading(path, "a list"):
        read_json(path)


def test_archives_are_checked_before_memory_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(6.0), b=np.array("text"))
    found = read_arrays(path)
    assert found["a"].tolist() == [0, 1, 2, 3, 4, 5] and str(found["b"]) == "text"
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    huge += b" " * (117 - len(huge)) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + len(huge).to_bytes(2, "little") + huge)
    with pytest.raises(ValueError, match="not the size that its header says"):
        read_arrays(path)


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.arange(1000.0))
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        read_arrays(path)


@pytest.mark.parametrize("value", ["1", None, True, float("nan"), float("inf"), -1, 11, [1]])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(GaussianMRIError, match="The width must be a number from 0 to 10"):
        number(value, "width", 0, 10)


def test_numbers_and_shapes() -> None:
    assert number(3, "width") == 3.0
    assert finite([[1, 2], [3, 4]], (None, 2), "points").dtype == np.float64
    for values in ("text", [[1, "a"]], [[1, 2, 3]], [[1, np.nan]], [[1, 1e31]], [[True, False]]):
        with pytest.raises(GaussianMRIError, match="points"):
            finite(values, (None, 2), "points")


def test_whole_numbers() -> None:
    assert whole(3.0, "count", 0, 5) == 3
    for value in (3.7, -1, 6, "3", True, float("nan")):
        with pytest.raises(GaussianMRIError, match="count must be a"):
            whole(value, "count", 0, 5)


def test_text_of_files_commands_no_terminal() -> None:
    assert printable("T2\x1b[2J  \u202e tse\n") == "T2 [2J tse"


def test_labels_become_names_that_file_systems_take(tmp_path: Path) -> None:
    for label in ("L4/L5: oblique", "ü" * 400, "x" * 400, "...", ""):
        name = file_name(label, "plane1")
        assert name and "/" not in name and len(name.encode()) <= 120
        with atomic_write(tmp_path / f"{name}.nii.gz") as path:
            path.write_bytes(b"x")
    assert file_name("...", "plane1") == "plane1"
