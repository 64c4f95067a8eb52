"""Where a network looked: how much the probability of its grade falls when a square of the region is covered.

Occlusion (Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014) needs no gradients, so it is
the same for networks from elsewhere, and has a unit. It says what the network used, not what is ill.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from ..geometry import ImagePlane
from ..interruption import checkpoint
from .augment import resize
from .inputs import GradingInput
from .labels import DISCLAIMER, GRADES
from .model_card import Grader
from .network import mixed_precision
from .study import COLUMNS as CELLS
from .study import StudyGrade, StudyGrades

#: Pixels of the crop: of a covered square, and between two of them.
SQUARE, STEP = 28, 21
BATCH = 4  # inputs that are encoded at a time
NOTICE = "Where the network looked (occlusion). Not a diagnosis."


@dataclass(frozen=True, eq=False)
class HeatMap:
    """What covering parts of an input does.

    Attributes:
        grade: of `GRADES`, whose probability is followed.
        probability: of it, uncovered, of the first view and before any calibration.
        drop: (rows, columns) of the crop: by how much it falls when a square around a pixel is covered on all slices,
            the mean over squares; negative where it rises.
        slices: (S,) by how much it falls without a slice; NaN for one that does not exist.
        place: (3,) RAS mm of the middle of the square that matters most, on the slice that does.
    """

    grade: str
    probability: float
    drop: NDArray[np.float32]
    slices: NDArray[np.float32]
    place: NDArray[np.float64]

    @property
    def slice(self) -> int:
        """Number of the slice that matters most; the middle one of those that exist where none matters."""
        return _most(self.slices)

    @property
    def text(self) -> str:
        """One line for people."""
        r, a, s = self.place
        most = max(0.0, float(self.drop.max()))
        return (
            f"P {self.grade.lower()} {self.probability:.2f} (first view) falls by up to {most:.2f} when a square is "
            f"covered, most at R {r:.0f}, A {a:.0f}, S {s:.0f} mm. {NOTICE}"
        )


def heat_map(
    grader: Grader,
    inputs: GradingInput,
    *,
    grade: str | None = None,
    step: int = STEP,
    progress: Callable[[float], object] | None = None,
) -> HeatMap:
    """Cover squares of an input, one after the other, and see what becomes of the grade.

    Args:
        inputs: that the network was shown.
        grade: of `GRADES`, whose probability is followed; None: the most probable one of the first view, which need not be
            that of all views.
        step: pixels between squares; half of it takes four times as long.
        progress: called with the fraction done; when it returns False the work stops.

    Raises:
        GaussianMRIError: a step below 1, an unknown grade, or a stop.
    """
    if grade is not None and grade not in GRADES:
        raise GaussianMRIError(f"There is no grade '{grade}' to follow; grades are {', '.join(GRADES)}.")
    if step < 1:
        raise GaussianMRIError(f"The step between squares is at least 1 pixel, not {step}.")
    images, mask = torch.from_numpy(inputs.images), torch.from_numpy(inputs.mask)
    _, rows, columns = images.shape
    corners = [(r, c) for r in _starts(rows, step) for c in _starts(columns, step)]
    grey = images[mask].mean()

    def covered(corner: tuple[int, int]) -> torch.Tensor:
        r, c = corner
        image = images.clone()
        image[mask, r : r + SQUARE, c : c + SQUARE] = grey
        return image

    there = torch.nonzero(mask)[:, 0].tolist()
    alone = mask.expand(len(there), -1).clone()
    if len(there) > 1:  # without its only slice nothing is left to grade
        alone[range(len(there)), there] = False
    whole = 1 + len(alone) + len(corners)
    done = 0

    def probabilities(shown: torch.Tensor, masks: torch.Tensor) -> NDArray[np.float32]:
        nonlocal done
        found = []
        for first in range(0, len(masks), BATCH):
            checkpoint()
            part = masks[first : first + BATCH]
            batch = shown.expand(len(masks), *shown.shape[1:])[first : first + BATCH]
            found.append(_probabilities(grader, batch, part))
            done += len(part)
            if progress is not None and progress(done / whole) is False:
                raise GaussianMRIError("The heat-map was stopped.")
        return np.concatenate(found)

    base = probabilities(images[None], mask[None])[0]
    index = int(base.argmax()) if grade is None else GRADES.index(grade)
    slices = np.full(len(mask), np.nan, np.float32)
    slices[there] = base[index] - probabilities(images[None], alone)[:, index]
    total, count = np.zeros((rows, columns), np.float32), np.zeros((rows, columns), np.float32)
    drops = []
    for first in range(0, len(corners), BATCH):
        some = corners[first : first + BATCH]
        shown = torch.stack([covered(corner) for corner in some])
        drops += (base[index] - probabilities(shown, mask.expand(len(some), -1))[:, index]).tolist()
    for (r, c), drop in zip(corners, drops, strict=True):
        total[r : r + SQUARE, c : c + SQUARE] += drop
        count[r : r + SQUARE, c : c + SQUARE] += 1
    r, c = corners[int(np.argmax(drops))]
    plane = inputs.planes[_most(slices)]
    half = (SQUARE - 1) / 2
    place = plane.origin + (c + half) * plane.spacing[0] * plane.i_axis + (r + half) * plane.spacing[1] * plane.j_axis
    return HeatMap(GRADES[index], float(base[index]), np.asarray(total / np.maximum(count, 1), np.float32), slices, place)


def _most(slices: NDArray[np.float32]) -> int:
    there = np.flatnonzero(~np.isnan(slices))
    if np.ptp(slices[there]) < 1e-4:
        return int(there[len(there) // 2])
    return int(np.nanargmax(slices))


def _starts(size: int, step: int) -> list[int]:
    last = max(0, size - SQUARE)
    return sorted({*range(0, last, step), last})


@torch.inference_mode()
def _probabilities(grader: Grader, images: torch.Tensor, masks: torch.Tensor) -> NDArray[np.float32]:
    device = grader.device
    shown = resize(images, grader.card.input_size).to(device)
    with mixed_precision(device):
        logits = grader.network.classify(grader.network.encode(shown, masks.to(device)), masks.to(device))
    return torch.softmax(logits.float(), dim=1).cpu().numpy()


def heat_picture(inputs: GradingInput, found: HeatMap, title: str) -> NDArray[np.uint8]:
    """The slice that matters most, and beside it the same with the heat-map: red where covering lowers the probability.

    Returns:
        (H, W, 3) uint8, the patient's sides at the edges (R and L, or A and P), the scale and what it is not beneath.
    """
    from PIL import Image, ImageDraw

    grey = (np.clip(inputs.images[found.slice] * 2, 0, 1) * 255).astype(np.uint8)
    crop = np.repeat(grey[..., None], 3, axis=2)
    most = float(np.abs(found.drop).max()) or 1.0
    share = np.clip(found.drop / most, -1, 1)[..., None]
    colour = np.where(share > 0, [255, 40, 0], [0, 90, 255])
    heat = (crop * (1 - 0.6 * np.abs(share)) + colour * 0.6 * np.abs(share)).astype(np.uint8)
    both = np.concatenate([crop, heat], axis=1).repeat(2, axis=0).repeat(2, axis=1)
    canvas = Image.new("RGB", (both.shape[1], both.shape[0] + 46))
    canvas.paste(Image.fromarray(both), (0, 0))
    draw = ImageDraw.Draw(canvas)
    width = 2 * crop.shape[1]
    for left, right in ((6, width - 14), (width + 6, 2 * width - 14)):
        for x, letter in zip((left, right), _sides(inputs.planes[found.slice]), strict=True):
            draw.text((x, crop.shape[0] - 6), letter, fill=(255, 255, 255))
    scale = f"{title}  |  slice {found.slice + 1}  |  red: -{most:.2f}, blue: +{most:.2f} when covered"
    draw.text((6, both.shape[0] + 4), scale, fill=(255, 255, 255))
    draw.text((6, both.shape[0] + 24), f"{NOTICE} {DISCLAIMER}", fill=(255, 220, 0))
    return np.asarray(canvas)


def _sides(plane: ImagePlane) -> str:
    """Letters of what the left and the right edge of an image are towards in the patient, such as "RL"."""
    axis = int(np.abs(plane.i_axis).argmax())
    return ("LR", "PA", "IS")[axis][:: 1 if plane.i_axis[axis] > 0 else -1]


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Grades</title><style>
body {{ font: 14px sans-serif; margin: 2em; }} table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #bbb; padding: 2px 6px; text-align: left; }} img {{ max-width: 100%; }}
.notice {{ font-weight: bold; color: #b06000; }}
</style></head><body><h1>Grades</h1><p class="notice">{notice}</p>{remarks}{table}{pictures}{notes}</body></html>
"""


