"""A folder for a device: checked, complete, and free of torch."""

import json
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
    SpectrogramInverter,
    StftConfig,
    analysis,
)
from speechbrain_phaseinv.edge import edge, export
from speechbrain_phaseinv.edge.graphs import (
    NetworkStep,
    SolverStep,
    solve_by_halves,
)
from speechbrain_phaseinv.integration.least_squares import (
    integrate,
    phase_weights,
)
from speechbrain_phaseinv.integration.offset import is_offset
from speechbrain_phaseinv.integration.passes import by_passes

# Small, so that the export is fast; an odd window, so that nothing is even.
SMALL = StftConfig(16000, 64, 63, 16)
CONFIG = StftConfig(16000, 512, hop_length=128)

NETWORKS = [kind for kind in KINDS if not kind.startswith("gradient")]

# Free running, relative in energy, single precision against single precision:
# what it rounds differently stays in the phase and adds up.
CLOSE = 1e-3


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Exports of all operating points, each made when it is asked for."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="part of the extra 'onnx'")
    solvers = tmp_path_factory.mktemp("solvers")
    write, made = export._write_graph, {}

    def write_once(module, inputs, path, *names):
        # The solver is the same for all of one hop and exponent.
        if path.name == "solver.onnx" and len(module.advance) == SMALL.num_bins:
            kind = f"{module.power}-{module.real.sum()}"  # with Nyquist or not
            solver = solvers / f"{kind}.onnx"
            if not solver.exists():
                write(module, inputs, solver, *names)
            shutil.copyfile(solver, path)
        else:
            write(module, inputs, path, *names)

    def folder(kind):
        if kind not in made:
            path = tmp_path_factory.mktemp(kind)
            spec = export.export_onnx(make_inverter(kind, SMALL), path)
            made[kind] = path, spec
        return made[kind]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_write_graph", write_once)
        yield folder


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 65, 257])
def test_elimination_by_halves_solves_the_dense_system(size):
    random = np.random.default_rng(size)
    anchor, coupling = 10 ** random.uniform(-4, 4, (2, 1, size))
    coupling[:, 0] = 0
    source = random.normal(size=(2, size)) * anchor
    above = np.append(coupling[:, 1:], [[0]], axis=1)
    matrix = np.diag((anchor + coupling + above)[0])
    matrix -= np.diag(above[0, :-1], 1) + np.diag(above[0, :-1], -1)
    found = solve_by_halves(*map(torch.from_numpy, (anchor, source, above)))
    expected = np.linalg.solve(matrix, source.T).T
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_solver_step_is_integrate():
    torch.manual_seed(0)
    inverter = make_inverter("gradient-1", CONFIG)
    log = torch.randn(1, 12, CONFIG.num_bins)
    derivatives, _ = inverter.estimator(log)
    derivatives = derivatives._replace(time_confidence=log[:, :-1])
    log = log[:, :-1]
    before = torch.cat([log[:, :1], log[:, :-1]], dim=1)
    anchor, coupling = phase_weights(log, before, derivatives, 1.5)
    expected = integrate(derivatives, anchor, coupling, CONFIG)
    step = SolverStep(CONFIG, 1.5)
    cosine, sine = torch.ones(1, 257), torch.zeros(1, 257)
    for t in range(log.shape[1]):
        given = [x[:, t] for x in (log, before, *derivatives[:4])]
        cosine, sine = step(*given, cosine, sine)
        found = torch.complex(cosine, sine)
        # Where predictions all but cancel, rounding decides: allow for few.
        error = (found - expected[:, t]).abs()
        assert error.median() < 1e-5
        assert (error > 1e-2).sum() <= 2
        cosine, sine = expected[:, t].real, expected[:, t].imag


@pytest.mark.parametrize("kind", NETWORKS)
def test_network_step_is_the_network(kind):
    estimator = make_inverter(kind, SMALL).estimator
    log = torch.randn(1, 12, SMALL.num_bins)
    expected, _ = estimator(log)
    step, stride = NetworkStep(estimator), estimator.stride
    past, ahead = estimator.history, estimator.lookahead
    # As the documentation has it: the first frame stands for those before.
    frames = torch.cat([log[:, :1].expand(-1, past, -1), log], dim=1)
    kept = past + 1 + ahead - stride
    state, frames = frames[:, :kept], frames[:, kept:]
    found = []
    for frame in frames.split(stride, dim=1):
        if frame.shape[1] == stride:
            *derivatives, state = step(frame, state)
            assert state.shape == (1, kept, SMALL.num_bins)
            found.append(derivatives)
    for i, (x, y) in enumerate(zip(expected[:4], zip(*found))):
        more = expected.ahead, expected.again
        ahead, again = (None if m is None else m[i] for m in more)
        x = by_passes(x, ahead, again, stride).flatten(1, 2)
        torch.testing.assert_close(torch.cat(y, dim=1), x)


