"""A folder for a device: checked, complete, and free of torch."""

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import KINDS, make_inverter, synthetic_speech
from torch.utils.flop_counter import FlopCounterMode

from speechbrain_phaseinv import (
    InversionStream,
    PhaseInversion,
    SpectrogramInverter,
    StftConfig,
    analysis,
)
from speechbrain_phaseinv.edge import export
from speechbrain_phaseinv.edge.model import PassModel
from speechbrain_phaseinv.estimation.features import (
    LEAST_EXPONENT,
    log_magnitude,
)
from speechbrain_phaseinv.integration.offset import is_offset

# An odd window, so that nothing is even; and as few bins as can be for what
# the exporter has to see.
SMALL = StftConfig(16000, 64, 63, 16)
TINY = StftConfig(16000, 16, 15, 4)
CONFIG = StftConfig(16000, 512, hop_length=128)

# Exported here; the packaged network is "refined-1", and "network-0" is
# "network-1" with the schedule of "gradient-0".
EXPORTED = [x for x in KINDS if x not in ("network-0", "refined-1")]

# Relative, root of energy, of free running streams in single precision.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Exports of all operating points, each made when it is asked for."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="part of the extra 'onnx'")
    made = {}

    def folder(kind):
        if kind not in made:
            path = tmp_path_factory.mktemp(kind)
            spec = export.export_onnx(make_inverter(kind, TINY), path)
            made[kind] = path, spec
        return made[kind]

    return folder


def speech(seconds, seed=0):
    """Speech in noise that keeps all bins above the floor of logarithms.

    On it, roundings decide between phases, and are handed on.
    """
    x = synthetic_speech(seconds, seed=seed).float()
    torch.manual_seed(seed)
    return x + 0.01 * x.std() * torch.randn_like(x)


def stream_of(folder):
    from speechbrain_phaseinv.edge.runtime import Stream

    return Stream(folder)


def relative(x, reference):
    error = np.asarray(x) - np.asarray(reference)
    return np.linalg.norm(error) / max(np.linalg.norm(reference), 1e-30)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", [False, True])
def test_a_pass_is_a_step(kind, odd):
    """With the state as explicit tensors that begin as zeros."""
    inverter = make_inverter(kind, SMALL)
    model = PassModel(inverter)
    magnitude = analysis(speech(0.05), SMALL).abs()
    end = magnitude.shape[1] // 2 * 2 - odd
    state, known = model.start().values(), None
    for begin in range(0, end, inverter.stride):
        frames = magnitude[:, begin : min(begin + inverter.stride, end)]
        count = frames.shape[1]
        frames = frames[:, [0, -1]] if count < inverter.stride else frames
        samples, tail, *state = model(frames, torch.tensor([count]), *state)
        expected, known = inverter.step(frames[:, :count], known)
        if count == inverter.stride and expected.shape[1]:
            assert relative(samples, expected) < CLOSE
            assert relative(tail, inverter.pending(known)) < CLOSE
    if count < inverter.stride:
        rest = torch.cat([samples, tail], dim=1)
        assert relative(rest, inverter.flush(known)) < CLOSE


