"""``phaseinv invert``: an array of magnitudes or mels in, a recording out."""

from types import SimpleNamespace

import click
from click.core import ParameterSource

from .options import config_of, method_options, rate_option, stft_options

# What --mel leaves no choice of.
SETTLED = ("n_fft", "win_length", "hop_length", "window", "power")
SETTLED += ("estimator", "lookahead", "n_iter")


@click.command(
    epilog="The array is [freq, time] or [time, freq], with channels before "
    "if it has three axes. The axis of n_fft // 2 + 1 entries is frequency; "
    "if both are, the order is [freq, time]. Frames are centred, as "
    "torch.stft and librosa have them by default. A mel spectrogram is "
    "[mels, time] or [time, mels] likewise, in the numbers and frames of the "
    "system that --mel names."
)
@click.argument("magnitude", metavar="MAG.npy", type=click.Path())
@click.argument("output", metavar="OUT.wav", type=click.Path())
@rate_option(help="In Hz; needed, but for --mel.")
@click.option(
    "--mel",
    metavar="NAME",
    help="The array holds a mel spectrogram, of this convention: "
    "vocos-24000, hifigan-22050, whisper-80... An unknown name lists all.",
)
@click.option(
    "--power",
    type=float,
    default=1.0,
    help="Exponent of the magnitudes in the array: 1 (default), 2 if it holds "
    "powers.",
)
@stft_options(of_array=True)
@method_options
@click.pass_context
def command(ctx, **options):
    """Turn magnitudes that numpy.save wrote into a recording."""
    _check(ctx, options)
    from ..audio import FORMATS, check_subtype, check_writable
    from .arrays import open_magnitude
    from .jobs import refuse_to_replace
    from .offline import invert_array, invert_mel

    args = SimpleNamespace(**options)
    check_subtype(check_writable(args.output, FORMATS), args.subtype)
    refuse_to_replace(args.output, args.overwrite)
    if args.mel:
        return invert_mel(args)
    array, args.n_fft = open_magnitude(args.magnitude, args.n_fft)
    invert_array(array, config_of(args), args)


def _check(ctx, options):
    """Refuse too few options, and such as a mel convention settles."""
    if not options["mel"]:
        for name in ("sample_rate", "hop_length"):
            if options[name] is None:
                option = f"--{name.replace('_', '-')}"
                raise click.UsageError(f"Missing option '{option}'.")
        return
    for name in SETTLED:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"--mel {options['mel']} settles {option}: leave that out."
            )
