"""Fill the tables of the pages in docs/ from Testing/Benchmarks/results/summary.json: `make report`.

A table goes between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` of one page; what was not measured stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .report_cinematic import cinematic, cinematic_clipgs, cinematic_speed
from .report_grading import experiment, grading, grading_sagittal
from .report_markdown import markdown
from .stored import LONG

HERE = Path(__file__).resolve().parent
PAGES = HERE.parents[1] / "docs"
SUMMARY = HERE / "results" / "summary.json"


def _score_table(rows: Sequence[dict[str, Any]], views: Sequence[str]) -> str:
    """Methods x (PSNR, SSIM, LPIPS) of each view; the best PSNR and SSIM in bold, missing ones named."""
    measured = [row for row in rows if "not_available" not in row]
    with_lpips = any(row[view].get("lpips") is not None for row in measured for view in views)
    names = ("psnr", "ssim", "lpips") if with_lpips else ("psnr", "ssim")
    digits = {"psnr": 2, "ssim": 3, "lpips": 3}
    header = ["method", *(f"{view} {name.upper()}" for view in views for name in names)]
    judged = [(view, name) for view in views for name in ("psnr", "ssim")]
    best = {(view, name): max(row[view][name] for row in measured) for view, name in judged}
    table = []
    for row in measured:
        cells = [row["method"]]
        for view in views:
            for name in names:
                value = row[view].get(name)
                text = "n/a" if value is None else f"{value:.{digits[name]}f}"
                cells.append(f"**{text}**" if value is not None and value == best.get((view, name)) else text)
        table.append(cells)
    missing = [row["method"] for row in rows if "not_available" in row]
    note = f"\n\nNot measured: {', '.join(missing)}." if missing else ""
    return markdown(header, table) + note


def _scores(results: dict[str, Any], views: Sequence[str]) -> str:
    return "\n\n".join(f"{name}:\n\n{_score_table(rows, views)}" for name, rows in results.items())


def quality(summary: dict[str, Any]) -> str:
    return _scores(summary["quality"]["single"], ("thin", "thick"))


def pair(summary: dict[str, Any]) -> str:
    return _scores(summary["quality"]["pair"], ("thin", "thick"))


def heldout(summary: dict[str, Any]) -> str:
    return _scores(summary["quality"]["heldout"], ("left out",))


def recipe(summary: dict[str, Any]) -> str:
    """The preset `paper` and voxel interpolation: figures of every seed."""
    parts = []
    for name, results in summary["quality"]["recipe"].items():
        methods: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(results, key=lambda row: row["seed"]):
            methods.setdefault(row["recipe"], []).append(row)
        view = "left out" if "left out" in results[0] else "thin"
        rows = []
        for method, found in methods.items():
            cells = [[f"{row[view]['psnr']:.2f}", f"{row[view]['ssim']:.3f}", f"{row['energy']:.2f}"] for row in found]
            counts = [[f"{row['gaussians']:,}", f"{row['without_slice']:,}"] for row in found if "gaussians" in row]
            columns = [*zip(*cells, strict=True), *(zip(*counts, strict=True) if counts else ((), ()))]
            rows.append([method, *(" / ".join(column) for column in columns)])
        header = ["method", f"{view} PSNR", f"{view} SSIM", "gradient energy", "Gaussians", "removed without a slice"]
        parts.append(f"{name}:\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def disturbed(summary: dict[str, Any]) -> str:
    """Scores of pairs with a disturbed stack, what is lost by it, and what is left of its motion."""
    views = ("thin", "thick")
    parts = []
    for name, results in summary["quality"]["disturbed"].items():
        rows = []
        for row in results:
            if "not_available" in row:
                rows.append([row["method"], *["not measured"] * 8])
                continue
            scores = [f"{row[view][score]:.{n}f}" for view in views for score, n in (("psnr", 2), ("ssim", 3))]
            lost = [
                f"{row['against'][other]['thin']:+.2f} / {row['against'][other]['thick']:+.2f}"
                if other in row["against"]
                else ""
                for other in ("none", "noise x 2")
            ]
            found = row.get("found")
            moved = [f"{found['given_mm']:.1f} to {found['left_mm']:.2f} mm", found["fused_by"]] if found else ["", ""]
            rows.append([row["method"], *scores, *lost, *moved])
        header = [
            "sagittal stack", *(f"{view} {score}" for view in views for score in ("PSNR", "SSIM")),
            "minus none (thin / thick)", "minus noise x 2", "out of place", "fused by",
        ]  # fmt: skip
        parts.append(f"{name}:\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def studies(summary: dict[str, Any]) -> str:
    """Rows of left-out slices, what the fused field gains on its rivals, and the full-size fits."""
    results = summary["studies"]
    rivals = ("best single", "mean", "Tikhonov", "spline")
    rows: list[list[str]] = []
    missing: dict[str, list[str]] = {}
    for row in results["rows"]:
        if "scores" not in row:
            missing.setdefault(row["not_available"].rstrip("."), []).append(row["label"])
            continue
        scores = {name: row["scores"].get(name) or row["scores"][row["best_single"]] for name in ("fused", *rivals)}
        best = max(score["psnr"] for score in scores.values())
        cells = []
        for score in scores.values():
            psnr = f"{score['psnr']:.2f}"
            psnr = f"**{psnr}**" if score["psnr"] == best else psnr
            cells.append(f"{psnr} / {score['ncc']:.3f} / {score['local']:.3f}")
        shifts = [sum(v * v for v in block["shift_mm_ras"]) ** 0.5 for block in row["motion"]]
        moved = f"{max(shifts):.1f} mm" + ("" if row["same_motions"] or row.get("refined") else ", refused")
        time = f"{row['cpu_seconds']:.0f} s"
        rows.append([row["label"], *cells, row["best_single"].removesuffix(" alone"), row["chosen"], moved, time])
    header = ["left out", "fused", *rivals, "the best single", "fused by", "moved", "CPU time"]
    text = markdown(header, rows)
    if missing:
        text += "".join(f"\n\nNot measured, {why}: {'; '.join(labels)}." for why, labels in missing.items())
    gains = []
    for rival, found in results["summary"].items():
        if rival != "rows":
            psnr, ncc = found["psnr"], found["ncc"]
            gains.append([
                rival, f"{psnr['mean']:+.2f} dB", f"{psnr['won']} of {results['summary']['rows']}",
                f"{psnr['worst']:+.2f} dB ({psnr['worst_row']})", f"{ncc['mean']:+.3f}",
                f"{ncc['worst']:+.3f} ({ncc['worst_row']})",
            ])  # fmt: skip
    header = ["fused minus", "mean", "better in", "worst", "mean NCC", "worst NCC"]
    text += f"\n\n{markdown(header, gains)}"
    full = []
    for row in results["full"]:
        name = row["study"] + (", AVX2 only" if row["avx2"] else "")
        if "not_available" in row:
            full.append([name, *["not measured"] * 6])
            continue
        sharp = [f"{s['psnr']:.1f} dB, {s['energy']:.0%}" for s in row["stacks"]]
        full.append([
            name, f"{row['seconds']:.0f} s", f"{row['cpu_seconds']:.0f} s", f"{row['peak_mb'] / 1024:.1f} GB",
            f"{row['file_mb']:.0f} MB", f"{row['gaussians']:,}", "; ".join(sharp),
        ])  # fmt: skip
    if full:
        header = ["whole fit", "time", "CPU time", "peak memory", "file", "Gaussians", "own slices: PSNR, gradient energy"]
        text += f"\n\n{markdown(header, full)}"
    return text


def fit(summary: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{result['fit_s']:.1f} s",
            f"{result['memory_above_import_mb']} MB",
            str(result["gaussians"]),
            f"{result['render_224x224_ms']:.2f} ms",
        ]
        for name, result in summary["fit"].items()
    ]
    header = ["fit, preset fast, two threads", "time", "memory above import", "Gaussians", "224 x 224 plane"]
    return markdown(header, rows)


def lattice(summary: dict[str, Any]) -> str:
    rows = []
    for result in summary["lattice"]:
        where = f"{result['simd']}, {result['threads']} threads"
        rows += [
            [f"224 x 224 plane, {where}", f"{result['plane_ms']:.2f} ms", f"{result['plane_to_scipy']:.3f}"],
            [f"the same by `field.render`, {where}", f"{result['render_ms']:.2f} ms", f"{result['render_to_scipy']:.3f}"],
            [f"{result['side']}^3 samples, {where}", f"{result['volume_ms']:.0f} ms", ""],
            [f"their adjoint, {where}", f"{result['volume_adjoint_ms']:.0f} ms", ""],
        ]
    return markdown([f"lattice of {summary['lattice'][0]['side']}^3 Gaussians", "time", "of scipy's cubic"], rows)


def kernels(summary: dict[str, Any]) -> str:
    results = summary["kernels"]
    rows = [
        [
            f"rate on one core, {row['simd']}, {row['pixel_mm']:g} mm pixels",
            f"drawing: forward {row['forward_rate_drawing']:.2f}, backward {row['backward_rate_drawing']:.2f}; "
            f"whole call: {row['forward_rate']:.2f}, {row['backward_rate']:.2f} G pixel-Gaussians/s",
        ]
        for row in results["rates"]
    ]
    spline, reference = results["scipy"], results["reference"]
    rows += [
        [
            "224 x 224 plane, 100k Gaussians",
            f"{spline['two_threads_ms']:.2f} ms on two threads, {spline['one_core_ms']:.2f} ms on one core",
        ],
        ["`scipy.ndimage.map_coordinates(order=3)`, same plane", f"{spline['ratio']:.1f} times as long"],
        ["plain torch, one pass of training", f"{reference['ratio']:.0f} times as long"],
    ]
    scaling = [
        [
            row["what"], str(row["slices"]), str(row["pixels"]), str(row["gaussians"]),
            f"{row['forward_ms']:.1f} ms", f"{row['backward_ms']:.1f} ms",
        ]
        for row in results["scaling"]
    ]  # fmt: skip
    header = ["varied", "slices", "pixels a slice", "Gaussians", "forward", "backward"]
    drawing = (
        "Drawing is what one more sample of the same plane costs; a whole call also culls and projects every Gaussian "
        "and, backward, writes the gradient of all of them."
    )
    growth = "How time grows, one core, three samples across each slice:"
    return f"{markdown(['kernels', ''], rows)}\n\n{drawing}\n\n{growth}\n\n{markdown(header, scaling)}"


def panel(summary: dict[str, Any]) -> str:
    results = summary["panel"]
    shown = [(name, row) for name, row in results.items() if isinstance(row, dict) and "image_ms" in row]
    rows = [
        [
            name,
            f"{row['pixels'][0]} x {row['pixels'][1]}",
            f"{row['updates_per_second']:.0f}",
            f"{row['image_ms']:.0f} ms",
        ]
        for name, row in shown
    ]
    slices = " x ".join(map(str, results["slices"]))
    table = markdown(["while a plane is dragged", "pixels", "updates a second", "of which the image"], rows)
    fitted = results.get("apply_to_fitted_image_s")  # older results waited for it
    return (
        f"{table}\n\nFrom Fit to the first image ({slices}): {results['apply_to_first_image_s']:.1f} s"
        f"{'' if fitted is None else f', to the fit itself: {fitted:.1f} s'}. The module's own "
        "panel on Slicer's scene libraries, views rendered without a graphics card."
    )


def reading(summary: dict[str, Any]) -> str:
    result = summary["reading"]
    rows = [
        [what, f"{result[key]['seconds']:.1f} s", f"{result[key]['cpu_seconds']:.1f} s"]
        for what, key in (("`read_stacks`", "read_stacks"), ("their headers by pydicom alone", "floor"))
    ]
    return markdown([f"{result['files']:,} DICOM files, {result['series']} series", "time", "CPU time"], rows)


#: How what `make bench` leaves out is measured.
COMMANDS = {
    **{name: f"python -m Testing.Benchmarks.{name}" for name in LONG},
    **{f"quality.{part}": f"python -m Testing.Benchmarks.quality --only {part}" for part in ("disturbed", "recipe")},
}


def measured(summary: dict[str, Any], sources: Sequence[str]) -> str:
    """When, on which machine and by which command results were made, a line each unless all agree; "" if none is known."""
    lines: dict[str, list[str]] = {}
    for source in sources:
        facts = summary.get("machines", {}).get(source)
        if facts is not None:
            when = f"Measured {facts['date']} on" if "date" in facts else f"Stored {facts['stored']}; the machine then:"
            sets = f" ({facts['instruction_sets']})" if "instruction_sets" in facts else ""
            where = f"{facts['processor']}, {facts['cores']} cores{sets}, {facts['system']}, Python {facts['python']}"
            text = f"{when} {where}, torch {facts['torch']}; by `{COMMANDS.get(source, 'make bench')}`."
            lines.setdefault(text, []).append(source)
    if len(lines) == 1:
        return f"*{next(iter(lines))}*"
    return "\n\n".join(f"*{', '.join(names)}: {text}*" for text, names in lines.items())


#: What fills each block, and the results that it takes, each with a date and machine of its own.
TABLES: dict[str, tuple[Callable[[dict[str, Any]], str], tuple[str, ...]]] = {
    "quality": (quality, ("quality.single",)),
    "pair": (pair, ("quality.pair",)),
    "disturbed": (disturbed, ("quality.disturbed",)),
    "heldout": (heldout, ("quality.heldout",)),
    "recipe": (recipe, ("quality.recipe",)),
    "studies": (studies, ("studies.rows", "studies.full")),
    "fit": (fit, ("fit",)),
    "lattice": (lattice, ("lattice",)),
    "kernels": (kernels, ("kernels",)),
    "panel": (panel, ("panel",)),
    "reading": (reading, ("reading",)),
    "cinematic": (cinematic, ("cinematic",)),
    "cinematic_clipgs": (cinematic_clipgs, ("cinematic_clipgs",)),
    "cinematic_speed": (cinematic_speed, ("cinematic_trace", "cinematic_raster", "cinematic_view")),
    "experiment": (experiment, ("experiment",)),
    "grading": (grading, ("grading", "grading_study")),
    "grading_sagittal": (grading_sagittal, ("grading_sagittal",)),
}


def fill(pages: Mapping[str, str], summary: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """`pages`, text by name, with the blocks that `summary` has results for, and the names of the other blocks."""
    filled, missing = dict(pages), []
    for name, (table, sources) in TABLES.items():
        pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.DOTALL)
        count = sum(len(pattern.findall(text)) for text in filled.values())
        if count != 1:
            raise ValueError(f"{', '.join(filled)}: {count} blocks bench:{name}, expected one")
        try:
            content = "\n\n".join(filter(None, (table(summary), measured(summary, sources))))
        except KeyError:
            missing.append(name)
            continue
        for page, text in filled.items():
            filled[page] = pattern.sub(lambda m, c=content: f"{m[1]}{c}\n{m[2]}", text)
    return filled, missing


def read_pages() -> dict[str, str]:
    """The pages of docs/, by file name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md"))}


def main() -> int:
    if not SUMMARY.is_file():
        print("There are no results; run `make bench` first.", file=sys.stderr)
        return 1
    pages = read_pages()
    filled, missing = fill(pages, json.loads(SUMMARY.read_text(encoding="utf-8")))
    for name, text in filled.items():
        if text != pages[name]:
            (PAGES / name).write_text(text, encoding="utf-8")
    print("The tables of docs/ are filled in" + (f", except {', '.join(missing)}" if missing else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