@pytest.mark.parametrize("kind", EXPORTED)
def test_the_runtime_is_the_stream(folders, kind):
    folder, _ = folders(kind)
    # Random weights let roundings grow: fewer frames than with the theorem.
    seconds = 0.12 if kind.startswith("gradient") else 0.02
    x = speech(seconds, seed=1)[:, :-3]
    offset = x + 20 * x.std()
    parts = [analysis(part, TINY).abs() for part in (x, offset)]
    magnitude = torch.cat(parts, dim=1)
    assert is_offset(magnitude, TINY).any()
    expected = InversionStream(make_inverter(kind, TINY))
    stream = stream_of(folder)
    for sizes in ([1], [7, 1, 2, 0]):  # a flushed stream is a new one
        begin, ours, theirs = 0, [], []
        while begin < magnitude.shape[1]:
            frames = magnitude[:, begin : begin + sizes[len(ours) % len(sizes)]]
            begin += frames.shape[1]
            ours.append(stream.push(frames[0].numpy()))
            theirs.append(expected.push(frames)[0].numpy())
            assert len(ours[-1]) == len(theirs[-1])
        ours.append(stream.flush(4123))
        theirs.append(expected.flush(4123)[0].numpy())
        ours, theirs = np.concatenate(ours), np.concatenate(theirs)
        assert len(ours) == len(theirs) == 4123
        assert relative(ours, theirs) < CLOSE


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
@pytest.mark.parametrize("length", [None, 0, 5, 300])
@pytest.mark.parametrize("kind", ["gradient-0", "gradient-1", "paired"])
def test_streams_may_be_short(folders, kind, frames, length):
    stream = stream_of(folders(kind)[0])
    expected = InversionStream(make_inverter(kind, TINY))
    magnitude = torch.rand(1, frames, TINY.num_bins)
    ours = [stream.push(magnitude[0].numpy()), stream.flush(length)]
    theirs = [expected.push(magnitude), expected.flush(length)]
    np.testing.assert_allclose(
        np.concatenate(ours), torch.cat(theirs, dim=1)[0].numpy(), atol=1e-5
    )


HARD = {
    "silence": np.zeros(400),
    "square wave": np.sign(np.sin(np.arange(400) / 9)),
    "denormals": np.full(400, 1e-42),
    "120 dB up and down": np.random.default_rng(0).normal(size=400)
    * np.tile([1e-6, 1.0], 4).repeat(50),
}


@pytest.mark.parametrize("kind", ["gradient-1", "paired", "refined-0"])
@pytest.mark.parametrize("name", HARD)
def test_hard_signals_pass(folders, name, kind):
    signal = torch.from_numpy(HARD[name]).float()[None]
    magnitude = analysis(signal, TINY).abs()[0].numpy()
    stream = stream_of(folders(kind)[0])
    y = np.concatenate([stream.push(magnitude), stream.flush()])
    assert np.isfinite(y).all()
    assert np.abs(y).max() <= 5 * signal.abs().max() + 1e-30


@pytest.mark.parametrize("kind", ["gradient-1", "paired"])
def test_a_bad_frame_is_refused_and_the_stream_goes_on(folders, kind):
    magnitude = np.random.default_rng(0).random((20, TINY.num_bins))
    magnitude = magnitude.astype(np.float32)
    pieces = [], []
    for i, disturbed in enumerate((False, True)):
        stream = stream_of(folders(kind)[0])
        for t, frame in enumerate(magnitude):
            if disturbed and t == 11:
                broken = frame.copy()
                broken[3] = np.nan
                for bad in (broken, -frame, frame[:-1], frame[None, None]):
                    with pytest.raises(ValueError, match="expected|must"):
                        stream.push(bad)
            pieces[i].append(stream.push(frame))
        pieces[i].append(stream.flush())
    np.testing.assert_array_equal(*map(np.concatenate, pieces))


