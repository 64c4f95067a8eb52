"""Training: it learns the right side, it goes on after a kill to the same result, and it says what is wrong."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from grading_cases import LEFT, QUICK, RIGHT, SHAPE, STILL, make_set
from torch import nn

from GaussianMRILib import GaussianMRIError
from GaussianMRILib.grading.crops import CropSet
from GaussianMRILib.grading.labels import GRADES, Task
from GaussianMRILib.grading.measures import macro_auroc
from GaussianMRILib.grading.model_card import load_grader
from GaussianMRILib.grading.predict import grade_cases
from GaussianMRILib.grading.train import GradingTrainer, examples_of, train_grader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropSet:
    return make_set(tmp_path_factory.mktemp("spots") / "set", {"train": 45, "validation": 18, "test": 27})


def auroc_on_test(trainer: GradingTrainer, crops: CropSet, path: Path, task: Task) -> float:
    """Macro AUROC on the test cases for the grades of `task`."""
    cases = crops.chosen("test")
    p = grade_cases(load_grader(trainer.export(path)), crops, cases, views=1)
    value = macro_auroc(p, [case.label(task) for case in cases])
    assert value is not None
    return value


def test_it_learns_its_side(crops: CropSet, tmp_path: Path) -> None:
    reports = []
    trainer = train_grader(crops, LEFT, QUICK, log=tmp_path / "log.csv", progress=reports.append)
    assert auroc_on_test(trainer, crops, tmp_path / "left.pt", LEFT) > 0.95
    assert auroc_on_test(trainer, crops, tmp_path / "left.pt", RIGHT) < 0.75
    last = reports[-1]
    assert (last.step, last.epoch, last.fraction) == (last.steps, 8, 1) and last.steps == 8 * 6  # 90 in 16s
    assert last.loss < 0.6 * reports[0].loss and last.validation_auroc > 0.9 and last.remaining == 0
    card = load_grader(tmp_path / "left.pt").card
    assert card.task == LEFT and card.shape == SHAPE and card.input_size == (16, 32)
    assert card.cases["train"] == dict.fromkeys(GRADES, 30) and card.cases["validation"] == dict.fromkeys(
        GRADES, 6
    )
    assert card.synthetic and card.trained_on == "SYNTHETIC: spots; L5/S1; A; 90 cases"
    assert "best mean macro AUROC" in card.chosen and card.training["epochs"] == 8
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == [str(n) for n in range(1, 9)]
    means = [float(row["window"]) for row in rows if row["window"]]
    values = [float(row["validation_auroc"]) for row in rows]
    assert np.allclose(means, [np.mean(values[n : n + 3]) for n in range(6)])
    assert f"epoch {3 + int(np.argmax(means))} of 8" in card.chosen
    assert float(rows[0]["rate"]) > float(rows[-1]["rate"]) and float(rows[-1]["rate"]) < 1e-4


def test_mirrored_images_teach_the_other_side(tmp_path: Path) -> None:
    """Only the right is graded in training: a network for the left can learn from mirrored images alone."""
    taught = make_set(tmp_path / "right", {"train": 45}, sides=("right",))
    judged = make_set(tmp_path / "both", {"test": 27}, seed=1)
    examples = examples_of(taught.cases, LEFT, mirror=True)
    assert len(examples) == 45 and all(e.mirror and e.label == e.case.label(RIGHT) for e in examples)
    trainer = train_grader(taught, LEFT, replace(QUICK, epochs=16))
    assert "no validation cases" in trainer.card.chosen
    assert auroc_on_test(trainer, judged, tmp_path / "left.pt", LEFT) > 0.95
    assert auroc_on_test(trainer, judged, tmp_path / "left.pt", RIGHT) < 0.75
    with pytest.raises(GaussianMRIError, match="0 training cases of left subarticular stenosis"):
        GradingTrainer(taught, LEFT, replace(QUICK, mirror=False))
    assert len(examples_of(judged.cases, LEFT, mirror=True)) == 54
    assert [e.mirror for e in examples_of(judged.cases, LEFT, mirror=False)] == [False] * 27


def test_a_stopped_training_goes_on_bit_for_bit(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    o = replace(QUICK, epochs=3, window=2)
    whole = train_grader(crops, LEFT, o)
    path = tmp_path / "left.ckpt"
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first = train_grader(crops, LEFT, o, path, progress=lambda report: report.step < 10)
    assert torch.equal(torch.get_rng_state(), before)  # the program's own random numbers stay as they were
    assert first.step == 10 and path.is_file()
    assert "not chosen" in first.card.chosen
    monkeypatch.setattr(GradingTrainer, "SAVE", -1.0)  # at every step
    torch.manual_seed(8)
    killed = GradingTrainer(crops, LEFT, o, path)
    assert killed.step == 10
    next(iter(killed))  # to step 12, an epoch's end, saved before it is reported
    killed._iterate()  # lost
    again = train_grader(crops, LEFT, o, path)
    assert again.step == whole.step == 18 and len(again.history) == 3
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name
    for mine, other in zip(whole.history, again.history, strict=True):
        assert {**mine, "seconds": 0} == {**other, "seconds": 0}
    assert again.export(tmp_path / "a.pt").read_bytes() == whole.export(tmp_path / "b.pt").read_bytes()
    other = train_grader(crops, LEFT, replace(o, seed=1))
    assert not torch.equal(other.network.head.weight, whole.network.head.weight)


@pytest.mark.parametrize(
    "instructions", ["AVX2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("AVX512_CORE", "ALL"))]
)
def test_the_same_seed_is_the_same_network_on_other_processors(crops: CropSet, instructions: str) -> None:
    """oneDNN as on a processor with no more than these instructions, two threads; it is told when it is loaded."""
    program = (
        "import hashlib, sys, torch\n"
        "sys.path[:0] = sys.argv[1:3]\n"
        "from dataclasses import replace\n"
        "from grading_cases import LEFT, QUICK\n"
        "from GaussianMRILib.grading.crops import CropSet\n"
        "from GaussianMRILib.grading.train import train_grader\n"
        "torch.set_num_threads(2)\n"
        "for _ in range(4):\n"
        "    made = train_grader(CropSet.read(sys.argv[3]), LEFT, replace(QUICK, epochs=1, window=1)).network\n"
        "    whole = b''.join(value.numpy().tobytes() for value in made.state_dict().values())\n"
        "    print(hashlib.sha256(whole).hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ROOT, ROOT / "Testing" / "Python", crops.folder],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.split()
    assert len(lines) == 4 and len(set(lines)) == 1


def test_the_loss_is_the_weighted_cross_entropy(crops: CropSet) -> None:
    o = replace(
        QUICK,
        augment=STILL,
        mirror=False,
        batch=45,
        learning_rate=1e-12,
        network=replace(QUICK.network, dropout=0.0),
    )
    trainer = GradingTrainer(crops, LEFT, o)
    images, mask = trainer._batch(trainer.examples)
    assert torch.equal(images[4], torch.from_numpy(crops.images(crops.chosen("train")[4])[0]).float())
    model = trainer._network.train()
    with torch.no_grad():
        logits = model(images, mask)
    labels = torch.tensor([e.label for e in trainer.examples])
    each = nn.functional.cross_entropy(logits, labels, reduction="none")
    weights = torch.tensor([1.0, 2.0, 4.0])[labels]
    assert trainer._iterate() == pytest.approx(float((each * weights).sum() / weights.sum()), rel=1e-4)


def test_the_epoch_is_chosen_by_the_mean_over_the_window(
    crops: CropSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the scores below the third to the fifth are the best three, though the third is the best alone."""
    o = replace(QUICK, epochs=6, window=3)
    trainer = GradingTrainer(crops, LEFT, o)
    scores, seen = iter([0.0, 0.5, 1.0, 0.5, 0.8, 0.75]), []
    labels = torch.tensor([e.label for e in trainer.held_out])

    def validate() -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(trainer._network.head.bias.detach().clone())
        return torch.zeros(len(labels), 3), labels

    monkeypatch.setattr(trainer, "_validate", validate)
    monkeypatch.setattr("GaussianMRILib.grading.train.class_aurocs", lambda *_: (next(scores),) * 3)
    for _ in trainer:
        pass
    assert trainer.history[4]["window"] == pytest.approx(2.3 / 3) and len(seen) == 6
    assert torch.equal(trainer.network.head.bias, seen[4])
    assert "epoch 5 of 6" in trainer.card.chosen and "(0.7667)" in trainer.card.chosen


