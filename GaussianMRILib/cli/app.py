"""What every command shares: exit status, messages, logging, progress, reading input, options in common."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from ..errors import GaussianMRIError
from ..files import files_below, out_of_memory, reading
from ..interruption import termination_interrupts
from ..stacks.volume_headers import LARGEST_HEADER

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..fitting import Fitter
    from ..gaussians import GaussianField
    from ..stacks import SliceStack

FAILED, CANCELLED = 1, 130
#: Seconds between lines of progress where no bar can move.
LINES_EVERY = 30.0
_logger = logging.getLogger("GaussianMRI")
Command = TypeVar("Command", bound=Callable[..., Any])


class CommandLine(click.Group):
    """A click group whose errors are sentences and whose exit status is documented."""

    def main(self, *arguments: Any, **options: Any) -> NoReturn:
        """Run, report and exit: 0 done, 1 a `GaussianMRIError`, 2 wrong usage, 130 cancelled."""
        sys.exit(self._status(*arguments, **options))

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """That of click; a path that is empty is wrong usage, since it would be the current folder."""
        name, command, rest = super().resolve_command(context, arguments)
        _refuse_empty_paths(command, rest)
        return name, command, rest

    def _status(self, *arguments: Any, **options: Any) -> int:
        options["standalone_mode"] = False
        termination_interrupts()
        try:
            result = super().main(*arguments, **options)
        except GaussianMRIError as error:
            click.echo(f"Error: {plain(str(error))}", err=True)
            return FAILED
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("\nCancelled; nothing was left half-written.", err=True)
            return CANCELLED
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            asked = re.search(r"(?:allocate|of size) ([\d.]+ ?\w*)", str(error))
            what = f" for {asked[1]}" if asked else ""
            click.echo(
                f"Error: not enough memory{what}. Fit or render a smaller region (--roi, --size), or use larger voxels.",
                err=True,
            )
            return FAILED
        except BrokenPipeError:
            # The reader of a pipe has gone (`gaussianmri inspect ... | head`): not an error, and stdout is
            # lost.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return result if isinstance(result, int) else 0


def _refuse_empty_paths(command: click.Command | None, arguments: Sequence[str]) -> None:
    words = list(arguments)
    while isinstance(command, click.Group) and words:
        command = command.commands.get(words.pop(0))
    options = {name: p for p in (command.params if command else ()) for name in p.opts if name.startswith("-")}
    for before, word in zip(["", *words], words, strict=False):
        option = options.get(before if word == "" else word[:-1])
        if word == "" and (option is None or option.nargs == 0 or getattr(option, "is_flag", False)):
            what = "An argument"
        elif (word == "" or word[-1:] == "=") and option is not None and isinstance(option.type, click.Path):
            what = option.opts[-1]
        else:
            continue
        raise click.UsageError(f"{what} is empty: give a path. Where a variable stands there, it is not set.")


def plain(text: str) -> str:
    """Text without what commands a terminal, which names of files may hold; lines stay."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


# ---- options -----------------------------------------------------------------------------------------------


def common_options(command: Command) -> Command:
    """--verbose, --quiet and --threads."""
    command = click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=_set_logging,
        help="Log what is done (twice: in detail).",
    )(command)  # fmt: skip
    command = click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="No progress bars."
    )(command)
    return click.option(
        "--threads", type=click.IntRange(min=1), expose_value=False, callback=_set_threads,
        help="Processor threads to use.  [default: all cores]",
    )(command)  # fmt: skip


def stack_option(command: Command) -> Command:
    """--stack, for `load_stacks`."""
    return click.option(
        "--stack", "chosen", type=click.IntRange(1), multiple=True, metavar="N",
        help="Only this stack of the scan, numbered as `gaussianmri inspect` does; may be repeated.",
    )(command)  # fmt: skip


def one_stack_option(command: Command) -> Command:
    """--stack, for `load_stack`."""
    return click.option(
        "--stack", "number", type=click.IntRange(1), default=None, metavar="N",
        help="This stack of VOLUME, numbered as `gaussianmri inspect` does.  [default: the only one]",
    )(command)  # fmt: skip


def output_option(metavar: str) -> Callable[[Command], Command]:
    """--output, one file, which has to be named."""
    return click.option(
        "-o", "--output", metavar=metavar, required=True, type=click.Path(path_type=Path), help="File to write."
    )


def _set_logging(_context: click.Context, _option: click.Parameter, count: int) -> None:
    _logger.handlers = [_Terminal()]
    _logger.propagate = False
    _logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(count, 2)])