def test_the_folder_needs_neither_torch_nor_this_package(folders):
    code = (
        "import runpy, sys\n"
        "for name in ('torch', 'numba', 'scipy', 'speechbrain_phaseinv'):\n"
        "    sys.modules[name] = None\n"  # importing them fails
        "sys.argv = ['runtime.py', '.']\n"
        "runpy.run_path('runtime.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folders("gradient-1")[0],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(", ok\n") == len(export.LIMITS)


@pytest.mark.parametrize("factor", [1.01, math.nan])
def test_the_folder_reports_what_is_off(folders, tmp_path, factor):
    shutil.copytree(folders("gradient-1")[0], tmp_path, dirs_exist_ok=True)
    with np.load(tmp_path / "vectors.npz") as vectors:
        vectors = dict(vectors)
    vectors["samples"] = factor * vectors["samples"]
    np.savez(tmp_path / "vectors.npz", **vectors)
    line = [sys.executable, tmp_path / "runtime.py", tmp_path]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.count("TOO LARGE") == 1


def test_an_export_that_is_off_fails(folders, tmp_path, monkeypatch):
    inverter = make_inverter("gradient-1", TINY)
    model = folders("gradient-1")[0] / "phaseinv.onnx"
    good = export.test_vectors

    def off(*args):
        vectors = good(*args)
        return {**vectors, "out_tail": 1.01 * vectors["out_tail"]}

    monkeypatch.setattr(export, "test_vectors", off)
    monkeypatch.setattr(
        export, "_write_model", lambda _, path: shutil.copyfile(model, path)
    )
    with pytest.raises(export.ExportError, match="pass differs by"):
        export.export_onnx(inverter, tmp_path)


def test_without_the_extra_the_export_says_what_to_install(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    inverter = make_inverter("gradient-1", TINY)
    with pytest.raises(ImportError, match=r"speechbrain_phaseinv\[onnx\]"):
        export.export_onnx(inverter, tmp_path)


@pytest.mark.parametrize("kind", [x for x in KINDS if "gradient" not in x])
def test_multiply_accumulates_are_those_of_a_forward_pass(kind):
    estimator = make_inverter(kind, CONFIG).estimator.train()
    estimator.requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        estimates, _ = estimator(torch.randn(1, 20, CONFIG.num_bins))
    frames = estimates.time.shape[1] * estimator.stride
    per_frame = counter.get_total_flops() / 2 / frames
    inverter = SpectrogramInverter(CONFIG, estimator=estimator)
    sizes = export.sizes(inverter, PassModel(inverter))
    assert sizes["macs_per_second"] == round(per_frame * 125)
    assert sizes["weight_bytes"] <= 4 * 8192


def test_state_has_the_size_that_is_stated(folders):
    folder, spec = folders("refined-0")
    stream = stream_of(folder)
    stream.push(np.ones((9, TINY.num_bins)))
    size = sum(x.nbytes for x in stream.state)
    assert spec["sizes"]["state_bytes"] == size


def test_packaged_weights_and_the_command_line(folders, tmp_path, capsys):
    from speechbrain_phaseinv.cli import main

    line = ["export", str(tmp_path), "--n-fft", "512", "--hop-length", "128"]
    assert main([*line, "--estimator", "network"]) == 0
    assert "latency 512 samples" in capsys.readouterr().out
    magnitude = analysis(speech(1.5, seed=2), CONFIG).abs()
    stream = stream_of(tmp_path)
    y = np.concatenate([stream.push(magnitude[0].numpy()), stream.flush()])
    expected = SpectrogramInverter(CONFIG, estimator="network")(magnitude)
    assert relative(y, expected[0]) < 10 * CLOSE  # after 188 frames
    assert main([*line, "--estimator", "gradient", "--paired"]) == 2
    assert "paired" in capsys.readouterr().err


def test_a_model_with_an_inversion_exports(tmp_path):
    """For a fixed number of frames; what is kept for later stays usable."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra 'onnx'")
    pytest.importorskip("onnxscript", reason="extra 'onnx'")
    transform = PhaseInversion(n_fft=8, hop_length=2, estimator="gradient")
    power = torch.rand(1, 5, 3) ** 2
    program = torch.export.export(transform, (power,))
    expected = transform(power)  # after the export: constants are real
    torch.testing.assert_close(program.module()(power), expected)
    path = tmp_path / "model.onnx"
    torch.onnx.export(program, (), path, opset_version=20, optimize=False)
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    (found,) = session.run(None, {name: power.numpy()})
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_level_is_that_of_frexp(dtype):
    """Which the exporter lacks."""
    exponents = torch.arange(-140, 105)
    peaks = torch.ldexp(torch.ones(len(exponents), dtype=dtype), exponents)
    peaks = torch.cat([peaks, torch.nextafter(peaks, 0 * peaks)])
    own = torch.frexp(peaks)[1].clamp_min(LEAST_EXPONENT)
    _, level = log_magnitude(peaks.reshape(-1, 1, 1))
    assert torch.equal(level[:, 0], torch.ldexp(torch.ones_like(peaks), -own))
