"""A spine with known grades, from DICOM files to small networks that have learned them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mrml_scenes import Database
from numpy.typing import NDArray

from GaussianMRILib import ImagePlane, SliceStack
from GaussianMRILib.grading.labels import GRADES, Task
from GaussianMRILib.phantom.dicom import Study, write_series

CENTER = np.array([3.0, 8.0, -12.0])  # of the disc, RAS mm
LEVEL = "L5/S1"
CONDITION = "subarticular_stenosis"
#: mm from the disc's centre to the lateral recesses: to the side, to the back.
RECESS = (11.0, 24.0)


def spine(left: int, right: int) -> Callable[[NDArray[np.float64]], NDArray[np.float32]]:
    """Signal at RAS points of a spine with a horizontal disc: the higher a side's grade (0 to 2), the darker its recess."""

    def signal(points: NDArray[np.float64]) -> NDArray[np.float32]:
        x, y, z = np.moveaxis(points - CENTER, -1, 0)
        image = np.full(x.shape, 0.2)
        body = (x / 25) ** 2 + (y / 17) ** 2 < 1
        image[body] = np.where(np.abs(z) < 5, 0.3, 0.45)[body]
        image[(x / 8) ** 2 + ((y + 25) / 5.5) ** 2 < 1] = 0.9
        for grade, side in ((left, -1), (right, 1)):  # RAS: the patient's left has smaller x
            recess = (x - side * RECESS[0]) ** 2 + (y + RECESS[1]) ** 2 < 5**2
            image[recess] = (0.85, 0.5, 0.1)[grade]
        return image.astype(np.float32)

    return signal


def axial_planes(tilt: float = 0.0) -> list[ImagePlane]:
    """15 slices of 4 mm, hung as axial images are: columns to the patient's left, rows to the back."""
    angle = np.deg2rad(tilt)
    back = [0.0, -np.cos(angle), -np.sin(angle)]
    middle = ImagePlane.from_axes(
        np.add(CENTER, [2, -14, 1]), (-1, 0, 0), back, spacing=(0.9, 0.9), shape=(110, 150), thickness=3.6
    )
    return middle.stack(15, 4.0)


def images_of(
    signal: Callable[[NDArray[np.float64]], NDArray[np.float32]], planes: list[ImagePlane]
) -> NDArray[np.float32]:
    return np.stack([signal(plane.points()) for plane in planes])


def write_study(folder: Path, left: int, right: int, mirrored: bool = False, tilt: float = 0.0) -> Database:
    """An axial series in DICOM; `mirrored`: the same anatomy, seen in a mirror between left and right."""
    seen = spine(left, right)

    def signal(points: NDArray[np.float64]) -> NDArray[np.float32]:
        return seen(points * [-1, 1, 1] + [2 * CENTER[0], 0, 0] if mirrored else points)

    planes = axial_planes(tilt)
    folder.mkdir()
    write_series(
        folder, Study(f"{left}{right}{mirrored}{tilt}", 1), 1, planes, images_of(signal, planes), "T2"
    )
    return Database(folder)


def disc() -> Any:
    from GaussianMRILib.grading.disc_sources import disc_from_points

    across, along = np.array([25.0, 0, 0]), np.array([0, 17.0, 0])
    return disc_from_points(CENTER + along, CENTER - along, CENTER - across, CENTER + across, level=LEVEL)


def learned(folder: Path, sides: tuple[str, ...] = ("left", "right")) -> Path:
    """A folder with a small network for each side that has learned to grade that side's recess of `spine`."""
    import torch

    from GaussianMRILib.grading.inputs import acquired_input
    from GaussianMRILib.grading.model_card import ModelCard, save_grader
    from GaussianMRILib.grading.network import GradingNetwork
    from GaussianMRILib.grading.options import NetworkOptions
    from GaussianMRILib.grading.predict import resize

    pairs = [(left, right) for left in range(3) for right in range(3)]
    planes = axial_planes()
    poses = np.stack([plane.ijk_to_ras for plane in planes])
    made = [
        acquired_input(disc(), SliceStack.from_array(images_of(spine(*pair), planes), poses, thickness=3.6, name="T2"))
        for pair in pairs
    ]
    size, options = (16, 32), NetworkOptions(layers=1, feed_forward=32, dropout=0.0, widen=1 / 16)
    images = resize(torch.from_numpy(np.stack([one.images for one in made])), size)
    mask = torch.from_numpy(np.stack([one.mask for one in made]))
    folder.mkdir(exist_ok=True)
    for side in sides:
        torch.manual_seed(3)
        labels = torch.tensor([pair[("left", "right").index(side)] for pair in pairs])
        network = GradingNetwork(options)
        optimiser = torch.optim.Adam(network.parameters(), 3e-3)
        for step in range(1, 401):
            seen = torch.roll(images, (int(torch.randint(-1, 2, ())), int(torch.randint(-1, 2, ()))), (2, 3))
            seen = (seen + 0.03 * torch.randn_like(seen)).clamp(0, 1)
            loss = torch.nn.functional.cross_entropy(network(seen, mask), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % 20 == 0:  # until it is sure of every drawing
                with torch.no_grad():
                    sure = network.eval()(images, mask).softmax(dim=1)[torch.arange(len(labels)), labels]
                network.train()
                if sure.min() > 0.95:
                    break
        assert sure.min() > 0.95, "the small network has not learned the drawings"
        card = ModelCard(
            Task(CONDITION, side), (9, 112, 224), size, options, levels=(LEVEL,), input_types=("A",),
            data="nine drawings of a spine", synthetic=True, cases={"train": dict.fromkeys(GRADES, 3)},
        )  # fmt: skip
        save_grader(folder / f"{side}.pt", copy.deepcopy(network), card)
    return folder


def graded(record: dict[str, Any]) -> dict[str, str]:
    """The grade of each side in what a plane says."""
    return {grade["side"]: grade["grade"] for grade in record["grades"]}
