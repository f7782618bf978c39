"""Options that several commands share, as decorators, and what they mean."""

import click

# Beyond this length a transform is a mistake that would fill the memory: 65 s
# at 16 kHz.
MAX_N_FFT = 1 << 20

length = click.IntRange(max=MAX_N_FFT)


def rate_option(**options):
    """``--sample-rate``."""
    # Twice the type: audio.MAX_RATE, which is too heavy to be imported here.
    rate = click.IntRange(max=10_000_000)
    return click.option("--sample-rate", type=rate, metavar="HZ", **options)


def at_least(low):
    """A callback that refuses smaller numbers."""

    def check(_, option, value):
        if value is not None and value < low:
            reason = "must not be negative" if low == 0 else "is too small"
            raise ValueError(f"{option.opts[0]} {value}: {reason}.")
        return value

    return check


def together(*decorators):
    """Several decorators as one."""

    def decorate(function):
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def stft_options(of_array=False):
    """The transform; that of an array has no defaults for its hop."""
    default = (
        "that of the array"
        if of_array
        else "the power of two next above 32 ms, 512 at 16 kHz, 1024 at "
        "22.05 kHz, 2048 at 48 kHz"
    )
    hop = "" if of_array else " (default: a quarter of the window)"
    return together(
        click.option(
            "--n-fft",
            type=length,
            metavar="N",
            help=f"Length of the transform, in samples (default: {default}).",
        ),
        click.option(
            "--win-length",
            type=length,
            metavar="N",
            help="Length of the window, in samples (default: --n-fft).",
        ),
        click.option(
            "--hop-length",
            type=length,
            metavar="N",
            required=of_array,
            help=f"Distance of two frames, in samples{hop}.",
        ),
        click.option(
            "--window",
            default="hann",
            metavar="NAME",
            help="hann (default), hamming, blackman, bartlett or rectangular.",
        ),
    )


estimator_options = together(
    click.option(
        "--estimator",
        type=click.Choice(["auto", "network", "gradient"]),
        default="auto",
        help="What predicts the phase's derivatives: the packaged network, "
        "for the transforms it was trained on, the gradient theorem, for any, "
        "or the first that fits (default).",
    ),
    click.option(
        "--lookahead",
        type=click.IntRange(0, 1),
        default=1,
        help="Frames that a frame waits for: 0 or 1 (default: 1).",
    ),
)

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace an output that exists."
)


def quiet_option(more=""):
    """``--quiet``."""
    return click.option(
        "--quiet",
        is_flag=True,
        help=f"Print nothing but errors and warnings{more}.",
    )


# How a whole recording is inverted, and written.
method_options = together(
    estimator_options,
    click.option(
        "--n-iter",
        type=int,
        default=0,
        metavar="N",
        callback=at_least(0),
        help="Iterations of fast Griffin-Lim that refine the result "
        "(default: 0).",
    ),
    click.option(
        "--subtype",
        metavar="NAME",
        help="Sample format of the output, such as PCM_16, PCM_24 or FLOAT.",
    ),
    overwrite_option,
    quiet_option("; nothing is compared then"),
)


def stft_for(
    sample_rate, n_fft=None, win_length=None, hop_length=None, window="hann"
):
    """The transform for speech at a sample rate, as far as it is left open.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    n_fft, win_length, hop_length : int, optional
        In samples. Default: the power of two next above 32 ms, or above the
        window if there is one; the whole of it; a quarter of the window.
    window : str
        As in `StftConfig`.

    Returns
    -------
    config : StftConfig

    Example
    -------
    >>> for rate in (8000, 16000, 22050, 48000):
    ...     config = stft_for(rate)
    ...     print(rate, config.n_fft, config.hop_length)
    8000 256 64
    16000 512 128
    22050 1024 256
    48000 2048 512
    """
    from ..config import StftConfig

    if n_fft is None:
        # In integers: 32 ms of 16 kHz are 512 samples, not a little more.
        shortest = win_length or -(-sample_rate * 32 // 1000)
        n_fft = max(1 << (shortest - 1).bit_length(), 32)
    return StftConfig(sample_rate, n_fft, win_length, hop_length, window)


def config_of(args, sample_rate=None):
    """The transform that the options ask for."""
    return stft_for(
        sample_rate or args.sample_rate,
        args.n_fft,
        args.win_length,
        args.hop_length,
        args.window,
    )


def describe(config):
    """A transform in a few words."""
    return (
        f"n_fft {config.n_fft}, {config.window} window of "
        f"{config.win_length}, hop {config.hop_length}"
    )
