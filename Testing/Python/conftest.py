"""Fixtures of every library test."""

from __future__ import annotations

import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from seeds import chosen_seed

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `simd` runs once with each of the instruction sets that the kernels can use here."""
    if "simd" in metafunc.fixturenames:
        from instruction_sets import available

        metafunc.parametrize("simd", available(), indirect=True)


@pytest.fixture
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the instruction set that the kernels use during the test."""
    from instruction_sets import using

    with using(request.param):
        yield request.param


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Function that sets the number of threads of torch and of the kernels, until the test ends."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def needs_kernels() -> None:
    """Skips the test where the reference implementation, which is slow, has to do."""
    from GaussianMRILib.native.support.backend import kernels

    if kernels() is None:
        pytest.skip("needs the compiled kernels")


@pytest.fixture
def seed() -> int:
    """Seed of the test's random data."""
    return chosen_seed()


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