@pytest.mark.parametrize("kind", KINDS)
def test_export_is_complete_and_agrees(folders, kind):
    folder, spec = folders(kind)
    names = {"phaseinv.json", "vectors.npz", "edge.py", "solver.onnx"}
    if not kind.startswith("gradient"):
        names.add("network.onnx")
    assert {x.name for x in folder.iterdir()} == names
    assert json.loads((folder / "phaseinv.json").read_text()) == spec
    for differences in spec["differences"].values():
        assert differences.keys() == export.LIMITS.keys()
        assert max(differences.values()) < CLOSE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ["ladder", "onnx"])
@pytest.mark.parametrize("offset", [0, 5])
def test_edge_is_the_stream(folders, kind, solver, offset):
    """On other sound than the test vectors', and with a tail of any length."""
    folder, _ = folders(kind)
    # Random weights let roundings, which are the processor's, grow tenfold in
    # some 50 frames: no more of them than tell an error from a rounding.
    x = synthetic_speech(0.06).float()
    magnitude = analysis(x + offset * x.std(), SMALL).abs()
    assert is_offset(magnitude, SMALL).any() == (offset > 0)
    expected = InversionStream(make_inverter(kind, SMALL))
    found = edge.EdgeStream(folder, solver)
    for _ in range(2):  # a flushed stream is a new one
        pieces = []
        for frame in magnitude.split(1, dim=1):
            piece = found.push(frame[0, 0].numpy())
            theirs = expected.push(frame)
            assert len(piece) == theirs.shape[1]
            pieces.append((piece, theirs[0].numpy()))
        pieces.append((found.flush(4123), expected.flush(4123)[0].numpy()))
        ours, theirs = map(np.concatenate, zip(*pieces))
        assert len(ours) == len(theirs) == 4123
        assert edge.relative(ours - theirs, theirs) < CLOSE / 100


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["gradient-1", "paired", "refined-1"])
def test_edge_streams_may_be_short(folders, kind, frames):
    found = edge.EdgeStream(folders(kind)[0])
    expected = InversionStream(make_inverter(kind, SMALL))
    magnitude = torch.rand(1, frames, SMALL.num_bins)
    ours = [found.push(x) for x in magnitude[0].numpy()] + [found.flush(300)]
    theirs = torch.cat([expected.push(magnitude), expected.flush(300)], dim=1)
    np.testing.assert_allclose(
        np.concatenate(ours), theirs[0].numpy(), atol=1e-5
    )


HARD = {
    "silence": np.zeros(4000),
    "square wave": np.sign(np.sin(np.arange(4000) / 9)),
    "denormals": np.full(4000, 1e-42),
    "120 dB up and down": np.random.default_rng(0).normal(size=4000)
    * np.tile([1e-6, 1.0], 4).repeat(500),
}


@pytest.mark.parametrize("solver", ["ladder", "onnx"])
@pytest.mark.parametrize("name", HARD)
def test_edge_passes_hard_signals(folders, name, solver):
    signal = torch.from_numpy(HARD[name]).float()[None]
    magnitude = analysis(signal, SMALL).abs()[0].numpy()
    for kind in ("gradient-1", "network-1", "refined-1"):
        stream = edge.EdgeStream(folders(kind)[0], solver)
        with np.errstate(all="raise", under="ignore"):
            pieces = [stream.push(frame) for frame in magnitude]
            y = np.concatenate([*pieces, stream.flush()])
        assert np.isfinite(y).all()
        assert np.abs(y).max() <= 4 * signal.abs().max() + 1e-30


