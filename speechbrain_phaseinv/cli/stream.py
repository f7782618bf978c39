"""``phaseinv stream``: sound in, sound out, a hop at a time."""

from types import SimpleNamespace

import click

from . import options as shared


@click.command(
    epilog="For example: sox in.flac -t wav - | phaseinv stream | sox -t wav "
    "- out.flac. Ctrl-C ends the input, and the output is complete up to "
    "there. A file OUT appears at the end."
)
@click.argument("paths", nargs=-1, metavar="[IN [OUT]]", type=click.Path())
@click.option(
    "--raw",
    is_flag=True,
    help="The input has no header, and the output only if it is named .wav.",
)
@shared.rate_option(help="Of raw input, in Hz.")
@click.option(
    "--channels",
    type=click.IntRange(max=1024),
    metavar="N",
    help="Of raw input (default: 1).",
)
@click.option(
    "--dtype",
    type=click.Choice(["s16le", "f32le"]),
    help="Of raw input (default: s16le), and of any output (default: s16le if "
    "the input is, else f32le).",
)
@shared.stft_options()
@shared.estimator_options
@shared.output_options
def command(**options):
    """Throw the phase of a sound away and find it again, online, in a pipe.

    IN and OUT are WAV files, or - for standard input and output (default:
    both). A hop goes in and a hop comes out; what comes out are as many
    samples as went in. Latency and time per frame are reported on stderr at
    the end.
    """
    from .live import stream

    return stream(SimpleNamespace(**options))
