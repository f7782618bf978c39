"""Fast Griffin-Lim: refine a phase against the consistency of its STFT.

Griffin and Lim (1984) go back and forth between a spectrogram of the wanted
magnitudes and the nearest spectrogram that is the STFT of some signal;
Perraudin et al. (2013) extrapolate each step by a momentum. From random
phases this takes some hundred iterations, from a good phase a few. It needs
the whole signal, so it is no part of a stream.
"""

import torch

from .checks import (
    check_integer,
    check_lengths,
    check_magnitude,
    check_momentum,
)
from .stft import analysis, synthesis

# A bin below this size has no direction, and its reciprocal would be near the
# end of float32's range.
_SMALLEST = 1e-30


def griffin_lim(
    magnitude,
    config,
    stft=None,
    n_iter=32,
    momentum=0.99,
    length=None,
    lengths=None,
    pad_mode="reflect",
):
    """Refine the phase of a spectrogram by fast Griffin-Lim iterations.

    The update and the momentum are those of
    ``torchaudio.functional.griffinlim``: from a phase of zero both give the
    same numbers. Here the start can be chosen, nothing is random, and the
    level does not matter. Differentiable any number of times, with finite
    gradients where magnitudes are zero.

    Arguments
    ---------
    magnitude : torch.Tensor, [batch, time, freq]
        Wanted magnitudes, non-negative.
    config : StftConfig
        The transform.
    stft : torch.Tensor, [batch, time, freq], complex, optional
        Spectrogram whose phase is the start, in the convention of
        `stft.analysis`; its magnitudes are ignored. Default: phase zero.
    n_iter : int
        Number of iterations; with 0 the start itself is returned.
    momentum : float
        In [0, 1); 0 is the original algorithm.
    length : int, optional
        Samples of the signal, as in `stft.synthesis`; it is brought into the
        range of lengths that have this number of frames. Not used with
        `lengths`.
    lengths : torch.Tensor, [batch], int, optional
        Valid frames of each signal. A padded signal is refined as it would
        be alone; its padding comes back as zeros.
    pad_mode : str
        What surrounds the signal, as in `stft.analysis`.

    Returns
    -------
    stft : torch.Tensor, [batch, time, freq], complex
        The wanted magnitudes with the refined phase.

    Raises
    ------
    ValueError
        If `n_iter` or `momentum` is out of range, or shapes do not fit.

    Example
    -------
    >>> from speechbrain_phaseinv.inversion import SpectrogramInverter
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> magnitude = analysis(torch.randn(1, 8000), config).abs()
    >>> start = SpectrogramInverter(config).invert(magnitude)
    >>> refined = griffin_lim(magnitude, config, start, n_iter=4)
    >>> synthesis(refined, config, length=8000).shape
    torch.Size([1, 8000])
    """
    check_momentum(momentum)
    n_iter = check_integer("n_iter", n_iter)
    magnitude = check_magnitude(magnitude, config)
    if stft is None:
        stft = magnitude.to(magnitude.dtype.to_complex())
    if stft.shape != magnitude.shape or not stft.is_complex():
        raise ValueError(
            f"expected a complex start of shape {list(magnitude.shape)}, got "
            f"{stft.dtype} of shape {list(stft.shape)}."
        )
    if lengths is not None:
        settings = config, n_iter, momentum, pad_mode
        rows = [
            _refine_row(*row, *settings)
            for row in zip(
                magnitude, stft, check_lengths(lengths, magnitude).tolist()
            )
        ]
        return torch.stack(rows) if rows else torch.zeros_like(stft)
    # The shortest and the longest signal with this number of frames.
    frames = magnitude.shape[1]
    shortest = config.hop_length * (frames - 1) + config.n_fft
    shortest = max(shortest - 2 * config.pad_length, 0)
    longest = shortest + config.hop_length - 1
    length = min(max(length or 0, shortest), longest)

    phasor = _direction(stft, torch.ones_like(stft))
    previous = None
    factor = momentum / (1 + momentum)
    for _ in range(n_iter if magnitude.numel() else 0):
        waveform = synthesis(magnitude * phasor, config, length)
        rebuilt = analysis(waveform, config, pad_mode)
        update = rebuilt
        if previous is not None and factor:
            update = rebuilt - factor * previous
        phasor = _direction(update, phasor)
        previous = rebuilt
    return magnitude * phasor


def _refine_row(magnitude, stft, frames, config, n_iter, momentum, pad_mode):
    """Refine the first `frames` frames of one signal, [time, freq]."""
    refined = griffin_lim(
        magnitude[None, :frames],
        config,
        stft[None, :frames],
        n_iter,
        momentum,
        pad_mode=pad_mode,
    )
    padding = (0, 0, 0, magnitude.shape[0] - frames)
    return torch.nn.functional.pad(refined[0], padding)


def _direction(stft, fallback):
    """Unit phasors of a spectrogram; the fallback where it is zero."""
    size = stft.abs()
    zero = size <= _SMALLEST
    phasor = stft / size.masked_fill(zero, 1.0)
    return torch.where(zero, fallback, phasor)
