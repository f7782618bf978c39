"""Recordings as other voices, microphones and places would have them.

An inverter has to invert the magnitudes of any signal, so all of these are as
good to learn from as the recordings themselves. Whether they help is in
spectrogram_inversion/NOTES.md.
"""

import numpy as np
import soxr
import torch

# Half an octave in all: a voice stays a voice.
PITCH_OCTAVES = 0.25
# Standard deviation of the gain at each of its points.
FILTER_DB = 6.0
FILTER_POINTS = 8
# Of the low-pass that rumble has gone through.
RUMBLE_ORDER = 6
# Signal-to-noise ratio of the noise that every second recording gets.
NOISE_DB = (10.0, 50.0)


def draw_speed():
    """A factor for `change_pitch`, as likely to raise as to lower."""
    octaves = PITCH_OCTAVES * (2 * torch.rand(()).item() - 1)
    return 2**octaves


def change_pitch(waveform, speed):
    """Played faster, and so higher.

    Arguments
    ---------
    waveform : torch.Tensor, [samples]
        A recording.
    speed : float
        2 for an octave.

    Returns
    -------
    waveform : torch.Tensor, [samples / speed], rounded
    """
    samples = soxr.resample(waveform.numpy(), speed, 1.0)
    return torch.from_numpy(samples.astype(np.float32))


def draw_filter(frequencies):
    """A smooth random gain over logarithmic frequency.

    Arguments
    ---------
    frequencies : torch.Tensor, [freq]
        Rising, in any unit; the first is zero.

    Returns
    -------
    gain : torch.Tensor, [freq]
    """
    octaves = frequencies.clamp_min(frequencies[1].item()).log2().numpy()
    points = np.linspace(octaves[0], octaves[-1], FILTER_POINTS)
    decibels = FILTER_DB * torch.randn(FILTER_POINTS).numpy()
    gain = 10 ** (np.interp(octaves, points, decibels) / 20)
    return torch.from_numpy(gain.astype(np.float32))


def draw_noise(samples):
    """Noise of unit power, between white and the rumble of a power law.

    Arguments
    ---------
    samples : int
        How many.

    Returns
    -------
    noise : torch.Tensor, [samples]
    """
    spectrum = torch.fft.rfft(torch.randn(samples))
    slope = torch.arange(len(spectrum)).clamp_min(1) ** -torch.rand(())
    noise = torch.fft.irfft(spectrum * slope, samples)
    return noise / noise.square().mean().sqrt()


def make_rumble(waveform, sample_rate, end, decibels):
    """Noise from below the voice, for recordings that have none.

    Arguments
    ---------
    waveform : torch.Tensor, [batch, samples]
        The recordings, whose levels count.
    sample_rate : int
        In Hz.
    end : float
        Where it falls to half its power, in Hz.
    decibels : float
        Its level above that of each recording, offsets left out.

    Returns
    -------
    rumble : torch.Tensor, [batch, samples]
    """
    samples = waveform.shape[1]
    spectrum = torch.fft.rfft(torch.randn(waveform.shape))
    frequencies = torch.fft.rfftfreq(samples, 1 / sample_rate)
    spectrum[:, 0] = 0
    gain = (1 + (frequencies / end) ** (2 * RUMBLE_ORDER)).rsqrt()
    rumble = torch.fft.irfft(gain * spectrum, samples)
    rumble = rumble / rumble.square().mean(1, keepdim=True).sqrt()
    level = waveform.std(1, keepdim=True, correction=0)
    return level * 10 ** (decibels / 20) * rumble.to(waveform)


def vary(waveform):
    """Through a filter and, every second time, with noise.

    Arguments
    ---------
    waveform : torch.Tensor, [samples]
        A recording.

    Returns
    -------
    waveform : torch.Tensor, [samples]
    """
    samples = len(waveform)
    spectrum = torch.fft.rfft(waveform)
    gain = draw_filter(torch.arange(len(spectrum), dtype=torch.float32))
    power = waveform.square().mean()
    waveform = torch.fft.irfft(gain * spectrum, samples)
    # The level is varied elsewhere.
    filtered = waveform.square().mean().clamp_min(1e-20)
    waveform = waveform * (power / filtered).sqrt()
    if torch.rand(()) < 0.5:
        low, high = NOISE_DB
        ratio = low + (high - low) * torch.rand(())
        scale = power.sqrt() * 10 ** (-ratio / 20)
        waveform = waveform + scale * draw_noise(samples)
    return waveform
