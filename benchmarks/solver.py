"""The least-squares step: time per frame, growth, and error, side by side.

    python benchmarks/solver.py [--bins 257 513 1025 2049 4097] [--json FILE]

Every solver gets the weights l, g and the target q of frames, and returns the
s of the ladder (see `speechbrain_phaseinv.tridiagonal`); to build a matrix
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
import time

import mpmath
import numpy as np
import scipy.linalg
import scipy.sparse
import torch
from quality import machine

from speechbrain_phaseinv.audio import replacing
from speechbrain_phaseinv.summary import format_table
from speechbrain_phaseinv.tridiagonal import solve_ladder

BINS = (257, 513, 1025, 2049, 4097)


def frames_of(bins, count, decades, dtype, smooth=False, seed=0):
    """Random frames: weights over so many decades, targets on a circle.

    Smooth weights wander from bin to bin as those of a spectrum do; others
    are drawn one by one, log-uniformly, which is as hard as it can get.
    """
    random = np.random.default_rng(seed)
    level = random.uniform(0, 1, (2, count, bins))
    if smooth:
        level = random.standard_normal((count, bins)).cumsum(-1)
        level -= level.min(-1, keepdims=True)
        level /= level.max(-1, keepdims=True)
        # The coupling is weighted by the mean of two bins, the anchor by one.
        level = np.stack([level, (level + np.roll(level, 1, -1)) / 2])
    weights = 10 ** (decades * (level - 0.5))
    angle = random.uniform(-np.pi, np.pi, (count, bins))
    anchor, coupling = weights.astype(dtype)
    coupling[:, 0] = 0
    precision = np.result_type(dtype, np.complex64)
    return anchor, coupling, np.exp(1j * angle).astype(precision)


# Solvers of many frames at once: l, g, q of shape [frames, bins].


def ladder(anchor, coupling, target):
    """Ours, one call for all frames."""
    return solve_ladder(*map(torch.from_numpy, (anchor, coupling, target)))


def ladder_single(anchor, coupling, target):
    """Ours, one call a frame: what a stream pays, torch's overhead included."""
    rows = map(torch.from_numpy, (anchor, coupling, target))
    return torch.stack([solve_ladder(*row) for row in zip(*rows)])


def per_frame(solve):
    """A solver of many frames from a solver of one."""

    def solve_all(anchor, coupling, target):
        rows = zip(anchor, coupling, target)
        return np.stack([solve(*row) for row in rows])

    return solve_all


def bands(anchor, coupling, target):
    """The diagonal, the one below it, and the right-hand side."""
    diagonal = anchor + coupling
    diagonal[:-1] += coupling[1:]
    return diagonal, -coupling[1:], anchor * target


def dense(anchor, coupling, target):
    """The matrix with all its zeros, as complex numbers."""
    diagonal, lower, right = bands(anchor, coupling, target)
    bins = len(diagonal)
    matrix = np.zeros((bins, bins), dtype=target.dtype)
    index = np.arange(bins)
    matrix[index, index] = diagonal
    matrix[index[1:], index[:-1]] = lower
    matrix[index[:-1], index[1:]] = lower
    return np.linalg.solve(matrix, right)


def banded(anchor, coupling, target):
    """scipy's solver of banded matrices, two bands."""
    diagonal, lower, right = bands(anchor, coupling, target)
    matrix = np.zeros((2, len(diagonal)), dtype=target.dtype)
    matrix[0] = diagonal
    matrix[1, :-1] = lower
    return scipy.linalg.solveh_banded(matrix, right, lower=True)


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


def sparse(anchor, coupling, target):
    """scipy's sparse LU (SuperLU)."""
    diagonal, lower, right = bands(anchor, coupling, target)
    matrix = scipy.sparse.diags_array(
        [lower, diagonal, lower], offsets=[-1, 0, 1], dtype=target.dtype
    )
    return scipy.sparse.linalg.spsolve(matrix.tocsc(), right)


OURS = "ladder (ours)"
SOLVERS = {
    OURS: ladder,
    "ladder, a call a frame": ladder_single,
    "ptsv": per_frame(ptsv),
    "ptsv, bare": per_frame(ptsv_bare),
    "solveh_banded": per_frame(banded),
    "sparse spsolve": per_frame(sparse),
    "dense solve": per_frame(dense),
}
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


def elapsed(solve, *inputs, repeat=1):
    """CPU time of some calls, in seconds."""
    start = time.process_time()
    for _ in range(repeat):
        solve(*inputs)
    return time.process_time() - start


def measure_times(solvers, bins, dtype, rounds, seconds):
    """Median time per frame of each solver, in seconds, taking turns."""
    frames = frames_of(bins, 128, 2, dtype)
    tasks = {}
    for name, solve in solvers.items():
        inputs = frames
        if name == "ptsv, bare":
            rows = [ptsv_inputs(*row) for row in zip(*frames)]
            inputs = tuple(np.stack(column) for column in zip(*rows))
        solve(*(x[:1] for x in inputs))  # compile, page in
        once = elapsed(solve, *(x[:1] for x in inputs))
        count = int(np.clip(seconds / once, 1, len(frames[0])))
        inputs = tuple(x[:count] for x in inputs)
        # A turn lasts long enough to forget what the others left in caches.
        repeat = max(int(seconds / elapsed(solve, *inputs)), 1)
        turns = rounds if once < 0.3 else 3 if once < 2 else 1
        tasks[name] = solve, inputs, repeat, turns
    times = {name: [] for name in tasks}
    for turn in range(rounds):
        for name, (solve, inputs, repeat, turns) in tasks.items():
            if turn < turns:
                spent = elapsed(solve, *inputs, repeat=repeat)
                times[name].append(spent / repeat / len(inputs[0]))
    return {name: float(np.median(x)) for name, x in times.items()}


def growth_exponent(bins, times):
    """Slope of time against number of bins, both logarithmic."""
    return float(np.polyfit(np.log(bins), np.log(times), 1)[0])


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
