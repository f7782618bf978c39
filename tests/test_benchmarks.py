"""The benchmarks run, and what they compare with is right."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import speechbrain_phaseinv

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"
EXAMPLE = Path(speechbrain_phaseinv.__file__).parent / "data/example.flac"


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
        found = np.asarray(solve(*solver.inputs_of(name, frames)))
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
    times = results["seconds"]["float32"]["17"]
    assert set(times) == set(solver.SOLVERS)
    assert all(x > 0 for x in times.values())
    output = capsys.readouterr().out
    assert "microseconds per frame" in output and "exponent" in output


def test_the_readme_shows_the_figures_of_the_benchmark(benchmark):
    claims = benchmark("claims")
    figures = json.loads(claims.FIGURES.read_text())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for table in (claims.methods_table, claims.claims_table):
        assert table(figures) in readme


def test_what_is_measured_goes_into_the_figures_and_the_readme(
    benchmark, tmp_path, monkeypatch
):
    claims = benchmark("claims")
    figures, readme = tmp_path / "claims.json", tmp_path / "README.md"
    figures.write_text(claims.FIGURES.read_text())
    before = json.loads(figures.read_text())
    monkeypatch.setattr(claims, "count", lambda config: before["networks"])
    claim = claims.solver.claim
    monkeypatch.setattr(claims.solver, "claim", lambda: claim((9, 17), 1, 1e-4))
    marks = [
        f"<!-- {name} -->\nold\n<!-- end of {name} -->\n"
        for name in ("methods", "claims")
    ]
    readme.write_text("between\n".join(["before\n", *marks, "after\n"]))
    options = ["--out", str(tmp_path / "out"), "--readme", str(readme)]
    options += ["--figures", str(figures)]
    measure = ["--methods", "gradient-0,zero-phase", str(EXAMPLE)]
    assert claims.main([*options, *measure]) == 0
    first = readme.read_text()
    assert first.startswith("before\n") and first.endswith("after\n")
    assert "old" not in first and (tmp_path / "out/report.html").exists()
    after = json.loads(figures.read_text())
    assert set(after["solver"]["times_faster"]) == {"9", "17"}
    # One method is new, the others are as they were.
    new = after["methods"].pop("gradient-0")
    assert new["recordings"] == 1 and "rounded" not in new
    del before["methods"]["gradient-0"]
    assert after["methods"] == before["methods"]
    # Again, from the figures alone.
    assert claims.main(options) == 0
    assert readme.read_text() == first
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        claims.replace_block(readme, "claims", "x")


def test_the_speed_benchmark_runs(benchmark, tmp_path, capsys, monkeypatch):
    speed = benchmark("speed")
    monkeypatch.setattr(speed, "BATCHES", (1, 2))
    monkeypatch.setattr(speed, "MEMORY", {"a second": (1, 1)})
    monkeypatch.setattr(
        speed, "memory", lambda: {"a second": speed.memory_of("a second")}
    )
    path = tmp_path / "speed.json"
    line = ["--rounds", "1", "--seconds", ".2", "--json", str(path)]
    speed.main(line)
    data = json.loads(path.read_text())
    assert data["one utterance"].keys() == set(speed.ALONE)
    assert 0 < data["GMAC/s"]["network"] < data["GMAC/s"]["products"]
    assert "Exponents of the time over length" in capsys.readouterr().out


def test_the_exponent_of_a_linear_cost_is_one(benchmark, monkeypatch):
    speed = benchmark("speed")
    monkeypatch.setattr(
        speed,
        "take_turns",
        lambda calls, *_: {size: 3.0 * size for size in calls},
    )
    assert list(speed.growth(1).values()) == pytest.approx([1, 1, 1])
