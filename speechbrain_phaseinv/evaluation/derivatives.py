"""Errors of estimated phase derivatives over frequency and over level."""

import numpy as np
import torch

from ..estimation.derivatives import phase_derivatives, wrap
from ..estimation.features import log_magnitude

# Number of bands of frequency, and of classes of level: 5 dB each, from 80 dB
# below a recording's maximum up to it.
BANDS, LEVELS = 32, 16
DEPTH = 80.0


class DerivativeErrors:
    """Mean absolute errors over frequency and over level, weighted.

    Each bin counts by its magnitude; whole turns do not count. An estimate
    that knows nothing has an error of pi / 2.

    Arguments
    ---------
    config : StftConfig
        The transform of all recordings that are added.

    Example
    -------
    >>> from speechbrain_phaseinv.estimation.gradient_theorem import (
    ...     GradientTheorem,
    ... )
    >>> from speechbrain_phaseinv.stft import StftConfig, analysis
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> errors = DerivativeErrors(config)
    >>> stft = analysis(torch.randn(1, 16000), config)
    >>> errors.add("gradient theorem", GradientTheorem(config), stft)
    >>> curve = errors.curves()["gradient theorem"]["time"]["frequency"]
    >>> max(curve["radians"]) < torch.pi / 2
    True
    """

    def __init__(self, config):
        self.config = config
        top = config.sample_rate / 2000
        self.kilohertz = torch.linspace(0, top, config.num_bins)
        self.edges = {
            "frequency": np.linspace(0, top, BANDS + 1),
            "level": np.linspace(-DEPTH, 0, LEVELS + 1),
        }
        # By estimator, derivative and axis: weights, and weighted errors.
        self.sums = {}

    @torch.no_grad()
    def add(self, name, estimator, stft):
        """Add an estimator's errors on an STFT [channels, time, freq]."""
        magnitude = stft.abs()
        if not magnitude.any():
            return
        estimates, _ = estimator(log_magnitude(magnitude)[0])
        # A pass may have estimates of other frames than it emits.
        schedule = estimator.schedule
        first = -schedule.offsets[0]
        emitted = np.s_[:, :, first : first + schedule.stride]
        truth = phase_derivatives(stft, self.config)
        places = {
            "frequency": self.kilohertz.expand(magnitude.shape),
            "level": 20 * (magnitude / magnitude.max()).log10(),
        }
        # Both derivatives have a border where the difference means nothing.
        ready = estimates.time.shape[1] * schedule.stride
        parts = {"time": np.s_[:, 1:ready], "frequency": np.s_[:, :ready, 1:]}
        for kind, part in parts.items():
            estimate = getattr(estimates, kind)[emitted].flatten(1, 2)
            error = estimate - getattr(truth, kind)[:, :ready]
            error = wrap(error[part]).abs().numpy()
            weight = magnitude[part].numpy()
            for axis, place in places.items():
                sums = [
                    np.histogram(place[part], self.edges[axis], weights=x)[0]
                    for x in (weight, weight * error)
                ]
                key = name, kind, axis
                self.sums[key] = self.sums.get(key, 0) + np.stack(sums)

    def curves(self):
        """All means: curves[name][derivative][axis] has "x" and "radians".

        The derivative is "time" (radians per hop) or "frequency" (radians per
        bin), the axis "frequency" (x in kHz) or "level" (x in dB).
        """
        curves = {}
        for (name, kind, axis), (weight, error) in self.sums.items():
            middle = (self.edges[axis][1:] + self.edges[axis][:-1]) / 2
            there = weight > 0
            mean = error[there] / weight[there]
            by_axis = curves.setdefault(name, {}).setdefault(kind, {})
            by_axis[axis] = {
                "x": middle[there].round(3).tolist(),
                "radians": mean.round(5).tolist(),
            }
        return curves
