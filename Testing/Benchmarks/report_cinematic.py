"""Tables of the cinematic benchmarks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from GaussianMRILib.cinematic.evaluate import spread

from .report_markdown import markdown

#: Measures of the frames of a model, by their names in results, with their heads and digits.
FRAME_MEASURES = {
    "psnr": ("PSNR, dB", 2), "covered_psnr": ("on the volume, dB", 2), "ssim": ("SSIM", 4), "band_ssim": ("at the cut", 3),
    "leak": ("leak, %", 2), "lpips": ("LPIPS", 4),
}  # fmt: skip


def cinematic(summary: dict[str, Any]) -> str:
    parts = []
    for scene in summary["cinematic"]["scenes"].values():
        methods = scene["methods"]
        first = next(iter(methods.values()))
        header = [
            "method", *(title for title, _ in FRAME_MEASURES.values()), "training", "frames/s", "size", "splats",
        ]  # fmt: skip
        options, size = first["facts"]["options"], first["size"]
        best = max(score["psnr_mean"] for score in methods.values())
        rows = []
        for score in methods.values():
            cells = [spread(score[name] or (), digits) for name, (_, digits) in FRAME_MEASURES.items()]
            cells[0] = f"**{cells[0]}**" if score["psnr_mean"] == best else cells[0]
            cells += [f"{score['training_s'] / 60:.1f} min", f"{score['frames_per_second']:.1f}"]
            rows.append([score["label"], *cells, f"{score['storage'] / 1e6:.1f} MB", f"{score['splats']:,}"])
        text = (
            f"{scene['title']}, look *{scene['look']}*: {scene['frames'][0]} frames to learn from, "
            f"{scene['frames'][1]} held out, {size[0]} x {size[1]} pixels, "
            f"{options['first_step'] + options['second_step']:,} iterations. Rows with LT or AAM: not the paper's setting."
        )
        text += f"\n\n{markdown(header, rows)}"
        if "lt" in methods:
            base = methods["lt"]["psnr"]
            for name in ("analytic", "default", "face"):
                gains = [a - b for a, b in zip(methods.get(name, {}).get("psnr", []), base, strict=False)]
                if gains:
                    text += (
                        f"\n\n*{methods[name]['label']}* against *{methods['lt']['label']}*, frame by frame: "
                        f"{sum(gains) / len(gains):+.2f} dB in the mean, higher in {sum(g > 0 for g in gains)} of "
                        f"{len(gains)} frames that show anything."
                    )
        parts.append(text)
    return "\n\n".join(parts)


def cinematic_clipgs(summary: dict[str, Any]) -> str:
    results = summary["cinematic_clipgs"]
    setting = results["setting"]
    measures = [name for name in FRAME_MEASURES if name != "lpips"]  # AlexNet wants larger pictures
    header = ["method", *(FRAME_MEASURES[name][0] for name in measures), "against LT, dB", "splats"]
    parts = []
    for table in results["tables"]:
        runs = table["runs"]
        rows = []
        best = max(statistics.fmean(run[m]["psnr_mean"] for run in runs) for m in runs[0])
        for method in runs[0]:
            cells = []
            for name in measures:
                cells.append(spread([value for run in runs for value in run[method][name]], FRAME_MEASURES[name][1]))
            if statistics.fmean(run[method]["psnr_mean"] for run in runs) == best:
                cells[0] = f"**{cells[0]}**"
            splats = statistics.fmean(run[method]["splats"] for run in runs)
            cells += [_gain(runs, method, "lt"), f"{splats:,.0f}"]
            rows.append([results["titles"][method], *cells])
        planes = "along z" if table["planes"] == "axial" else "of any direction"
        seeds = f"{len(runs)} seeds" if len(runs) > 1 else "one seed"
        parts.append(
            f"{table['title']}, look *{table['look']}*, planes {planes}, {seeds}, {len(runs[0]['lt']['psnr'])} of "
            f"{setting['test']} held-out frames counted:\n\n{markdown(header, rows)}"
        )
    rates = ", ".join(f"{row['rate']:g}: {row['psnr']:.2f} dB" for row in results["validation"])
    text = (
        f"{setting['train']} frames to learn from, {setting['size']} x {setting['size']} pixels, "
        f"{setting['splats']:,} splats at most, {setting['iterations']:,} iterations."
    )
    parts.append(f"{text} ClipGS on the validation scene by the rate of its network: {rates}." if rates else text)
    return "\n\n".join(parts)


def _gain(runs: Sequence[dict[str, Any]], method: str, base: str) -> str:
    """Mean difference in PSNR between frames of one seed, the range of the seeds' means, and how many frames gain."""
    if method == base:
        return ""
    pairs = [list(zip(run[method]["psnr"], run[base]["psnr"], strict=True)) for run in runs]
    means = [statistics.fmean(a - b for a, b in pair) for pair in pairs]
    higher = sum(a > b for pair in pairs for a, b in pair)
    span = f" ({min(means):+.2f} to {max(means):+.2f})" if len(means) > 1 else ""
    return f"{statistics.fmean(means):+.2f}{span}, higher in {higher} of {sum(map(len, pairs))}"


def cinematic_speed(summary: dict[str, Any]) -> str:
    rows = []
    for row in summary["cinematic_trace"]:
        what = f"path tracer, {row['preset']}, {row['view']}, {row['size']} x {row['size']}, {row['samples']} samples"
        mitsuba = row.get("mitsuba_s")
        peer = f"; Mitsuba 3 takes {mitsuba / row['wall_s']:.0f} times as long" if mitsuba else ""
        rows.append([what, f"{row['wall_s']:.1f} s{peer}"])
    for row in summary["cinematic_raster"]["speed"]:
        view = "cut" if row["cut"] else "whole"
        size = row["size"]
        rows.append([f"100,000 splats, {view}, {size} x {size}", f"{row['frames_per_second']:.0f} frames/s"])
    if "cinematic_view" in summary:
        row = summary["cinematic_view"]
        what = f"the same behind a volume's cut faces, a plane dragged in Slicer's 3D view, {row['size']} x {row['size']}"
        rows.append([what, f"{row['frames_per_second']:.0f} frames/s"])
        for scan in row.get("volumes", ()):
            what = f"{scan['scan']} ({scan['look']}) chosen in the module, {scan['size']} x {scan['size']}"
            rows.append(
                [
                    what,
                    f"first picture {scan['first_s']:.2f} s; {scan['samples']} paths {scan['rested_s']:.1f} s "
                    f"({scan['rested_processor_s']:.1f} processor s); moving {scan['pictures_per_second']:.0f} pictures/s",
                ]
            )
    return markdown(["two threads", ""], rows)
