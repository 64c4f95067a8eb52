"""Instruction sets of the compiled kernels: which this processor has, and a way to use one of them for a while."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

from GaussianMRILib.native.support.backend import kernels

NAMES = ("avx512", "avx2", "sse2", "neon", "scalar")


@functools.cache
def available() -> tuple[str, ...]:
    """Those of `NAMES` that this processor has; none without compiled kernels."""
    library = kernels()
    if library is None:
        return ()
    before = library.simd
    names = tuple(name for name in NAMES if library.set_simd(name))
    library.set_simd(before)
    return names


@contextmanager
def using(name: str) -> Iterator[None]:
    """Kernels use the instruction set `name`, and after that the one that they used before."""
    library = kernels()
    assert library is not None
    before = library.simd
    try:
        assert library.set_simd(name) and library.simd == name
        yield
    finally:
        library.set_simd(before)
