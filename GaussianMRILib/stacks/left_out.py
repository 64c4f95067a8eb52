"""What a reader leaves out, and how it says so: one unusable file does not cost the folder that it lies in."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from ..errors import GaussianMRIError

logger = logging.getLogger("GaussianMRI")
_NAMED = 3  # files of one kind that a line names


class LeftOut:
    """Files that are not read, each with a reason.

    Args:
        named: files that the caller named himself: they are damaged or whole, but not passed over.
    """

    def __init__(self, named: Collection[Path] = ()) -> None:
        self._named = frozenset(named)
        self._files: dict[str, list[Path]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._files.values()))

    def is_named(self, path: Path) -> bool:
        """Whether the caller named a file himself."""
        return path in self._named

    def add(self, path: Path, reason: str) -> None:
        """Leave out a file that is no image, which nobody has to repair."""
        self._files.setdefault(reason, []).append(path)

    def failed(self, path: Path, error: GaussianMRIError) -> None:
        """Leave out a file that cannot be used.

        Raises:
            GaussianMRIError: `error`, where the file was named.
        """
        if self.is_named(path):
            raise error
        self.add(path, str(error))

    def sentences(self) -> list[str]:
        """A sentence on each kind, the first files by name."""
        found = []
        for reason, paths in self._files.items():
            first = str(paths[0])
            if first in reason or reason.startswith(str(paths[0].parent)):  # a whole sentence already
                found.append(reason.rstrip("."))
                continue
            names = ", ".join(path.name for path in paths[1:_NAMED])
            more = f" and {len(paths) - _NAMED} others" if len(paths) > _NAMED else ""
            found.append(f"{first}{', ' if names else ''}{names}{more}: {reason}")
        return found

    def say(self) -> None:
        """Log each sentence as a warning."""
        for sentence in self.sentences():
            logger.warning("Left out: %s.", sentence)


__all__ = ["LeftOut"]
