"""Networks from elsewhere: the card, the check on the known input, and what a checkpoint of one gives."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from study_scenes import Probe, import_probe, probe

from GaussianMRILib.cli import main
from GaussianMRILib.errors import GaussianMRIError
from GaussianMRILib.grading.calibration import Calibration
from GaussianMRILib.grading.foreign import CARD_FORMAT, ForeignCard, ForeignNetwork, known_input
from GaussianMRILib.grading.foreign_import import import_network
from GaussianMRILib.grading.labels import GRADES, Task
from GaussianMRILib.grading.model_card import load_grader, save_calibrated
from GaussianMRILib.grading.predict import grade

LEFT = Task("subarticular_stenosis", "left")
FULL = np.ones(9, bool)


class Oddly(torch.nn.Module):
    """Six probabilities of a crop (H, W, S, C, B) and a mask: of two conditions, each from severe to normal."""

    def forward(self, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        corner = images[:28, :10, :, 0].mean(dim=[0, 1])  # (S, B)
        logits = torch.stack([corner[0, 0] * 3, corner[4, 0], images.mean() + mask.sum() / 10])
        one = torch.softmax(logits, dim=0)
        return torch.cat([torch.softmax(-logits, dim=0), one])[None]


def card(**changes: Any) -> dict[str, Any]:
    return {
        "format": CARD_FORMAT, "version": 1, "task": LEFT.name, "input_types": ["A"], "classes": list(GRADES),
        "spacing": 0.5, "data": "drawings", "licence": "CC0", "known": [1, 0, 0], **changes,
    }  # fmt: skip


def test_layout_crop_and_order_of_outputs(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Oddly()), tmp_path / "odd.ts")
    raw = (tmp_path / "odd.ts").read_bytes()
    content = card(
        layout="HWSCB", slices=5, rows=56, columns=56, spacing=1.0, outputs=[5, 4, 3], output="probabilities", mask=True,
        mean=0.25, std=0.5,
    )  # fmt: skip
    network = ForeignNetwork(raw, "TorchScript", ForeignCard.from_dict({**content}))
    images = known_input()
    p = torch.softmax(network.classify(torch.from_numpy(images)[None], torch.ones(1, 9, dtype=torch.bool)), dim=1)[0]
    # By hand: 56 mm x 56 mm in the middle of 112 mm x 56 mm, slices 2 to 6, every pixel the mean of four.
    part = images[2:7, :, 56:168].reshape(5, 56, 2, 56, 2).mean(axis=(2, 4))
    shown = (part - 0.25) / 0.5
    corner = shown[:, :28, :10].mean(axis=(1, 2))
    logits = np.array([corner[0] * 3, corner[4], shown.mean() + 0.5])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert p.numpy() == pytest.approx(expected[::-1], abs=2e-3)
    assert ForeignCard.from_dict(content).width == 112.0
    (tmp_path / "card.json").write_text(json.dumps({**content, "known": p.tolist()}))
    made, found = import_network(tmp_path / "odd.ts", tmp_path / "card.json", tmp_path / "net.pt")
    assert found == pytest.approx(p.tolist(), abs=1e-5) and made.preprocessing["width"] == 112.0
    for wrong, words in (({"layout": "WHSCB"}, "its card says"), ({"outputs": [3, 4, 5]}, "its card says"),
                         ({"outputs": [0, 4, 5]}, "no probabilities"), ({"mask": False}, "cannot be run on")):  # fmt: skip
        (tmp_path / "card.json").write_text(json.dumps({**content, "known": p.tolist(), **wrong}))
        with pytest.raises(GaussianMRIError, match=words):
            import_network(tmp_path / "odd.ts", tmp_path / "card.json", tmp_path / "wrong.pt")
        assert not (tmp_path / "wrong.pt").exists()


def test_a_checkpoint_of_one(tmp_path: Path) -> None:
    import_probe(LEFT, tmp_path, tmp_path / "left.pt")
    grader = load_grader(tmp_path / "left.pt", LEFT)
    assert grader.card.trained_on.startswith("nothing; licence: invented; trained elsewhere; L1/L2")
    assert "cases" not in grader.card.trained_on  # its card does not say how many
    images = np.random.default_rng(0).uniform(0, 0.5, (9, 112, 224)).astype(np.float32)
    with pytest.raises(GaussianMRIError, match="regions made by"):
        grade(grader, (images, FULL), 1)  # of a region as wide as the disc is
    logits = probe(LEFT)(torch.from_numpy(images)[None])
    network: Any = grader.network
    found = network.classify(torch.from_numpy(images)[None], torch.ones(1, 9, dtype=torch.bool))
    assert torch.allclose(found, logits, atol=1e-4)
    facts = dict.fromkeys(GRADES, 5), 12, ("A",), ("L5/S1",), "spots", "ab", 0.9, 0.8, 0.02, 0.1
    save_calibrated(tmp_path / "left.pt", tmp_path / "calibrated.pt", Calibration(2.0, 0.4, "a rule", 2, *facts))
    calibrated = load_grader(tmp_path / "calibrated.pt")
    assert calibrated.card.calibration is not None and calibrated.card.calibration.temperature == 2.0
    again: Any = calibrated.network
    assert torch.equal(again.classify(torch.from_numpy(images)[None], torch.ones(1, 9, dtype=torch.bool)), found)
    done = CliRunner().invoke(
        main, ["grade", "import", str(tmp_path / "probe.ts"), str(tmp_path / "card.json"), "-o", str(tmp_path / "again.pt")]
    )
    assert done.exit_code == 0 and "as its card says" in done.output and "left subarticular stenosis" in done.output
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "left.pt").read_bytes()


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "grading.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "known_input" in block]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    done = CliRunner().invoke(main, ["grade", "import", "theirs.ts", "card.json", "-o", "left.pt"])
    assert done.exit_code == 0 and "our 300 studies; licence: CC BY 4.0" in done.output, done.output
    assert load_grader(tmp_path / "left.pt").card.preprocessing["width"] == 112.0


def test_cards_and_files_that_cannot_be(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Probe([[0, 1], [0, 9], [0, 9]])), tmp_path / "net.ts")
    for change, words in (
        ({"layout": "BSH"}, "layout has B, S, H and W"), ({"task": "left_knee"}, "is not graded here"),
        ({"classes": ["no", "mild", "bad"]}, "classes have to be"), ({"spacing": 0}, "spacing"),
        ({"colour": 1}, "no colour"), ({"licence": ""}, "licence"),
        ({"outputs": [0, 0, 1]}, "3 different numbers"), ({"known": [0.5, 0.5, 0.5]}, "sum to 1"),
        ({"input_types": ["A", "S-T1"]}, "one sagittal kind"), ({"output": "votes"}, "logits or probabilities"),
        ({"version": 2}, '"version": 1'), ({"outputs": [0, 1, 7]}, "cannot be run on"),
        ({"input_types": "A"}, r"card\.json.*no lists"),
    ):  # fmt: skip
        (tmp_path / "card.json").write_text(json.dumps(card(**change)))
        with pytest.raises(GaussianMRIError, match=words):
            import_network(tmp_path / "net.ts", tmp_path / "card.json", tmp_path / "out.pt")
    (tmp_path / "card.json").write_text(json.dumps(card()))
    (tmp_path / "torn.ts").write_bytes((tmp_path / "net.ts").read_bytes()[:200])
    with pytest.raises(GaussianMRIError, match=r"torn\.ts cannot be read as TorchScript"):
        import_network(tmp_path / "torn.ts", tmp_path / "card.json", tmp_path / "out.pt")
    with pytest.raises(GaussianMRIError, match="neither TorchScript nor ONNX"):
        import_network(tmp_path / "card.json", tmp_path / "card.json", tmp_path / "out.pt")
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(GaussianMRIError, match=r"card\.json"):
        import_network(tmp_path / "net.ts", tmp_path / "card.json", tmp_path / "out.pt")


def test_onnx_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "net.onnx").write_bytes(b"x")
    (tmp_path / "card.json").write_text(json.dumps(card()))
    with pytest.raises(GaussianMRIError, match=r"need the Python package onnxruntime\. Install it with"):
        import_network(tmp_path / "net.onnx", tmp_path / "card.json", tmp_path / "out.pt")


@pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime") is None or importlib.util.find_spec("onnx") is None,
    reason="needs onnxruntime and onnx, which are not installed",
)
def test_onnx(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "factors"], ["grades"]),
    ]
    graph = helper.make_graph(
        nodes, "mean", [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 9, 112, 224])],
        [helper.make_tensor_value_info("grades", TensorProto.FLOAT, [3])],
        [helper.make_tensor("factors", TensorProto.FLOAT, [3], [1.0, 2.0, 4.0])],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(tmp_path / "net.onnx"))
    logits = known_input().mean() * np.array([1.0, 2.0, 4.0])
    known = np.exp(logits) / np.exp(logits).sum()
    (tmp_path / "card.json").write_text(json.dumps(card(known=known.tolist())))
    _, found = import_network(tmp_path / "net.onnx", tmp_path / "card.json", tmp_path / "net.pt")
    assert found == pytest.approx(known.tolist(), abs=1e-4)
    network: Any = load_grader(tmp_path / "net.pt").network
    assert network.classify(torch.zeros(2, 9, 112, 224), torch.ones(2, 9, dtype=torch.bool)).tolist() == [[0, 0, 0]] * 2
