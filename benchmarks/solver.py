#!/usr/bin/env python3
"""The least-squares step: time per frame, growth, and error, side by side.

    python benchmarks/solver.py [--bins 257 513 1025 2049 4097] [--json FILE]

Every solver is called with weights l, g and targets q of frames, all of shape
[frames, bins], and returns the s of the ladder (see
`speechbrain_phaseinv.integration.ladder`); to build a matrix from them is part
of the work, except where a row says "bare". One thread, and CPU time, as on a
machine that is not shared. The solvers take turns, and times are medians over
the turns. Errors are the worst of any bin, |s - s*| / |s*|, against a solution
with 60 digits.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import json
import sys
import time

import mpmath
import numpy as np
import scipy.linalg
import scipy.sparse
import torch

from speechbrain_phaseinv.audio import replacing
from speechbrain_phaseinv.evaluation.compare import machine
from speechbrain_phaseinv.evaluation.tables import format_table
from speechbrain_phaseinv.integration.ladder import solve_ladder

BINS = (257, 513, 1025, 2049, 4097)
OURS, DENSE, BARE = "ladder (ours)", "dense solve", "ptsv, bare"


def ladder(anchor, coupling, target):
    """Ours, one call for all frames."""
    return solve_ladder(*map(torch.from_numpy, (anchor, coupling, target)))


def ladder_single(anchor, coupling, target):
    """Ours, one call a frame: what a stream pays, torch's overhead included."""
    rows = map(torch.from_numpy, (anchor, coupling, target))
    return torch.stack([solve_ladder(*row) for row in zip(*rows)])


def per_frame(solve):
    """A solver of many frames from a solver of one."""
    return lambda *frames: np.stack([solve(*row) for row in zip(*frames)])


def bands(anchor, coupling, target):
    """The diagonal, the band below it, and the right-hand side."""
    diagonal = anchor + coupling
    diagonal[:-1] += coupling[1:]
    return diagonal, -coupling[1:], anchor * target


def dense(anchor, coupling, target):
    """The matrix with all its zeros, as complex numbers."""
    diagonal, lower, right = bands(anchor, coupling, target)
    matrix = np.diag(diagonal.astype(target.dtype))
    index = np.arange(len(lower))
    matrix[index + 1, index] = matrix[index, index + 1] = lower
    return np.linalg.solve(matrix, right)


def banded(anchor, coupling, target):
    """scipy's solver of banded matrices, two bands."""
    diagonal, lower, right = bands(anchor, coupling, target)
    matrix = np.zeros((2, len(diagonal)), dtype=target.dtype)
    matrix[0] = diagonal
    matrix[1, :-1] = lower
    return scipy.linalg.solveh_banded(matrix, right, lower=True)


def sparse(anchor, coupling, target):
    """scipy's sparse LU (SuperLU)."""
    diagonal, lower, right = bands(anchor, coupling, target)
    matrix = scipy.sparse.diags_array(
        [lower, diagonal, lower], offsets=[-1, 0, 1], dtype=target.dtype
    )
    return scipy.sparse.linalg.spsolve(matrix.tocsc(), right)


def ptsv(anchor, coupling, target):
    """LAPACK's tridiagonal solver, cptsv or zptsv."""
    return ptsv_bare(*ptsv_inputs(anchor, coupling, target))


def ptsv_inputs(anchor, coupling, target):
    """What ptsv wants: a complex band below the diagonal."""
    diagonal, lower, right = bands(anchor, coupling, target)
    return diagonal, lower.astype(target.dtype), right


def ptsv_bare(diagonal, lower, right):
    """The call alone."""
    single = right.dtype == np.complex64
    routine = scipy.linalg.lapack.cptsv if single else scipy.linalg.lapack.zptsv
    *_, solution, info = routine(diagonal, lower, right)
    if info:
        raise np.linalg.LinAlgError(f"ptsv: info {info}")
    return solution


SOLVERS = {
    OURS: ladder,
    "ladder, a call a frame": ladder_single,
    "ptsv": per_frame(ptsv),
    BARE: per_frame(ptsv_bare),
    "solveh_banded": per_frame(banded),
    "sparse spsolve": per_frame(sparse),
    DENSE: per_frame(dense),
}
# Solvers that compute the very same numbers as another.
SAME = ("ladder, a call a frame", BARE)


def frames_of(bins, count, decades, dtype, smooth=False, seed=0):
    """Random frames: weights over some decades, targets on the unit circle.

    Smooth weights wander from bin to bin as in a spectrum; others are drawn
    one by one, log-uniformly, the hardest case.
    """
    random = np.random.default_rng(seed)
    level = random.uniform(0, 1, (2, count, bins))
    if smooth:
        level = random.standard_normal((count, bins)).cumsum(-1)
        level -= level.min(-1, keepdims=True)
        level /= level.max(-1, keepdims=True)
        # The coupling is weighted by the mean of two bins, the anchor by one.
        level = np.stack([level, (level + np.roll(level, 1, -1)) / 2])
    anchor, coupling = (10 ** (decades * (level - 0.5))).astype(dtype)
    coupling[:, 0] = 0
    angle = random.uniform(-np.pi, np.pi, (count, bins))
    precision = np.result_type(dtype, np.complex64)
    return anchor, coupling, np.exp(1j * angle).astype(precision)


