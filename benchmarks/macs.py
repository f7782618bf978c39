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
from speechbrain_phaseinv.stft import StftConfig

POINTS = {
    "latency 0": {"lookahead": 0},
    "latency 1": {"lookahead": 1},
    "latency 1, paired": {"lookahead": 1, "paired": True},
}


def macs_per_frame(network, frames=64):
    """Multiply-accumulates of the network per frame of its output.

    Arguments
    ---------
    network : PhaseDerivativeNet
        What is counted.
    frames : int
        Length of the passage; even, for a paired network.

    Returns
    -------
    macs : float
    """
    bins = network.config.num_bins
    counter = FlopCounterMode(display=False)
    # Where a gradient is wanted PyTorch does the work, and can count it.
    log_magnitude = torch.randn(1, frames + network.lookahead, bins)
    with torch.enable_grad(), counter:
        estimates, _ = network(log_magnitude.requires_grad_())
    frames = estimates.time.shape[1] * network.stride
    return counter.get_total_flops() / 2 / frames


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample_rate", type=int, default=16000)
    parser.add_argument("--n_fft", type=int, default=512)
    parser.add_argument("--hop_length", type=int, default=128)
    arguments = parser.parse_args()
    config = StftConfig(
        arguments.sample_rate,
        n_fft=arguments.n_fft,
        hop_length=arguments.hop_length,
    )
    rate = config.sample_rate / config.hop_length
    table = {
        name: PhaseDerivativeNet(config, **point)
        for name, point in POINTS.items()
    }
    reference = macs_per_frame(table["latency 1"])
    print("| network | parameters | MAC/frame | MMAC/s | of latency 1 |")
    print("|---|---|---|---|---|")
    for name, network in table.items():
        size = sum(p.numel() for p in network.parameters())
        macs = macs_per_frame(network)
        print(
            f"| {name} | {size:,} | {macs:,.0f} | {macs * rate / 1e6:.1f} | "
            f"{macs / reference:.1%} |"
        )


if __name__ == "__main__":
    main()
