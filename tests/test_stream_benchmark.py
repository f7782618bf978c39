"""The stream's benchmark measures what it says."""

import json
import sys
from importlib import import_module
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import KINDS, make_inverter

from speechbrain_phaseinv import StftConfig

SMALL = StftConfig(16000, 128, hop_length=32)


@pytest.fixture
def stream(monkeypatch):
    """The module benchmarks/stream.py."""
    folder = Path(__file__).parent.parent / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield import_module("stream")
    sys.modules.pop("stream", None)


def test_prints_and_writes_everything(stream, tmp_path, capsys):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="part of the extra 'onnx'")
    name, file = "gradient theorem, latency 1", tmp_path / "found.json"
    line = f"--n-fft 64 --hop-length 32 --frames 30 --hours 0.005 --json {file}"
    assert stream.main([*line.split(), "--only", name]) == 0
    text = capsys.readouterr().out
    assert "machine" in text and "torch" in text and "threads 1" in text
    found = json.loads(file.read_text())
    assert found["difference"] == {name: 0.0}
    parts = {"analysis", "estimate", "synthesise", "push", "frame", "offline"}
    assert found["times"][name].keys() == parts
    assert found["times"][f"{name}, ONNX Runtime"].keys() == {"push"}
    assert found["batches"][name].keys() == {"1", "8", "64"}
    for times in found["times"].values():
        for part in times.values():
            for clock in ("", "cpu_"):
                assert 0 < part[f"{clock}median"] <= part[f"{clock}p99"]
                assert part[f"{clock}p99"] <= part[f"{clock}worst"]


def test_no_clock_is_read_inside_what_is_timed(stream, monkeypatch):
    """By a clock that advances by a microsecond whenever it is read."""
    wall, cpu = count(0, 1000), count(0, 1000)
    clock = SimpleNamespace(
        perf_counter_ns=lambda: next(wall), thread_time_ns=lambda: next(cpu)
    )
    monkeypatch.setattr(stream, "time", clock)
    times = stream.time_stream(make_inverter("gradient-1", SMALL), 10)
    offline = times.pop("offline")
    for statistics in times.values():
        assert set(statistics.values()) == {1.0}
    assert 0 < offline["median"] < 1


@pytest.mark.parametrize("kind", KINDS)
def test_soak_finds_a_sound_stream_sound(stream, kind):
    found = stream.soak(make_inverter(kind, SMALL), 0.005, (3, 200, 1000))
    assert found["finite"]
    assert found["resumed_difference"] == 0
    old, fresh = (found[f"spectral_convergence_{x}"] for x in ("old", "fresh"))
    assert abs(old - fresh) < 1.5  # a network of random weights


def test_soak_finds_what_drifts(stream):
    """A stream whose phase turns faster the older it is."""
    inverter = make_inverter("gradient-1", SMALL)
    forward, age = inverter.estimator.forward, 0.0

    def ageing(log_magnitude, state=None):
        nonlocal age
        age += 1e-4
        estimates, state = forward(log_magnitude, state)
        return estimates._replace(time=estimates.time + age), state

    inverter.estimator.forward = ageing
    found = stream.soak(inverter, 0.005, (200, 1000))
    assert found["resumed_difference"] > 0.01
