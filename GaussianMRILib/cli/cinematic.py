"""`gaussianmri cinematic`: pictures of a path tracer in real time, cut open by a plane."""

from __future__ import annotations

import functools
import json
import math
import mimetypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..cinematic.options import CLIPPINGS, LABELS, QUALITIES, STARTS
from .app import advance, check_suffix, check_writable, common_options, output_option, progress_bar, table
from .cinematic_dataset import dataset
from .cinematic_picture import clip_planes, picture

if TYPE_CHECKING:
    from ..cinematic.animation import Shot
    from ..cinematic.clip import ClipPlane
    from ..cinematic.model import CinematicModel

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(short_help="Cinematic rendering that a plane cuts open.")
def cinematic() -> None:
    """Path-traced quality in real time, cut open by a plane. Not for diagnosis.

    \b
    A picture at once:
      gaussianmri cinematic picture head.nii.gz --clip 1 0 0 0 -o head.png

    \b
    Example, from a CT to a film of the head being cut open:
      gaussianmri cinematic dataset head.nii.gz -o head/
      gaussianmri cinematic train head/ -o head.ply
      gaussianmri cinematic evaluate head/ head.ply
      gaussianmri cinematic render head.ply --sweep 100 -o head.mp4
      gaussianmri cinematic export head.ply -o head.spz
    """


def plane_options(command: Command) -> Command:
    """--plane and --clip, each as often as wanted."""
    command = click.option(
        "--plane", "plane_files", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
        help="Cut by the first plane of this Slicer markups file (.mrk.json); the side its normal points to goes. Again for "
        "more planes.",
    )(command)  # fmt: skip
    return click.option(
        "--clip", "clips", multiple=True, nargs=4, type=float, metavar="R A S OFFSET",
        help="Cut by the plane with this normal (RAS) and offset along it in mm; again for more planes: what all of them "
        "keep is left.",
    )(command)  # fmt: skip


splats_only = click.option(
    "--splats-only",
    "without_face",
    is_flag=True,
    help="Without the volume's own cut faces in front of the splats.",
)


def _files_of_set(folder: Path) -> list[Path]:
    """Those of a data set that a careless name could overwrite."""
    from ..cinematic.dataset import FACE, POINTS, SETTINGS, SPLITS

    return [folder / name for name in (SETTINGS, POINTS, FACE, *(f"transforms_{split}.json" for split in SPLITS))]


@click.command(short_help="Train a model on a data set.")
@click.argument("folder", metavar="DATASET", type=click.Path(path_type=Path))
@output_option("MODEL.ply")
@click.option(
    "--method", type=click.Choice(list(CLIPPINGS)), default=None,
    help="analytic: exact cut. The others as the ClipGS paper names them.  [default: of the quality]",
)  # fmt: skip
@click.option(
    "--quality", "--preset", "quality", type=click.Choice(list(QUALITIES)), default=None,
    help="default: 100,000 splats, 40,000 iterations, for a GPU. seed: the same as the ClipGS paper has it. "
    "quick: 32,000 splats, 7,000 iterations, for 256 x 256 pixels on a CPU.  [default: default or quick, by the device]",
)  # fmt: skip
@click.option(
    "--start",
    type=click.Choice(STARTS),
    default=None,
    help="Where splats begin: in the volume, or at random.  [default: of the quality]",
)
@click.option("--splats", type=click.IntRange(4), default=None, help="Splats to start with, and at most.")
@click.option(
    "--iterations", type=click.IntRange(1), default=None,
    help="Of both steps together; schedules shrink with it.",
)  # fmt: skip
@click.option(
    "--patience", type=click.IntRange(1), default=None,
    help="Stop after so many checks (every 500 iterations) without a gain on frames kept out for that.",
)  # fmt: skip
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), default=None,
    help="Where the state is kept; a training that was stopped goes on from there. By default beside the model, and "
    "removed at the end.",
)  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="The same seed and --threads give the same model on a CPU.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def train(
    folder: Path,
    output: Path,
    method: str | None,
    quality: str | None,
    start: str | None,
    splats: int | None,
    iterations: int | None,
    patience: int | None,
    checkpoint: Path | None,
    seed: int,
    device: str,
) -> None:
    """Train a model on the training frames of DATASET; Ctrl-C keeps the checkpoint, and the same command goes on.

    \b
    Examples:
      gaussianmri cinematic train head/ -o head.ply --quality quick
      gaussianmri cinematic train head/ -o clipgs.ply --quality seed --device cuda
    """
    from ..cinematic.dataset import read_dataset
    from ..cinematic.model_files import FACE, model_bytes, save_model
    from ..cinematic.options import TrainOptions
    from ..cinematic.train import Trainer
    from ..device import choose_device

    if output.suffix.lower() != ".ply":
        raise click.UsageError("The model's file must end in .ply.")
    kept = checkpoint or output.with_suffix(".ckpt")
    check_writable(output, output.with_suffix(".json"), output.with_suffix(FACE), kept, inputs=_files_of_set(folder))
    changes: dict[str, Any] = {"seed": seed, "patience": patience}
    if method is not None:
        changes["method"] = method
    if start is not None:
        changes["start"] = start
    target = choose_device(device)
    chosen = quality or ("quick" if target.type == "cpu" else "default")
    options = TrainOptions.of_quality(chosen, **changes).scaled(splats=splats, iterations=iterations)
    trainer = Trainer(read_dataset(folder), options=options, checkpoint=kept, device=target)
    with progress_bar("Training") as bar:
        for report in trainer:
            bar.set_description_str(f"Training: {report.stage}", refresh=False)
            facts = {"loss": f"{report.loss:.4f}", "splats": report.splats}
            if report.held_out_psnr is not None:
                facts["kept out"] = f"{report.held_out_psnr:.2f} dB"
            bar.set_postfix(facts, refresh=False)
            advance(bar, report.fraction)
    model = trainer.model
    save_model(output, model)
    if checkpoint is None:
        kept.unlink(missing_ok=True)
    click.echo(f"Method        {LABELS[options.method]}")
    click.echo(f"Iterations    {trainer.iteration} of {options.iterations}")
    click.echo(f"Splats        {len(model)}")
    click.echo(f"Size          {model_bytes(output) / 1e6:.1f} MB")
    click.echo(f"Time          {trainer.elapsed:.0f} s")
    names = [output.with_suffix(suffix).name for suffix in ((".json", FACE) if model.face else (".json",))]
    click.echo(f"Written       {', '.join([str(output), *names])}")


