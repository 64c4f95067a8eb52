"""Pictures for `studies`: the left-out slice and what every method makes of it, in one window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Least pixels along the longer side of a panel, and columns of panels.
LONGEST, COLUMNS = 420, 4


def save_picture(folder: Path, label: str, found: dict[str, Any]) -> Path:
    """Truth, fused, best single, the other singles, and the rest, in this order; black where nothing is judged."""
    from PIL import Image, ImageDraw

    truth, valid = found["truth"], found["valid"]
    rows, columns = np.nonzero(valid)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    low, high = np.percentile(truth[valid], (0.5, 99.5))
    others = [key for key in found["images"] if key.endswith(" alone") and key != found["best"]]
    panels = [("truth", truth)]
    for key in ("fused", found["best"], *others, "mean", "Tikhonov", "spline"):
        image, score = found["images"][key]
        slope, offset = np.polyfit(image[valid], truth[valid], 1)
        panels.append((f"{key} {score['psnr']:.2f} dB, NCC {score['ncc']:.3f}", slope * image + offset))
    height, width = truth[box].shape
    factor = LONGEST / max(height, width)
    size = (round(width * factor), round(height * factor))
    lines = -(-len(panels) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * (size[0] + 4), lines * (size[1] + 20)))
    draw = ImageDraw.Draw(sheet)
    for n, (text, image) in enumerate(panels):
        shown = np.clip((np.nan_to_num(image[box]) - low) / max(high - low, 1e-9), 0, 1)
        shown = np.where(valid[box], shown, 0)
        at = (n % COLUMNS * (size[0] + 4), n // COLUMNS * (size[1] + 20))
        draw.text((at[0] + 2, at[1] + 3), text, fill=255)
        picture = Image.fromarray((shown * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
        sheet.paste(picture, (at[0], at[1] + 18))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (label.replace(": ", "_").replace(", ", "_").replace(" ", "_") + ".png")
    sheet.save(path)
    return path


def save_exam(
    folder: Path, label: str, field: Any, stacks: Sequence[Any], motions: Sequence[Sequence[NDArray[np.float64]]]
) -> Path:
    """A row a series: three of its slices whole, each beside what the field shows in its place."""
    from PIL import Image

    rows = []
    for stack, own in zip(stacks, motions, strict=True):
        panels = []
        for share in (0.25, 0.5, 0.75):
            k = round(share * (len(stack.pixels) - 1))
            truth, image = stack.pixels[k], field.render(stack.plane(k).transformed(own[k]))
            valid = np.isfinite(image)
            slope, offset = np.polyfit(image[valid], truth[valid], 1)
            shown = np.where(valid, slope * image + offset, 0)
            panels += [np.clip(p / np.percentile(truth, 99.5) * 255, 0, 255) for p in (truth, shown)]
        rows.append(np.concatenate(panels, axis=1))
    width = max(row.shape[1] for row in rows)
    sheet = np.concatenate([np.pad(row, ((0, 4), (0, width - row.shape[1]))) for row in rows])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{label.replace(' ', '_')}_whole.png"
    Image.fromarray(sheet.astype(np.uint8)).save(path)
    return path
