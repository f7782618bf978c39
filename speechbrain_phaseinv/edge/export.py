"""An inverter for a device: one ONNX model, test vectors, and what it costs.

The model is a pass of the inverter's definition in PyTorch: magnitudes and a
state in, samples and a state out. A copy of `runtime` runs and checks it.
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

from ..checks import LOUDEST
from ..stft import analysis
from ..streaming import InversionStream
from .model import PassModel

# The first with a Fourier transform whose axis is an input.
OPSET = 20

# How far a folder may be from PyTorch, relative, root of energy. A stream hands
# roundings on, and after silence they decide between phases: packaged weights
# come to 3e-4, and a wrong state to 1.
LIMITS = {"pass": 1e-4, "samples": 3e-3}

# Frames of the test vectors, and the pass that they show in full.
VECTOR_FRAMES = 48
VECTOR_PASS = 11


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

        - ``phaseinv.onnx``: `PassModel`, in single precision;
        - ``phaseinv.json``: the transform, sizes, latency, limits and measured
          differences;
        - ``vectors.npz``: test vectors, from PyTorch;
        - ``runtime.py``: runs the model, and checks the folder.

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
    ValueError
        If the estimator's schedule has passes of several frames and looks
        ahead beyond them.
    """
    _require("onnx", "onnxscript", "onnxruntime")
    from . import runtime

    inverter = copy.deepcopy(inverter).cpu().float().eval()
    model = PassModel(inverter)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(model, folder / "phaseinv.onnx")
    np.savez_compressed(folder / "vectors.npz", **test_vectors(inverter, model))
    shutil.copyfile(runtime.__file__, folder / "runtime.py")
    spec = describe(inverter, model)
    _write_json(folder, spec)
    spec["differences"] = runtime.check(folder)
    _write_json(folder, spec)
    for name, difference in spec["differences"].items():
        if not difference <= LIMITS[name]:
            raise ExportError(
                f"{folder} does not compute what PyTorch does: {name} differs "
                f"by {difference:.2e}, at most {LIMITS[name]:.0e} is allowed. "
                "Do not ship it."
            )
    return spec


def describe(inverter, model):
    """The contents of ``phaseinv.json``, but for the differences."""
    config, schedule = inverter.config, inverter.schedule
    state = [
        {
            "name": name,
            "shape": list(x.shape),
            "dtype": str(x.dtype).rpartition(".")[2],
        }
        for name, x in model.start().items()
    ]
    return {
        "format": 3,
        "method": inverter.method,
        "stft": asdict(config),
        "num_bins": config.num_bins,
        "hop_length": config.hop_length,
        "trim": config.trim,
        "overhang": config.overhang,
        "stride": schedule.stride,
        "lookahead": schedule.lookahead,
        "power": inverter.power,
        "refinements": inverter.refinements,
        "largest_magnitude": LOUDEST * torch.finfo(torch.float32).max,
        "state": state,
        "sizes": sizes(inverter, model),
        "limits": LIMITS,
    }


def sizes(inverter, model):
    """What a device needs.

    Returns
    -------
    sizes : dict
        Of the estimator: `parameters`, `weight_bytes` in single precision,
        `macs_per_second`, multiply-accumulates. Of the whole: `state_bytes`,
        what has to be kept from pass to pass; `latency_samples`;
        `latency_ms`.
    """
    config, estimator = inverter.config, inverter.estimator
    parameters = sum(x.numel() for x in estimator.parameters())
    rate = config.sample_rate / config.hop_length
    macs = count_macs(estimator) / inverter.stride
    return {
        "parameters": parameters,
        "weight_bytes": 4 * parameters,
        "state_bytes": sum(x.nbytes for x in model.start().values()),
        "frames_per_second": rate,
        "macs_per_second": round(macs * rate),
        "latency_samples": inverter.latency,
        "latency_ms": 1000 * inverter.latency / config.sample_rate,
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
def test_vectors(inverter, model):
    """Frames, and what comes of them in PyTorch.

    Returns
    -------
    vectors : dict of numpy.ndarray
        `magnitude`, [time, freq], and `samples` of a whole stream; `in_` and
        `out_` and a name: what goes in and comes out of one pass.
    """
    magnitude = analysis(test_signal(inverter.config), inverter.config).abs()
    stream, start = InversionStream(inverter), model.start()
    vectors = {"magnitude": magnitude[0]}
    samples = [stream.push(x) for x in magnitude.split(1, dim=1)]
    vectors["samples"] = torch.cat([*samples, stream.flush()], dim=1)[0]
    count = torch.tensor([inverter.stride])
    state = start.values()
    for frames in magnitude.split(inverter.stride, dim=1)[: VECTOR_PASS + 1]:
        inputs = frames, count, *state
        samples, tail, *state = model(*inputs)
    names = "magnitude", "count", *start
    vectors |= {f"in_{k}": x for k, x in zip(names, inputs)}
    names = "samples", "tail", *(f"next_{name}" for name in start)
    vectors |= {f"out_{k}": x for k, x in zip(names, (samples, tail, *state))}
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


def _write_model(model, path):
    """Make the graph, and leave out what it does not need."""
    from onnxscript import optimizer

    start, config = model.start(), model.inverter.config
    stride = model.inverter.stride
    magnitude = torch.zeros(1, stride, config.num_bins)
    inputs = magnitude, torch.tensor([stride]), *start.values()
    # The exporter warns of its own use of torch, and logs what of torchvision
    # it does without: nothing that would be ours to change.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=["magnitude", "count", *start],
            output_names=["samples", "tail", *(f"next_{x}" for x in start)],
            # Rewriting takes as long as all else, and finds nothing.
            optimize=False,
            verbose=False,
        )
    optimizer.fold_constants(program.model)
    optimizer.remove_unused_nodes(program.model)
    program.save(path)


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
