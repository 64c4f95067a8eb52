"""Fixtures of every library test."""

from __future__ import annotations

import signal
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public scans beside the repository; tests that need it are skipped elsewhere."""
    if not (SHARED_DATA / "README.md").is_file():
        pytest.skip("needs the shared public scans in ../shared/data, which are not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def extracted(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Function that unpacks a `.tar.xz` of the shared data, once per session, and gives its folder.

    `extracted("mr_dicom/adi_ax_fse_t2_2p5mm.tar.xz")` is the folder that holds what the archive holds.
    """
    folders: dict[str, Path] = {}

    def extract(archive: str) -> Path:
        if archive not in folders:
            path = shared_data / archive
            if not path.is_file():
                pytest.skip(f"needs {archive} in ../shared/data")
            folder = tmp_path_factory.mktemp(path.name.split(".")[0])
            with tarfile.open(path) as content:
                if hasattr(tarfile, "data_filter"):
                    content.extractall(folder, filter="data")
                else:
                    content.extractall(folder)
            folders[archive] = folder
        return folders[archive]

    return extract
