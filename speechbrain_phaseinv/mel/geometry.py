"""Where bands and bins lie, in numbers that are alike for all conventions.

A network that is to serve any mel spectrogram cannot learn a table of its
bands. It learns a function of these numbers: what a step between two bands
means follows from how far apart they are, in bins and in Hz; what a bin holds
follows from where it lies in its band, or how far beyond the last one.
"""

import math
from dataclasses import replace

import torch

from ..estimation.derivatives import gaussian_gamma
from .config import band_edges, hz_to_mel, mel_filterbank, mel_to_hz

BAND_NUMBERS = 11
BIN_NUMBERS = 18


def kept_bands(config):
    """Indices of the bands that hold a bin, [bands], int64."""
    return (mel_filterbank(config).sum(0) > 0).nonzero().flatten()


def band_centres(config):
    """Centres of these bands, in bins, [bands], float64."""
    return band_edges(config)[1:-1][kept_bands(config)] / _bin_width(config)


def band_geometry(config):
    """Numbers of each band, [bands, BAND_NUMBERS].

    Its frequency, the distance to its neighbours in bins and in Hz, how many
    bands lie below and above, and the transform.
    """
    edges = band_edges(config)[:, None]
    index = torch.arange(config.n_mels).double()[:, None]
    numbers = [
        *_frequency(edges[1:-1]),
        *_spacing((edges[2:] - edges[:-2]) / 2, config),
        _near(index),
        _near(config.n_mels - 1 - index),
        _transform(config).expand(config.n_mels, -1),
    ]
    return torch.cat(numbers, dim=1)[kept_bands(config)].float()


def bin_geometry(config):
    """Numbers of each bin, [freq, BIN_NUMBERS].

    Its frequency, the distance of bands there, its place between two bands,
    how far it lies outside of them, and the transform.
    """
    width, edges = _bin_width(config), band_edges(config)
    hertz = torch.arange(config.stft.num_bins).double()[:, None] * width
    low, high = edges[1], edges[-2]
    mels = hz_to_mel(edges, config.scale)
    step = (mels[-1] - mels[0]) / (config.n_mels + 1)
    place = (hz_to_mel(hertz, config.scale) - mels[0]) / step
    within = hertz.clamp(low, high)
    mel = hz_to_mel(within, config.scale)
    span = (mel + step / 2, mel - step / 2)
    above, below = (mel_to_hz(x, config.scale) for x in span)
    spacing = above - below
    inside = ((hertz > edges[0]) & (hertz < edges[-1])).double()
    angle = 2 * math.pi * place
    bare = replace(config, norm=None)
    covered = mel_filterbank(bare).double().sum(1, keepdim=True).clamp_max(1)
    numbers = [
        *_frequency(hertz),
        *_spacing(spacing, config),
        inside * angle.cos(),
        inside * angle.sin(),
        covered,
        inside,
        _beyond(low - hertz, spacing),
        _beyond(hertz - high, spacing),
        ((hertz - high) / 4000).clamp_min(0),
        _near(hertz / width),
        _near(config.stft.sample_rate / 2 / width - hertz / width),
        _transform(config).expand(len(hertz), -1),
    ]
    return torch.cat(numbers, dim=1).float()


def _bin_width(config):
    """In Hz."""
    return config.stft.sample_rate / config.stft.n_fft


def _frequency(hertz):
    """On a scale of the ear, and in units of 10 kHz."""
    return [hz_to_mel(hertz) / 20 - 1, hertz / 10000]


def _spacing(hertz, config):
    """A distance in bins, and beside that of a voice's harmonics."""
    bins = hertz / _bin_width(config)
    return [bins.log2() / 3, (hertz / 150).log2() / 2]


def _near(steps):
    """1 at an end, 0 far from it."""
    return (-steps / 2).exp()


def _beyond(hertz, spacing):
    """How many bands lie between, as a logarithm."""
    return (hertz / spacing).clamp_min(0).log1p()


def _transform(config):
    """Power, window, hop and overlap, [1, 5]."""
    stft = config.stft
    lobe = stft.n_fft / math.sqrt(gaussian_gamma(stft))
    numbers = [
        config.power - 1.5,
        math.log2(stft.win_length / stft.sample_rate / 0.045),
        math.log2(stft.hop_length / stft.sample_rate / 0.0115),
        math.log2(4 * stft.hop_length / stft.win_length),
        math.log2(lobe / 2),
    ]
    return torch.tensor([numbers], dtype=torch.float64)
