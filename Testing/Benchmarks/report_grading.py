"""Tables of the grading benchmarks and of the experiment on phantoms."""

from __future__ import annotations

from typing import Any

from .report_markdown import markdown


def _shown(found: dict[str, Any], digits: int = 3) -> str:
    """A value with its interval."""
    if found["value"] is None:
        return "n/a"
    return f"{found['value']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"


def experiment(summary: dict[str, Any]) -> str:
    results = summary["experiment"]
    options = results["options"]

    def steps(training: str, condition: str) -> str:
        """Of the networks of a row; those that the limit ended are marked."""
        taken = [row for name, row in results["training"].items() if name.split(" ")[0] == training and condition in name]
        return ", ".join(f"{row['steps']:,}{'' if row['converged'] else ' (limit)'}" for row in taken)

    tested = ("N", "R-VI", "R-GS", "A")
    rows = []
    for name, found in results["auroc_both_sides"].items():
        training, condition = name.split(" ", 1)
        cells = [_shown(found["auroc"][kind]) for kind in tested]
        cells += [_shown(found["difference"]["R-GS - R-VI"]), steps(training, condition)]
        rows.append([f"{condition.replace('_', ' ')}, trained on {training}", *cells])
    rows.sort(key=lambda row: row[0].split(",")[0], reverse=True)
    header = ["macro AUROC (95 % interval)", *(f"tested on {kind}" for kind in tested), "R-GS - R-VI", "steps"]
    trained = [row["converged"] for row in results["training"].values()]
    ended = f"{sum(trained)} of {len(trained)} trainings ended by themselves, {len(trained) - sum(trained)} at the limit"
    images = [[kind, _shown(row["psnr"], 2), _shown(row["ssim"])] for kind, row in results["images"].items()]
    training = options["training"]
    size = " x ".join(map(str, training["input_size"]))
    return (
        f"{options['train']} training and {options['validation']} validation patients, {options['paired']:.0%} of them with "
        f"straight slices too, and {options['test']} test patients; two sides each but for the canal; inputs of {size} "
        f"pixels. Steps: of the left and the right network, at most {training['epochs'] * training['epoch_steps']:,} for "
        f"each (limit: ended there), validated every {training['epoch_steps']}; ended by itself after "
        f"{training['patience']} validations without a better mean macro AUROC of {training['window']}, counted from step "
        f"{training['epochs'] // 2 * training['epoch_steps']:,}:\n\n"
        f"{markdown(header, rows)}\n\n{ended}, where the learning rate has come down to 0.\n\n"
        "Images against the aligned slices, which have noise of their own:\n\n"
        f"{markdown(['', 'PSNR (dB)', 'SSIM'], images)}"
    )


def grading(summary: dict[str, Any]) -> str:
    row = summary["grading"]["predict"]
    times = f"{row['float32']['first_s']:.1f} s in float32"
    if "bfloat16" in row:
        units = "which it has matrix units for" if row["bfloat16_units"] else "without matrix units"
        times = f"{row['bfloat16']['first_s']:.1f} s in bfloat16 ({units}), {times}"
    return (
        f"Grading one disc, {row['networks']} networks, {row['views']} views each, {row['threads']} threads: {times}, and "
        f"{row['load_s']:.1f} s to load the networks; {row['peak_mb']} MB.\n\n" + grading_study(summary["grading_study"])
    )


def grading_study(found: dict[str, Any]) -> str:
    rows = [
        [row["shown"], "AVX2 only" if row["avx2"] else "this processor", str(row["grades"]),
         f"{row['seconds']:.1f} s", f"{row['cpu_seconds']:.1f} s", f"{row['peak_mb'] / 1000:.1f} GB"]
        for row in found["rows"]
    ]  # fmt: skip
    head = f"Whole study, {found['networks']} networks, {found['views']} views, {found['rows'][0]['threads']} threads"
    return markdown([f"{head}: the recesses on", "instructions", "grades", "time", "CPU time", "peak memory"], rows)


def grading_sagittal(summary: dict[str, Any]) -> str:
    """Foramina on sagittal T1 against T2, and one network for both sides against one for each."""
    results = summary["grading_sagittal"]
    options, training = results["options"], results["options"]["training"]
    measures = ("macro_auroc", "kappa_quadratic", "log_loss")

    def taken(row: dict[str, Any]) -> str:
        own = row["training"] if isinstance(row["training"], list) else [row["training"]]
        ends = ["" if one.get("converged", True) else " (limit)" for one in own]
        seeds = [f", seed {one['seed']}" if one.get("seed", options["seed"]) != options["seed"] else "" for one in own]
        return "; ".join(f"{one['steps']:,}{end}{seed}" for one, end, seed in zip(own, ends, seeds, strict=True))

    def table(first: str, methods: dict[str, Any], differences: dict[str, Any]) -> str:
        rows = []
        for name, row in methods.items():
            cells = [_shown(row[measure]) for measure in (*measures, "macro_auroc_true_grades")]
            rows.append([name, *cells, taken(row)])
        rows += [[name, *(_shown(row[m]) for m in measures), "", ""] for name, row in differences.items()]
        titles = ("macro AUROC (95 % interval)", "weighted kappa", "log loss", "macro AUROC, true grades", "steps")
        return markdown([first, *titles], rows)

    shares = " / ".join(map(str, results["test_grades"]))
    sizes = [" x ".join(map(str, size)) for size in (training["input_size"], results["ways_size"])]
    text = (
        f"{options['train']} training, {options['validation']} validation and {options['test']} test patients, the left and "
        f"the right foramen of L5/S1 of each; reported grades of the tested ones: {shares}. Inputs of {sizes[0]} pixels; at "
        f"most {training['epochs'] * training['epoch_steps']:,} steps; seed {options['seed']}:\n\n"
        f"{table('trained and tested on', results['kinds'], results['kinds_differences'])}"
    )
    if results["ways"]:
        text += f"\n\nSmaller networks on S-T1, inputs of {sizes[1]} pixels, the last step taken:\n\n"
        text += table("networks", results["ways"], results["ways_differences"])
    return text
