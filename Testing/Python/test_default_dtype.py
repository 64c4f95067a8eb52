"""Whoever works in double precision sets it as torch's default: nothing changes by it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import GaussianMRILib as gm

LIBRARY = Path(gm.__file__).parent
MAKERS = {"zeros", "ones", "empty", "full", "eye", "rand", "randn", "linspace", "tensor", "arange"}
FLOATING = {"zeros", "ones", "empty", "eye", "rand", "randn", "linspace"}


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def stacks() -> list[gm.SliceStack]:
    random = np.random.default_rng(0)
    made = []
    for axes in ([0, 1, 2], [2, 0, 1]):
        poses = np.eye(4)
        poses[:3, :3] = np.diag([1.0, 1.0, 4.0])[:, axes] if axes[0] == 0 else np.array([[0, 0, 4], [1, 0, 0], [0, 1, 0.0]])
        poses[:3, 3] = -10 if axes[0] == 0 else (-10, -10, -10)
        made.append(gm.SliceStack.from_array(random.uniform(0, 900, (6, 20, 20)), poses, name=f"s{axes[0]}"))
    return made


def images(both: list[gm.SliceStack]) -> list[np.ndarray]:
    plane = gm.ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, 0.8, 0.6), shape=(12, 12))
    fields = [gm.fit(both), gm.fit(both[0], preset="paper", epochs=1, gaussians=50)]
    found = [field.render(plane) for field in fields] + [fields[0].volume(spacing=2.0)[0]]
    return [*found, gm.superresolution(both, plane), gm.voxel_interpolation(both, plane)]


def test_images_are_the_same(double: None) -> None:
    found = images(stacks())
    torch.set_default_dtype(torch.float32)
    for one, other in zip(found, images(stacks()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_tensor_takes_its_type_from_the_default() -> None:
    unpinned = []
    for path in sorted(LIBRARY.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func.value) != "torch" or node.func.attr not in MAKERS:
                continue
            pinned = {keyword.arg for keyword in node.keywords} & {"dtype", "out"}
            floats = any(isinstance(n, ast.Constant) and isinstance(n.value, float) for n in ast.walk(node))
            if not pinned and (node.func.attr in FLOATING or floats):
                unpinned.append(f"{path.relative_to(LIBRARY)}:{node.lineno} {ast.unparse(node)[:80]}")
    assert not unpinned
