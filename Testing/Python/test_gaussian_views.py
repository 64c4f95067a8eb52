"""Views of single series: on which planes they count, how much, and that they survive files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import GaussianMRILib as gm
from GaussianMRILib.fitting.left_out import CLOSER, _share, _View
from GaussianMRILib.fitting.parts import Part
from GaussianMRILib.fitting.views import series_views
from GaussianMRILib.gaussians import GaussianLattice
from GaussianMRILib.gaussians.views import SeriesView

BODY, OWN, SHARE = 0.2, 0.6, 0.5
#: Slices 400 mm apart: planes through the middle lie halfway between two.
UP, BETWEEN = np.array([0.0, 0, 1]), np.array([-200.0, 200])
HULL = np.array([[s * (a == b) for b in range(3)] + [-12.0] for a in range(3) for s in (-1.0, 1.0)])


def constant(value: float, pitch: float = 2.0, nodes: int = 24) -> GaussianLattice:
    matrix = np.diag([pitch, pitch, pitch, 1.0])
    matrix[:3, 3] = -pitch * (nodes - 1) / 2
    return GaussianLattice.of_box(torch.full((nodes,) * 3, value), matrix).rounded(1e-4)


def field_with(*views: SeriesView) -> gm.GaussianField:
    lattice, shapes = constant(BODY), np.array([[9, 9]], np.int32)
    return gm.GaussianField(torch.zeros(11, 0), 0.0, 1.0, (HULL,), np.eye(4)[None], shapes, lattice=lattice, views=views)


def plane(degrees: float) -> gm.ImagePlane:
    """Turned so far from axial, about the patient's left-right axis, through the middle."""
    angle = np.deg2rad(degrees)
    return gm.ImagePlane.from_normal(
        (0, 0, 0), (0, np.sin(angle), np.cos(angle)), spacing=(1, 1), shape=(9, 11), thickness=1.0
    )


@pytest.mark.parametrize(
    ("degrees", "share"), [(0, 1), (10, 1), (15, 27 / 32), (20, 0.5), (30, 0), (90, 0), (150, 0), (160, 0.5), (180, 1)]
)
def test_a_view_counts_on_planes_like_its_slices(degrees: float, share: float) -> None:
    view = SeriesView(constant(OWN), UP, SHARE, BETWEEN)
    image = field_with(view).render(plane(degrees))
    assert image == pytest.approx(BODY + SHARE * share * (OWN - BODY), abs=2e-3)


def test_a_view_is_the_slice_where_one_was_acquired_and_its_share_halfway_between() -> None:
    view = SeriesView(constant(OWN), UP, SHARE, np.array([-6.0, -2, 4]))
    field = field_with(view)

    def seen(z: float, degrees: float = 0.0) -> float:
        image = field.render(replace(plane(degrees), ijk_to_ras=moved(plane(degrees).ijk_to_ras, z)))
        assert np.ptp(image) < 2e-3  # no stripes where a plane crosses slices
        return (float(image.mean()) - BODY) / (OWN - BODY)

    for z, near in ((-6, 1), (-2, 1), (4, 1), (-4, 0), (1, 0), (-3, 0.5), (2.5, 0.5), (7, 0), (11, 0)):
        assert seen(z) == pytest.approx(SHARE + (1 - SHARE) * near, abs=6e-3), z
    assert SHARE < seen(1, 8) < 1 and seen(4, 8) < seen(4, 1) < 1


def moved(matrix: np.ndarray, z: float) -> np.ndarray:
    found = matrix.copy()
    found[2, 3] += z
    return found


def test_a_volume_shows_the_same_from_every_direction() -> None:
    voxels, _ = field_with(SeriesView(constant(OWN), UP, 1.0, BETWEEN)).volume(spacing=3.0)
    assert voxels == pytest.approx(BODY, abs=2e-3)


@pytest.mark.parametrize(("shares", "weights"), [((0.5, 0.5), (1 / 3, 1 / 3)), ((0.2, 0.75), (0.25 / 4.25, 3 / 4.25))])
def test_two_views_of_one_direction_add_their_odds(shares: tuple[float, float], weights: tuple[float, float]) -> None:
    views = [SeriesView(constant(value), UP, share, BETWEEN) for value, share in zip((0.6, 1.0), shares, strict=True)]
    expected = 0.2 + weights[0] * 0.4 + weights[1] * 0.8
    assert field_with(*views).render(plane(0)) == pytest.approx(expected, abs=3e-3)


def test_where_a_view_has_nothing_the_field_stays() -> None:
    small = constant(OWN, nodes=8)  # to 7 mm beside the middle
    image = field_with(SeriesView(small, UP, 1.0, BETWEEN)).render(
        gm.ImagePlane.from_normal((0, 0, 0), (0, 0, 1), spacing=(1, 1), shape=(21, 21))
    )
    assert image[10, 10] == pytest.approx(OWN, abs=2e-3) and image[0] == pytest.approx(BODY, abs=2e-3)
    assert np.isfinite(image).all()