@click.command(short_help="Pictures and films of a model.")
@click.argument("file", metavar="MODEL.ply", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path),
    help="x.png; for --turntable and --sweep x.mp4 (needs ffmpeg) or a folder of PNG files.",
)  # fmt: skip
@plane_options
@click.option(
    "--azimuth", default=30.0, show_default=True, help="Degrees from the front to the patient's left."
)
@click.option("--elevation", default=15.0, show_default=True, help="Degrees above the axial plane.")
@click.option(
    "--distance", type=float, default=None, help="mm from the model's middle.  [default: all is seen]"
)
@click.option("--fov", default=30.0, show_default=True, help="Vertical field of view, degrees.")
@click.option(
    "--size", default=(512, 512), show_default=True, nargs=2, type=click.IntRange(1), help="Pixels."
)
@click.option("--turntable", type=click.IntRange(1), default=None, metavar="N", help="N frames, once round.")
@click.option(
    "--sweep", type=click.IntRange(2), default=None, metavar="N",
    help="N frames of the plane going through the model and back; its direction is that of --clip or --plane, "
    "else from the top.",
)  # fmt: skip
@click.option("--rate", default=25.0, show_default=True, help="Frames a second of a film.")
@splats_only
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def render(
    file: Path,
    output: Path,
    plane_files: tuple[Path, ...],
    clips: tuple[tuple[float, float, float, float], ...],
    azimuth: float,
    elevation: float,
    distance: float | None,
    fov: float,
    size: tuple[int, int],
    turntable: int | None,
    sweep: int | None,
    rate: float,
    without_face: bool,
    device: str,
) -> None:
    """Render a model: one picture, a camera going round it, or a plane sweeping through it.

    \b
    Examples:
      gaussianmri cinematic render head.ply --clip 0 0 1 40 -o cut.png
      gaussianmri cinematic render head.ply --turntable 120 -o turn.mp4
      gaussianmri cinematic render head.ply --sweep 100 --clip 1 0 0 0 -o frames/
    """
    from ..cinematic import animation
    from ..cinematic.camera import half_angle
    from ..cinematic.model_files import load_model
    from ..device import choose_device

    if turntable is not None and sweep is not None:
        raise click.UsageError("Give either --turntable or --sweep.")
    moving = turntable is not None or sweep is not None
    goes = "One picture goes to .png; a film to .mp4, or to a folder."
    if output.suffix.lower() in (".png", ".mp4"):
        check_writable(output, inputs=(file, *plane_files))
        if moving != (output.suffix.lower() == ".mp4"):
            raise click.UsageError(goes)
    elif not moving or (mimetypes.guess_type(output.name)[0] or "").startswith(("image/", "video/")):
        raise click.UsageError(goes)
    cut = clip_planes(plane_files, clips)
    if sweep is not None and len(cut) > 1:
        raise click.UsageError("--sweep moves one plane; give --plane or --clip once.")
    model = load_model(file, device=choose_device(device))
    if without_face:
        model.face = None
    away = distance if distance is not None else model.unit * (1.15 / math.tan(half_angle(fov, size)) + 1)
    shots = animation.turntable(
        model.center,
        away,
        turntable or 1,
        plane=cut,
        elevation_degrees=elevation,
        start_degrees=azimuth,
        fov_degrees=fov,
        size=size,
    )
    if sweep is not None:
        shots = _sweep(model, shots, cut, sweep)
    with progress_bar("Rendering") as bar:
        pictures = animation.render_shots(model, shots, progress=lambda part: advance(bar, part))
        if output.suffix.lower() == ".mp4":
            animation.write_film(output, pictures, rate=rate)
        elif moving:
            animation.write_frames(output, pictures)
        else:
            animation.write_picture(output, next(pictures))
    click.echo(f"Written       {output} ({len(shots)} frame{'s' if len(shots) > 1 else ''})")


