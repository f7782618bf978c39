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

Behind real enhancers no such rule is good enough. An `EnhancementNet` has
learnt the weight, relative to all other terms that a bin is in; and bins that
the noisy phase decides stay as the least squares have them. With weights that
are large everywhere the noisy phase comes out.
"""

from typing import NamedTuple, Optional

import torch

from .estimation.derivatives import expected_advance
from .estimation.enhancement import EnhancementNet
from .integration.least_squares import log_weights
from .integration.phasors import from_angle, multiply
from .integration.refinement import REOPENED
from .state import InverterState
from .stft import finish, normalise

# Weight of the noisy phase relative to the anchor to the frame before, where
# `signal_to_noise` is 1. Chosen on validation speech, as the next two.
TRUST = 5.0

# Share of a bin that is never believed to be free of noise: an enhancer's
# magnitude is not known better.
DOUBT = 0.003

# Bins over which gain and noise are averaged, odd.
AROUND = 7

# Logarithm of a learnt weight above which refinement leaves a bin alone.
KEPT = 0.0


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


def direction(stft):
    """Unit phasors of a spectrogram, one where it is zero."""
    size = stft.abs()
    phasors = stft / size.clamp_min(torch.finfo(size.dtype).tiny)
    return torch.where(size > 0, phasors, 1)


def observe(inverter, stft, magnitude, trust=TRUST):
    """What a noisy recording says of the phase of enhanced magnitudes.

    Arguments
    ---------
    inverter : SpectrogramInverter
        The one that will be drawn to it.
    stft : torch.Tensor, [batch, time, freq], complex
        Of the noisy recording.
    magnitude : torch.Tensor, [batch, time, freq]
        Enhanced.
    trust : float
        Weight where `signal_to_noise` is 1; nothing to an `EnhancementNet`.

    Returns
    -------
    observed, trust : torch.Tensor, [batch, time, freq]
        For `step_towards`.
    """
    centre = inverter.config.centre_phasor(stft.dtype, stft.device)
    # In pairs: how torch rounds complex products depends on their place.
    observed = multiply(*map(torch.view_as_real, (direction(stft), centre)))
    observed = torch.view_as_complex(observed)
    noisy = stft.abs()
    if isinstance(inverter.estimator, EnhancementNet):
        tiny = torch.finfo(noisy.dtype).tiny
        logs = (x.clamp_min(tiny).log() for x in (magnitude, noisy))
        return observed, next(logs) - next(logs)
    return observed, trust * signal_to_noise(magnitude, noisy)


def _around(x):
    """Mean over the bins around."""
    reach = AROUND // 2
    x = torch.nn.functional.pad(x, (reach, reach), mode="replicate")
    return torch.nn.functional.avg_pool1d(x, AROUND, stride=1)


def _learnt_ratio(weight, estimates, logs, before, power):
    """Weight of the noisy phase by that of the data term.

    `weight`, a logarithm, is relative to all terms that a bin is in, those to
    its neighbours included: a large one makes the bin's phase the noisy one.
    """
    data, coupling = log_weights(logs, before, *estimates[2:], power)
    none = torch.finfo(data.dtype).min / 4
    below, above = (
        torch.nn.functional.pad(coupling[..., 1:], side, value=none)
        for side in ((1, 0), (0, 1))
    )
    total = _log_of_sum(data, _log_of_sum(below, above))
    return (weight + total - data).clamp(-60, 60).exp()


class TowardsState(NamedTuple):
    """What `step_towards` remembers of a stream.

    Attributes
    ----------
    inverter : InverterState
        Of the inverter.
    observed : torch.Tensor, [batch, REOPENED + waiting, freq], complex
    trust : torch.Tensor, [batch, REOPENED + waiting, freq]
        What was observed of the frames whose magnitudes it holds.
    kept : torch.Tensor, [batch, REOPENED, freq], bool
        Where the noisy phase decided the frames committed last.
    """

    inverter: Optional[InverterState]
    observed: torch.Tensor
    trust: torch.Tensor
    kept: torch.Tensor


def step_towards(inverter, magnitude, observed, trust, state=None, ends=None):
    """Phase of the next frames of a stream, drawn to phases observed elsewhere.

    Arguments
    ---------
    inverter : SpectrogramInverter
        Gives the derivatives of the phase.
    magnitude : torch.Tensor, [batch, time, freq]
        Magnitudes of the next frames.
    observed : torch.Tensor, [batch, time, freq], complex
        Unit phasors, centre-referred.
    trust : torch.Tensor, [batch, time, freq]
        Weight of each, relative to that of a time derivative to which the
        estimator gives no particular confidence; for an `EnhancementNet`,
        which has a weight of its own, the logarithm of the gain.
    state : TowardsState, optional
        What the previous call returned; None at the stream's start.
    ends : torch.Tensor, [batch], int, optional
        Frames of each signal in all, where these are the last.

    Returns
    -------
    signal : torch.Tensor, [batch, frames * hop_length]
        Overlap-add, for `stft.normalise`.
    state : TowardsState
    """
    if state is None:
        # Before the start nothing was observed.
        nothing = trust[:, :1].new_zeros(len(trust), REOPENED, trust.shape[2])
        state = TowardsState(
            None, nothing.to(observed.dtype), nothing, nothing.bool()
        )
    kept = None
    learnt = isinstance(inverter.estimator, EnhancementNet)
    others = (trust, observed) if learnt else ()
    estimates, inner = inverter.estimate(magnitude, state.inverter, *others)
    if learnt:
        estimates, weight = estimates
    observed = torch.cat([state.observed, observed], dim=1)
    trust = torch.cat([state.trust, trust], dim=1)
    here = inverter.schedule.frames(estimates.time.shape[1], REOPENED)
    if learnt:
        logs = inner.logs[:, here], inner.logs[:, here - 1]
        ratio = _learnt_ratio(weight, estimates, *logs, inverter.power)
        kept = torch.cat([state.kept, weight.squeeze(2) > KEPT], dim=1)
    else:
        # The noisy phase knows nothing of the frame before, nor how well the
        # phase's advance is known: both go out of its weight.
        step = inner.logs[:, here] - inner.logs[:, here - 1]
        ratio = inverter.power * step - estimates.time_confidence
        ratio = trust[:, here] * ratio.clamp(-60, 60).exp()
    # q is the frame before turned by the time derivative; so is the target.
    advance = expected_advance(inverter.config, ratio.dtype, ratio.device)
    back = from_angle(-estimates.time - advance)
    target = multiply(torch.view_as_real(observed[:, here]), back)
    both = estimates.time_confidence + ratio.log1p()
    signal, _, after = inverter._commit(
        estimates._replace(time_confidence=both),
        inner,
        ends=ends,
        pull=(target, ratio / (1 + ratio)),
        keep=kept,
    )
    count = after.position - inner.position
    rest = (x[:, count:] for x in (observed, trust))
    kept = state.kept if kept is None else kept[:, count:]
    return signal, TowardsState(after, *rest, kept)


def flush_towards(inverter, state):
    """What remains of a stream, as if its last frame went on, unobserved.

    Arguments
    ---------
    inverter : SpectrogramInverter
    state : TowardsState
        What the last `step_towards` returned.

    Returns
    -------
    signal : torch.Tensor, [batch, samples]
        Overlap-add to the end of the last frame's window.
    """
    inner = state.inverter
    end = inner.position + inner.waiting
    signal = inner.signal[:, :0]
    again = inverter.continuation(inner)
    if again.shape[1]:
        nothing = torch.zeros_like(again)
        signal, (inner, *_) = step_towards(
            inverter,
            again,
            nothing.to(state.observed.dtype),
            nothing,
            state,
            torch.full((len(again),), end, device=again.device),
        )
    pending = inner.signal[:, REOPENED * inverter.config.hop_length :]
    return torch.cat([signal, pending], dim=1)


def invert_towards(inverter, magnitude, observed, trust, length=None):
    """Whole spectrograms: `step_towards` and `flush_towards`.

    Arguments
    ---------
    inverter, magnitude, observed, trust
        As for `step_towards`.
    length : int, optional
        Samples to return, as in `SpectrogramInverter.forward`.

    Returns
    -------
    waveform : torch.Tensor, [batch, length]
    """
    signal, state = step_towards(inverter, magnitude, observed, trust)
    signal = torch.cat([signal, flush_towards(inverter, state)], dim=1)
    count = torch.tensor([magnitude.shape[1]], device=signal.device)
    waveform = normalise(signal, inverter.config, 0, count)
    return finish(waveform, inverter.config, magnitude.shape[1], length)


def _log_of_sum(a, b):
    """log(exp(a) + exp(b)); unlike `torch.logaddexp`, the rounding is the same
    wherever in memory the numbers are."""
    return torch.maximum(a, b) + (a - b).abs().neg().exp().log1p()
