#!/usr/bin/env python3
"""Paired differences between enhancers, from what evaluate.py wrote of each.

    python compare.py results/learnt/* --against results/noisy/*

The arguments are output folders of train.py, such as runs with several seeds,
evaluated on the same mixtures. A mixture's scores are means over the runs. Each
phase behind the first ones is compared with the noisy phase behind the others:
mean differences with 95 % intervals over the mixtures, and in the last column
the first score's difference of each run.
"""

# ruff: noqa: E402
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from speechbrain_phaseinv.evaluation.tables import (
    format_table,
    mean_of,
    summarise,
)

SCORES = "pesq_wb", "estoi", "si_sdr"
REFERENCE = "enhanced, noisy phase (SpeechBrain)"


def read(folder, name):
    """Scores of a run's mixtures, by method."""
    scores = {}
    for row in json.loads(Path(folder, name).read_text(encoding="utf-8")):
        # PESQ needs a package, and speech.
        kept = {key: row[key] for key in SCORES if row[key] is not None}
        mixture = row["recording"], row["snr"]
        scores.setdefault(row["method"], {})[mixture] = kept
    return scores


def mean_over(runs, method):
    """Scores of each mixture, means over the runs."""
    return {
        i: {
            key: mean_of([run[method][i].get(key) for run in runs]) for key in x
        }
        for i, x in runs[0][method].items()
    }


def differences(scores, reference=None):
    """Summary of the scores, or of what they are above the reference's."""
    rows = []
    for i, x in scores.items():
        base = dict.fromkeys(x, 0) if reference is None else reference[i]
        common = x.keys() & base.keys()
        rows.append(
            {"method": "", **{key: x[key] - base[key] for key in common}}
        )
    summary = summarise(rows, SCORES)[""]
    return {key: entry for key, entry in summary.items() if entry["files"]}


def table(runs, others):
    """The reference's means, and the differences from them, as text."""
    reference = mean_over(others, REFERENCE)
    shared = next(iter(runs[0].values()))
    reference = {i: x for i, x in reference.items() if i in shared}
    means = differences(reference)
    cells = [f"{x['mean']:.3f}" for x in means.values()]
    lines = [["", *means, "runs"], ["the others, noisy phase", *cells, ""]]
    first = next(iter(means))
    for method in runs[0]:
        found = differences(mean_over(runs, method), reference).values()
        cells = [f"{x['mean']:+.3f} ± {x['ci95'] or 0:.3f}" for x in found]
        each = [
            differences(run[method], other[REFERENCE])[first]["mean"]
            for run, other in zip(runs, others)
        ]
        lines.append([method, *cells, " ".join(f"{x:+.3f}" for x in each)])
    return format_table(lines, markdown=True)


def main(arguments=None):
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--against", nargs="+", required=True)
    parser.add_argument(
        "--json", default="evaluation.json", help="the file in each folder"
    )
    arguments = parser.parse_args(arguments)
    sides = arguments.folders, arguments.against
    print(table(*([read(x, arguments.json) for x in side] for side in sides)))


if __name__ == "__main__":
    main()
