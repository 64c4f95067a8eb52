"""The lattice as an object: what it covers, its nodes, its rounding, its plain twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import GaussianMRILib as gm
from GaussianMRILib.gaussians import GaussianLattice, PlaneBatch
from GaussianMRILib.gaussians.lattice import FULL_DENSITY, REACH
from GaussianMRILib.geometry import hull_corners, inside_hull


def random_hull(rng: np.random.Generator) -> np.ndarray:
    """A box about 14 x 10 x 7 mm at any angle and place, with two corners cut off."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    cuts = rng.normal(size=(2, 3))
    normals = np.concatenate([turn, -turn, cuts / np.linalg.norm(cuts, axis=1, keepdims=True)])
    away = np.r_[np.tile(rng.uniform(0.8, 1.2, 3) * [7, 5, 3.5], 2), 4, 4]
    return np.c_[normals, -away - normals @ rng.uniform(-30, 30, 3)]


def sheared_axes(rng: np.random.Generator) -> np.ndarray:
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ np.diag([0.7, 0.8, 0.4])
    axes[:, 2] += 0.15 * axes[:, 0]
    return axes


def filled(seed: int = 0, step: float = 0.0) -> tuple[GaussianLattice, np.ndarray]:
    """A lattice of random colours 0..1 over a random hull, and the hull."""
    rng = np.random.default_rng(seed)
    hull = random_hull(rng)
    lattice = GaussianLattice.covering([hull], sheared_axes(rng))
    lattice = lattice.with_nodes(torch.from_numpy(rng.uniform(size=lattice.nodes.shape).astype("f4")))
    return (lattice.rounded(step) if step else lattice), hull


def points_in(hull: np.ndarray, rng: np.random.Generator, count: int = 4000) -> np.ndarray:
    corners = hull_corners(hull)
    mixed = rng.dirichlet(np.full(len(corners), 0.2), count) @ corners  # convex: all are inside
    return np.concatenate([mixed, corners])


def field_of(lattice: GaussianLattice, hull: np.ndarray, parameters: torch.Tensor | None = None) -> gm.GaussianField:
    plain = torch.zeros(11, 0) if parameters is None else parameters
    poses, shapes = np.eye(4)[None], np.array([[8, 8]], np.int32)
    return gm.GaussianField(plain, 20.0, 300.0, (hull,), poses, shapes, lattice=lattice)


def planes_through(hull: np.ndarray, rng: np.random.Generator, thickness: float = 0.0) -> list[gm.ImagePlane]:
    middle = hull_corners(hull).mean(axis=0)
    normals = rng.normal(size=(3, 3))
    return [gm.ImagePlane.from_normal(middle, n, spacing=(0.6, 0.6), shape=(21, 25), thickness=thickness) for n in normals]


@pytest.mark.parametrize("seed", range(4))
def test_covering_has_every_node_that_a_point_sees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hulls, axes = [random_hull(rng) for _ in range(2)], sheared_axes(rng)
    lattice = GaussianLattice.covering(hulls, axes)
    assert np.array_equal(lattice.node_to_ras[:3, :3], axes) and lattice.step == 0
    points = np.concatenate([points_in(hull, rng) for hull in hulls])
    at = (points - lattice.node_to_ras[:3, 3]) @ np.linalg.inv(axes).T
    table = lattice.table.numpy()
    for shift in np.ndindex(4, 4, 4):  # the 4 x 4 x 4 nodes around a point
        cell = (np.floor(at).astype(int) - 1 + shift) // 8
        assert (cell >= 0).all() and (table[cell[:, 2], cell[:, 1], cell[:, 0]] >= 0).all()
    # Not many more than that: a brick's own diagonal and reach beyond the hulls at most.
    most = (8 + 2 * REACH) * np.linalg.norm(axes, axis=0).sum()
    depth = torch.stack([lattice.depth_inside(hull) for hull in hulls]).amax(0).flatten(1).amax(1)
    assert depth.min() > -most
    assert sorted(table[table >= 0]) == list(range(len(lattice.nodes)))


def test_a_hull_without_inside_is_refused() -> None:
    hull = random_hull(np.random.default_rng(0))
    for wrong in (hull[:3], np.r_[hull, -hull[:1] + [0, 0, 0, 0.5]]):
        with pytest.raises(gm.GaussianMRIError, match="empty or unbounded"):
            GaussianLattice.covering([wrong], np.eye(3))


def test_of_box_keeps_each_colour_at_its_node() -> None:
    colours = torch.rand(16, 8, 24)
    matrix = np.eye(4)
    matrix[:3] = np.c_[sheared_axes(np.random.default_rng(1)), [3, -5, 8]]
    lattice = GaussianLattice.of_box(colours, matrix)
    assert lattice.table.shape == (2, 1, 3) and len(lattice) == colours.numel()
    z, y, x = np.meshgrid(*map(np.arange, colours.shape), indexing="ij")
    places = np.stack([x, y, z], -1) @ matrix[:3, :3].T + matrix[:3, 3]
    corners = lattice.corners()
    for brick in range(6):
        first = corners[brick]
        part = tuple(slice(n, n + 8) for n in first[::-1])
        assert torch.equal(lattice.nodes[brick], colours[part])
        assert np.allclose(lattice.points(bricks=slice(brick, brick + 1))[0], places[part], atol=1e-12)
    with pytest.raises(gm.GaussianMRIError, match="8 n"):
        GaussianLattice.of_box(torch.zeros(8, 8, 9), matrix)


