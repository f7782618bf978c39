"""The least-squares step as others would solve it, and how long each takes.

Every solver gets the weights l, g and the target q of frames, all of shape
[frames, bins], and returns the s of the ladder (see `tridiagonal`); to build a
matrix from them is part of the work, except where a name says "bare". Time is
CPU time: what the clock on the wall would show were the machine not shared.
"""

import time

import numpy as np
import scipy.linalg
import scipy.sparse
import torch

from ..integration.ladder import solve_ladder


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


# Transforms that a comparison times, by their number of bins, and the largest
# dense system: beyond, a single frame takes seconds.
SOLVER_BINS = (257, 513, 1025, 2049)
DENSE_BINS = 1025
SOLVERS_TIMED = (OURS, "ptsv", "solveh_banded", "sparse spsolve", "dense solve")


def time_solvers(bins=SOLVER_BINS, rounds=9, seconds=0.01):
    """Time per frame of the least-squares step, and how it grows.

    Arguments
    ---------
    bins : sequence of int
        Sizes of the system.
    rounds : int
        Times are medians of so many turns.
    seconds : float
        Of CPU time, for a turn.

    Returns
    -------
    times : dict
        "bins", "microseconds" and "exponent", the last two by solver.
    """
    table = {name: {} for name in SOLVERS_TIMED}
    for size in bins:
        solvers = {
            name: SOLVERS[name]
            for name in SOLVERS_TIMED
            if name != "dense solve" or size <= DENSE_BINS
        }
        found = measure_times(solvers, size, "float32", rounds, seconds)
        for name, value in found.items():
            table[name][size] = 1e6 * value
    exponents = {
        name: growth_exponent(list(row), list(row.values()))
        for name, row in table.items()
    }
    return {"microseconds": table, "exponent": exponents}