@pytest.mark.parametrize(("patience", "last", "best"), [(2, 6, 3), (3, 8, 5), (None, 8, 5)])
def test_a_training_ends_when_its_patience_does(
    crops: CropSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, patience: int | None, last: int, best: int
) -> None:
    """Scores that are best at the third epoch, from the middle of eight on which patience counts, or at the fifth."""
    trainer = GradingTrainer(crops, LEFT, replace(QUICK, epochs=8, window=1, patience=patience), tmp_path / "a.ckpt")
    scores = iter([0.5, 0.6, 0.7, 0.7, 0.7 if patience == 2 else 0.8, 0.5, 0.7, 0.6])
    monkeypatch.setattr("GaussianMRILib.grading.train.class_aurocs", lambda *_: (next(scores),) * 3)
    reports = list(trainer)
    assert len(trainer.history) == last and trainer.step == 6 * last and trainer.finished
    assert trainer.converged is (patience is not None)
    assert f"epoch {best} of {last}" in trainer.card.chosen
    assert ("without a better one" in trainer.card.chosen) is trainer.converged
    assert reports[-1].fraction == 1 and reports[-2].fraction == (6 * last - 1) // 5 * 5 / 48
    # What has ended does not begin again.
    again = GradingTrainer(crops, LEFT, trainer.options, tmp_path / "a.ckpt")
    assert list(again) == [] and again.step == trainer.step and again.converged == trainer.converged


