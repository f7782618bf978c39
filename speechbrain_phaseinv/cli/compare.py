"""``phaseinv compare``: recordings in, a table and a page out."""

import os
from pathlib import Path
from types import SimpleNamespace

import click

from . import say
from .options import at_least, config_of, rate_option, stft_options


def _renderings(context, parameter, values):
    """NAME=DIR to a dict, or a usage error."""
    pairs = [value.partition("=") for value in values]
    for name, _, folder in pairs:
        if not (name and folder):
            raise click.BadParameter("expected NAME=DIR.")
    return {name: folder for name, _, folder in pairs}


@click.command(
    epilog="Peers are left out where they are not installed: pip install "
    "pghipy lws torch-specinv. The page holds excerpts of the recordings."
)
@click.argument(
    "paths", nargs=-1, required=True, metavar="IN...", type=click.Path()
)
@click.option(
    "--out",
    default="comparison",
    metavar="DIR",
    type=click.Path(),
    help="Folder for the results (default: comparison).",
)
@rate_option(help="Others are resampled (default: what most have).")
@click.option(
    "--limit",
    type=int,
    metavar="N",
    callback=at_least(1),
    help="The first N recordings only.",
)
@click.option(
    "--examples",
    type=int,
    default=3,
    metavar="N",
    callback=at_least(0),
    help="Recordings to listen to on the page (default: 3).",
)
@click.option(
    "--methods",
    metavar="A,B",
    help="Which methods, with commas (default: all; a wrong one lists them).",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="DIR",
    type=click.Path(),
    help="A folder of weights of your own training, to be added; once for "
    "each folder.",
)
@click.option(
    "--rendered",
    multiple=True,
    metavar="NAME=DIR",
    callback=_renderings,
    help="A folder of recordings that another system made of the same files, "
    "under the name that it goes by; once for each system.",
)
@stft_options()
def command(**options):
    """Measure, draw and play methods side by side.

    The phase of recordings IN, or of all in folders IN, is thrown away, each
    method finds it again, and a table, results.json, results.csv and a page,
    report.html, show and play it all without a network.
    """
    args = SimpleNamespace(**options)
    out = Path(args.out)
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}: no such folder, for --out.")
    # One thread for everyone; libraries read this when they are imported.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")

    from ..evaluation import compare
    from ..evaluation.page import write_page

    files = compare.recordings(args.paths)[: args.limit]
    names = args.methods and args.methods.replace(" ", "").split(",")
    results, examples = compare.run(
        files,
        compare.choose(names, args.weights, args.rendered),
        lambda rate: config_of(args, rate),
        args.sample_rate,
        args.examples,
    )
    out.mkdir(exist_ok=True)
    compare.write(results, out)
    write_page(results, examples, out / "report.html")
    say(compare.text(results))
    say(f"wrote {out / 'report.html'}, results.json and results.csv")
