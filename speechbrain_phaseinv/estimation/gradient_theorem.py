"""The training-free estimate: phase derivatives from the gradient theorem.

For a Gaussian window the STFT is, up to a factor, analytic: its log-magnitude
and its phase determine each other through the Cauchy-Riemann equations
(Portnoff 1979; Prusa, Balazs and Sondergaard 2017). Per hop and per bin,

    bpd = +(hop n_fft / gamma)  d log a / dk
    fpd = -(gamma / (hop n_fft))  d log a / dt

with gamma from the Gaussian nearest to the window. Each derivative is wanted
between two points of the grid, and is the mean of its values at the two.
"""

import math

import torch

from .derivatives import gaussian_gamma
from .schedule import Estimates, Schedule

# The slope over time, of the difference between the frames around it.
CENTRAL_SHARE = 0.5

# Without look-ahead the slope over time is known half a hop too early, and a
# level that has risen does not rise on for ever: the best prediction from a
# backward difference is a part of it. Chosen on validation speech, 16 kHz,
# 75 and 50 % overlap; anything from 0.6 to 0.8 serves.
BACKWARD_SHARE = 0.7

# Trust in the frequency derivative relative to the time derivative, at the
# overlap where a hop and a bin are worth the same (slope 1). Chosen likewise.
COUPLING = 1.5


class GradientTheorem(torch.nn.Module):
    """Phase derivatives from log-magnitudes, without any training.

    Works for any window and overlap, at any level. It is an *estimator*: see
    `speechbrain_phaseinv.estimation`.

    Arguments
    ---------
    config : StftConfig
        The transform that the magnitudes come from.
    lookahead : int
        0 or 1, in frames. The derivative over time is a central difference
        with one frame of look-ahead and a backward difference with none.

    Raises
    ------
    ValueError
        If `lookahead` is neither 0 nor 1.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> estimator = GradientTheorem(config, lookahead=1)
    >>> estimates, state = estimator(torch.randn(2, 10, 257))
    >>> estimates.time.shape  # frame 9 waits for frame 10
    torch.Size([2, 9, 1, 257])
    """

    def __init__(self, config, lookahead=1):
        super().__init__()
        if lookahead not in (0, 1):
            raise ValueError(f"lookahead must be 0 or 1, got {lookahead!r}.")
        self.config = config
        self.lookahead = int(lookahead)
        self.schedule = Schedule(1, self.lookahead, (0,))
        area = config.hop_length * config.n_fft
        self.slope = area / gaussian_gamma(config)
        # The longer the hop, the wider the slope over frequency swings the
        # advance over time, and the less it can be trusted.
        self.confidence = math.log(COUPLING * self.slope**2)

    def forward(self, log_magnitude, state=None):
        """Estimates of the frames whose look-ahead has come.

        Arguments
        ---------
        log_magnitude : torch.Tensor, [batch, time, freq]
            Natural logarithm of the magnitudes of the next frames.
        state : torch.Tensor, optional
            The last frames of the previous call. None at the stream's start:
            the first frame is taken to repeat the one before it.

        Returns
        -------
        estimates : Estimates
            [batch, passes, 1, freq].
        state : torch.Tensor, [batch, 1 + lookahead, freq]
            For the next call.
        """
        if state is None or state.shape[1] == 0:
            state = log_magnitude[:, :1]
        frames = torch.cat([state, log_magnitude], dim=1)
        time, frequency = self.estimate(frames)
        confidence = torch.full_like(frequency, self.confidence)
        estimates = Estimates.single(time, frequency, confidence=confidence)
        return estimates, frames[:, -1 - self.lookahead :]

    def estimate(self, frames):
        """The two derivatives of all frames but the first and those ahead.

        Arguments
        ---------
        frames : torch.Tensor, [batch, 1 + ready + lookahead, freq]
            Natural logarithm of the magnitudes.

        Returns
        -------
        time, frequency : torch.Tensor, [batch, ready, freq]
        """
        past = 1 + self.lookahead
        ready = max(frames.shape[1] - past, 0)
        before, here = frames[:, :ready], frames[:, 1 : 1 + ready]
        # Over frequency: central differences, none at the two ends.
        level = before + here
        slope = level[..., 2:] - level[..., :-2]
        slope = torch.nn.functional.pad(slope, (1, 1))
        # Over time: to one frame ahead if we may. Bin 0 has none below.
        rise = frames[:, past:] - before
        rise = rise[..., 1:] + rise[..., :-1]
        rise = torch.nn.functional.pad(rise, (1, 0))
        # No energy of a frame lies outside its window, half a window from
        # the centre, where the phase turns by pi a bin; steps of level from
        # or to silence would claim it does.
        share = CENTRAL_SHARE if self.lookahead else BACKWARD_SHARE
        turns = torch.tanh(rise * (-share / (2 * math.pi * self.slope)))
        return slope * (self.slope / 4), math.pi * turns
