"""``phaseinv export``: a folder for a device, checked."""

from types import SimpleNamespace

import click

from . import complain, say
from .options import (
    config_of,
    describe,
    estimator_options,
    rate_option,
    stft_options,
)


@click.command(
    epilog="Check a copy anywhere with: python FOLDER/runtime.py FOLDER"
)
@click.argument("folder", type=click.Path())
@rate_option(default=16000, help="In Hz (default: 16000).")
@stft_options()
@estimator_options
@click.option(
    "--paired",
    is_flag=True,
    help="The network that predicts two frames at a time, at half the cost.",
)
def command(**options):
    """Write an ONNX model and test vectors for a device.

    FOLDER gets one pass of the inverter as an ONNX model, its sizes and
    latency, test vectors, and a runtime that needs NumPy and onnxruntime. It
    fails if they do not compute what PyTorch does.
    """
    from ..edge.export import ExportError, export_onnx
    from ..inversion import SpectrogramInverter

    args = SimpleNamespace(**options)
    config = config_of(args)
    inverter = SpectrogramInverter(
        config, args.lookahead, args.estimator, args.paired
    )
    try:
        spec = export_onnx(inverter, args.folder)
    except (ExportError, ImportError) as error:
        complain(error)
        return 2
    sizes = spec["sizes"]
    say(
        f"{args.folder}: {inverter.method}; {describe(config)}\n"
        f"weights {sizes['weight_bytes']} bytes, state "
        f"{sizes['state_bytes']} bytes, "
        f"{sizes['macs_per_second'] / 1e6:.1f} million multiply-accumulates "
        f"per second, latency {sizes['latency_samples']} samples, "
        f"{sizes['latency_ms']:g} ms"
    )
    say(
        "samples differ from PyTorch by "
        f"{spec['differences']['samples']:.1e}, relative"
    )
    return 0
