"""The table of facts, units and comparisons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core, which is not installed")

from mrml_scenes import POINT, bright_point, oblique_plane_node, put_under, random_field, rigid  # noqa: E402

from GaussianMRILib import GaussianMRIError, mrml  # noqa: E402
from GaussianMRILib.metrics import psnr  # noqa: E402

TINY = {"prior": "spline", "passes": 2, "blend": 0.5}


def cell(rows: Any, row: int, column: str) -> Any:
    return rows[row][column]


number = cell


def lines(table: Any) -> list[tuple[str, str]]:
    """The table as it is read."""
    return [tuple(table.GetCellText(n, c) for c in range(2)) for n in range(table.GetNumberOfRows())]


def test_fields_volumes_and_planes_have_rows(scene: Any) -> None:
    volume = bright_point(scene)
    node = mrml.fit([volume], prior="spline", passes=2)  # measured on slices left out
    field = mrml.field_from_model(node)
    plane = oblique_plane_node(scene, size=(60, 60))
    stack = mrml.resample(node, plane, method="spline", count=3, step=2, thickness=1.5)
    put_under(scene, stack, rigid([0, 0, 1], 3, [0, 1, 0]))
    table = mrml.report_rows(node, [stack, plane])
    assert len(table) == 4
    assert [cell(table, 0, name) for name in ("Item", "Kind", "Method")] == ["scan field", "field", "fast"]
    assert number(table, 0, "Gaussians") == len(field) and number(table, 0, "Slices") == 13
    assert number(table, 0, "Time") == pytest.approx(field.report["elapsed_s"])
    assert number(table, 0, "PSNR") == pytest.approx(field.report["held_out"]["psnr_db"])
    assert number(table, 1, "PSNR") == pytest.approx(field.report["held_out"]["spline_psnr_db"])
    assert number(table, 0, "Spacing") == pytest.approx(0.9)
    assert "Outside" not in table[0]
    assert [cell(table, 2, name) for name in ("Item", "Kind", "Method")] == [
        stack.GetName(),
        "volume",
        "spline",
    ]
    facts = [number(table, 2, name) for name in ("Slices", "Thickness", "Spacing")]
    assert facts == pytest.approx([3, 1.5, 0.9])
    planes = mrml.stack_from_volume(stack).planes()
    facts = [mrml.plane_facts(field, p) for p in planes]
    assert number(table, 2, "Outside") == pytest.approx(100 * np.mean([f.outside for f in facts]))
    assert number(table, 2, "Max distance") == pytest.approx(max(f.max_distance for f in facts))
    inside = [p.points()[field.inside(p.points())] for p in planes]
    distances = [field.distance_to_slices(p)[field.inside(p.points())] for p in planes]
    assert sum(map(len, inside)) > 1000
    assert number(table, 2, "Mean distance") == pytest.approx(np.concatenate(distances).mean(), rel=1e-5)
    assert cell(table, 3, "Kind") == "plane" and 30 < number(table, 3, "Outside") < 90
    assert number(table, 3, "Support") == pytest.approx(mrml.plane_facts(node, plane).mean_support)


def test_a_field_of_several_series_has_their_figure() -> None:
    stacks = [{"name": "axial"}, {"name": "sagittal"}]
    scores = {"joint": 26.6, "axial alone": 21.4, "sagittal alone": 20.3}
    fusion = {"method": "joint", "part": None, "left_out_slices": 8, "psnr_db": scores}
    probed = {"stack": "axial", "slices": 1, "psnr_db": 19.8, "spline_psnr_db": 18.4}
    facts = {"preset": "fast", "stacks": stacks, "fusion": fusion, "held_out": probed}
    rows = mrml.report_rows(replace(random_field(), report=facts))
    assert [(row["Method"], row["PSNR"]) for row in rows] == [("fast", 26.6), ("axial alone, for comparison", 21.4)]
    # Where nothing says how good they are together, the figure is that of one, and says so.
    whole, *alone = mrml.report_rows(replace(random_field(), report={**facts, "fusion": {"method": "mean"}}))
    assert "PSNR" not in whole and {row["Item"] for row in alone} == {"axial"}
    figures = [("fast, alone", 19.8), ("cubic spline, for comparison", 18.4)]
    assert [(row["Method"], row["PSNR"]) for row in alone] == figures


def test_the_table_is_read_as_name_and_value(scene: Any, host: Any, tmp_path: Path) -> None:
    plane = oblique_plane_node(scene, size=(60, 60))
    table = mrml.report(random_field(), plane, scene=scene)
    assert table.GetName() == "Gaussian field report" and table.GetNumberOfColumns() == 2
    shown = lines(table)
    assert shown[:2] == [("Field: Gaussian field", "fast"), ("Gaussians", "300")]
    assert ("Plane: oblique", "gaussians") in shown and ("Spacing", "0.700 mm") in shown
    assert any(name == "Outside" and value.endswith(" %") for name, value in shown)
    assert "PSNR: Peak signal-to-noise" in table.GetColumnDescription("Fact")
    assert max(len(text) for line in shown for text in line) < 40  # narrower than a view
    host.save(tmp_path / "scene.mrb")
    host.close()
    host.load(tmp_path / "scene.mrb")
    assert lines(host.scene.GetFirstNodeByName("Gaussian field report")) == shown


def test_a_reference_is_compared_on_its_own_slices(scene: Any) -> None:
    volume = bright_point(scene)
    node = mrml.fit([volume], **TINY)
    # The same slices in other units: every method's image is their own, up to a scale and an offset.
    other = bright_point(scene, name="other")
    slicer.util.arrayFromVolume(other)[:] = 3000 - 2 * slicer.util.arrayFromVolume(volume)
    table = mrml.report_rows(node, reference=other)
    assert [cell(table, row, "Method") for row in (1, 2, 3)] == ["gaussians", "voxel", "spline"]
    assert {cell(table, row, "Item") for row in (1, 2, 3)} == {"other"}
    for row in (1, 2, 3):
        assert number(table, row, "PSNR") > 35 and number(table, row, "SSIM") > 0.97
        assert number(table, row, "Thickness") == pytest.approx(3)
    # By hand, for the Gaussians.
    field, stack = mrml.field_from_model(node), mrml.stack_from_volume(other)
    inside = [
        np.all(p.points() @ field.hulls[0][:, :3].T + field.hulls[0][:, 3] <= -2, -1) for p in stack.planes()
    ]
    judged = [k for k, part in enumerate(inside) if part.sum() >= 64]
    assert number(table, 1, "Slices") == len(judged)
    images = [np.where(inside[k], field.render(stack.plane(k)), np.nan) for k in judged]
    truths = [np.where(inside[k], stack.pixels[k], np.nan) for k in judged]
    valid = np.isfinite(images) & np.isfinite(truths)
    slope, offset = np.polyfit(np.array(images)[valid], np.array(truths)[valid], 1)
    assert slope == pytest.approx(-2, abs=0.1)
    span = np.nanpercentile(truths, 99.9)
    expected = [psnr(slope * i + offset, t, data_range=span) for i, t in zip(images, truths, strict=True)]
    assert number(table, 1, "PSNR") == pytest.approx(np.mean(expected), abs=1e-3)


def test_without_its_volumes_only_the_field_is_compared(scene: Any) -> None:
    volume, reference = bright_point(scene), bright_point(scene, name="reference")
    node = mrml.fit([volume], **TINY)
    scene.RemoveNode(volume)
    table = mrml.report_rows(node, reference=reference)
    assert len(table) == 2 and cell(table, 1, "Method") == "gaussians"


def test_bad_input_leaves_no_table(scene: Any, host: Any) -> None:
    volume = bright_point(scene)
    node = mrml.fit([volume], **TINY)
    far = bright_point(scene, POINT + 400, "far")
    before = host.ids()
    for call, message in (
        (lambda: mrml.report(volume), "need a field; fit the volume first"),
        (lambda: mrml.report(node, [volume]), "'scan'.* is no resampled volume"),
        (lambda: mrml.report(node, reference=far), "'far'.* shows nothing of what was fitted"),
        (lambda: mrml.report(node, reference=node), "scalar volume node is needed"),
    ):
        with pytest.raises(GaussianMRIError, match=message):
            call()
    assert host.ids() == before