def test_epochs_of_a_given_length_go_through_all_cases_in_turn(crops: CropSet) -> None:
    """90 examples in batches of 16 make 6; epochs of 4 steps learn from the same batches, and validate after each 4."""
    learned = []
    for steps, epochs in ((None, 2), (4, 3)):
        trainer = GradingTrainer(crops, LEFT, replace(QUICK, epochs=epochs, epoch_steps=steps))
        whole, batches = trainer._batch, []

        def batch(examples, whole=whole, batches=batches):  # type: ignore[no-untyped-def]
            if examples[0].case.split == "train":
                batches.append([(e.case.case_id, e.mirror) for e in examples])
            return whole(examples)

        trainer._batch = batch  # type: ignore[method-assign]
        assert [report.step for report in trainer if report.step % (steps or 6) == 0][-1] == trainer.steps == 12
        assert len(trainer.history) == epochs
        learned.append(batches)
    assert learned[0] == learned[1]
    assert len({example for batch in learned[0][:6] for example in batch}) == 90


def test_a_patience_needs_validation_cases_and_a_positive_number(tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"train": 18})
    with pytest.raises(GaussianMRIError, match=r"no validation cases of left .* patience"):
        GradingTrainer(crops, LEFT, replace(QUICK, patience=3))
    for change in ({"patience": 0}, {"epoch_steps": 0}):
        with pytest.raises(GaussianMRIError, match="at least 1"):
            replace(QUICK, **change)


def test_without_every_grade_the_loss_chooses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crops = make_set(tmp_path / "set", {"train": 18, "validation": 2})
    with caplog.at_level("WARNING", "GaussianMRI"):
        trainer = train_grader(crops, LEFT, replace(QUICK, epochs=2, window=5))
    assert "do not have every grade" in caplog.text and "chosen by their loss" in caplog.text
    assert trainer.progress.validation_auroc is None and trainer.progress.validation_loss > 0
    best = np.mean([line["validation_loss"] for line in trainer.history])
    assert f"mean loss of validation ({best:.4f})" in trainer.card.chosen  # a window of 2, all there is


