"""Output files appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import GaussianMRIError


def file_name(label: str, otherwise: str) -> str:
    """A name that any file system takes, made of a label for people; `otherwise` where nothing of it is left."""
    return re.sub(r"[^\w.+-]+", "_", label).strip("._") or otherwise


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it to `path` when the block succeeds.

    The temporary name keeps the suffixes of `path`, because writers choose a format by them. On any exception,
    a cancel included, the temporary file is removed and an existing `path` is left as it was.

    Raises:
        GaussianMRIError: the folder does not exist or cannot be written, or the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix="-" + target.name, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        # mkstemp makes private files; a result should have the permissions any other new file gets.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise GaussianMRIError(
            f"{target} cannot be written: {reason}. Choose another folder or free space."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
