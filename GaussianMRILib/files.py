"""Files: outputs appear whole or not at all, and whatever is wrong with an input is one error that names it."""

from __future__ import annotations

import bz2
import contextlib
import contextvars
import csv
import ctypes
import errno
import gzip
import io
import json
import math
import os
import re
import secrets
import shutil
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import GaussianMRIError
from .interruption import signals_later

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Inputs that would be larger in memory are refused before anything is unpacked.
LARGEST_INPUT = 16 << 30
_LARGEST_TEXT = 256 << 20
CHUNK = 1 << 22


def file_name(label: str, otherwise: str) -> str:
    """A name that any file system takes, made of a label for people; `otherwise` where nothing of it is left.

    File systems take 255 bytes, and what is written beside the file needs some.
    """
    short = re.sub(r"[^\w.+-]+", "_", label).strip("._").encode()[:120].decode(errors="ignore")
    return short or otherwise


def file_names(labels: Iterable[str], otherwise: str, taken: Iterable[str] = ()) -> list[str]:
    """`file_name` of each label, no two alike even where upper and lower case are one, nor like those `taken`.

    A label of which nothing is left is named `otherwise` with its number, counted from 1.
    """
    used = {name.lower() for name in taken}
    names = []
    for number, label in enumerate(labels, 1):
        name = file_name(label, f"{otherwise}{number}")
        while name.lower() in used:
            name = f"{name}_{number}"
        used.add(name.lower())
        names.append(name)
    return names


