"""Labels that go along with an image: onto planes and into volumes, and their files."""

from .files import LabelFile, read_labels, write_labels
from .resampling import BOUNDARIES, LabelResampler

__all__ = ["BOUNDARIES", "LabelFile", "LabelResampler", "read_labels", "write_labels"]
