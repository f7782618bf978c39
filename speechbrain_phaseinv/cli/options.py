"""What the command ``phaseinv`` can be told: subcommands and their options.

Nothing heavy is imported, here or by what is asked for help.
"""

import argparse


def build_parser():
    """All subcommands and their options."""
    parser = _Parser(
        prog="phaseinv",
        description="Give magnitude spectrograms their phase, in linear time.",
        formatter_class=_wide,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(
        title="commands",
        dest="command",
        metavar="COMMAND",
        required=True,
    )
    _add_reconstruct(commands)
    _add_invert(commands)
    _add_stream(commands)
    _add_export(commands)
    _add_compare(commands)
    return parser


def _add_reconstruct(commands):
    parser = commands.add_parser(
        "reconstruct",
        help="throw the phase of a recording away and find it again",
        description=(
            "Throw the phase of a recording away, reconstruct it from the "
            "magnitudes, write the result, and show how near it comes, "
            "beside 32 iterations of fast Griffin-Lim."
        ),
        epilog=(
            "Without OUT, IN.wav becomes IN-phaseinv.wav in the current "
            "folder, and replaces what has that name. Without IN, a bundled "
            "sentence is taken. Folders are searched for recordings, and "
            "their results go into a folder."
        ),
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="IN [OUT]",
        help=(
            "a recording, of any rate and number of channels, and where its "
            "reconstruction goes (.wav, .flac or .ogg); or several "
            "recordings or a folder of them, and last the output folder"
        ),
    )
    parser.add_argument(
        "--output-folder",
        metavar="DIR",
        help="where results go; all other paths are inputs then",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an OUT that exists",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        help="draw original, reconstruction and difference spectrograms",
    )
    _add_stft_options(parser)
    _add_method_options(parser)


def _add_invert(commands):
    parser = commands.add_parser(
        "invert",
        help="turn a saved magnitude spectrogram into a recording",
        description="Turn magnitudes that numpy.save wrote into a recording.",
        epilog=(
            "The array is [freq, time] or [time, freq], with channels before "
            "if it has three axes. The axis of n_fft // 2 + 1 entries is "
            "frequency; if both are, the order is [freq, time]. Frames are "
            "centred, as torch.stft and librosa have them by default."
        ),
    )
    parser.add_argument("magnitude", metavar="MAG.npy", help="the array")
    parser.add_argument("output", metavar="OUT.wav", help="the recording")
    parser.add_argument(
        "--sample-rate", type=int, required=True, metavar="HZ", help="in Hz"
    )
    parser.add_argument(
        "--power",
        type=float,
        default=1.0,
        help="exponent of the magnitudes in the array: 1 (default), 2 if it "
        "holds powers",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an OUT.wav that exists",
    )
    _add_stft_options(parser, hop_required=True)
    _add_method_options(parser)


def _add_stream(commands):
    parser = commands.add_parser(
        "stream",
        help="the same while the sound is coming in, in a pipe",
        description=(
            "Throw the phase of a sound away and reconstruct it online, a hop "
            "in and a hop out. What comes out are as many samples as went in; "
            "latency and time per frame are told on stderr at the end."
        ),
        epilog=(
            "For example: sox in.flac -t wav - | phaseinv stream | sox -t wav "
            "- out.flac. Ctrl-C ends the input, and the output is complete "
            "up to there."
        ),
    )
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="IN OUT",
        help="WAV files, or - for standard input and output (default: both)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an OUT that exists",
    )
    group = parser.add_argument_group("samples without a header")
    group.add_argument(
        "--raw",
        action="store_true",
        help="the input has no header, and the output only if it is named .wav",
    )
    group.add_argument("--sample-rate", type=int, metavar="HZ", help="in Hz")
    group.add_argument("--channels", type=int, metavar="N", help="default: 1")
    group.add_argument(
        "--dtype",
        choices=("s16le", "f32le"),
        help="of raw input (default: s16le), and of any output (default: "
        "s16le if the input is, else f32le)",
    )
    _add_stft_options(parser)
    _add_estimator_options(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="print nothing but errors"
    )


def _add_export(commands):
    parser = commands.add_parser(
        "export",
        help="write ONNX models and test vectors for a device",
        description=(
            "Write what a device needs: the network and the solver as ONNX, "
            "constants and sizes, test vectors, and a reference runtime that "
            "needs no torch. It fails if they do not compute what PyTorch "
            "does."
        ),
        epilog="Check a copy anywhere with: python FOLDER/edge.py FOLDER",
    )
    parser.add_argument("folder", metavar="FOLDER", help="where to")
    parser.add_argument(
        "--sample-rate",
        type=int,
        default=16000,
        metavar="HZ",
        help="in Hz (default: 16000)",
    )
    _add_stft_options(parser)
    group = _add_estimator_options(parser)
    group.add_argument(
        "--paired",
        action="store_true",
        help="the network that predicts two frames at a time, at half the cost",
    )


