#!/usr/bin/env python3
"""Multiply-accumulates per frame of the network's three operating points.

    python benchmarks/macs.py

Counted by `torch.utils.flop_counter` on a real forward pass, so it counts
what is computed and not what a formula says; two operations make one
multiply-accumulate. Pointwise operations are not counted, nor is the solver,
which takes about 40 real multiplications per bin.
"""

import argparse

import torch
from torch.utils.flop_counter import FlopCounterMode

from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.evaluation.tables import format_table
from speechbrain_phaseinv.stft import StftConfig

POINTS = {
    "latency 0": {"lookahead": 0},
    "latency 1": {"lookahead": 1},
    "latency 1, paired": {"lookahead": 1, "paired": True},
}


def macs_per_frame(network, frames=64):
    """Multiply-accumulates of a network per frame of its output."""
    counter = FlopCounterMode(display=False)
    # Where a gradient is wanted PyTorch does the work, and can count it.
    log_magnitude = torch.randn(1, frames, network.config.num_bins)
    with torch.enable_grad(), counter:
        network(log_magnitude.requires_grad_())
    schedule = network.schedule
    emitted = schedule.num_passes(frames) * schedule.stride
    return counter.get_total_flops() / 2 / emitted


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample_rate", type=int, default=16000)
    parser.add_argument("--n_fft", type=int, default=512)
    parser.add_argument("--hop_length", type=int, default=128)
    options = parser.parse_args()
    config = StftConfig(
        options.sample_rate, options.n_fft, hop_length=options.hop_length
    )
    rate = config.sample_rate / config.hop_length
    networks = {
        name: PhaseDerivativeNet(config, **point)
        for name, point in POINTS.items()
    }
    macs = {name: macs_per_frame(x) for name, x in networks.items()}
    rows = [["network", "parameters", "MAC/frame", "MMAC/s", "of latency 1"]]
    for name, network in networks.items():
        size = sum(p.numel() for p in network.parameters())
        part = macs[name] / macs["latency 1"]
        row = f"{size:,}", f"{macs[name]:,.0f}"
        row += f"{macs[name] * rate / 1e6:.1f}", f"{part:.1%}"
        rows.append([name, *row])
    print(format_table(rows, markdown=True))


if __name__ == "__main__":
    main()
