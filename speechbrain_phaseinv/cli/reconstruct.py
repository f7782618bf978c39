"""``phaseinv reconstruct``: recordings in, recordings and a table out."""

from types import SimpleNamespace

import click

from . import EXAMPLE
from .options import method_options, stft_options


@click.command(
    epilog="Without OUT, IN.wav becomes IN-phaseinv.wav in the current "
    "folder, and replaces what has that name. Without IN, a bundled sentence "
    "is taken. Folders are searched for recordings, and their results go into "
    "a folder. With --quiet, recordings of any length need little memory."
)
@click.argument("paths", nargs=-1, metavar="[IN]... [OUT]", type=click.Path())
@click.option(
    "--output-folder",
    metavar="DIR",
    type=click.Path(),
    help="Where results go; all other paths are inputs then.",
)
@click.option(
    "--plot",
    metavar="FILE.png",
    type=click.Path(),
    help="Draw original, reconstruction and difference spectrograms.",
)
@stft_options()
@method_options
def command(**options):
    """Throw the phase of a recording away and find it again.

    The phase is reconstructed from the magnitudes, the result written, and
    how near it comes is shown beside 32 iterations of fast Griffin-Lim. IN is
    a recording of any rate and number of channels, OUT ends in .wav, .flac or
    .ogg; or IN are several recordings or folders, and OUT is a folder.
    """
    from . import offline
    from .jobs import plan

    args = SimpleNamespace(**options)
    jobs = plan(args.paths or [EXAMPLE], args.output_folder, args.overwrite)
    single = len(jobs) == 1 and not jobs[0].in_batch
    if args.plot and not single:
        raise ValueError(
            f"--plot draws one recording, got {len(jobs)} of them."
        )
    if single:
        return offline.reconstruct_one(jobs[0], args)
    return offline.reconstruct_all(jobs, args)