@pytest.mark.parametrize("kind", ["gradient-1", "paired"])
def test_edge_refuses_a_bad_frame_and_goes_on(folders, kind):
    magnitude = np.random.default_rng(0).random((20, SMALL.num_bins))
    magnitude = magnitude.astype(np.float32)
    pieces = [], []
    for i, disturbed in enumerate((False, True)):
        stream = edge.EdgeStream(folders(kind)[0])
        for t, frame in enumerate(magnitude):
            if disturbed and t == 11:
                broken = frame.copy()
                broken[3] = np.nan
                for bad in (broken, -frame, frame[:-1], frame[None], np.inf):
                    with pytest.raises(ValueError, match="expected|must"):
                        stream.push(bad)
            pieces[i].append(stream.push(frame))
        pieces[i].append(stream.flush())
    np.testing.assert_array_equal(*map(np.concatenate, pieces))


def test_edge_needs_neither_torch_nor_this_package(folders):
    folder, _ = folders("network-1")
    code = (
        "import runpy, sys\n"
        "for name in ('torch', 'numba', 'scipy', 'speechbrain_phaseinv'):\n"
        "    sys.modules[name] = None\n"  # importing them fails
        "sys.argv = ['edge.py', '.']\n"
        "runpy.run_path('edge.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" ok\n") == len(export.LIMITS)


def test_edge_reports_what_is_off(folders, tmp_path, capsys):
    folder, _ = folders("gradient-1")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with np.load(folder / "vectors.npz") as vectors:
        vectors = dict(vectors)
    vectors["samples"] = 1.01 * vectors["samples"]
    np.savez(tmp_path / "vectors.npz", **vectors)
    assert edge.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.count("TOO LARGE") == 1
    assert edge.main([]) == 2


def test_an_export_that_is_off_fails(folders, tmp_path, monkeypatch):
    folders("gradient-1")  # for what it needs
    good = export.test_vectors

    def off(inverter):
        vectors = good(inverter)
        vectors["phase"] = vectors["phase"] + 0.01
        return vectors

    monkeypatch.setattr(export, "test_vectors", off)
    inverter = make_inverter("gradient-1", SMALL)
    with pytest.raises(export.ExportError, match="phase differs by"):
        export.export_onnx(inverter, tmp_path)


def test_without_the_extra_the_export_says_what_to_install(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    inverter = make_inverter("gradient-1", SMALL)
    with pytest.raises(ImportError, match=r"speechbrain_phaseinv\[onnx\]"):
        export.export_onnx(inverter, tmp_path)


@pytest.mark.parametrize("kind", NETWORKS)
def test_multiply_accumulates_are_those_of_a_forward_pass(kind):
    estimator = make_inverter(kind, CONFIG).estimator.train()
    estimator.requires_grad_(True)
    frames = 20
    with FlopCounterMode(display=False) as counter:
        derivatives, _ = estimator(torch.randn(1, frames, 257))
    ready = derivatives.time.shape[1]
    per_frame = counter.get_total_flops() / 2 / ready
    found = export.sizes(SpectrogramInverter(CONFIG, estimator=estimator))
    assert found["macs_per_second"] == round(per_frame * 125)
    assert found["weight_bytes"] <= 4 * 8192


@pytest.mark.parametrize("kind", KINDS)
def test_state_has_the_size_that_is_stated(folders, kind):
    """The most that the runtime keeps between two frames."""
    folder, spec = folders(kind)
    stream = edge.EdgeStream(folder)
    most = 0
    for _ in range(9):
        stream.push(np.ones(SMALL.num_bins))
        arrays = [stream.phasors, stream.signal, stream.envelope]
        arrays += [stream.heard, stream.added, *stream.logs, *stream.sizes]
        most = max(most, sum(x.nbytes for x in arrays))
    assert spec["sizes"]["state_bytes"] == most


def test_command_line_exports(folders, tmp_path, capsys):
    from speechbrain_phaseinv.cli.main import main

    folders("gradient-1")  # for what it needs
    line = ["export", str(tmp_path), "--n-fft", "64", "--win-length", "63"]
    line += ["--hop-length", "16", "--estimator"]
    assert main([*line, "gradient", "--lookahead", "0"]) == 0
    assert "latency 47 samples" in capsys.readouterr().out
    assert edge.main([str(tmp_path)]) == 0
    # A network of an earlier export would pass for this one's.
    (tmp_path / "network.onnx").write_bytes(b"")
    assert main([*line, "gradient"]) == 0
    assert not (tmp_path / "network.onnx").exists()
    capsys.readouterr()
    assert main([*line, "gradient", "--paired"]) == 2
    assert "paired" in capsys.readouterr().err
