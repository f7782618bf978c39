"""``phaseinv invert``: an array of magnitudes in, a recording out."""

from types import SimpleNamespace

import click

from .options import config_of, method_options, rate_option, stft_options


@click.command(
    epilog="The array is [freq, time] or [time, freq], with channels before "
    "if it has three axes. The axis of n_fft // 2 + 1 entries is frequency; "
    "if both are, the order is [freq, time]. Frames are centred, as "
    "torch.stft and librosa have them by default."
)
@click.argument("magnitude", metavar="MAG.npy", type=click.Path())
@click.argument("output", metavar="OUT.wav", type=click.Path())
@rate_option(required=True, help="In Hz.")
@click.option(
    "--power",
    type=float,
    default=1.0,
    help="Exponent of the magnitudes in the array: 1 (default), 2 if it holds "
    "powers.",
)
@stft_options(of_array=True)
@method_options
def command(**options):
    """Turn magnitudes that numpy.save wrote into a recording."""
    from ..audio import FORMATS, check_subtype, check_writable
    from .arrays import open_magnitude
    from .jobs import refuse_to_replace
    from .offline import invert_array

    args = SimpleNamespace(**options)
    check_subtype(check_writable(args.output, FORMATS), args.subtype)
    refuse_to_replace(args.output, args.overwrite)
    array, args.n_fft = open_magnitude(args.magnitude, args.n_fft)
    invert_array(array, config_of(args), args)
