"""Options that several commands share, as decorators, and what they mean."""

import click

# Beyond this length a transform is a mistake that would fill the memory: 65 s
# at 16 kHz.
MAX_N_FFT = 1 << 20


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


def _length(name, text):
    """An option that is a number of samples."""
    length = click.IntRange(max=MAX_N_FFT)
    return click.option(name, type=length, metavar="N", help=text)


def stft_options(of_array=False):
    """The transform; that of an array has no default for its hop."""
    default, hop = "that of the array", "Distance of two frames, in samples"
    if not of_array:
        hop += " (default: a quarter of the window)"
        default = "the power of two next above 32 ms, 512 at 16 kHz, 1024 at "
        default += "22.05 kHz, 2048 at 48 kHz"
    choices = [
        _length(
            "--n-fft",
            f"Length of the transform, in samples (default: {default}).",
        ),
        _length(
            "--win-length",
            "Length of the window, in samples (default: --n-fft).",
        ),
        _length("--hop-length", f"{hop}."),
        click.option(
            "--window",
            default="hann",
            metavar="NAME",
            help="hann (default), sqrt_hann, hamming, blackman, bartlett, "
            "kaiser (beta 12) or rectangular.",
        ),
    ]
    if of_array:  # what is analysed here is centred
        choices.append(
            click.option(
                "--padding",
                type=click.Choice(["center", "same", "none"]),
                default="center",
                help="What the analysis puts around the signal: half a "
                "transform (default), (n_fft - hop) / 2 as HiFi-GAN has it, "
                "or nothing.",
            )
        )
    return together(*choices)


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
output_options = together(
    click.option(
        "--overwrite", is_flag=True, help="Replace an output that exists."
    ),
    click.option(
        "--quiet",
        is_flag=True,
        help="Print nothing but errors and warnings; compare nothing.",
    ),
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
    output_options,
)


def stft_for(
    sample_rate,
    n_fft=None,
    win_length=None,
    hop_length=None,
    window="hann",
    padding="center",
):
    """The transform for speech at a sample rate, as far as it is left open.

    By default `n_fft` is the power of two next above 32 ms, or above the
    window; the window covers it, and the hop is a quarter of the window.
    """
    from ..config import StftConfig

    if n_fft is None:
        # In integers: 32 ms of 16 kHz are 512 samples, not a little more.
        shortest = win_length or -(-sample_rate * 32 // 1000)
        n_fft = max(1 << (shortest - 1).bit_length(), 32)
    return StftConfig(
        sample_rate, n_fft, win_length, hop_length, window, padding
    )


def config_of(args, sample_rate=None):
    """The transform that the options ask for."""
    return stft_for(
        sample_rate or args.sample_rate,
        args.n_fft,
        args.win_length,
        args.hop_length,
        args.window,
        getattr(args, "padding", "center"),
    )


def describe(config):
    """A transform in a few words."""
    return (
        f"n_fft {config.n_fft}, {config.window} window of "
        f"{config.win_length}, hop {config.hop_length}"
    )