def write_report(
    path: Path, grades: StudyGrades, maps: Sequence[tuple[StudyGrade, HeatMap]], *, hidden: Sequence[str] = ("checkpoint",)
) -> None:
    """Write a page: the table of grades, and for each heat-map the crop with it beside; pictures are in the file.

    Args:
        maps: rows of `grades` with their heat-maps.
        hidden: columns of the table that the notes beneath have.

    Raises:
        GaussianMRIError: the file cannot be written.
    """
    from PIL import Image

    names = [name for name in CELLS if name not in hidden]
    rows = ["".join(f"<td>{html.escape(row.cells()[name])}</td>" for name in names) for row in grades.rows]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    pictures = []
    for row, found in maps:
        if row.inputs is None:
            continue
        buffer = io.BytesIO()
        Image.fromarray(heat_picture(row.inputs, found, row.text)).save(buffer, format="PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        pictures.append(
            f'<h3>{html.escape(row.text)}</h3><p>{html.escape(found.text)}</p>'
            f'<img alt="crop and heat-map" src="data:image/png;base64,{data}">'
        )
    lines = {
        name: "".join(f"<p>{html.escape(line)}</p>" for line in said)
        for name, said in (("remarks", grades.remarks), ("notes", grades.notes))
    }
    page = _PAGE.format(
        notice=html.escape(f"{DISCLAIMER} {NOTICE}"),
        table=f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>",
        pictures="".join(pictures),
        **lines,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
