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
    epilog="Check a copy anywhere with: python FOLDER/edge.py FOLDER"
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
    """Write ONNX models and test vectors for a device.

    FOLDER gets the network and the solver as ONNX, constants and sizes, test
    vectors, and a reference runtime that needs no torch. It fails if they do
    not compute what PyTorch does.
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
    for solver, differences in spec["differences"].items():
        say(
            f"solver {solver!r}: samples differ from PyTorch by "
            f"{differences['samples']:.1e}, relative"
        )
    return 0