def _add_compare(commands):
    parser = commands.add_parser(
        "compare",
        help="measure, draw and play methods side by side",
        description=(
            "Throw the phase of recordings away, let each method find it "
            "again, and write a table, results.json, results.csv and a page, "
            "report.html, that shows and plays it all without a network."
        ),
        epilog=(
            "Peers are left out where they are not installed: pip install "
            "pghipy lws torch-specinv. The page holds excerpts of the "
            "recordings."
        ),
    )
    parser.add_argument(
        "paths", nargs="+", metavar="IN", help="recordings, or folders of them"
    )
    parser.add_argument(
        "--out",
        default="comparison",
        metavar="DIR",
        help="folder for the results (default: comparison)",
    )
    parser.add_argument(
        "--sample-rate",
        type=int,
        metavar="HZ",
        help="other recordings are resampled (default: what most have)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="the first N recordings only"
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=3,
        metavar="N",
        help="recordings to listen to on the page (default: 3)",
    )
    parser.add_argument(
        "--methods",
        metavar="A,B",
        help="which methods, with commas (default: all; a wrong one lists "
        "them)",
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of weights of your own training, to be added",
    )
    _add_stft_options(parser)


def _add_stft_options(parser, hop_required=False):
    group = parser.add_argument_group("the STFT, lengths in samples")
    group.add_argument(
        "--n-fft",
        type=int,
        metavar="N",
        help="length of the transform (default: of the array)"
        if hop_required
        else "length of the transform (default: the power of two next above "
        "32 ms, 512 at 16 kHz, 1024 at 22.05 kHz, 2048 at 48 kHz)",
    )
    group.add_argument(
        "--win-length",
        type=int,
        metavar="N",
        help="length of the window (default: N of --n-fft)",
    )
    group.add_argument(
        "--hop-length",
        type=int,
        metavar="N",
        required=hop_required,
        help="distance of two frames"
        + ("" if hop_required else " (default: a quarter of the window)"),
    )
    group.add_argument(
        "--window",
        default="hann",
        metavar="NAME",
        help="hann (default), hamming, blackman, bartlett or rectangular",
    )


def _add_estimator_options(parser):
    group = parser.add_argument_group("the method")
    group.add_argument(
        "--estimator",
        choices=("auto", "network", "gradient"),
        default="auto",
        help="what predicts the phase's derivatives: the packaged network, "
        "for the transforms it was trained on, the gradient theorem, for any, "
        "or the first that fits (default)",
    )
    group.add_argument(
        "--lookahead",
        type=int,
        choices=(0, 1),
        default=1,
        help="frames that a frame waits for (default: 1)",
    )
    return group


def _add_method_options(parser):
    group = _add_estimator_options(parser)
    group.add_argument(
        "--n-iter",
        type=int,
        default=0,
        metavar="N",
        help="iterations of fast Griffin-Lim that refine the result "
        "(default: 0)",
    )
    parser.add_argument(
        "--subtype",
        metavar="NAME",
        help="sample format of the output, such as PCM_16, PCM_24 or FLOAT",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print nothing but errors; nothing is compared then",
    )


def parse(parser, arguments=None):
    """Parse, with options between the paths too, which argparse leaves over.

    Arguments
    ---------
    parser : argparse.ArgumentParser
        As from `build_parser`.
    arguments : list of str, optional
        Default: those of the process.

    Returns
    -------
    args : argparse.Namespace

    Example
    -------
    >>> line = ["reconstruct", "in.wav", "--quiet", "out.wav"]
    >>> parse(build_parser(), line).paths
    ['in.wav', 'out.wav']
    """
    args, left = parser.parse_known_args(arguments)
    unknown = [
        x
        for x in left
        if (x.startswith("-") and x != "-") or "paths" not in args
    ]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if left:
        args.paths += left
    return args


def _wide(prog):
    """Help with room for the commands' names beside their meaning."""
    return argparse.HelpFormatter(prog, max_help_position=32)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line too."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} -h)\n")


class _Version(argparse.Action):
    """Print the installed version, which is looked up only then."""

    def __init__(self, option_strings, dest, **_):
        super().__init__(
            option_strings, dest, nargs=0, help="print the version and exit"
        )

    def __call__(self, parser, *_):
        from importlib.metadata import version

        print(f"phaseinv {version('speechbrain_phaseinv')}")
        parser.exit(0)
