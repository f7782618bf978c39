"""Training objectives: on the derivatives, and through the inverter.

Neither depends on absolute phases. `magnitude_loss` measures how well the
resynthesised waveform has the wanted magnitudes, which is what a listener
hears; `derivative_loss` is a quick start for it.
"""

from typing import NamedTuple

import torch

from .stft import analysis

# Relative power below which an error no longer counts.
NEGLIGIBLE = 1e-5


def derivative_loss(predicted, target, weight):
    """One minus the cosine of the error, per derivative, weighted.

    The negative log-likelihood of a von Mises distribution up to constants:
    periodic, so no wrapping is needed, and bounded, so that the bins next to
    a zero of the STFT, where the phase is arbitrary, do not dominate.

    Arguments
    ---------
    predicted : PhaseDerivatives
        [batch, time, freq].
    target : PhaseDerivatives
        The true ones, see `derivatives.phase_derivatives`.
    weight : torch.Tensor, [batch, time, freq]
        Non-negative importance of each bin, such as its magnitude.

    Returns
    -------
    time, frequency : torch.Tensor, scalar
        Weighted means; bin 0 does not count in `frequency`.

    Example
    -------
    >>> from speechbrain_phaseinv.estimation.derivatives import PhaseDerivatives
    >>> zero, one = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    >>> turn = PhaseDerivatives(2 * torch.pi * one, torch.pi * one)
    >>> derivative_loss(turn, PhaseDerivatives(zero, zero), one)
    (tensor(0.), tensor(2.))
    """
    time = weight * (1 - torch.cos(predicted.time - target.time))
    frequency = weight * (1 - torch.cos(predicted.frequency - target.frequency))
    total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
    inner = weight[..., 1:].sum().clamp_min(torch.finfo(weight.dtype).tiny)
    return time.sum() / total, frequency[..., 1:].sum() / inner


class MagnitudeLoss(NamedTuple):
    """Distance between the magnitudes of two signals.

    Attributes
    ----------
    convergence : torch.Tensor, scalar
        Spectral convergence in nepers, ``log(||A - B|| / ||B||)``, mean over
        the batch; times 8.7, in dB.
    compressed : torch.Tensor, scalar
        Mean distance of the compressed magnitudes, relative to their mean.
    """

    convergence: torch.Tensor
    compressed: torch.Tensor


def magnitude_loss(
    waveform,
    target,
    config,
    level=None,
    power=0.3,
    margin=0,
    convergence_density=0.0,
    compressed_density=0.0,
):
    """Compare the magnitudes of two signals at one resolution.

    Arguments
    ---------
    waveform, target : torch.Tensor, [batch, samples]
        A reconstruction, and the signal that it should sound like.
    config : StftConfig
        The transform in which they are compared.
    level : torch.Tensor, [batch], optional
        Root mean square of the recording that the target is a part of. The
        convergence is relative to this level, and errors 25 dB below it no
        longer count: otherwise a pause would weigh as much as a vowel.
        Default: the target's own.
    power : float
        Compression of the magnitudes, near that of loudness.
    margin : int
        Samples to leave out at both ends.
    convergence_density, compressed_density : float
        Exponent of `critical_band_density`, the weight of each bin: 1 for
        the ear's weights, 0 for equal weights.

    Returns
    -------
    loss : MagnitudeLoss

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> x = torch.randn(1, 16000)
    >>> loss = magnitude_loss(1.1 * x, x, config)
    >>> round(loss.convergence.exp().item(), 3)
    0.1
    """
    if level is None:
        level = target.square().mean(1).sqrt()
    # Magnitude of noise of that level: 1 from here on.
    window = config.window_tensor(target.dtype, target.device)
    scale = level.clamp_min(1e-8) * window.square().sum().sqrt()
    margin = -(-margin // config.hop_length)
    if config.num_frames(waveform.shape[1]) <= 2 * margin:
        raise ValueError(
            f"a margin of {margin} frames at both ends leaves nothing of "
            f"{waveform.shape[1]} samples."
        )
    magnitude, wanted = (
        _magnitude(x, config, scale, margin) for x in (waveform, target)
    )
    density = critical_band_density(config).to(magnitude)
    weight = density**convergence_density
    error = (weight * (magnitude - wanted).square()).mean((1, 2))
    convergence = (error + NEGLIGIBLE).log().mean() / 2
    weight = density**compressed_density
    magnitude, wanted = magnitude.pow(power), wanted.pow(power)
    error = (weight * (magnitude - wanted).abs()).mean()
    return MagnitudeLoss(convergence, error / (weight * wanted).mean())


def critical_band_density(config):
    """Critical bands per bin, relative to their mean over the bins.

    The errors of an inversion that PESQ notices lie almost entirely below
    700 Hz, where a critical band is a few bins wide.

    Returns
    -------
    density : torch.Tensor, [freq]
        The inverse of the critical bandwidth (Zwicker and Terhardt 1980).

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> density = critical_band_density(config)
    >>> density[0] / density[-1]  # 1700 Hz at 8 kHz, 100 at 0
    tensor(17.0566)
    """
    bins = torch.arange(config.num_bins, device="cpu")
    kilohertz = bins * config.sample_rate / (1000 * config.n_fft)
    bandwidth = 25 + 75 * (1 + 1.4 * kilohertz.square()) ** 0.69
    return bandwidth.reciprocal() / bandwidth.reciprocal().mean()


def _magnitude(waveform, config, scale, margin):
    """Magnitudes relative to `scale`, with a finite gradient at zero."""
    stft = analysis(waveform, config) / scale[:, None, None]
    stft = stft[:, margin : stft.shape[1] - margin]
    return (stft.real.square() + stft.imag.square() + 1e-8).sqrt()