def test_views_survive_a_file(tmp_path: Path) -> None:
    lattice = constant(OWN)
    noise = torch.randn(lattice.nodes.shape, generator=torch.Generator().manual_seed(1))
    view = SeriesView(lattice.with_nodes(lattice.nodes + noise).rounded(1 / 300), np.array([0.6, 0, 0.8]), 0.3, BETWEEN)
    field = field_with(view, replace(view, share=0.7))
    field.save(tmp_path / "f.npz")
    again = gm.GaussianField.load(tmp_path / "f.npz")
    assert len(again.views) == 2 and [v.share for v in again.views] == [0.3, 0.7]
    assert torch.equal(again.views[1].lattice.nodes, view.lattice.nodes)
    assert np.allclose(again.views[0].normal, [0.6, 0, 0.8], atol=1e-15)
    assert np.array_equal(again.views[0].places, BETWEEN)
    for degrees in (0, 40):
        assert np.array_equal(again.render(plane(degrees)), field.render(plane(degrees)), equal_nan=True)
    field_with().save(tmp_path / "g.npz")  # without views, as versions of the library before them read it
    with np.load(tmp_path / "g.npz") as stored:
        assert json.loads(str(stored["header"]))["version"] == 2


@pytest.mark.parametrize(
    ("facts", "message"),
    [({"share": 1.5}, "share of a view"), ({"normal": [0, 0, 0]}, r"f\.npz"), ({"step": 0}, "step"),
     ({"node_to_ras": 1}, r"f\.npz"), ({"places": [2, 1]}, "places of a view"), ({"places": [[1]]}, "places of a view")],
)
def test_views_that_cannot_be_are_refused(tmp_path: Path, facts: dict[str, object], message: str) -> None:
    field_with(SeriesView(constant(OWN), UP, 0.5, BETWEEN)).save(tmp_path / "f.npz")
    with np.load(tmp_path / "f.npz") as stored:
        arrays = dict(stored)
    header = json.loads(str(arrays["header"]))
    header["views"][0].update(facts)
    np.savez(tmp_path / "f.npz", **{**arrays, "header": np.array(json.dumps(header))})
    with pytest.raises(gm.GaussianMRIError, match=message):
        gm.GaussianField.load(tmp_path / "f.npz")
    del arrays["view0_low"]
    np.savez(tmp_path / "f.npz", **arrays)
    with pytest.raises(gm.GaussianMRIError, match=r"f\.npz"):
        gm.GaussianField.load(tmp_path / "f.npz")


def test_the_share_is_the_one_that_will_predict_best() -> None:
    """Of two images with independent errors; the own one shrinks as slices come closer, in the fused one as well."""
    rng = np.random.default_rng(0)
    truth, other, mine = rng.normal(0, 1, (3, 200, 200))
    view = _View(plane(0), 50 + 20 * truth, np.ones((200, 200), bool))

    def share(fused_error: np.ndarray, own_error: np.ndarray, say: float | None, flattery: float = 0.0) -> float:
        fused, own = ((30 + 7 * (truth + error)).reshape(-1) for error in (fused_error, own_error))
        return _share([fused], [own], [view], say, flattery)

    # Errors small enough for the slope of a line through the images to be 1.
    assert share(0.1 * other, 0.1 * mine, 0.0) == pytest.approx(1 / (1 + CLOSER), abs=0.02)
    # Half of the fused image is the part's own: its error there shrinks too.
    k, e = np.sqrt(CLOSER), 0.1
    fused = np.array([e / 2, e * k / 2])  # of `other` and `mine`, as they will be
    own = np.array([0.0, e * k])
    expected = fused @ (fused - own) / ((fused - own) @ (fused - own))
    assert share(0.5 * e * (other + mine), e * mine, 0.5) == pytest.approx(expected, abs=0.02)
    # None of its slices was left out: its error stays, and the fused one is larger in the fit than it looks.
    assert share(0.1 * other, 0.1 * mine, None) == pytest.approx(1 / 2, abs=0.02)
    assert share(0.1 * other, 0.1 * mine, None, 3.01) == pytest.approx(2 / 3, abs=0.02)
    # What does not help, and one and the same image, get nothing.
    assert share(0.1 * other, 3 * mine, 0.0) == 0
    assert share(0.1 * other, 0.1 * other, 1.0) == 0


def test_a_view_is_the_series_inside_and_the_field_at_its_border() -> None:
    """Slices of one value in a field of another one: full at every acquired slice, nothing at the faces of the scan."""
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[:, :3, 3] = [[-10, -10, 4.0 * k - 8] for k in range(5)]
    pixels = np.ones((5, 21, 21), np.float32)
    stack = gm.SliceStack(pixels=pixels, ijk_to_ras=poses, slice_thickness=np.full(5, 4.0), name="axial")
    part = Part.of(stack, 0.0, 1.0)
    own = constant(1.0, pitch=1.0, nodes=32)
    part.lattices = [own]
    (view,) = series_views([part], [1.0], constant(BODY), 1e-4, lambda: None)
    assert abs(view.normal[2]) == pytest.approx(1) and view.share == 1.0
    assert view.places == pytest.approx([-8, -4, 0, 4, 8])
    at = lambda z: gm.ImagePlane.from_normal((0, 0, z), (0, 0, 1), spacing=(1, 1), shape=(5, 5))  # noqa: E731
    field = replace(field_with(view), hulls=(HULL,))
    for z in (-8, 0, 3, 8):
        assert field.render(at(z)) == pytest.approx(1.0, abs=0.05), z
    assert field.render(at(9)) == pytest.approx(BODY + (1 - BODY) / 1.6, abs=0.05)
    assert field.render(at(11)) == pytest.approx(BODY, abs=0.02)
    part.lattices = [own]
    assert series_views([part], [0.0], constant(BODY), 1e-4, lambda: None, on_slices=False) == ()
    (view,) = series_views([part], [0.0], constant(BODY), 1e-4, lambda: None)
    field = replace(field_with(view), hulls=(HULL,))
    assert field.render(at(4)) == pytest.approx(1.0, abs=0.05) and field.render(at(2)) == pytest.approx(BODY, abs=0.02)