def _sweep(model: CinematicModel, shots: list[Shot], cut: Sequence[ClipPlane], count: int) -> list[Shot]:
    """Shots of a plane that goes from one end of the splats to the other and back."""
    import numpy as np

    from ..cinematic.animation import clip_sweep

    normal = cut[0].normal if cut else np.array([0.0, 0.0, 1.0])
    along = model.splats.means.double().cpu().numpy() @ normal
    low, high = np.percentile(along, [1, 99]) if len(along) else (-model.unit, model.unit)
    return clip_sweep(shots[0][0], normal, lowest=float(low), highest=float(high), count=count)


@click.command(short_help="Compare models with frames they have not seen.")
@click.argument("folder", metavar="DATASET", type=click.Path(path_type=Path))
@click.argument("files", metavar="MODEL.ply...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the scores of every frame.")
@splats_only
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@common_options
def evaluate(
    folder: Path, files: tuple[Path, ...], json_file: Path | None, without_face: bool, device: str
) -> None:
    """PSNR, SSIM, LPIPS, training time, frames a second and size of models, on the test frames of DATASET.

    These are the columns of the ClipGS paper's tables 1 and 2; train each of its methods for the rows of table 2. Beside
    them: PSNR of the pixels that show the volume; SSIM at the cut, in the band around the plane's face; and leak, how much
    of the light that the plane has taken away a model still draws. Frames that show next to nothing are not counted.

    \b
    Example:
      gaussianmri cinematic evaluate head/ analytic.ply lt.ply clipgs.ply --json scores.json
    """
    from ..cinematic.dataset import read_dataset
    from ..cinematic.evaluate import HEADER, ColourLpips, evaluate_model
    from ..cinematic.model_files import load_model, model_bytes
    from ..device import choose_device
    from ..files import atomic_write

    check_suffix(json_file, ".json")
    check_writable(json_file, inputs=(*files, *(file.with_suffix(".json") for file in files), *_files_of_set(folder)))
    data = read_dataset(folder)
    frames, face = data.test, data.face()
    target, lpips = choose_device(device), ColourLpips()
    rows, scores = [], {}
    for file in files:
        model = load_model(file, device=target)
        if without_face:
            model.face = None
        method = "already cut" if model.facts.get("baked_for") else model.facts.get("method", "")
        with progress_bar(file.name) as bar:
            score = evaluate_model(
                model,
                frames,
                face=face,
                storage=model_bytes(file),
                lpips=lpips,
                progress=functools.partial(advance, bar),
            )
        rows.append(score.row(f"{file.name}: {LABELS.get(method, method or model.visibility)}"))
        scores[str(file)] = {"method": method, **score.to_dict()}
    click.echo(table(HEADER, rows))
    camera, counted = frames[0].camera, len(score.psnr)
    left_out = f"; {len(frames) - counted} that show next to nothing are not counted" if counted < len(frames) else ""
    click.echo(
        f"Mean ± standard deviation over {counted} frames of {camera.width} x {camera.height} pixels{left_out}"
    )
    if not any(frame.uncut for frame in frames):
        click.echo(
            "Leak is not available: the data set has no uncut views. Make it again with the same settings; they are added."
        )
    if not lpips.available:
        click.echo(f"LPIPS is not available: {lpips.reason}")
    if json_file is not None:
        with atomic_write(json_file) as temporary:
            temporary.write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")


@click.command(short_help="A model for other programs.")
@click.argument("file", metavar="MODEL.ply", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path),
    help="x.ply (3DGS's layout, RAS mm), x.spz (a tenth of the size) or x.glb (glTF, KHR_gaussian_splatting).",
)  # fmt: skip
@plane_options
@common_options
def export(
    file: Path,
    output: Path,
    plane_files: tuple[Path, ...],
    clips: tuple[tuple[float, float, float, float], ...],
) -> None:
    """Write the splats of a model for viewers: whole, or as they are under planes (--plane, --clip).

    \b
    Examples:
      gaussianmri cinematic export head.ply -o head.spz
      gaussianmri cinematic export head.ply --plane cut.mrk.json -o head-cut.glb
    """
    from ..cinematic.export import export_splats
    from ..cinematic.model_files import FACE, load_model

    parts = [file.with_suffix(suffix) for suffix in (".ply", ".json", FACE)]
    outputs = [output.with_suffix(suffix) for suffix in (".json", FACE)] if output.suffix.lower() == ".ply" else []
    check_writable(output, *outputs, inputs=(file, *plane_files, *parts))
    written = export_splats(output, load_model(file), plane=clip_planes(plane_files, clips))
    click.echo(f"Written       {written} ({written.stat().st_size / 1e6:.1f} MB)")


for command in (picture, dataset, train, render, evaluate, export):
    cinematic.add_command(command)
