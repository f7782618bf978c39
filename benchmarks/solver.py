"""The least-squares step: time per frame, growth, and error, side by side.

    python benchmarks/solver.py [--bins 257 513 1025 2049 4097] [--json FILE]

Every solver gets the weights l, g and the target q of frames, and returns the
s of the ladder (see `speechbrain_phaseinv.integration.ladder`); to build a matrix
from them is part of the work, except where a row says "bare". One thread, and
CPU time: what the clock on the wall would show were the machine not shared.
The solvers take turns, and times are medians over the turns. Errors are the
worst of any bin, |s - s*| / |s*|, against a solution with 60 digits.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import json
import sys

import mpmath
import numpy as np
import scipy
import torch

from speechbrain_phaseinv.audio import replacing
from speechbrain_phaseinv.evaluation.compare import machine
from speechbrain_phaseinv.evaluation.solvers import (
    OURS,
    SOLVERS,
    frames_of,
    growth_exponent,
    measure_times,
)
from speechbrain_phaseinv.evaluation.summary import format_table

BINS = (257, 513, 1025, 2049, 4097)


# Those that compute the very same numbers as another.
SAME = ("ladder, a call a frame", "ptsv, bare")


def exact(anchor, coupling, target, digits=60):
    """One frame with many digits, by plain elimination, as doubles."""
    with mpmath.workdps(digits):
        l = [mpmath.mpf(float(x)) for x in anchor]
        g = [mpmath.mpf(float(x)) for x in coupling]
        q = [mpmath.mpc(complex(x)) for x in target]
        bins = len(l)
        diagonal = [
            l[k] + (g[k] if k else 0) + (g[k + 1] if k + 1 < bins else 0)
            for k in range(bins)
        ]
        right = [l[k] * q[k] for k in range(bins)]
        for k in range(1, bins):
            factor = -g[k] / diagonal[k - 1]
            diagonal[k] += factor * g[k]
            right[k] -= factor * right[k - 1]
        s = [right[-1] / diagonal[-1]]
        for k in range(bins - 2, -1, -1):
            s.append((right[k] + g[k + 1] * s[-1]) / diagonal[k])
        return np.array([complex(x) for x in reversed(s)])


def measure_error(solve, frames, truth):
    """Worst relative error of any bin, and the frames that had none."""
    worst, failed = 0.0, 0
    for *frame, wanted in zip(*frames, truth):
        try:
            found = solve(*(x[None] for x in frame))
            found = np.asarray(found)[0].astype(np.complex128)
            error = np.abs(found - wanted) / np.abs(wanted)
            worst = max(worst, float(error.max()))
        except np.linalg.LinAlgError:
            failed += 1  # not positive definite, as rounded
    return {"worst": worst, "failed": failed, "frames": len(truth)}


def measure_errors(bins, decades, dtype, smooth, count):
    """The errors of all solvers on the same frames."""
    frames = frames_of(bins, count, decades, dtype, smooth, seed=1)
    truth = [exact(*frame) for frame in zip(*frames)]
    return {
        name: measure_error(solve, frames, truth)
        for name, solve in SOLVERS.items()
        if name not in SAME
        # A dense solve of thousands says nothing new, slowly.
        and (name != "dense solve" or bins <= 513)
    }


def main(arguments=None):
    """Measure, print the tables, write JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bins", type=int, nargs="+", default=BINS)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument(
        "--seconds", type=float, default=0.02, help="of a solver's turn"
    )
    parser.add_argument(
        "--frames", type=int, default=8, help="that errors are taken over"
    )
    parser.add_argument("--json", help="file for all numbers")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = {
        "settings": {
            "machine": machine(),
            "threads": 1,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "torch": torch.__version__,
        },
        "microseconds_per_frame": {},
        "exponent": {},
        "error": {"float32": {}, "float64": {}},
    }
    print(", ".join(f"{k} {v}" for k, v in results["settings"].items()))
    for dtype in ("float32", "float64"):
        columns = [
            measure_times(SOLVERS, bins, dtype, args.rounds, args.seconds)
            for bins in args.bins
        ]
        table = {name: [1e6 * x[name] for x in columns] for name in SOLVERS}
        results["microseconds_per_frame"][dtype] = {
            name: dict(zip(args.bins, row)) for name, row in table.items()
        }
        results["exponent"][dtype] = {
            name: growth_exponent(args.bins, row)
            for name, row in table.items()
            if len(args.bins) > 1
        }
        print_times(dtype, args.bins, table, results["exponent"][dtype])
        for smooth, decades in ((True, 10), (True, 12), (False, 12)):
            columns = [
                measure_errors(bins, decades, dtype, smooth, args.frames)
                for bins in args.bins
            ]
            kind = f"{'smooth' if smooth else 'rough'}, {decades} decades"
            results["error"][dtype][kind] = dict(zip(args.bins, columns))
            print_errors(dtype, kind, args.bins, columns)
    if args.json:
        with replacing(args.json) as temporary, open(temporary, "w") as file:
            json.dump(results, file, indent=1)
    return 0


def print_times(dtype, bins, table, exponents):
    """Microseconds, and how many times ours."""
    print(f"\n{dtype}: microseconds per frame (times ours)\n")
    lines = [["F", *map(str, bins), "exponent"]]
    for name, row in table.items():
        cells = [
            f"{_short(x)} ({_short(x / ours)})"
            for x, ours in zip(row, table[OURS])
        ]
        exponent = exponents.get(name)
        cells.append("-" if exponent is None else f"{exponent:.2f}")
        lines.append([name, *cells])
    print(format_table(lines))


def _short(number):
    """Three digits or so, with commas in thousands."""
    return f"{number:,.{1 if number < 100 else 0}f}"


def print_errors(dtype, kind, bins, columns):
    """Worst relative errors, and in how many frames a solver gave up."""
    print(f"\n{dtype}: worst relative error, {kind} of weights\n")
    lines = [["F", *map(str, bins)]]
    for name in columns[0]:
        cells = []
        for entry in (column.get(name) for column in columns):
            if entry is None:
                cells.append("-")
                continue
            failed, frames = entry["failed"], entry["frames"]
            text = f"{entry['worst']:.0e}" if failed < frames else "-"
            if failed:
                text += f" (failed {failed} of {frames})"
            cells.append(text)
        lines.append([name, *cells])
    print(format_table(lines))


if __name__ == "__main__":
    sys.exit(main())