def test_at_nodes_is_what_planes_show_there() -> None:
    lattice, _ = filled(2)
    turned = np.eye(4)
    turned[:3] = np.c_[sheared_axes(np.random.default_rng(5)), lattice.points().mean(axis=(0, 1, 2, 3)) - 2]
    other = GaussianLattice.of_box(torch.zeros(8, 16, 8), turned)
    image, weight = lattice.at_nodes(other)
    assert image.shape == weight.shape == other.nodes.shape
    assert float(weight.max()) == pytest.approx(FULL_DENSITY, rel=0.02)
    places = other.points().reshape(-1, 3)[::37]
    frames = np.concatenate([places, np.tile(np.eye(3).ravel(), (len(places), 1))], axis=1).astype("f4")
    one = torch.ones(len(places), 1)
    batch = PlaneBatch(torch.from_numpy(frames), one.int().repeat(1, 2), 0 * one, one)
    expected, _ = lattice.render(batch)
    # At a plane of nodes rounding decides which four taps count, see docs/design.md.
    assert (image.reshape(-1)[::37] - expected).abs().max() < 0.01


def test_depth_inside() -> None:
    lattice, hull = filled(3)
    points = lattice.points()
    expected = -(points @ hull[:, :3].T + hull[:, 3]).max(axis=-1)
    assert np.abs(lattice.depth_inside(hull).numpy() - expected).max() < 1e-4


def test_rounding_loses_half_a_step_at_most() -> None:
    lattice, _ = filled(4)
    rounded = lattice.rounded(0.01)
    assert rounded.step == 0.01 and rounded.codes.dtype == np.int16
    assert (rounded.nodes - lattice.nodes).abs().max() <= 0.005 * 1.001
    assert np.array_equal(rounded.codes, np.round(rounded.nodes.numpy() / 0.01))
    coarse = lattice.with_nodes(lattice.nodes * -1e4).rounded(0.01)  # 16 bits are not enough for this step
    assert 0.01 < coarse.step < 0.4
    assert (coarse.nodes - lattice.nodes * -1e4).abs().max() <= coarse.step / 2 * 1.01
    again = GaussianLattice.from_codes(rounded.codes, rounded.table.numpy(), rounded.node_to_ras, step=rounded.step)
    assert torch.equal(again.nodes, rounded.nodes)
    assert GaussianLattice.of_box(torch.zeros(8, 8, 8), np.eye(4)).rounded(0.01).step == 0.01
    with pytest.raises(gm.GaussianMRIError, match="not rounded"):
        _ = lattice.codes


@pytest.mark.parametrize("plain", [0, 40])
@pytest.mark.parametrize("thickness", [0.0, 2.0])
def test_plain_gaussians_show_the_same(plain: int, thickness: float) -> None:
    lattice, hull = filled(6)
    rng = np.random.default_rng(6)
    parameters = torch.zeros(11, plain)
    parameters[:3] = torch.from_numpy(points_in(hull, rng, plain)[:plain].T)
    # The cut of the explicit field is wider than that of a field: only narrow Gaussians look the same with both.
    parameters[[3, 6, 8]], parameters[9], parameters[10] = 1.0, 1.0, 0.5
    field = field_of(lattice, hull, parameters)
    field = replace(field, cut=float(field.explicit().cut))
    explicit = field.explicit()
    assert len(explicit) == len(field) == len(lattice) + plain and explicit.lattice is None
    for plane in planes_through(hull, rng, thickness):
        ours, theirs = field.render(plane), explicit.render(plane)
        inside = np.isfinite(ours)
        assert np.array_equal(inside, np.isfinite(theirs)) and inside.any()
        # A thick slice of the explicit field has three samples, of the lattice more.
        tolerance = 0.01 if thickness == 0 else 0.15
        assert np.abs(ours - theirs)[inside].max() < tolerance * field.scale
        if thickness == 0:
            assert np.allclose(field.support(plane)[inside], explicit.support(plane)[inside], atol=0.05 * FULL_DENSITY)


def test_only_what_is_scanned_is_rendered() -> None:
    lattice, hull = filled(7)
    field = field_of(lattice, hull)
    for plane in planes_through(hull, np.random.default_rng(7)):
        assert np.array_equal(np.isfinite(field.render(plane)), inside_hull(hull, plane.points(), tolerance=1e-4))


def test_save_and_load_are_exact(tmp_path) -> None:
    lattice, hull = filled(8, step=1 / 700)
    lattice = lattice.with_nodes(lattice.nodes - 0.5).rounded(1 / 700)  # codes of both signs
    field = field_of(lattice, hull)
    field.save(tmp_path / "f.npz")
    again = gm.GaussianField.load(tmp_path / "f.npz").lattice
    assert again is not None and again.step == lattice.step
    assert torch.equal(again.nodes, lattice.nodes) and torch.equal(again.table, lattice.table)
    assert np.array_equal(again.node_to_ras, lattice.node_to_ras)
    with np.load(tmp_path / "f.npz") as stored:  # as the header says
        codes = stored["lattice_low"] + 256 * stored["lattice_high"].astype(int)
    assert np.array_equal(codes, lattice.codes) and codes.min() < -256 < 256 < codes.max()
    with pytest.raises(gm.GaussianMRIError, match="not rounded"):
        replace(field, lattice=filled(8)[0]).save(tmp_path / "g.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_to_the_same_device_changes_nothing() -> None:
    lattice, hull = filled(9, step=0.01)
    again = field_of(lattice, hull).to("cpu").lattice
    assert again is not None and torch.equal(again.nodes, lattice.nodes) and again.step == 0.01
    with pytest.raises(gm.GaussianMRIError, match="bricks, 8, 8, 8"):
        GaussianLattice(torch.zeros(1, 8, 8), lattice.table, np.eye(4))
