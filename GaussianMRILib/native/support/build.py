"""Build the CPU kernels from `csrc` with CMake and ninja: for developers who run from a checkout without a prebuilt
library.

The result is kept in the user's cache folder (or GAUSSIANMRI_CACHE), named by a hash of the sources, CMake's files
and the compiler, so that a changed source is built anew and nothing is built twice.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ...errors import GaussianMRIError

_LOG = logging.getLogger("GaussianMRI")


def library_name() -> str:
    """File name of the kernels' shared library on this system."""
    if sys.platform == "win32":
        return "gaussianmri.dll"
    return "libgaussianmri.dylib" if sys.platform == "darwin" else "libgaussianmri.so"


def source_root() -> Path | None:
    """Folder with the kernels' sources, or None.

    A checkout has it beside the library; an installed library carries what CUDA needs at run time.
    """
    native = Path(__file__).resolve().parents[1]
    for folder in (native.parents[1] / "csrc", native / "csrc"):
        if (folder / "support" / "math.h").is_file():
            return folder
    return None


def cache_folder() -> Path:
    """Where compiled kernels are kept: GAUSSIANMRI_CACHE, else `gaussianmri` in the user's cache folder."""
    given = os.environ.get("GAUSSIANMRI_CACHE")
    if given:
        return Path(given)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "gaussianmri"


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise GaussianMRIError(
        "No C++ compiler was found to build the kernels. Install one, or install GaussianMRI's wheel."
    )


def _tool(name: str) -> str:
    """The path of cmake or ninja: the system's, else that of the Python package of the same name."""
    found = shutil.which(name)
    if found:
        return found
    try:
        package = importlib.import_module(name)
    except ImportError:
        raise GaussianMRIError(f"{name} was not found to build the kernels. Run `pip install {name}`.") from None
    folder = package.BIN_DIR if name == "ninja" else package.CMAKE_BIN_DIR
    return str(Path(folder) / name)


_SUM = "sha256"


def make_private(folder: Path) -> None:
    """Make a folder that nobody else may write, whatever the umask; refuse one that is there and is not so."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o755, exist_ok=True)
    check_private(folder)


def check_private(*paths: Path) -> None:
    """Refuse files and folders of code that somebody else owns or may write: what lies there is run.

    Raises:
        GaussianMRIError: one of them is so; those that do not exist are in order.
    """
    if not hasattr(os, "getuid"):  # Windows keeps a user's cache to the user
        return
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        if found.st_uid not in (os.getuid(), 0) or found.st_mode & 0o022:
            raise GaussianMRIError(
                f"{path} belongs to another user, or others may write there, so that no code from it is run. Take their "
                f"permission away (chmod go-w {path}), or set GAUSSIANMRI_CACHE to a folder of your own."
            )


def _is_ours(library: Path) -> bool:
    """Whether a library is what was built: not truncated, and not put there by something else."""
    try:
        wanted = (library.parent / _SUM).read_text(encoding="ascii").strip()
        return hashlib.sha256(library.read_bytes()).hexdigest() == wanted
    except (OSError, UnicodeDecodeError):
        return False


def building_tools() -> tuple[Path, str, str, str]:
    """Folder of the checkout, compiler, cmake and ninja.

    Raises:
        GaussianMRIError: one of them is missing.
    """
    root = source_root()
    if root is None or not (root / "CMakeLists.txt").is_file():
        raise GaussianMRIError("The kernels' sources (csrc) are not part of this installation.")
    if sys.platform == "win32":
        raise GaussianMRIError(
            "On Windows the kernels are built with CMake: `cmake -B build && cmake --install build`."
        )
    return root.parent, _compiler(), _tool("cmake"), _tool("ninja")


def build_library() -> Path:
    """Path of the library built from `csrc`, building it first where needed (some ten seconds).

    Raises:
        GaussianMRIError: there are no sources, no compiler, CMake or ninja, or the compiler failed.
    """
    checkout, compiler, cmake, ninja = building_tools()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    csrc = checkout / "csrc"
    digest = hashlib.sha256((compiler + version).encode())
    cmake_files = [checkout / "CMakeLists.txt", csrc / "CMakeLists.txt", *csrc.glob("*/*.txt")]
    for source in sorted([*cmake_files, *csrc.glob("*/*.cpp"), *csrc.glob("*/*.h")]):
        digest.update(source.relative_to(checkout).as_posix().encode() + source.read_bytes())
    folder = cache_folder() / f"kernels-{digest.hexdigest()[:16]}"
    target = folder / library_name()
    check_private(folder.parent, folder, target)
    if target.is_file() and _is_ours(target):
        return target
    _LOG.info("Building the kernels from %s (once)", csrc)
    try:
        make_private(folder.parent)
        make_private(folder)
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as work:
            options = (
                "CMAKE_BUILD_TYPE=Release", f"CMAKE_CXX_COMPILER={compiler}", f"CMAKE_MAKE_PROGRAM={ninja}",
                f"CMAKE_LIBRARY_OUTPUT_DIRECTORY={work}",
            )  # fmt: skip
            defined = [f"-D{option}" for option in options]
            for step in (["-S", str(checkout), "-B", work, "-G", "Ninja", *defined], ["--build", work]):
                done = subprocess.run([cmake, *step], capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    said = (done.stdout + done.stderr)[-2000:]
                    raise GaussianMRIError(f"The kernels could not be built with {compiler}:\n{said}")
            made, sums = Path(work) / library_name(), Path(work) / _SUM
            sums.write_text(hashlib.sha256(made.read_bytes()).hexdigest(), encoding="ascii")
            made.chmod(0o755)
            sums.chmod(0o644)
            os.replace(made, target)  # two builders at once: both results are the same
            os.replace(sums, folder / _SUM)
    except OSError as error:
        raise GaussianMRIError(
            f"The kernels could not be built in {folder}: {error.strerror or error}. Set "
            "GAUSSIANMRI_CACHE to a folder that can be written."
        ) from error
    return target