class _Terminal(logging.Handler):
    """Log lines that do not tear progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.capitalize()}: {plain(record.getMessage())}"
        if not sys.stderr.isatty():  # no bar is there, and every line would bring one of progress along
            click.echo(line, err=True)
            return
        from tqdm import tqdm

        tqdm.write(line, file=sys.stderr)


def _set_quiet(context: click.Context, _option: click.Parameter, quiet: bool) -> None:
    context.meta["quiet"] = quiet


def _set_threads(_context: click.Context, _option: click.Parameter, threads: int | None) -> None:
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)


def fit_options(command: Command) -> Command:
    """The options of a fit: --preset, --seed, --device, --refine."""
    for option in (
        click.option(
            "--refine/--no-refine", default=False,
            help="Correct motion and intensity of slices first; needs several stacks that overlap.",
        ),
        click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto."),
        click.option(
            "--seed", default=0, show_default=True, help="The same seed and --threads give the same field on a CPU."
        ),
        click.option(
            "--preset", type=click.Choice(["fast", "paper"]), default="fast", show_default=True,
            help="fast: seconds, with a learned prior. paper: the published recipe, minutes to hours.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


# ---- progress ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[tqdm[Any]]:
    """A bar from 0 to 100 % on stderr, with the time that is left; silent with --quiet.

    Where stderr is not a terminal, a line every `LINES_EVERY` seconds.
    """
    from tqdm import tqdm

    class Lines(tqdm):
        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            if msg is None:  # else it is to be wiped
                self.fp.write(f"{self}\n")

    quiet, live = _quiet(), sys.stderr.isatty()
    layout = "{desc}: {percentage:3.0f}%" + (" |{bar}|" if live else ",") + " {elapsed}, about {remaining} left{postfix}"
    pace = {} if live else {"mininterval": LINES_EVERY, "delay": LINES_EVERY, "miniters": 0}
    kind = tqdm if live else Lines
    with kind(total=100, desc=what, bar_format=layout, disable=quiet, leave=False, file=sys.stderr, **pace) as bar:
        yield bar


def _quiet() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("quiet", False))


def announce(sentence: str) -> None:
    """Say on stderr what comes; nothing with --quiet."""
    if not _quiet():
        click.echo(sentence, err=True)


def advance(bar: tqdm[Any], fraction: float) -> None:
    """Move a bar to a fraction of the whole."""
    bar.update(max(0.0, min(100.0, 100 * fraction) - bar.n))


def run_fit(fitter: Fitter, what: str = "Fitting") -> GaussianField:
    """Run a fit to its end under a progress bar."""
    _logger.info("%s ...", what)
    with progress_bar(what) as bar:
        for report in fitter:
            facts = {} if report.loss is None else {"loss": f"{report.loss:.4f}"}
            if report.held_out_psnr is not None:
                facts["held out"] = f"{report.held_out_psnr:.2f} dB"
            bar.set_description_str(f"{what}: {report.stage}", refresh=False)
            bar.set_postfix(facts, refresh=False)
            advance(bar, report.fraction)
    return fitter.field


# ---- files -------------------------------------------------------------------------------------------------


def load_stacks(
    inputs: Sequence[Path], chosen: Sequence[int] = (), thickness: float | None = None
) -> list[SliceStack]:
    """Read every input; `chosen` are numbers of stacks (from 1) as `gaussianmri inspect` counts them."""
    from ..stacks import read_stacks

    with progress_bar("Reading") as bar:
        stacks = read_stacks(
            list(inputs), thickness=thickness, progress=lambda part, _what: advance(bar, part)
        )
    chosen = list(dict.fromkeys(chosen))  # one named twice is no second measurement
    for number in chosen:
        if not 1 <= number <= len(stacks):
            raise GaussianMRIError(
                f"There is no stack {number}; the input has {len(stacks)}. See `gaussianmri inspect`."
            )
    return [stacks[number - 1] for number in chosen] if chosen else stacks


def load_stack(path: Path, number: int | None = None) -> SliceStack:
    """The only stack of an input, or the one with this number (`load_stacks`).

    Raises:
        GaussianMRIError: there are several and none is chosen; lists them.
    """
    stacks = load_stacks([path], () if number is None else (number,))
    if len(stacks) > 1:
        lines = [f"{path} holds {len(stacks)} stacks. Choose one of them by --stack N:"]
        raise GaussianMRIError("\n".join([*lines, *(f"  {n}  {stack.name}" for n, stack in enumerate(stacks, 1))]))
    return stacks[0]


def stacks_to_fit(
    inputs: Sequence[Path],
    chosen: Sequence[int],
    group: int | None,
    thickness: float | None,
    output: Path,
    **trusted: bool,
) -> list[SliceStack]:
    """The stacks of INPUT that a fit takes: those chosen by number, or one group of `gaussianmri inspect`.

    `trusted` are `same_frame` and `any_contrast`, which join groups.

    Raises:
        GaussianMRIError: a folder holds several groups and none is chosen; lists them, with the command for each.
    """
    from ..stacks import belonging_together, why_groups_apart

    if group is not None and chosen:
        raise click.UsageError("Give either --group or --stack.")
    stacks = load_stacks(inputs, chosen, thickness)
    groups = belonging_together(stacks, **({} if group else trusted))
    if group is not None:
        if not 1 <= group <= len(groups):
            raise GaussianMRIError(
                f"There is no group {group}; the input has {len(groups)}. See `gaussianmri inspect`."
            )
        return [stacks[n] for n in groups[group - 1]]
    # Files that were named one by one were chosen, and so were stacks.
    if chosen or len(groups) == 1 or not any(path.is_dir() for path in inputs):
        return stacks
    words = " ".join(shlex.quote(str(path)) for path in inputs)
    lines = [
        f"The input holds {len(groups)} groups of stacks that do not belong together. Fit one of them, or choose stacks by "
        "--stack N:"
    ]
    for number, members in enumerate(groups, 1):
        names = "; ".join(f"stack {n + 1} {stacks[n].name}" for n in members)
        first, own = ([stacks[n] for n in group] for group in (groups[0], members))
        reason = why_groups_apart(first, own, **trusted) if number > 1 else ""
        lines.append(f"  Group {number}: {names}{f' (against group 1: {reason})' if reason else ''}")
        lines.append(f"    gaussianmri fit {words} --group {number} -o {shlex.quote(str(output))}")
    raise GaussianMRIError("\n".join(lines))


def check_writable(*paths: Path | None, inputs: Iterable[Path | None] = ()) -> None:
    """Find out before the work, not after it, that an output file cannot be written, or would destroy an input.

    Args:
        inputs: files and folders that the command reads.
    """
    taken: dict[str, Path] = {}
    read = [path for path in inputs if path is not None]
    for path in paths:
        if path is not None:
            _check_own_name(path, taken, read)
    for path in paths:
        if path is None:
            continue
        if path.is_dir():
            raise GaussianMRIError(f"{path} is a folder; give the name of a file to write.")
        if path.exists() and not path.is_file():
            raise GaussianMRIError(f"{path} is a pipe or a device, which would be replaced; give the name of a file.")
        folder = path.absolute().parent
        if not folder.is_dir():
            raise GaussianMRIError(f"{path} cannot be written: there is no folder {folder}. Make it first.")
        if not os.access(folder, os.W_OK):
            raise GaussianMRIError(
                f"{path} cannot be written: no permission in {folder}. Choose another folder."
            )


def _check_own_name(path: Path, taken: dict[str, Path], inputs: list[Path]) -> None:
    real = os.path.realpath(path)
    if os.path.normcase(real) in taken:
        raise GaussianMRIError(f"{path} is named twice as an output; give each a name of its own.")
    taken[os.path.normcase(real)] = path
    for given in inputs:
        if not path.exists() or not given.exists():
            continue
        # A file in a folder of images is one of them; others are left alone by readers.
        within = given.is_dir() and holds_image(Path(real)) and real in map(os.path.realpath, files_below(given))
        if within or os.path.samefile(path, given) or names_voxels(given, Path(real)):
            raise GaussianMRIError(f"{path} is an input, which is never overwritten; give the output another name.")


def check_suffix(path: Path | None, *suffixes: str) -> None:
    """Refuse a name that says something else than what the file will hold."""
    if path is not None and not path.name.lower().endswith(suffixes):
        raise GaussianMRIError(f"{path} must end in {' or '.join(suffixes)}, by which programs know what it holds.")


def names_voxels(header: Path, file: Path) -> bool:
    """Whether a header of text, .nhdr or .mhd, names a file, in which its voxels then are."""
    if header.suffix.lower() not in (".nhdr", ".mhd") or not file.is_relative_to(os.path.realpath(header.parent)):
        return False
    with reading(header, "a header of a volume"), open(header, "rb") as opened:
        return os.fsencode(file.name) in opened.read(LARGEST_HEADER)


def holds_image(path: Path) -> bool:
    """Whether a file would be read as an image."""
    from ..stacks.dicom_frames import looks_like_dicom
    from ..stacks.volumes import is_volume

    return path.is_file() and (is_volume(path) or looks_like_dicom(path))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text: the first aligned left, the others right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
