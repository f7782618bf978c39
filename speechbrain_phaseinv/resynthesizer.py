"""The last step of a spectral enhancer: magnitudes and a noisy recording.

SpeechBrain's enhancers estimate a magnitude and call ``resynth(magnitude,
noisy)`` for the waveform. Their own `resynthesize` uses the phase of the
noisy recording. `Resynthesizer` replaces it, with a choice: the noisy phase,
the phase that the magnitudes imply, or both (see `noisy_phase`), by a rule or
as a network has learnt it.
"""

import torch

from .checks import check_magnitude, check_real
from .config import StftConfig
from .enhancement import EnhancementStream
from .estimation.enhancement import EnhancementNet
from .inversion import SpectrogramInverter
from .noisy_phase import TRUST, direction, invert_towards, observe
from .pretrained import choose_enhancement
from .stft import analysis, synthesis

PHASES = ("auto", "learnt", "model", "noisy", "both")


class Resynthesizer(torch.nn.Module):
    """Waveform from enhanced magnitudes; replaces SpeechBrain's `resynthesize`.

    In SpeechBrain's YAML, one entry replaces another::

        resynth: !new:speechbrain_phaseinv.inference.Resynthesizer
            stft: !ref <compute_stft>

    and with an enhancer already loaded, ``enhancer.hparams.resynth =
    Resynthesizer(enhancer.hparams.compute_stft)``. The magnitudes are linear:
    a power spectrogram cannot be recognised, and sounds wrong.

    Arguments
    ---------
    stft : StftConfig or speechbrain.processing.features.STFT
        The transform that the magnitudes come from.
    phase : str
        "learnt": the phase that a network finds, which sees the recording
        too and says bin by bin how far its phase is to be trusted. "auto":
        this where there are packaged weights, and else the noisy phase, with
        a warning; `phase` then holds the choice. Learnt weights take the
        magnitudes to be at the recording's level. "noisy": the recording's
        phase, as in SpeechBrain. "model": the phase that the magnitudes
        imply; only the recording's length counts. "both": the phase that the
        magnitudes imply, drawn to the recording's phase where the enhancer
        left most of it, by a rule.
    normalize_wavs : bool
        Scale each waveform to a peak of 1, as SpeechBrain does.
    lookahead : int
        0 or 1, see `SpectrogramInverter`. Learnt weights need 1.
    estimator : str or torch.nn.Module
        With "model" and "both", see `SpectrogramInverter`; with "learnt", an
        `EnhancementNet` of your own.
    trust : float
        Weight of the noisy phase with "both", finite and not negative.
        Refinement comes after it, where the weights are trained for it.

    Raises
    ------
    TypeError, ValueError
        If `stft` is no transform, or has frames that are not centred, or if
        `phase` or `trust` is out of its range.

    Example
    -------
    >>> config = StftConfig(16000, n_fft=512, hop_length=256, window="hamming")
    >>> noisy = torch.randn(2, 16000)
    >>> magnitude = 0.5 * analysis(noisy, config, "constant").abs()
    >>> resynth = Resynthesizer(config)
    >>> resynth(magnitude, noisy).shape
    torch.Size([2, 16000])
    """

    def __init__(
        self,
        stft,
        phase="auto",
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
        self.normalize_wavs = normalize_wavs
        self.trust = trust
        phase, estimator = _choose(phase, config, lookahead, estimator)
        self.phase = phase
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
            If the two do not belong together, or their values are no
            magnitudes and no recordings.
        """
        magnitude, noisy = self._check(magnitude, noisy)
        # SpeechBrain moves modules to a device, but not what is in hparams.
        self.inverter.to(magnitude.device)
        with torch.autocast(magnitude.device.type, enabled=False):
            waveform = self._waveform(self.gain * magnitude, noisy)
        if self.normalize_wavs and waveform.numel():
            peak = waveform.abs().amax(1, keepdim=True)
            waveform = waveform / (peak + 1e-14)
        return waveform

    def stream(self, enhance):
        """Enhance as the samples come.

        Arguments
        ---------
        enhance : callable
            Gives enhanced magnitudes for noisy ones, see `EnhancementStream`.

        Returns
        -------
        stream : EnhancementStream

        Raises
        ------
        ValueError
            If the waveform is to be normalised, whose peak a stream does not
            know.

        Example
        -------
        >>> config = StftConfig(16000, n_fft=512, hop_length=128)
        >>> resynth = Resynthesizer(config, normalize_wavs=False)
        >>> stream = resynth.stream(lambda magnitude: 0.5 * magnitude)
        >>> stream.push(torch.randn(1, 1000)).shape[1]
        384
        >>> stream.flush().shape[1]
        616
        """
        if self.normalize_wavs:
            raise ValueError(
                "a stream does not know its peak: make the Resynthesizer with "
                "normalize_wavs=False."
            )
        return EnhancementStream(
            self.inverter, enhance, self.phase, self.trust, self.gain
        )

    def _waveform(self, magnitude, noisy):
        """The magnitudes with the chosen phase."""
        config, length = self.inverter.config, noisy.shape[1]
        if self.phase == "model":
            return self.inverter(magnitude, length=length)
        recorded = analysis(noisy, config, self.pad_mode)
        if self.phase == "noisy" or magnitude.numel() == 0:
            return synthesis(magnitude * direction(recorded), config, length)
        known = observe(self.inverter, recorded, magnitude, self.trust)
        return invert_towards(self.inverter, magnitude, *known, length)

    def _check(self, magnitude, noisy):
        """Refuse magnitudes and recordings that do not belong together."""
        config = self.inverter.config
        magnitude = check_magnitude(magnitude, config)
        noisy = check_real(noisy, "noisy recordings").to(magnitude)
        if noisy.dim() != 2:
            raise ValueError(
                "expected noisy recordings [batch, samples], got shape "
                f"{list(noisy.shape)}."
            )
        expected = [len(noisy), config.num_frames(noisy.shape[1])]
        if list(magnitude.shape[:2]) != expected:
            raise ValueError(
                f"recordings {list(noisy.shape)} have magnitudes [batch, "
                f"time, freq] = {[*expected, config.num_bins]} with {config}, "
                f"got shape {list(magnitude.shape)}."
            )
        if not torch.isfinite(noisy).all():
            raise ValueError("the noisy recordings hold NaN or infinity.")
        return magnitude, noisy


def _choose(phase, config, lookahead, estimator):
    """The phase that "auto" stands for, and what estimates it."""
    own = isinstance(estimator, EnhancementNet)
    if phase == "noisy":  # which asks no estimator
        return phase, "gradient"
    if phase in ("model", "both"):
        if own:
            raise ValueError(f"an EnhancementNet is of no use to {phase!r}.")
        return phase, estimator
    if own:
        return "learnt", estimator
    if estimator != "auto":
        raise ValueError(
            f"the phase {phase!r} has weights of its own or is given an "
            f"EnhancementNet, got the estimator {estimator!r}: it goes with "
            "phase='model' and phase='both'."
        )
    network = choose_enhancement(phase, config, lookahead)
    return ("noisy", "gradient") if network is None else ("learnt", network)


def describe(stft):
    """The package's description of a transform.

    Arguments
    ---------
    stft : StftConfig or speechbrain.processing.features.STFT
        SpeechBrain's has lengths in samples as attributes.

    Returns
    -------
    config : StftConfig
        Window, hop and length.
    pad_mode : str
        What surrounds a signal, see `analysis`.
    gain : float
        Factor from the transform's magnitudes to those of `analysis`.

    Raises
    ------
    TypeError, ValueError
        If `stft` is no transform, or one that cannot be followed.

    Example
    -------
    >>> describe(StftConfig(16000, 512))[1:]
    ('reflect', 1.0)
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
    if not getattr(stft, "onesided", True):
        raise ValueError(
            "an STFT with onesided=False is not supported: only the lower "
            "half of its bins is used here. Make compute_stft with "
            "onesided=True."
        )
    if getattr(stft.window, "is_meta", False):
        raise ValueError(
            "the window of this STFT is on the device meta, without samples. "
            "Build compute_stft on a device that holds values."
        )
    padding = "center" if getattr(stft, "center", True) else "none"
    config = StftConfig(*(getattr(stft, name) for name in names), padding)
    gain = stft.n_fft**0.5 if getattr(stft, "normalized_stft", False) else 1.0
    return config, getattr(stft, "pad_mode", "constant"), gain
