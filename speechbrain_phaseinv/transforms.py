"""A drop-in for `torchaudio.transforms.GriffinLim`.

This is the only module whose axes are torchaudio's: [..., freq, time].
"""

import math

import torch

from .checks import check_integer, check_momentum, check_real, explain_bins
from .config import MOST_FFT, StftConfig
from .griffinlim import griffin_lim
from .inversion import SpectrogramInverter
from .stft import synthesis


class PhaseInversion(torch.nn.Module):
    """Waveform from a spectrogram, with the arguments of GriffinLim.

    The input is what ``torchaudio.transforms.Spectrogram`` makes with the
    same arguments: centred frames, one-sided, not normalised, and a *power*
    spectrogram unless `power` says otherwise. GriffinLim starts from random
    phases and iterates over the whole signal; this transform predicts the
    phase in one deterministic pass, and iterations may follow.

    Arguments
    ---------
    n_fft : int, optional
        Length of the Fourier transform, in samples; ``n_fft // 2 + 1`` bins.
    n_iter : int, optional
        Iterations of fast Griffin-Lim that refine the result. Default: 0.
    win_length : int, optional
        Length of the window, in samples. Default: `n_fft`.
    hop_length : int, optional
        Distance between frames, in samples. Default: ``win_length // 2``.
    window_fn : callable, optional
        Makes the window from `win_length`. Default: ``torch.hann_window``.
    power : float, optional
        Exponent of the magnitude in the input: 1 for magnitude, 2 for power.
    wkwargs : dict, optional
        Further arguments of `window_fn`.
    momentum : float, optional
        Momentum of the iterations, in [0, 1).
    length : int, optional
        Samples to return, any number: the end is cut off or filled with
        zeros. Default: ``hop_length * (frames - 1)``, of centred frames.
    rand_init : bool, optional
        Accepted, and without effect: nothing here is random.
    lookahead : int, optional
        0 or 1: frames that a frame waits for.
    estimator : str or torch.nn.Module, optional
        "auto", "network" or "gradient", as in `SpectrogramInverter`.
    padding : str, optional
        "center", "same" or "none", as in `StftConfig`: "none" for what
        ``torchaudio.transforms.Spectrogram(center=False)`` makes.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the STFT cannot be inverted.

    Example
    -------
    >>> transform = PhaseInversion(n_fft=512, hop_length=128, power=1.0)
    >>> window = torch.hann_window(512)
    >>> x = torch.randn(3, 2, 16000)
    >>> spectrogram = torch.stft(
    ...     x.reshape(6, -1), 512, 128, window=window, return_complex=True
    ... ).abs()
    >>> transform(spectrogram.reshape(3, 2, 257, -1)).shape
    torch.Size([3, 2, 16000])
    """

    def __init__(
        self,
        n_fft=400,
        n_iter=0,
        win_length=None,
        hop_length=None,
        window_fn=torch.hann_window,
        power=2.0,
        wkwargs=None,
        momentum=0.99,
        length=None,
        rand_init=True,
        *,
        lookahead=1,
        estimator="auto",
        padding="center",
    ):
        super().__init__()
        if not power > 0:
            raise ValueError(f"power must be positive, got {power}.")
        win_length = n_fft if win_length is None else win_length
        win_length = check_integer("win_length", win_length, 1, MOST_FFT)
        hop_length = win_length // 2 if hop_length is None else hop_length
        with torch.device("cpu"):  # a window on "meta" has no samples
            window = window_fn(win_length, **(wkwargs or {}))
        # Neither the phase nor a network depends on the sampling rate.
        config = StftConfig(
            16000, n_fft, win_length, hop_length, window, padding
        )
        self.n_fft, self.win_length = config.n_fft, config.win_length
        self.hop_length, self.rand_init = config.hop_length, rand_init
        self.n_iter = check_integer("n_iter", n_iter)
        self.length = length
        if length is not None:
            self.length = check_integer("length", length)
        self.power = power
        self.momentum = check_momentum(momentum)
        self.inverter = SpectrogramInverter(config, lookahead, estimator)
        # Checkpoints of GriffinLim load: their window is not read, and the
        # weights that they lack stay as they are.
        self.register_buffer("window", window.to(torch.get_default_device()))
        self.register_load_state_dict_pre_hook(_complete_checkpoint)

    def forward(self, specgram):
        """Invert a spectrogram.

        Arguments
        ---------
        specgram : torch.Tensor, [..., freq, time]
            Non-negative, finite, real. Half precision is computed in single
            precision, integers give float32.

        Returns
        -------
        waveform : torch.Tensor, [..., time]
            In the dtype and on the device of `specgram`.

        Raises
        ------
        TypeError
            If `specgram` is no tensor, or complex.
        ValueError
            If it is negative or not finite, or has another number of bins.
        """
        config = self.inverter.config
        magnitude = check_real(specgram, "spectrograms [..., freq, time]")
        shape = list(magnitude.shape)
        if len(shape) < 2 or shape[-2] != config.num_bins:
            hint = explain_bins(shape[-2]) if len(shape) > 1 else ""
            raise ValueError(
                f"expected a spectrogram [..., freq, time] with freq = n_fft "
                f"// 2 + 1 = {config.num_bins}, got shape {shape}.{hint}"
            )
        *lead, bins, frames = shape
        with torch.autocast(magnitude.device.type, enabled=False):
            magnitude = _root(magnitude, self.power)
            magnitude = magnitude.reshape(math.prod(lead), bins, frames)
            magnitude = magnitude.transpose(1, 2)
            if self.n_iter:
                stft = griffin_lim(
                    magnitude,
                    config,
                    self.inverter.invert(magnitude),
                    self.n_iter,
                    self.momentum,
                    self.length,
                )
                waveform = synthesis(stft, config, self.length)
            else:
                waveform = self.inverter(magnitude, length=self.length)
        waveform = waveform.reshape(*lead, waveform.shape[-1])
        floating = specgram.is_floating_point()
        return waveform.to(specgram.dtype if floating else torch.float32)


