"""Inversion that is drawn to a phase observed elsewhere: a noisy one.

The phase of a noisy recording is one more term in the least squares of
`integration`,

    sum_k n[k] |s[k] - e[k]|^2

with e the noisy phasor in the coordinates of s. Two anchors of one unknown
are one anchor at their mean: up to a constant,

    l |s - q|^2 + n |s - e|^2 = (l + n) |s - (l q + n e) / (l + n)|^2,

so the system stays tridiagonal and is solved by the same code. As q is the
previous phasor turned by the time derivative, the noisy phasor turned back by
it is a second opinion on the previous phasor.

The weight n says how far the noisy phase is to be trusted. With noise of a
power v in a bin, the angle d between recording Y and speech S has the density

    exp(2 |Y| |S| cos(d) / v)

up to a factor (von Mises), and |s - e|^2 = 2 - 2 cos(d): to be most likely is
to be of least squares, with n = |Y| |S| / v. The enhancer has said what v is:
|Y| - |S| is the noise's part along S, half of v if averaged over the bins
around. A gain g that those bins have in common is left out, though: a smooth
gain, such as a soft mask, does not turn the phase, and what it gives is best
heard with the phase of the recording. What counts is |Y| - |S| / g.
"""

import torch

from .estimation.derivatives import expected_advance
from .integration.phasors import from_angle, multiply
from .integration.refinement import REOPENED
from .stft import finish

# Share of a bin that is never believed to be free of noise: an enhancer's
# magnitude is not known better. This, and the next, were chosen on validation
# speech.
DOUBT = 0.003

# Bins over which gain and noise are averaged, odd.
AROUND = 7


def signal_to_noise(magnitude, noisy_magnitude):
    """How far the phase of a recording is to be trusted, bin by bin.

    Arguments
    ---------
    magnitude, noisy_magnitude : torch.Tensor, [batch, time, freq]
        Enhanced and noisy.

    Returns
    -------
    ratio : torch.Tensor, [batch, time, freq]
        |Y| |S| by the noise's power along S, in [0, 1 / DOUBT].
    """
    # In doubles, whose squares of single precision stay in range.
    speech, recorded = magnitude.double(), noisy_magnitude.double()
    tiny = torch.finfo(torch.double).tiny
    both = speech * recorded
    gain = _around(both) / _around(recorded.square()).clamp_min(tiny)
    # An enhancer takes away; where it took all, the gain means nothing.
    gain = gain.clamp(1e-4, 1)
    noise = _around((recorded - speech / gain).square())
    ratio = both / (noise + DOUBT * both).clamp_min(tiny)
    return ratio.to(magnitude.dtype)


def _around(x):
    """Mean over the bins around."""
    reach = AROUND // 2
    x = torch.nn.functional.pad(x, (reach, reach), mode="replicate")
    return torch.nn.functional.avg_pool1d(x, AROUND, stride=1)


def invert_towards(inverter, magnitude, observed, trust, length=None):
    """Phase of whole spectrograms, drawn to phases observed elsewhere.

    Arguments
    ---------
    inverter : SpectrogramInverter
        Gives the derivatives of the phase.
    magnitude : torch.Tensor, [batch, time, freq]
        Magnitudes.
    observed : torch.Tensor, [batch, time, freq], complex
        Unit phasors, centre-referred.
    trust : torch.Tensor, [batch, time, freq]
        Weight of each, relative to that of a time derivative to which the
        estimator gives no particular confidence.

    length : int, optional
        Samples to return, as in `SpectrogramInverter.forward`.

    Returns
    -------
    waveform : torch.Tensor, [batch, length]
    """
    config, count = inverter.config, magnitude.shape[1]
    # The last frame goes on, for the look-ahead.
    rest = inverter.lookahead
    ahead = magnitude[:, -1:].expand(-1, rest, -1)
    estimates, state = inverter.estimate(torch.cat([magnitude, ahead], dim=1))
    frames = inverter.schedule.frames(estimates.time.shape[1])
    # Before the start and past the end nothing was observed.
    there = (frames >= 0) & (frames < count)
    seen = frames.clamp(0, count - 1)
    # The noisy phase knows nothing of the frame before, nor how well the
    # phase's advance is known: both go out of its weight.
    here = frames + REOPENED
    step = state.logs[:, here] - state.logs[:, here - 1]
    ratio = inverter.power * step - estimates.time_confidence
    ratio = trust[:, seen] * ratio.clamp(-60, 60).exp()
    ratio = torch.where(there.unsqueeze(-1).to(ratio.device), ratio, 0)
    # q is the frame before turned by the time derivative; so is the target.
    advance = expected_advance(config, ratio.dtype, ratio.device)
    back = from_angle(-estimates.time - advance)
    target = multiply(torch.view_as_real(observed)[:, seen], back)
    both = estimates.time_confidence + ratio.log1p()
    signal, _, state = inverter._commit(
        estimates._replace(time_confidence=both),
        state,
        ends=torch.full((len(magnitude),), count, device=ratio.device),
        pull=(target, ratio / (1 + ratio)),
    )
    pending = state.signal[:, REOPENED * config.hop_length :]
    signal = torch.cat([signal, pending], dim=1)
    return finish(signal, config, count, length)