def inputs_of(name, frames):
    """What a solver is called with."""
    if name != BARE:
        return frames
    rows = [ptsv_inputs(*row) for row in zip(*frames)]
    return tuple(np.stack(column) for column in zip(*rows))


def measure_times(names, bins, dtype, rounds, seconds):
    """Median time per frame of each solver, in seconds, taking turns.

    A turn lasts some `seconds`, to forget what the others left in caches.
    """
    frames = frames_of(bins, 128, 2, dtype)
    times = {name: [] for name in names}
    for turn in range(-2, rounds):  # two turns compile and fill caches
        for name in names:
            once = times[name][-1] if times[name] else np.inf
            if turn > 2 and once > seconds:
                continue  # a slow one has had turns enough
            count = int(np.clip(seconds / once, 1, len(frames[0])))
            inputs = [x[:count] for x in inputs_of(name, frames)]
            calls, spent = 0, 0.0
            while calls == 0 or spent < seconds:
                start = time.process_time()
                SOLVERS[name](*inputs)
                spent += time.process_time() - start
                calls += 1
            times[name].append(spent / calls / count)
    return {name: float(np.median(x[2:])) for name, x in times.items()}


def growth_exponent(bins, times):
    """Slope of time over the number of bins, both logarithmic."""
    return float(np.polyfit(np.log(bins), np.log(times), 1)[0])


def claim(bins=(257, 513, 1025), rounds=9, seconds=0.01):
    """Growth of ours and of the dense solver, and how many times faster."""
    pair = OURS, DENSE
    rows = [measure_times(pair, x, "float32", rounds, seconds) for x in bins]
    return {
        "exponent": {
            name: growth_exponent(bins, [row[name] for row in rows])
            for name in pair
        },
        "times_faster": {
            str(x): row[DENSE] / row[OURS] for x, row in zip(bins, rows)
        },
    }


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
            solution = solve(*(x[None] for x in frame))
            solution = np.asarray(solution)[0].astype(np.complex128)
            error = np.abs(solution - wanted) / np.abs(wanted)
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
        and (name != DENSE or bins <= 513)
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
    settings = {
        "machine": machine(),
        "threads": 1,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "torch": torch.__version__,
    }
    times, errors = {}, {}
    print(", ".join(f"{k} {v}" for k, v in settings.items()))
    for dtype in ("float32", "float64"):
        rows = {
            bins: measure_times(SOLVERS, bins, dtype, args.rounds, args.seconds)
            for bins in args.bins
        }
        times[dtype] = rows
        print_times(dtype, rows)
        for smooth, decades in ((True, 10), (True, 12), (False, 12)):
            rows = {
                bins: measure_errors(bins, decades, dtype, smooth, args.frames)
                for bins in args.bins
            }
            kind = f"{'smooth' if smooth else 'rough'}, {decades} decades"
            errors[f"{dtype}, {kind}"] = rows
            print_errors(dtype, kind, rows)
    if args.json:
        results = {"settings": settings, "seconds": times, "error": errors}
        with replacing(args.json) as temporary, open(temporary, "w") as file:
            json.dump(results, file, indent=1)
    return 0


def print_times(dtype, rows):
    """Microseconds per frame, how many times ours, and the growth."""
    print(f"\n{dtype}: microseconds per frame (times ours)\n")
    lines = [["F", *map(str, rows), "exponent"]]
    for name in SOLVERS:
        times = [row[name] for row in rows.values()]
        lines.append(
            [name]
            + [
                f"{_short(1e6 * time)} ({_short(time / row[OURS])})"
                for time, row in zip(times, rows.values())
            ]
            + [f"{growth_exponent(list(rows), times):.2f}"]
        )
    print(format_table(lines))


def _short(number):
    """Three digits or so, with commas in thousands."""
    return f"{number:,.{1 if number < 100 else 0}f}"


def print_errors(dtype, kind, rows):
    """Worst relative errors, and in how many frames a solver gave up."""
    print(f"\n{dtype}: worst relative error, {kind} of weights\n")
    lines = [["F", *map(str, rows)]]
    for name in next(iter(rows.values())):
        entries = [row.get(name) for row in rows.values()]
        lines.append([name, *map(_error_cell, entries)])
    print(format_table(lines))


def _error_cell(entry):
    if entry is None:
        return "-"
    failed, frames = entry["failed"], entry["frames"]
    text = f"{entry['worst']:.0e}" if failed < frames else "-"
    return text + (f" (failed {failed} of {frames})" if failed else "")


if __name__ == "__main__":
    sys.exit(main())
