"""Build the CPU kernels from `csrc` with ninja: for developers who run from a checkout without a prebuilt
library.

The result is kept in the user's cache folder (or GAUSSIANMRI_CACHE), named by a hash of the sources, flags
and compiler, so that a changed source is built anew and nothing is built twice.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ...errors import GaussianMRIError

_LOG = logging.getLogger("GaussianMRI")
_FLAGS = (  # the same as in csrc/CMakeLists.txt
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -pthread -fno-math-errno -fno-trapping-math -ffp-contract=fast"
)


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


def _processor() -> str:
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64", "i686"):
        return "x86"
    return "arm" if machine in ("arm64", "aarch64") else "other"


def _instruction_sets(root: Path) -> list[tuple[str, str]]:
    """(name, compiler flags) of the instruction sets to build on this processor."""
    result = []
    for line in (root / "support" / "instruction_sets.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        name, processor, flags, _ = (field.strip() for field in line.split("|"))
        if processor in (_processor(), "any"):
            result.append((name, flags))
    return result


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    raise GaussianMRIError(
        "No C++ compiler was found to build the kernels. Install one, or install GaussianMRI's wheel."
    )


def _ninja() -> str:
    found = shutil.which("ninja")
    if found:
        return found
    try:
        import ninja
    except ImportError:
        raise GaussianMRIError("ninja was not found to build the kernels. Run `pip install ninja`.") from None
    return str(Path(ninja.BIN_DIR) / ("ninja.exe" if sys.platform == "win32" else "ninja"))


def _ninja_file(root: Path, compiler: str, output: str) -> str:
    def quoted(path: str | Path) -> str:
        return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")

    sources = sorted(root.glob("*/*.cpp"))  # as in csrc/CMakeLists.txt
    kernels = [source for source in sources if source.name == "kernels.cpp"]
    have = {"x86": " -DGM_HAVE_X86", "arm": " -DGM_HAVE_NEON"}.get(_processor(), "")
    lines = [
        f"cxx = {compiler.replace('$', '$$')}",
        f"flags = {_FLAGS}{have} -I" + shlex.quote(str(root)).replace("$", "$$"),
        "rule compile\n  command = $cxx $flags $set -c $in -o $out",
        "rule link\n  command = $cxx -shared -o $out $in -pthread",
    ]
    objects = []
    for source in sources:
        if source in kernels:
            continue
        objects.append(f"{source.parent.name}_{source.stem}.o")
        lines.append(f"build {objects[-1]}: compile {quoted(source)}")
    for name, flags in _instruction_sets(root):
        for source in kernels:
            objects.append(f"{source.parent.name}_kernels_{name}.o")
            lines.append(f"build {objects[-1]}: compile {quoted(source)}")
            lines.append(f"  set = {flags} -DGM_ISA={name} -DGM_USE_{name.upper()}")
    lines.append(f"build {output}: link {' '.join(objects)}")
    return "\n".join(lines) + "\n"


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


def building_tools() -> tuple[Path, str, str]:
    """Folder of the sources, compiler and ninja.

    Raises:
        GaussianMRIError: one of them is missing.
    """
    root = source_root()
    if root is None or not (root / "support" / "instruction_sets.txt").is_file():
        raise GaussianMRIError("The kernels' sources (csrc) are not part of this installation.")
    if sys.platform == "win32":
        raise GaussianMRIError(
            "On Windows the kernels are built with CMake: `cmake -B build && cmake --install build`."
        )
    return root, _compiler(), _ninja()


def build_library() -> Path:
    """Path of the library built from `csrc`, building it first where needed (some ten seconds).

    Raises:
        GaussianMRIError: there are no sources, no compiler or no ninja, or the compiler failed.
    """
    root, compiler, ninja = building_tools()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    text = _ninja_file(root, compiler, library_name())
    digest = hashlib.sha256((text + version).encode())
    for source in sorted([*root.glob("*/*.cpp"), *root.glob("*/*.h")]):
        digest.update(source.relative_to(root).as_posix().encode() + source.read_bytes())
    folder = cache_folder() / f"kernels-{digest.hexdigest()[:16]}"
    target = folder / library_name()
    check_private(folder.parent, folder, target)
    if target.is_file() and _is_ours(target):
        return target
    _LOG.info("Building the kernels from %s (once)", root)
    try:
        make_private(folder.parent)
        make_private(folder)
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as work:
            (Path(work) / "build.ninja").write_text(text, encoding="utf-8")
            done = subprocess.run([ninja, "-C", work], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise GaussianMRIError(
                    f"The kernels could not be built with {compiler}:\n{done.stdout[-2000:]}"
                )
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
