"""The benchmarks run, and what they compare with is right."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from speechbrain_phaseinv.evaluation.solvers import ptsv_inputs

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Import a benchmark by name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_solvers_solve_the_same_problem(benchmark, dtype, smooth):
    solver = benchmark("solver")
    frames = solver.frames_of(33, 3, 2, dtype, smooth)
    truth = np.stack([solver.exact(*frame) for frame in zip(*frames)])
    for name, solve in solver.SOLVERS.items():
        inputs = frames
        if name == "ptsv, bare":
            rows = [ptsv_inputs(*frame) for frame in zip(*frames)]
            inputs = [np.stack(column) for column in zip(*rows)]
        found = np.asarray(solve(*inputs))
        # A hundred roundings, the weights' range not being wide.
        tolerance = 100 * np.finfo(dtype).eps
        assert np.abs(found - truth).max() < tolerance, name


def test_the_weights_span_the_decades_they_claim(benchmark):
    solver = benchmark("solver")
    for smooth in (False, True):
        anchor, _, target = solver.frames_of(2049, 2, 12, "float64", smooth)
        span = np.log10(anchor.max(-1) / anchor.min(-1))
        assert np.allclose(span, 12, atol=0.1)
        assert np.allclose(np.abs(target), 1)


def test_the_ladder_is_accurate_in_every_bin_over_twelve_decades(benchmark):
    solver = benchmark("solver")
    for smooth in (False, True):
        found = solver.measure_errors(65, 12, "float32", smooth, 3)
        assert found[solver.OURS]["failed"] == 0
        assert found[solver.OURS]["worst"] < 1e-6


def test_the_growth_exponent_is_the_slope(benchmark):
    solver = benchmark("solver")
    bins = np.array([257, 513, 1025])
    assert solver.growth_exponent(bins, 3 * bins**2) == pytest.approx(2)


def test_the_solver_benchmark_runs(benchmark, tmp_path, capsys):
    solver = benchmark("solver")
    options = ["--bins", "9", "17", "--rounds", "2", "--frames", "1"]
    options += ["--seconds", "0.0001", "--json", str(tmp_path / "x.json")]
    assert solver.main(options) == 0
    results = json.loads((tmp_path / "x.json").read_text())
    times = results["microseconds_per_frame"]["float32"]
    assert set(times) == set(solver.SOLVERS)
    assert all(x > 0 for row in times.values() for x in row.values())
    output = capsys.readouterr().out
    assert "microseconds per frame" in output and "exponent" in output
