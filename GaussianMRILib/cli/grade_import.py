"""`gaussianmri grade import`."""

from __future__ import annotations

from pathlib import Path

import click

from .app import check_suffix, check_writable, common_options, output_option


@click.command("import", short_help="A network from elsewhere as a checkpoint.")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("card", metavar="CARD.json", type=click.Path(path_type=Path))
@output_option("CHECKPOINT.pt")
@common_options
def import_network(model: Path, card: Path, output: Path) -> None:
    """Check a network that was trained elsewhere on a known input and write it as a checkpoint.

    MODEL is TorchScript (.pt, .pth, .ts) or ONNX (.onnx), which needs the package onnxruntime. CARD.json says what goes in
    and comes out; see the documentation. Take files only from those whom you trust.

    \b
    Example:
      gaussianmri grade import theirs.onnx card.json -o left.pt
    """
    from ..grading.foreign_import import import_network as check
    from ..grading.labels import DISCLAIMER, GRADES

    check_suffix(output, ".pt")
    check_writable(output, inputs=(model, card))
    made, found = check(model, card, output)
    click.echo(f"Task          {made.task.title}")
    click.echo(f"Trained on    {made.trained_on}")
    click.echo(f"Sees          {', '.join(made.input_types)} at {', '.join(made.levels)}")
    answer = ", ".join(f"{name} {p:.4f}" for name, p in zip(GRADES, found, strict=True))
    click.echo(f"Known input   {answer}, as its card says")
    click.echo(f"Written       {output} ({output.stat().st_size / 1e6:.1f} MB)")
    click.echo(DISCLAIMER)
