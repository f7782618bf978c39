"""The command ``phaseinv``: one function a subcommand.

What fails because of its input fails with one line on stderr and exit status
2. Nothing heavy is imported before the arguments are known to be right.
"""

import os
import sys
from pathlib import Path

from .options import build_parser, parse

EXAMPLE = Path(__file__).parents[1] / "data" / "example.flac"


def main(arguments=None):
    """Run the command line.

    Arguments
    ---------
    arguments : list of str, optional
        Default: those of the process.

    Returns
    -------
    status : int
        0 if all went well, 2 if something was wrong with the input, 130 if
        interrupted.
    """
    parser = build_parser()
    try:
        args = parse(parser, arguments)
        return COMMANDS[args.command](args)
    except (ValueError, TypeError, OSError) as error:
        _complain(error)
        return 2
    except KeyboardInterrupt:
        return 130


def run_reconstruct(args):
    """``phaseinv reconstruct``: recordings in, recordings and a table out."""
    from . import reconstruct
    from .batch import plan

    jobs = plan(args.paths or [EXAMPLE], args.output_folder, args.overwrite)
    single = len(jobs) == 1 and not jobs[0].in_batch
    if args.plot and not single:
        raise ValueError(
            f"--plot draws one recording, got {len(jobs)} of them."
        )
    _check_method(args)
    if single:
        reconstruct.reconstruct_one(jobs[0], args)
        return 0
    return reconstruct.reconstruct_all(jobs, args, _complain)


def run_invert(args):
    """``phaseinv invert``: an array of magnitudes in, a recording out."""
    from ..audio import FORMATS, check_subtype, check_writable, read_magnitude
    from .batch import refuse_to_replace

    check_subtype(check_writable(args.output, FORMATS), args.subtype)
    refuse_to_replace(args.output, args.overwrite)
    _check_method(args)
    array, n_fft = read_magnitude(args.magnitude, args.n_fft, args.power)

    from .reconstruct import invert_array

    invert_array(array, n_fft, args)
    return 0


def run_stream(args):
    """``phaseinv stream``: sound in, sound out, a hop at a time."""
    from .live import stream

    return stream(args)


def run_export(args):
    """``phaseinv export``: a folder for a device, checked."""
    from ..edge.export import ExportError, run

    try:
        run(args)
    except (ExportError, ImportError) as error:
        _complain(error)
        return 2
    return 0


def run_compare(args):
    """``phaseinv compare``: recordings in, a table and a page out."""
    for name in ("limit", "examples"):
        number = getattr(args, name)
        if number is not None and number < (name == "limit"):
            raise ValueError(f"--{name} {number} is too small.")
    out = Path(args.out)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: no such folder, for --out.")
    # One thread for everyone; libraries read this when they are imported.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")

    from ..evaluation import compare
    from ..evaluation.report import write_report
    from .reconstruct import stft_for

    files = compare.recordings(args.paths)[: args.limit]
    names = args.methods and args.methods.replace(" ", "").split(",")
    results, examples = compare.run(
        files,
        compare.choose(names, args.weights),
        lambda rate: stft_for(
            rate, args.n_fft, args.win_length, args.hop_length, args.window
        ),
        args.sample_rate,
        args.examples,
    )
    out.mkdir(exist_ok=True)
    compare.write(results, out)
    write_report(results, examples, out / "report.html")
    print(compare.text(results))
    print(f"wrote {out / 'report.html'}, results.json and results.csv")
    return 0


def _check_method(args):
    """What can be refused before torch is imported."""
    if args.n_iter < 0:
        raise ValueError(f"--n-iter must not be negative, got {args.n_iter}.")


def _complain(error):
    """One line on stderr, whatever the message."""
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"phaseinv: error: {text}", file=sys.stderr)


COMMANDS = {
    "reconstruct": run_reconstruct,
    "invert": run_invert,
    "stream": run_stream,
    "export": run_export,
    "compare": run_compare,
}

if __name__ == "__main__":
    sys.exit(main())
