"""An inverter for a device: ONNX graphs, test vectors, and what it costs.

The network and the solver become ONNX, see `graphs`. The Fourier transforms
and the overlap-add stay with the host; `edge` shows how, and a copy of it goes
along.
"""

import copy
import json
import logging
import math
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..estimation.derivatives import PhaseDerivatives
from ..estimation.gradient_theorem import BACKWARD_SHARE, GradientTheorem
from ..integration.least_squares import CANCELLED
from ..integration.offset import ABOVE, TOLERANCE, main_lobe
from ..integration.refinement import INAUDIBLE, REOPENED, counts, overlap_scale
from ..inversion import SpectrogramInverter
from ..stft import ENVELOPE_FLOOR, analysis
from ..streaming import InversionStream
from . import edge
from .graphs import NetworkStep, SolverStep

# Has all operators that are needed, and is read by any runtime since 2023.
OPSET = 18

# How far a folder may be from PyTorch: absolute, in nepers and radians, for
# what goes in and comes out of the network; relative, in energy, for phases
# (weighted by magnitude) and samples.
LIMITS = {
    "log_magnitude": 1e-4,
    "time": 1e-4,
    "frequency": 1e-4,
    "time_confidence": 1e-4,
    "frequency_confidence": 1e-4,
    "phase": 1e-3,
    "samples": 1e-3,
}

# What an estimator says of a frame.
NAMES = PhaseDerivatives._fields[:4]

# Frames of the test vectors.
VECTOR_FRAMES = 48


class ExportError(RuntimeError):
    """What was exported does not compute what PyTorch computes."""


