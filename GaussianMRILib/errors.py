"""The one exception a user of GaussianMRI needs to know."""

from __future__ import annotations


class GaussianMRIError(Exception):
    """Something the user can act on: bad input, an impossible request, an output that cannot be written.

    The message is a sentence that names what was wrong, with which file or argument, and what to do.
    """