def test_smaller_images_and_input_types(tmp_path: Path) -> None:
    crops = make_set(tmp_path / "set", {"train": 6, "validation": 3}, types=("A", "R-GS"), shape=(3, 32, 64))
    o = replace(QUICK, epochs=1, window=1, input_size=(16, 32), input_types=("A", "R-GS"))
    trainer = train_grader(crops, LEFT, o)
    assert trainer._batch(trainer.examples[:2])[0].shape == (2, 3, 16, 32)
    assert len(trainer.examples) == 24 and len(trainer.held_out) == 6
    card = trainer.card
    assert card.shape == (3, 32, 64) and card.input_size == (16, 32) and card.input_types == ("A", "R-GS")
    only = GradingTrainer(crops, LEFT, replace(o, input_types=("R-GS",)))
    assert {e.case.input_type for e in [*only.examples, *only.held_out]} == {"R-GS"}
    with pytest.raises(GaussianMRIError, match=r"0 training cases .* type N"):
        GradingTrainer(crops, LEFT, replace(o, input_types=("N",)))
    with pytest.raises(GaussianMRIError, match="has 3 slices a case, the network takes 9"):
        GradingTrainer(crops, LEFT, replace(o, network=replace(o.network, slices=9)))


def test_a_checkpoint_of_something_else_is_refused(crops: CropSet, tmp_path: Path) -> None:
    o, path = replace(QUICK, epochs=1), tmp_path / "left.ckpt"
    train_grader(crops, LEFT, o, path)
    with pytest.raises(GaussianMRIError, match=r"other options \(batch, network\)"):
        GradingTrainer(crops, LEFT, replace(o, batch=8, network=replace(o.network, layers=2)), path)
    with pytest.raises(GaussianMRIError, match=r"other options \(task\)"):
        GradingTrainer(crops, RIGHT, o, path)
    other = make_set(tmp_path / "other", {"train": 6, "validation": 3})
    with pytest.raises(GaussianMRIError, match="belongs to other cases"):
        GradingTrainer(other, LEFT, o, path)
    whole = path.read_bytes()
    for part in (0, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:part])
        with pytest.raises(GaussianMRIError, match="truncated"):
            GradingTrainer(crops, LEFT, o, path)
    missing = crops.folder / crops.chosen("train")[3].file
    content = missing.read_bytes()
    missing.unlink()
    try:
        with pytest.raises(GaussianMRIError, match=missing.name + " cannot be read"):
            train_grader(crops, LEFT, o)
    finally:
        missing.write_bytes(content)


def test_a_diverging_training_stops(crops: CropSet, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = GradingTrainer(crops, LEFT, QUICK)
    nn.init.constant_(trainer._network.head.weight, float("nan"))
    with pytest.raises(GaussianMRIError, match="diverged at step 1"):
        next(iter(trainer))


PROGRAM = """
import sys, torch
from torch import distributed
from grading_cases import LEFT, QUICK
from GaussianMRILib.grading.crops import CropSet
from GaussianMRILib.grading.train import train_grader
distributed.init_process_group("gloo")
trainer = train_grader(CropSet.read(sys.argv[1]), LEFT, QUICK, log=sys.argv[2] + "/log.csv")
trainer.export(f"{sys.argv[2]}/{distributed.get_rank()}.pt")
distributed.destroy_process_group()
"""


def test_two_processes_train_one_network(crops: CropSet, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    places = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(program), str(crops.folder), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (load_grader(tmp_path / f"{n}.pt") for n in range(2))
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    cases = crops.chosen("test")
    p = grade_cases(first, crops, cases, views=1)
    assert macro_auroc(p, [case.label(LEFT) for case in cases]) > 0.9
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert len(rows) == 8 and float(rows[-1]["validation_auroc"]) > 0.9