def export_onnx(inverter, folder):
    """Write all that a device needs, and check it.

    Arguments
    ---------
    inverter : SpectrogramInverter
        With the gradient theorem, or a network of any operating point.
    folder : str or Path
        Where to; made if it does not exist. It receives

        - ``phaseinv.json``: the transform, constants, sizes, latency, limits
          and differences measured;
        - ``solver.onnx`` and, unless the gradient theorem estimates,
          ``network.onnx``;
        - ``vectors.npz``: test vectors, from PyTorch;
        - ``edge.py``: the reference runtime, which checks the folder.

    Returns
    -------
    spec : dict
        What ``phaseinv.json`` holds.

    Raises
    ------
    ExportError
        If the folder, run with onnxruntime and NumPy, does not reproduce
        PyTorch within `LIMITS`.
    ImportError
        If onnx, onnxscript or onnxruntime is missing.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    inverter = copy.deepcopy(inverter).cpu().float().eval()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    spec = describe(inverter)
    _write_graphs(inverter, folder)
    np.savez_compressed(folder / "vectors.npz", **test_vectors(inverter))
    shutil.copyfile(edge.__file__, folder / "edge.py")
    spec["differences"] = {}
    _write_json(folder, spec)
    for solver in ("ladder", "onnx"):
        results = edge.check(folder, solver)
        spec["differences"][solver] = {
            name: found for name, (found, _) in results.items()
        }
        for name, (found, limit) in results.items():
            if not found <= limit:
                raise ExportError(
                    f"{folder} does not compute what PyTorch does: {name} "
                    f"differs by {found:.2e} with the solver {solver!r}, at "
                    f"most {limit:.0e} is allowed. Do not ship it."
                )
    _write_json(folder, spec)
    return spec


def describe(inverter):
    """Constants, sizes and latency: the contents of ``phaseinv.json``."""
    config, estimator = inverter.config, inverter.estimator
    stft = asdict(config)
    stft["real_bins"] = list(config.real_bins)
    stft["window_samples"] = config.window_tensor(torch.float64).tolist()
    point = {
        "past": getattr(estimator, "history", 1),
        "stride": inverter.stride,
        "about": sorted(int(x) for x in getattr(estimator, "about", [0])),
        "lookahead": estimator.lookahead,
    }
    if isinstance(estimator, GradientTheorem):
        point = {
            "kind": "gradient theorem",
            **point,
            "slope": estimator.slope,
            "backward_share": BACKWARD_SHARE,
            "confidence": estimator.confidence,
        }
    else:
        point = {"kind": "network", **point}
    new = inverter.stride + inverter.delay
    return {
        "format": 1,
        "stft": stft,
        "estimator": point,
        "lookahead": inverter.lookahead,
        "reanswered": inverter.reanswered,
        "power": inverter.power,
        "real_bins": list(config.real_bins),
        "offset": {
            "main_lobe": main_lobe(config).tolist(),
            "above": ABOVE,
            "tolerance": TOLERANCE,
        },
        "envelope_floor": ENVELOPE_FLOOR,
        "refinement": {
            "iterations": inverter.refinements,
            "cancelled": CANCELLED,
            "inaudible": INAUDIBLE,
            "reopened": REOPENED,
            "delay": inverter.delay,
            "counts": counts(new, inverter.stride),
            "scale": overlap_scale(config, new, inverter.stride).tolist(),
        },
        "limits": LIMITS,
        "sizes": sizes(inverter),
    }


def sizes(inverter):
    """What a device needs.

    Returns
    -------
    sizes : dict
        Of the network: `parameters`, `weight_bytes` in single precision,
        `macs_per_second`, multiply-accumulates. Of the whole: `state_bytes`,
        what has to be kept from frame to frame, in single precision;
        `latency_samples`, win_length - hop_length + lookahead * hop_length;
        `latency_ms`.
    """
    config, estimator = inverter.config, inverter.estimator
    stride = inverter.stride
    # Log-magnitudes that the next pass needs; magnitudes that wait; those of
    # the frames before, with their cosines and sines; windowed samples, their
    # envelope, and what the refinement, if any, has heard.
    frames = getattr(estimator, "history", 1) + estimator.lookahead
    frames += max(inverter.lookahead, stride - 1) + 3 * REOPENED
    numbers = frames * config.num_bins + 2 * config.synthesis_latency
    if inverter.refinements:
        numbers += config.synthesis_latency
        numbers += REOPENED * (config.hop_length + config.win_length)
    parameters = sum(x.numel() for x in estimator.parameters())
    rate = config.sample_rate / config.hop_length
    latency = inverter.latency
    return {
        "parameters": parameters,
        "weight_bytes": 4 * parameters,
        "state_bytes": 4 * numbers,
        "frames_per_second": rate,
        "macs_per_second": round(count_macs(estimator) / stride * rate),
        "latency_samples": latency,
        "latency_ms": 1000 * latency / config.sample_rate,
    }


def count_macs(estimator):
    """Multiply-accumulates in the convolutions of one pass.

    Every weight of a convolution along frequency serves once in every bin.
    """
    weights = [
        layer.weight.numel()
        for layer in estimator.modules()
        if isinstance(layer, (torch.nn.Conv1d, torch.nn.Conv2d))
    ]
    return sum(weights) * estimator.config.num_bins


@torch.no_grad()
def test_vectors(inverter):
    """Frames and all that comes of them, from PyTorch.

    Returns
    -------
    vectors : dict of numpy.ndarray
        `magnitude`, `log_magnitude`, the four of `PhaseDerivatives`, and
        `phase`, centre-referred, zero where there is no magnitude, all
        [time, freq]; `samples`.
    """
    config = inverter.config
    magnitude = analysis(test_signal(config), config).abs()
    frames = magnitude.shape[1]
    # The end of a stream repeats its last frame.
    ahead = magnitude[:, -1:].expand(-1, inverter.lookahead, -1)
    known, _ = inverter.estimate(torch.cat([magnitude, ahead], dim=1))
    derivatives, _, log_mag = known
    zeros = torch.zeros_like(derivatives.time)
    vectors = {
        name: (zeros if x is None else x)[0, :frames]
        for name, x in zip(NAMES, derivatives)
    }
    inverted, state = inverter.step(magnitude)
    stft = torch.cat([inverted.stft, inverter.flush(state).stft], dim=1)
    phase = (stft * config.centre_phasor(stft.dtype)).angle()
    stream = InversionStream(inverter)
    samples = [stream.push(x) for x in magnitude.split(1, dim=1)]
    vectors["magnitude"] = magnitude[0]
    first = 1 if derivatives.again is None else 2
    vectors["log_magnitude"] = log_mag[0, first : first + frames]
    vectors["phase"] = phase[0]
    vectors["samples"] = torch.cat([*samples, stream.flush()], dim=1)[0]
    return {name: x.numpy() for name, x in vectors.items()}


def test_signal(config):
    """A gliding harmonic sound, noise, a click, and silence in between."""
    hop, total = config.hop_length, (VECTOR_FRAMES - 1) * config.hop_length
    n = torch.arange(total, dtype=torch.float64)
    phase = 2 * math.pi * (0.01 * n + 0.005 * n**2 / total)
    sound = sum((k * phase).sin() / k for k in range(1, 20))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(total, generator=generator, dtype=torch.float64)
    signal = 0.2 * sound + 0.01 * noise
    third = total // 3
    signal[third : third + config.n_fft + 2 * hop] = 0
    signal[2 * third :] = 0.1 * noise[2 * third :]
    signal[-3 * hop] = 1.0
    return signal.float().unsqueeze(0)


def _write_graphs(inverter, folder):
    config, estimator = inverter.config, inverter.estimator
    names = list(NAMES)
    # One tensor each: one given eight times is taken for one input.
    frames = torch.zeros(8, 1, config.num_bins).unbind(0)
    _write_graph(
        SolverStep(config, inverter.power),
        frames,
        folder / "solver.onnx",
        ["log_magnitude", "log_magnitude_before", *names, "cosine", "sine"],
        ["cosine_out", "sine_out"],
    )
    # That of an earlier export would pass for ours.
    (folder / "network.onnx").unlink(missing_ok=True)
    if not isinstance(estimator, GradientTheorem):
        _write_graph(
            NetworkStep(estimator),
            _network_inputs(estimator),
            folder / "network.onnx",
            ["log_magnitude", "state"],
            [*names, "state_out"],
        )


def _network_inputs(estimator):
    """Zeros of the shapes that `NetworkStep` takes."""
    stride = getattr(estimator, "stride", 1)
    past = getattr(estimator, "history", 1)
    bins = estimator.config.num_bins
    kept = past + 1 + estimator.lookahead - stride
    return torch.zeros(1, stride, bins), torch.zeros(1, kept, bins)


def _write_graph(module, inputs, path, input_names, output_names):
    # The exporter warns of its own use of torch, and logs what of torchvision
    # it does without: nothing that would be ours to change.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs),
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=input_names,
            output_names=output_names,
            external_data=False,
            verbose=False,
        )


def _write_json(folder, spec):
    text = json.dumps(spec, indent=1)
    (folder / "phaseinv.json").write_text(text + "\n")


def _require(*packages):
    """An error that says what to install."""
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"the export needs {' and '.join(missing)}: pip install "
            "'speechbrain_phaseinv[onnx]'."
        )


def run(args):
    """``phaseinv export``: what its options say, and a summary on stdout."""
    from ..cli.reconstruct import stft_for

    config = stft_for(
        args.sample_rate,
        args.n_fft,
        args.win_length,
        args.hop_length,
        args.window,
    )
    inverter = SpectrogramInverter(
        config, args.lookahead, args.estimator, args.paired
    )
    spec = export_onnx(inverter, args.folder)
    found = spec["sizes"]
    print(
        f"{args.folder}: {inverter.method}; n_fft {config.n_fft}, "
        f"{config.window} window of {config.win_length}, hop "
        f"{config.hop_length}\n"
        f"weights {found['weight_bytes']} bytes, state "
        f"{found['state_bytes']} bytes, "
        f"{found['macs_per_second'] / 1e6:.1f} million multiply-accumulates "
        f"per second, latency {found['latency_samples']} samples, "
        f"{found['latency_ms']:g} ms"
    )
    for solver, differences in spec["differences"].items():
        print(
            f"solver {solver!r}: samples differ from PyTorch by "
            f"{differences['samples']:.1e}, relative"
        )
