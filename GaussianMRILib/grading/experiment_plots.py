"""Pictures of the experiment's report, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import atomic_write
from .bootstrap import Interval
from .crops import CropSet
from .labels import TASKS

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

#: Of the input types; tell each other apart in grey and with colour-blind eyes.
COLOURS = {"N": (213, 94, 0), "R-VI": (86, 180, 233), "R-GS": (0, 114, 178), "A": (90, 90, 90)}
_INK, _GRID, _WHITE = (30, 30, 30), (215, 215, 215), (255, 255, 255)
_MARGIN = 56  # pixels


class _Canvas:
    """A white picture with a scale from `low` to `high` on the left."""

    def __init__(self, size: tuple[int, int], title: str, low: float, high: float, step: float) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self.width, self.height = size
        self.low, self.high = low, high
        self.picture: Image.Image = Image.new("RGB", size, _WHITE)
        self.draw: ImageDraw.ImageDraw = ImageDraw.Draw(self.picture)
        self.font: Any = ImageFont.load_default(size=13)
        self.draw.text((_MARGIN, 8), title, fill=_INK, font=ImageFont.load_default(size=15))
        for value in np.arange(np.ceil(low / step - 1e-9) * step, high + 1e-9, step):
            y = self.y(float(value))
            self.draw.line([(_MARGIN, y), (self.width - 16, y)], fill=_GRID)
            self.draw.text((_MARGIN - 8, y), f"{abs(value):.2f}", fill=_INK, font=self.font, anchor="rm")

    def y(self, value: float) -> float:
        top, bottom = 64, self.height - 48
        return bottom - (value - self.low) / (self.high - self.low) * (bottom - top)

    def legend(self, names: Sequence[str]) -> None:
        x = _MARGIN
        for name in names:
            self.draw.ellipse([x, 38, x + 10, 48], fill=COLOURS[name])
            self.draw.text((x + 15, 43), name, fill=_INK, font=self.font, anchor="lm")
            x += 80

    def save(self, path: Path) -> None:
        with atomic_write(path) as temporary:
            self.picture.save(temporary, format="PNG")


def auroc_plot(
    path: Path, title: str, rows: Mapping[str, Mapping[str, Interval]], tested: Sequence[str]
) -> None:
    """A group for each training set, in it a dot with its interval for each input type tested on.

    Args:
        rows: AUROC by training set and input type; undefined ones are left out.
        tested: input types in order.
    """
    bounds = [
        v
        for row in rows.values()
        for kind in tested
        for v in (row[kind].value, row[kind].low, row[kind].high)
        if v is not None
    ]
    low = min([0.5, *(np.floor(v * 10) / 10 for v in bounds)])
    canvas = _Canvas((760, 420), title, float(low), 1.0, 0.1)
    canvas.legend(tested)
    group = (canvas.width - _MARGIN - 16) / max(1, len(rows))
    for n, (name, row) in enumerate(rows.items()):
        middle = _MARGIN + (n + 0.5) * group
        canvas.draw.text(
            (middle, canvas.height - 26), f"trained on {name}", fill=_INK, font=canvas.font, anchor="mm"
        )
        for k, kind in enumerate(tested):
            x, value = middle + (k - (len(tested) - 1) / 2) * group / (len(tested) + 2), row[kind]
            if value.value is None:
                continue
            if value.low is not None and value.high is not None:
                canvas.draw.line(
                    [(x, canvas.y(value.low)), (x, canvas.y(value.high))], fill=COLOURS[kind], width=3
                )
            y = canvas.y(value.value)
            canvas.draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=COLOURS[kind])
    canvas.save(path)


def example_picture(path: Path, crops: CropSet, studies: Sequence[str]) -> None:
    """The middle slice of studies as every input type shows it, with the reported grades; left is on the right."""
    from PIL import Image, ImageDraw, ImageFont

    kinds = ("A", "R-VI", "R-GS", "N")
    font: Any = ImageFont.load_default(size=13)
    columns: list[Image.Image] = []
    for kind in kinds:
        tiles = []
        for study in studies:
            case = next(case for case in crops.chosen(None, [kind]) if case.study_id == study)
            images, mask = crops.images(case)
            there = np.flatnonzero(mask)
            grey = np.asarray(images[there[len(there) // 2]], dtype=np.float32)
            tiles.append(np.pad((np.clip(grey, 0, 1) * 255).astype(np.uint8), ((36, 2), (1, 1))))
        columns.append(Image.fromarray(np.concatenate(tiles)))
    width, height = columns[0].size
    picture = Image.new("L", (width * len(kinds), height))
    draw = ImageDraw.Draw(picture)
    for k, (kind, column) in enumerate(zip(kinds, columns, strict=True)):
        picture.paste(column, (k * width, 0))
        for n, study in enumerate(studies):
            top = n * (height // len(studies))
            draw.text((k * width + 3, top + 2), f"{kind}  SYNTHETIC", fill=255, font=font)
            if k == 0:
                case = next(case for case in crops.cases if case.study_id == study)
                grades = [
                    f"{t.side[0].upper()} {t.condition.split('_')[0]} {case.grades[t.name].lower()}"
                    for t in TASKS
                    if case.grades.get(t.name, "Normal/Mild") != "Normal/Mild"
                ]
                draw.text((3, top + 18), ", ".join(grades) or "normal/mild", fill=255, font=font)
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")
