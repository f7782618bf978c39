"""Weights of one grid of bins, on a finer one: windows padded with zeros.

A window in a longer transform gives the same spectrum on a finer grid. From bin
to bin its level and its phase change by less, and a network that learned the
coarse grid takes that for another signal. So its answers are scaled, once, as
the gradient theorem's are: the slope of the phase over frequency is that of a
shorter step, and the one over time, which follows from smaller slopes of the
level, is as large as before. Two bins of a fine grid say nearly the same, so
that the step between them is to be trusted more.
"""

import math

import torch


def padding_of(config):
    """Bins of a transform for one of the window without zeros."""
    return config.n_fft / config.win_length


@torch.no_grad()
def move_to_grid(network, factor):
    """Scale a network's last layer for a finer grid, in place.

    Arguments
    ---------
    network : PhaseDerivativeNet
        Trained on another grid.
    factor : float
        Bins in the place of one of the training's.

    Example
    -------
    >>> from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> network = PhaseDerivativeNet(StftConfig(16000, 1024, 512, 128))
    >>> before = network.last.bias[3].item()
    >>> move_to_grid(network, 2)
    >>> round(network.last.bias[3].item() - before, 3)  # log(2**2)
    1.386
    """
    weight, bias = network.last.weight, network.last.bias
    for row, scale in ((0, factor), (1, 1 / factor)):
        weight[row :: network.outputs] *= scale
        bias[row :: network.outputs] *= scale
    # The theorem's confidence, see `GradientTheorem`, grows in the same way.
    if network.outputs == 4:
        bias[3::4] += 2 * math.log(factor)