def phase_inversion(
    specgram,
    window,
    n_fft,
    hop_length,
    win_length,
    power=2.0,
    n_iter=0,
    momentum=0.99,
    length=None,
    rand_init=True,
):
    """`PhaseInversion`, called as ``torchaudio.functional.griffinlim`` is.

    Every call builds the transform anew; keep a `PhaseInversion` where time
    counts.

    Arguments
    ---------
    specgram : torch.Tensor, [..., freq, time]
    window : torch.Tensor, [win_length]
    n_fft, hop_length, win_length, power, n_iter, momentum, length, rand_init
        As in `PhaseInversion`.

    Returns
    -------
    waveform : torch.Tensor, [..., time]

    Example
    -------
    >>> power = torch.rand(257, 20)
    >>> phase_inversion(power, torch.hann_window(512), 512, 128, 512).shape
    torch.Size([2432])
    """
    transform = PhaseInversion(
        n_fft,
        n_iter,
        win_length,
        hop_length,
        lambda _: window,
        power,
        momentum=momentum,
        length=length,
        rand_init=rand_init,
    )
    return transform(specgram)


def _complete_checkpoint(module, state_dict, prefix, *_):
    """Add what the module has and the checkpoint lacks."""
    for name, value in module.state_dict(prefix=prefix).items():
        state_dict.setdefault(name, value)


def _root(specgram, power):
    """Magnitude of a spectrogram; the gradient is zero where it is zero."""
    if power == 1:
        return specgram
    # Negative values and NaN are let through, for the inverter to refuse.
    zero = specgram == 0
    magnitude = specgram.masked_fill(zero, 1).abs().pow(1 / power)
    return torch.where(zero, 0, magnitude * specgram.sign())