def path_of(path: str | os.PathLike[str]) -> Path:
    """A path that a caller gives.

    Raises:
        GaussianMRIError: it is none.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise GaussianMRIError(f"A path is text or a Path, got {type(path).__name__}. Name a file or a folder.")
    return Path(path)


def itk_name(path: Path, known_as: Path | None = None) -> str:
    """A path for ITK, which takes UTF-8 alone: with any other name it ends the process.

    Raises:
        GaussianMRIError: the name is no UTF-8; it is told as the one that it is known as.
    """
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise GaussianMRIError(f"{printable(known_as or path)}: the name is no UTF-8. Rename it or its folder.") from error
    return name


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it to `path` when the block succeeds.

    The temporary name has the suffixes of `path` in lower case, because writers choose a format by them. On any exception,
    a cancel included, the temporary file is removed and an existing `path` is left as it was. A file that is replaced
    passes its permissions on; of a link, the file that it points to is replaced.

    Raises:
        GaussianMRIError: the folder does not exist or cannot be written, or the disk is full.
    """
    target = Path(os.path.realpath(path_of(path)))
    temporary: Path | None = None
    try:
        if target.exists() and not target.is_file():
            raise OSError("it is a folder, a pipe or a device")
        # Not by mkstemp, which makes private files: a result has the permissions any other new file gets.
        name = f".partial-{secrets.token_hex(4)}-{target.name.lower()}"
        temporary = target.with_name(name if len(os.fsencode(name)) <= 255 else name[:20] + name[-12:])
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if target.exists():
            shutil.copymode(target, temporary)
            if not os.access(target, os.W_OK):
                raise PermissionError(errno.EACCES, "it is write-protected")
        yield temporary
        _take_place([(temporary, target)])
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise GaussianMRIError(
            f"{target} cannot be written: {reason}. Choose another folder or free space."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """`atomic_write` for a folder: the new one takes the place of an existing one whole, which goes only then.

    Raises:
        GaussianMRIError: the folder cannot be made, or the disk is full.
    """
    target = Path(os.path.realpath(path))
    temporary: Path | None = None
    try:
        temporary = target.with_name(f".partial-{secrets.token_hex(8)}")
        temporary.mkdir()
        yield temporary
        _take_place([(temporary, target)])
        temporary = None
    except OSError as error:
        # pydicom wraps the error of the operating system in one that quotes a traceback.
        errors = [e for e in (error, error.__cause__, error.__context__) if isinstance(e, OSError)]
        reason = next((e.strerror for e in errors if e.strerror), str(error).split("\n")[0])
        raise GaussianMRIError(
            f"{target} cannot be written: {reason}. Choose another folder or free space."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


_staged: contextvars.ContextVar[list[tuple[Path, Path]] | None] = contextvars.ContextVar("staged", default=None)


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """What is written in the block gets its names at the end of it, all together; after an exception nothing does."""
    staged: list[tuple[Path, Path]] = []
    token = _staged.set(staged)
    try:
        try:
            yield
        finally:
            _staged.reset(token)
        with signals_later():
            _take_place(staged)
        staged = []
    except OSError as error:
        named = [name for name in (error.filename, error.filename2) if name and not Path(name).name.startswith(".partial-")]
        raise GaussianMRIError(
            f"{named[0] if named else 'The outputs'} cannot be written: {error.strerror or error}. Close what has it open, "
            "or free space."
        ) from error
    finally:
        for temporary, _ in staged:
            _remove(temporary)


def _take_place(written: list[tuple[Path, Path]]) -> None:
    """Give files and folders their names, or leave that to `all_or_none`."""
    staged = _staged.get()
    if staged is not None:
        staged += written
        return
    replaced = []
    with contextlib.ExitStack() as back:  # all of them, or none: Windows replaces no file that a program has open
        for temporary, target in written:
            old = temporary
            if not target.exists() or (len(written) == 1 and target.is_file()):
                os.replace(temporary, target)
                back.callback(os.replace, target, temporary)
            elif exchange(temporary, target):
                back.callback(exchange, temporary, target)
            else:
                old = temporary.with_name(f".partial-{secrets.token_hex(8)}")
                os.replace(target, old)
                back.callback(os.replace, old, target)
                os.replace(temporary, target)
                back.callback(os.replace, target, temporary)
            replaced.append(old)
        back.pop_all()
    for old in replaced:
        _remove(old)


def _remove(path: Path) -> None:
    """A file or a folder, where it is there and can be removed."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change names in one step, so that neither is ever missing; False where no system call does it."""
    library: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(library, "renameat2"):  # Linux: AT_FDCWD, RENAME_EXCHANGE
        return bool(library.renameat2(-100, names[0], -100, names[1], 2) == 0)
    if hasattr(library, "renamex_np"):  # macOS: RENAME_SWAP
        return bool(library.renamex_np(*names, 2) == 0)
    return False


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """The block runs in one process or thread at a time of those that lock `path`, a file that stays; a kill frees it.

    File systems that know no locks let everybody in.

    Raises:
        GaussianMRIError: the file cannot be made.
    """
    try:
        file = open(path, "ab")
    except OSError as error:
        raise GaussianMRIError(f"{path} cannot be written: {error.strerror or error}. Choose another folder.") from error
    with file:
        with contextlib.suppress(OSError):
            _lock(file.fileno())
        yield


if sys.platform == "win32":
    import msvcrt

    def _lock(handle: int) -> None:
        while True:
            os.lseek(handle, 0, os.SEEK_SET)
            try:  # for ten seconds
                msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
                return
            except OSError as error:
                if error.errno != errno.EDEADLK:
                    raise

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)


# ---- inputs --------------------------------------------------------------------------------------------------


def files_below(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Files in and below a folder in a fixed order, by absolute paths, hidden ones left out, and links that lead nowhere.

    Links to folders are followed, and every folder is searched once, what really lies there first. Those to a folder that
    the link itself lies in are not: they lead round, or out of what was asked for.
    """
    seen: set[str] = set()
    waiting = [Path(folder).absolute()]
    for start in waiting:
        for root, folders, names in os.walk(start):
            here = os.path.realpath(root)
            if here in seen:
                folders.clear()
                continue
            seen.add(here)
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            links = (path for f in folders if (path := Path(root, f)).is_symlink())
            waiting += [path for path in links if not Path(here).is_relative_to(os.path.realpath(path))]
            yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str, hint: str = "", missing: str = "") -> Iterator[None]:
    """Whatever goes wrong in the block becomes one sentence that names `path`: readers of damaged files raise anything.

    Args:
        what: the kind of file, with its article, for messages: "a GaussianMRI field".
        hint: what to do about a damaged one.
        missing: what to do where there is none.

    Raises:
        GaussianMRIError: in place of any exception but a cancel.
    """
    name = os.fspath(path_of(path))
    try:
        yield
    except GaussianMRIError as error:
        if name in str(error):
            raise
        raise GaussianMRIError(f"{name}: {error}") from error
    except FileNotFoundError as error:
        # A file that the block names itself may be another one.
        gone = name if error.filename is None else os.fspath(error.filename)
        raise GaussianMRIError(f"{gone} cannot be read: it does not exist. {missing}".rstrip()) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise GaussianMRIError(f"{name} cannot be read: {reason}. {hint}".rstrip()) from error
    except Exception as error:
        if out_of_memory(error):
            raise GaussianMRIError(
                f"{name} needs more memory than there is. Close other programs, or use a smaller one."
            ) from error
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else _first_line(error)
        raise GaussianMRIError(f"{name} is not {what}, or it is damaged ({reason}). {hint}".rstrip()) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is short; torch has no class for it on a CPU."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("can't allocate memory", "not enough memory", "out of memory"))
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0].rstrip(".")[:200] if lines else type(error).__name__
    return f"no {text}" if isinstance(error, KeyError) else printable(text)


def printable(text: Any) -> str:
    """Text of a file as one line for people: what would command a terminal or turn its writing round is a space."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file; inside `reading`, which names it in errors.

    Raises:
        OSError, ValueError, RecursionError: it cannot be read.
    """
    size = os.stat(path).st_size
    if size > _LARGEST_TEXT:
        raise ValueError(f"it has {size / 2**20:.0f} MB, no such file has more than {_LARGEST_TEXT >> 20} MB")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))  # editors of Windows begin a file with that mark
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error


def table_rows(content: bytes, errors: str = "strict") -> csv.DictReader[str]:
    """The rows of a CSV file by column; inside `reading`, which names it in errors.

    Commas, semicolons or tabs part the cells, whichever the header has most of: spreadsheets save what those of the country
    are. They may begin a file with the mark of UTF-8, and end lines as any system does.

    Args:
        errors: see `bytes.decode`.

    Raises:
        UnicodeDecodeError, csv.Error: it cannot be read.
    """
    text = content.decode("utf-8-sig", errors)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # cells may be longer than the reader takes by itself
    lines = io.StringIO(text, newline="")
    header = re.sub('"[^"]*"', "", lines.readline())  # the names of columns may have any of them
    lines.seek(0)
    return csv.DictReader(lines, delimiter=max(",;\t", key=header.count))


def decimal(cell: str | None) -> float:
    """The number in a cell of a table, with a decimal point or comma.

    Args:
        cell: None: the row ends before it.

    Raises:
        ValueError: there is none.
    """
    return float(str(cell).replace(",", "."))


def save_array(path: Path, array: NDArray[Any]) -> None:
    """`numpy.save`; in a file itself numpy takes it for no error when the last block finds the disk full."""
    import numpy as np

    content = io.BytesIO()
    np.save(content, array)
    path.write_bytes(content.getbuffer())


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """The arrays of a NumPy archive by name; inside `reading`, which names it in errors.

    Every member has its checksum tested, and its size before memory is asked for.

    Raises:
        OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error: it cannot be read.
    """
    import numpy as np

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > LARGEST_INPUT:
            raise ValueError(f"it would be unpacked to {total / 2**30:.0f} GB")
        arrays = {}
        for member in members:
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                if file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
                    raise ValueError(f"{member.filename} has not the size that its header says")
            with archive.open(member) as file:
                arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
                if file.read(1):  # to the end, where the checksum is compared
                    raise ValueError(f"{member.filename} is too long")
    return arrays


def unpacked(path: str | os.PathLike[str], offset: int, packing: str) -> Iterator[bytes]:
    """What a file holds after `offset` in pieces of some MB, unpacked; inside `reading`, which names it in errors.

    Args:
        packing: "raw", "gzip", "bzip2", "zlib", or "deflate", which is zlib's without a header.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        if packing in ("zlib", "deflate"):
            unpacker = zlib.decompressobj(zlib.MAX_WBITS if packing == "zlib" else -zlib.MAX_WBITS)
            while chunk := file.read(CHUNK):
                while chunk and not unpacker.eof:
                    yield unpacker.decompress(chunk, CHUNK)
                    chunk = unpacker.unconsumed_tail
            return
        with file if packing == "raw" else gzip.open(file) if packing == "gzip" else bz2.open(file) as opened:
            while piece := opened.read(CHUNK):
                yield piece


def finite(values: Any, shape: tuple[int | None, ...], what: str, largest: float = 1e30) -> NDArray[np.float64]:
    """`values` as float64 of a shape, None for any length.

    Raises:
        GaussianMRIError: another shape, no real numbers, or one that is not finite or larger than `largest`.
    """
    import numpy as np

    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise GaussianMRIError(f"The {what} must be numbers.")
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = " x ".join("n" if n is None else str(n) for n in shape) or "one number"
        raise GaussianMRIError(f"The {what} must be {wanted}, got {' x '.join(map(str, array.shape)) or 'one number'}.")
    if not (np.isfinite(array).all() and np.abs(array).max(initial=0) <= largest):
        raise GaussianMRIError(f"Not every number of the {what} is finite and within {largest:g}.")
    return array.astype(np.float64)


def number(value: Any, what: str, low: float = -1e30, high: float = 1e30) -> float:
    """One finite number from `low` to `high`.

    Raises:
        GaussianMRIError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise GaussianMRIError(f"The {what} must be a number from {low:g} to {high:g}, got {str(value)[:40]!r}.")
    return float(value)


def whole(value: Any, what: str, low: float = -1e30, high: float = 1e30) -> int:
    """`number` without a fraction.

    Raises:
        GaussianMRIError: it is something else.
    """
    if number(value, what, low, high) != int(value):
        raise GaussianMRIError(f"The {what} must be a whole number, got {value}.")
    return int(value)
