"""The last step of a spectral enhancer: magnitudes and a noisy recording.

SpeechBrain's enhancers estimate a magnitude, and call ``resynth(magnitude,
noisy)`` for the waveform. Their own `resynthesize` takes the phase of the
noisy recording as it is. `Resynthesizer` takes its place, with three choices:
that phase, the phase that the magnitudes imply, or both.

Both means one more term in the least squares of `integration`,

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

import math

import torch

from .config import StftConfig
from .derivatives import PhaseDerivatives, expected_advance
from .integration import integrate, log_magnitude, phase_weights
from .inversion import SpectrogramInverter
from .stft import analysis, synthesis

# Weight of the noisy phase relative to the anchor to the frame before, where
# the ratio below is 1. This, and the next two, were chosen on validation
# speech.
TRUST = 5.0

# Share of a bin that is never believed to be free of noise: an enhancer's
# magnitude is not known better.
DOUBT = 0.003

# Bins over which gain and noise are averaged, odd.
AROUND = 7

# What stood before the first frame, logarithm: as in `SpectrogramInverter`.
SOFTLY = math.log(1e-6)

PHASES = ("model", "noisy", "both")


class Resynthesizer(torch.nn.Module):
    """Waveform from enhanced magnitudes, in the place of `resynthesize`.

    In SpeechBrain's YAML, one line takes the place of another::

        resynth: !new:speechbrain_phaseinv.inference.Resynthesizer
            stft: !ref <compute_stft>

    and with an enhancer already loaded, ``enhancer.hparams.resynth =
    Resynthesizer(enhancer.hparams.compute_stft)``. The magnitudes are linear:
    a power spectrogram cannot be told from them, and sounds wrong.

    Arguments
    ---------
    stft : StftConfig or speechbrain.processing.features.STFT
        The transform that the magnitudes come from.
    phase : str
        "model": what the magnitudes imply; of the recording only its length
        counts. "noisy": the recording's phase, as SpeechBrain does. "both":
        what the magnitudes imply, drawn to the recording's phase where the
        enhancer left most of it.
    normalize_wavs : bool
        Scale each waveform to a peak of 1, as SpeechBrain does.
    lookahead : int
        0 or 1, see `SpectrogramInverter`.
    estimator : str or torch.nn.Module
        See `SpectrogramInverter`.
    trust : float
        Weight of the noisy phase with "both".

    Raises
    ------
    TypeError, ValueError
        If `stft` is no transform, or one that cannot be followed, such as
        one with ``center=False``; if `phase` or `trust` is none.

    Example
    -------
    >>> config = StftConfig(16000, n_fft=512, hop_length=256, window="hamming")
    >>> noisy = torch.randn(2, 16000)
    >>> magnitude = 0.5 * analysis(noisy, config, "constant").abs()
    >>> resynth = Resynthesizer(config, phase="both")
    >>> resynth(magnitude, noisy).shape
    torch.Size([2, 16000])
    """

    def __init__(
        self,
        stft,
        phase="both",
        normalize_wavs=True,
        lookahead=1,
        estimator="auto",
        trust=TRUST,
    ):
        super().__init__()
        if phase not in PHASES:
            raise ValueError(
                f"expected the phase {', '.join(PHASES)}, got {phase!r}."
            )
        if not 0 <= trust < float("inf"):
            raise ValueError(
                f"trust must be finite and not negative, got {trust!r}."
            )
        config, self.pad_mode, self.gain = describe(stft)
        self.phase = phase
        self.normalize_wavs = normalize_wavs
        self.trust = trust
        self.inverter = SpectrogramInverter(config, lookahead, estimator)

    def extra_repr(self):
        """For ``print``."""
        return f"phase={self.phase!r}, normalize_wavs={self.normalize_wavs}"

    def forward(self, magnitude, noisy):
        """Resynthesise a batch.

        Arguments
        ---------
        magnitude : torch.Tensor, [batch, time, freq]
            Enhanced magnitudes, finite and not negative, zeros included.
        noisy : torch.Tensor, [batch, samples]
            The recordings that were enhanced.

        Returns
        -------
        waveform : torch.Tensor, [batch, samples]

        Raises
        ------
        TypeError, ValueError
            If the two do not belong together, or hold no magnitudes and no
            recordings; the message says what was expected.
        """
        self._check(magnitude, noisy)
        # SpeechBrain moves modules to a device, but not what is in hparams.
        self.inverter.to(magnitude.device)
        with torch.autocast(magnitude.device.type, enabled=False):
            if magnitude.dtype not in (torch.float32, torch.float64):
                magnitude = magnitude.float()
            magnitude = self.gain * magnitude
            noisy = noisy.to(magnitude)
            stft = self._spectrogram(magnitude, noisy)
            waveform = synthesis(stft, self.inverter.config, noisy.shape[1])
        if self.normalize_wavs and waveform.numel():
            peak = waveform.abs().amax(1, keepdim=True)
            waveform = waveform / (peak + 1e-14)
        return waveform

    def _spectrogram(self, magnitude, noisy):
        """The magnitudes with the phase that was asked for."""
        if self.phase == "model":
            return self.inverter.invert(magnitude)
        config = self.inverter.config
        recorded = analysis(noisy, config, self.pad_mode)
        size = recorded.abs()
        direction = recorded / size.clamp_min(torch.finfo(size.dtype).tiny)
        direction = torch.where(size > 0, direction, 1)
        if self.phase == "noisy" or magnitude.numel() == 0:
            return magnitude * direction
        centre = config.centre_phasor(direction.dtype, direction.device)
        trust = self.trust * signal_to_noise(magnitude, size)
        phasors = invert_towards(
            self.inverter, magnitude, direction * centre, trust
        )
        return magnitude * phasors * centre.conj()

    def _check(self, magnitude, noisy):
        """Refuse what does not belong together."""
        for name, x in (("magnitude", magnitude), ("noisy", noisy)):
            if not isinstance(x, torch.Tensor):
                raise TypeError(
                    f"expected {name} as a torch.Tensor, got "
                    f"{type(x).__name__}."
                )
            if x.is_complex():
                raise TypeError(f"expected a real {name}, got {x.dtype}.")
        config = self.inverter.config
        if noisy.dim() != 2:
            raise ValueError(
                "expected noisy recordings [batch, samples], got shape "
                f"{list(noisy.shape)}."
            )
        wanted = [len(noisy), config.num_frames(noisy.shape[1])]
        wanted.append(config.num_bins)
        if list(magnitude.shape) != wanted:
            raise ValueError(
                f"recordings {list(noisy.shape)} have magnitudes [batch, "
                f"time, freq] = {wanted} with {config}, got shape "
                f"{list(magnitude.shape)}."
            )
        if magnitude.numel():
            low, high = torch.aminmax(magnitude.detach())
            if not (low >= 0 and high < float("inf")):
                raise ValueError(
                    "magnitudes must be finite and not negative, got values "
                    f"from {low.item():g} to {high.item():g}. A mask may need "
                    ".clamp(min=0)."
                )
        if not torch.isfinite(noisy).all():
            raise ValueError("the noisy recordings hold NaN or infinity.")


def describe(stft):
    """What has to be known of a transform.

    Arguments
    ---------
    stft : StftConfig or speechbrain.processing.features.STFT
        The latter is known by its attributes, lengths in samples.

    Returns
    -------
    config : StftConfig
        Window, hop and length.
    pad_mode : str
        What surrounds a signal, see `analysis`.
    gain : float
        Times this, magnitudes are those of `analysis`.
    """
    if isinstance(stft, StftConfig):
        return stft, "reflect", 1.0
    names = ("sample_rate", "n_fft", "win_length", "hop_length", "window")
    missing = [name for name in names if not hasattr(stft, name)]
    if missing:
        raise TypeError(
            "expected a StftConfig or a speechbrain.processing.features.STFT, "
            f"got {stft!r}, which has no {', '.join(missing)}."
        )
    if not getattr(stft, "center", True):
        raise ValueError(
            "an STFT with center=False is not supported: its frames are not "
            "centred on samples. Make compute_stft with center=True."
        )
    if not getattr(stft, "onesided", True):
        raise ValueError(
            "a two-sided STFT is not supported: make compute_stft with "
            "onesided=True."
        )
    config = StftConfig(*(getattr(stft, name) for name in names))
    gain = stft.n_fft**0.5 if getattr(stft, "normalized_stft", False) else 1.0
    return config, getattr(stft, "pad_mode", "constant"), gain


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


def invert_towards(inverter, magnitude, observed, trust):
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

    Returns
    -------
    phasors : torch.Tensor, [batch, time, freq], complex
        Centre-referred.
    """
    config, count = inverter.config, magnitude.shape[1]
    # The last frame goes on, for the look-ahead; the first, softly, was there
    # before: as in `SpectrogramInverter`.
    ahead = magnitude[:, -1:].expand(-1, inverter.lookahead, -1)
    log_mag = log_magnitude(torch.cat([magnitude, ahead], dim=1))
    derivatives, _ = inverter.estimator(log_mag)
    derivatives = PhaseDerivatives(
        *(None if x is None else x[:, :count] for x in derivatives)
    )
    log_mag = log_mag[:, :count]
    before = torch.cat([log_mag[:, :1] + SOFTLY, log_mag[:, :-1]], dim=1)
    anchor, coupling = phase_weights(
        log_mag, before, derivatives, inverter.power
    )
    # The noisy phase knows nothing of the frame before, nor how well the
    # phase's advance is known: both go out of its weight.
    ratio = inverter.power * (log_mag - before)
    if derivatives.time_confidence is not None:
        ratio = ratio - derivatives.time_confidence
    ratio = trust * ratio.clamp(-60, 60).exp()
    anchor = anchor * (1 + ratio)
    advance = expected_advance(config, magnitude.dtype, magnitude.device)
    angle = derivatives.time + advance
    turned = observed * torch.polar(torch.ones_like(angle), -angle)
    phasor = torch.ones_like(observed[:, 0])
    phasors = []
    for t in range(count):
        now = slice(t, t + 1)
        second = ratio[:, t] / (1 + ratio[:, t])
        phasor = phasor + second * (turned[:, t] - phasor)
        phasor = integrate(
            PhaseDerivatives(*(x[:, now] for x in derivatives[:2])),
            anchor[:, now],
            coupling[:, now],
            config,
            phasor,
            inverter.backend,
        )[:, 0]
        phasors.append(phasor)
    return torch.stack(phasors, dim=1)
