"""Fast Griffin-Lim: refine a phase against the consistency of its STFT.

Griffin and Lim (1984) go back and forth between a spectrogram of the wanted
magnitudes and the nearest one that is the STFT of some signal; Perraudin et
al. (2013) extrapolate each step by a momentum. Started from random phases it
takes some hundred iterations; started from a good phase, a few. It needs the
whole signal, so it is no part of a stream.
"""

import torch

from .stft import analysis, synthesis

# Below this size a bin has no direction worth keeping, and its reciprocal
# would be near the end of float32's range.
_NOTHING = 1e-30


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

    The update, and the meaning of `momentum`, are those of
    ``torchaudio.functional.griffinlim``, which gives the same numbers when
    both start from a phase of zero. Unlike there, the start can be chosen,
    nothing is random, and the level does not matter. Differentiable, with
    finite gradients where magnitudes are zero.

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
        Samples of the signal, if known, as in `stft.synthesis`; it is brought
        into the range of lengths that have so many frames. Not used with
        `lengths`.
    lengths : torch.Tensor, [batch], int, optional
        Valid frames of each signal. A padded one is refined as it would be
        alone; its padding comes back as zeros.
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
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}.")
    if n_iter < 0:
        raise ValueError(f"n_iter must not be negative, got {n_iter}.")
    if magnitude.dim() != 3 or magnitude.shape[-1] != config.num_bins:
        raise ValueError(
            f"expected magnitudes [batch, time, {config.num_bins}], got shape "
            f"{list(magnitude.shape)}."
        )
    if stft is None:
        stft = magnitude.to(magnitude.dtype.to_complex())
    if stft.shape != magnitude.shape or not stft.is_complex():
        raise ValueError(
            f"expected a complex start of shape {list(magnitude.shape)}, got "
            f"{stft.dtype} of shape {list(stft.shape)}."
        )
    if lengths is not None:
        lengths = torch.as_tensor(lengths).tolist()
        if len(lengths) != len(magnitude):
            raise ValueError(
                f"expected {len(magnitude)} lengths, got {len(lengths)}."
            )
        settings = config, n_iter, momentum, pad_mode
        rows = [
            _refine_row(magnitude[i], stft[i], n, *settings)
            for i, n in enumerate(lengths)
        ]
        return torch.stack(rows) if rows else torch.zeros_like(stft)
    # The shortest and the longest signal of so many frames.
    frames = magnitude.shape[1]
    odd = config.n_fft % 2
    shortest = config.num_samples(frames) + odd
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
    """Unit phasors of a spectrogram; the fallback where there is nothing."""
    size = stft.abs()
    nothing = size <= _NOTHING
    phasor = stft / size.masked_fill(nothing, 1.0)
    return torch.where(nothing, fallback, phasor)
