"""What all evaluation scripts share: options, progress, figures in a file."""

import argparse
import json
import sys
from pathlib import Path

from common.prepare import SPLITS
from tqdm import tqdm


def argument_parser(description, figures):
    """A parser with the options that all evaluations have.

    Arguments
    ---------
    description : str
        The script's docstring.
    figures : str
        Where the figures go unless --json says otherwise.

    Returns
    -------
    parser : argparse.ArgumentParser
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--corpora", nargs="*", default=[])
    parser.add_argument(
        "--json",
        default=figures,
        metavar="FILE",
        help=f"where the figures are written (default: {figures})",
    )
    parser.add_argument("--noprogressbar", action="store_true")
    return parser


def add_data_options(parser):
    """Add --data_folder, --layout and --limit."""
    parser.add_argument("--data_folder", required=True)
    parser.add_argument("--limit", type=int, help="recordings per corpus")
    parser.add_argument("--layout", default="auto")


def progress(recordings, arguments):
    """The same recordings, behind a progress bar on standard error."""
    return tqdm(
        recordings, unit="recording", disable=arguments.noprogressbar or None
    )


def write_figures(path, figures):
    """Write figures as JSON, and say where they are."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"figures: {path}", file=sys.stderr)
