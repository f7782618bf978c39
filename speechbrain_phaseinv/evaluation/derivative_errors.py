"""How far estimated phase derivatives are from the true ones, and where."""

import numpy as np
import torch

from ..estimation.derivatives import phase_derivatives, wrap
from ..integration.least_squares import log_magnitude

# Bands of equal width over frequency, and steps of level, down from each
# recording's maximum, in dB.
BANDS = 32
STEP = 5.0
DEPTH = 80.0


class DerivativeErrors:
    """Mean absolute errors over frequency and over level, weighted.

    Each bin counts by its magnitude; whole turns do not count. A guess that
    knows nothing is off by pi / 2.

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
        bands = np.arange(config.num_bins) * BANDS // config.num_bins
        self.bands = np.minimum(bands, BANDS - 1)
        self.sums = {}

    @torch.no_grad()
    def add(self, name, estimator, stft):
        """Count in what an estimator makes of a recording.

        Arguments
        ---------
        name : str
            Of the estimator.
        estimator : torch.nn.Module
            Such as `GradientTheorem`.
        stft : torch.Tensor, [channels, time, freq], complex
            The recording.
        """
        magnitude = stft.abs()
        if not magnitude.any():
            return
        found, _ = estimator(log_magnitude(magnitude))
        true = phase_derivatives(stft, self.config)
        ready = found.time.shape[1]
        level = 20 * (magnitude / magnitude.max()).clamp_min(1e-9).log10()
        classes = (-level / STEP).long().numpy()
        # Both have a border where the difference means nothing.
        inner = {"time": np.s_[:, 1:ready], "frequency": np.s_[:, :ready, 1:]}
        for kind, part in inner.items():
            estimate, truth = getattr(found, kind), getattr(true, kind)
            error = wrap(estimate - truth[:, :ready]).abs()
            error = torch.nn.functional.pad(
                error, (0, 0, 0, magnitude.shape[1] - ready)
            )
            error, weight = error[part].numpy(), magnitude[part].numpy()
            bands = np.broadcast_to(self.bands, magnitude.shape)[part]
            self._count(name, kind, "frequency", BANDS, bands, weight, error)
            quiet = int(DEPTH / STEP)
            steps = np.minimum(classes[part], quiet)
            self._count(name, kind, "level", quiet + 1, steps, weight, error)

    def _count(self, name, kind, axis, size, index, weight, error):
        """Add to the sums of weights and of weighted errors."""
        index = index.ravel()
        new = [
            np.bincount(index, values.ravel(), size)
            for values in (weight, weight * error)
        ]
        key = name, kind, axis
        self.sums[key] = self.sums.get(key, 0) + np.stack(new)

    def curves(self):
        """All means.

        Returns
        -------
        curves : dict
            curves[name][derivative][axis], with derivative "time" (radians
            per hop) or "frequency" (radians per bin) and axis "frequency" or
            "level", is a dict of "x", in kHz or dB, and "radians".
        """
        rate = self.config.sample_rate
        middle = [np.flatnonzero(self.bands == b).mean() for b in range(BANDS)]
        axes = {
            "frequency": np.array(middle) * rate / self.config.n_fft / 1000,
            "level": -STEP * (np.arange(int(DEPTH / STEP)) + 0.5),
        }
        curves = {}
        for (name, kind, axis), (weight, error) in self.sums.items():
            x = axes[axis]
            known = weight[: len(x)] > 0
            mean = error[: len(x)][known] / weight[: len(x)][known]
            curves.setdefault(name, {}).setdefault(kind, {})[axis] = {
                "x": x[known].round(3).tolist(),
                "radians": mean.round(5).tolist(),
            }
        return curves
