"""Fill the tables of the pages in docs/ from Testing/Benchmarks/results/summary.json: `make report`.

A table goes between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` of one page; what was not measured stays as it is.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGES = HERE.parents[1] / "docs"
SUMMARY = HERE / "results" / "summary.json"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its first column to the left and the others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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


def _spread(values: Sequence[float | None], digits: int) -> str:
    """Mean and standard deviation of what was measured."""
    known = [value for value in values if value is not None]
    if not known:
        return "not available"
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return f"{statistics.fmean(known):.{digits}f} ± {deviation:.{digits}f}"


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
        measures = [name for name in FRAME_MEASURES if name in first]  # older results have fewer
        header = [
            "method", *(FRAME_MEASURES[name][0] for name in measures), "training", "frames/s", "size", "splats",
        ]  # fmt: skip
        options, size = first["facts"]["options"], first["size"]
        best = max(score["psnr_mean"] for score in methods.values())
        rows = []
        for score in methods.values():
            cells = [_spread(score[name] or (), FRAME_MEASURES[name][1]) for name in measures]
            cells[0] = f"**{cells[0]}**" if score["psnr_mean"] == best else cells[0]
            cells += [f"{score['training_s'] / 60:.1f} min", f"{score['frames_per_second']:.1f}"]
            rows.append([score["label"], *cells, f"{score['storage'] / 1e6:.1f} MB", f"{score['splats']:,}"])
        text = (
            f"{scene['title']}, look *{scene['look']}*: {scene['frames'][0]} frames to learn from, "
            f"{scene['frames'][1]} held out, {size[0]} x {size[1]} pixels, "
            f"{options['first_step'] + options['second_step']:,} iterations. Rows with LT or AAM: not the paper's setting."
        )
        if "leak" not in measures:
            text += " Measured with frames that show next to nothing, which make the large standard deviations."
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
                cells.append(_spread([value for run in runs for value in run[method][name]], FRAME_MEASURES[name][1]))
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


def experiment(summary: dict[str, Any]) -> str:
    results = summary["experiment"]
    options = results["options"]

    def shown(found: dict[str, Any], digits: int = 3) -> str:
        if found["value"] is None:
            return "n/a"
        return f"{found['value']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"

    def steps(training: str, condition: str) -> str:
        """Of the networks of a row; those that the limit ended are marked."""
        taken = [row for name, row in results["training"].items() if name.split(" ")[0] == training and condition in name]
        return ", ".join(f"{row['steps']:,}{'' if row['converged'] else ' (limit)'}" for row in taken)

    tested = ("N", "R-VI", "R-GS", "A")
    rows = []
    for name, found in results["auroc_both_sides"].items():
        training, condition = name.split(" ", 1)
        cells = [shown(found["auroc"][kind]) for kind in tested]
        cells += [shown(found["difference"]["R-GS - R-VI"]), steps(training, condition)]
        rows.append([f"{condition.replace('_', ' ')}, trained on {training}", *cells])
    rows.sort(key=lambda row: row[0].split(",")[0], reverse=True)
    header = ["macro AUROC (95 % interval)", *(f"tested on {kind}" for kind in tested), "R-GS - R-VI", "steps"]
    images = [[kind, shown(row["psnr"], 2), shown(row["ssim"])] for kind, row in results["images"].items()]
    training = options["training"]
    size = " x ".join(map(str, training["input_size"]))
    return (
        f"{options['train']} training and {options['validation']} validation patients, {options['paired']:.0%} of them with "
        f"straight slices too, and {options['test']} test patients; two sides each but for the canal; inputs of {size} "
        f"pixels. Steps: of the left and the right network, at most {training['epochs'] * training['epoch_steps']:,} for "
        f"each (limit: ended there), validated every {training['epoch_steps']}; ended by itself after "
        f"{training['patience']} validations without a better mean macro AUROC of {training['window']}, counted from step "
        f"{training['epochs'] // 2 * training['epoch_steps']:,}:\n\n"
        f"{markdown(header, rows)}\n\n"
        "Images against the aligned slices, which have noise of their own:\n\n"
        f"{markdown(['', 'PSNR (dB)', 'SSIM'], images)}"
    )


def reading(summary: dict[str, Any]) -> str:
    result = summary["reading"]
    rows = [
        [what, f"{result[key]['seconds']:.1f} s", f"{result[key]['cpu_seconds']:.1f} s"]
        for what, key in (("`read_stacks`", "read_stacks"), ("their headers by pydicom alone", "floor"))
    ]
    return markdown([f"{result['files']:,} DICOM files, {result['series']} series", "time", "CPU time"], rows)


def grading(summary: dict[str, Any]) -> str:
    row = summary["grading"]["predict"]
    used = row[row["used"]]
    return (
        f"Grading one disc, {row['networks']} networks, {row['views']} views each, {row['threads']} threads, "
        f"{row['used']}: {used['first_s']:.1f} s, and {row['load_s']:.1f} s to load the networks; {row['peak_mb']} MB.\n\n"
        + grading_study(summary["grading_study"])
    )


def grading_study(found: dict[str, Any]) -> str:
    rows = [
        [row["shown"], "AVX2 only" if row["avx2"] else "this processor", str(row["grades"]),
         f"{row['seconds']:.1f} s", f"{row['cpu_seconds']:.1f} s", f"{row['peak_mb'] / 1000:.1f} GB"]
        for row in found["rows"]
    ]  # fmt: skip
    head = f"Whole study, {found['networks']} networks, {found['views']} views, {found['rows'][0]['threads']} threads"
    return markdown([f"{head}: the recesses on", "instructions", "grades", "time", "CPU time", "peak memory"], rows)


def machine(summary: dict[str, Any]) -> str:
    facts = summary["machine"]
    return (
        f"Measured {facts['date']} on {facts['processor']}, {facts['cores']} cores ({facts['instruction_sets']}), "
        f"{facts['system']}, Python {facts['python']}, torch {facts['torch']}, by `make bench`."
    )


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "quality": quality, "pair": pair, "disturbed": disturbed, "heldout": heldout, "recipe": recipe,
    "studies": studies, "fit": fit,
    "lattice": lattice, "kernels": kernels, "panel": panel, "reading": reading,
    "cinematic": cinematic, "cinematic_clipgs": cinematic_clipgs, "cinematic_speed": cinematic_speed,
    "experiment": experiment, "grading": grading, "machine": machine,
}  # fmt: skip


def fill(pages: Mapping[str, str], summary: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """`pages`, text by name, with the blocks that `summary` has results for, and the names of the other blocks."""
    filled, missing = dict(pages), []
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.DOTALL)
        count = sum(len(pattern.findall(text)) for text in filled.values())
        if count != 1:
            raise ValueError(f"{', '.join(filled)}: {count} blocks bench:{name}, expected one")
        try:
            content = table(summary)
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
