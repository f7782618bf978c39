"""The last step of a spectral enhancer: magnitudes and a noisy recording.

SpeechBrain's enhancers estimate a magnitude, and call ``resynth(magnitude,
noisy)`` for the waveform. Their own `resynthesize` takes the phase of the
noisy recording as it is. `Resynthesizer` takes its place, with three choices:
that phase, the phase that the magnitudes imply, or both.
`noisy_phase` says how.
"""

import torch

from .config import StftConfig
from .inversion import SpectrogramInverter
from .noisy_phase import invert_towards, signal_to_noise
from .stft import analysis, synthesis

# Weight of the noisy phase relative to the anchor to the frame before, where
# the ratio of `signal_to_noise` is 1. Chosen on validation speech.
TRUST = 5.0

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
        Weight of the noisy phase with "both". Refinement, where the weights
        are made for it, comes after that.

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
            waveform = self._waveform(magnitude, noisy)
        if self.normalize_wavs and waveform.numel():
            peak = waveform.abs().amax(1, keepdim=True)
            waveform = waveform / (peak + 1e-14)
        return waveform

    def _waveform(self, magnitude, noisy):
        """The magnitudes with the phase that was asked for."""
        config, length = self.inverter.config, noisy.shape[1]
        if self.phase == "model":
            return self.inverter(magnitude, length=length)
        recorded = analysis(noisy, config, self.pad_mode)
        size = recorded.abs()
        direction = recorded / size.clamp_min(torch.finfo(size.dtype).tiny)
        direction = torch.where(size > 0, direction, 1)
        if self.phase == "noisy" or magnitude.numel() == 0:
            return synthesis(magnitude * direction, config, length)
        centre = config.centre_phasor(direction.dtype, direction.device)
        trust = self.trust * signal_to_noise(magnitude, size)
        return invert_towards(
            self.inverter, magnitude, direction * centre, trust, length
        )

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
