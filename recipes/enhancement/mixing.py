"""Noisy speech: recordings, coloured noise and babble at any level.

A mixture is determined by a seed alone, so that the validation and the test
hear the same noise in every run and on every machine.
"""

import torch

KINDS = ("recorded", "coloured", "babble")

# For training alone.
MORE_KINDS = (*KINDS, "modulated", "hum")


class Noise:
    """Some kinds of noise, as far as there are recordings for them.

    Arguments
    ---------
    speech : audio.Recordings
        The voices of babble, if there are at least two.
    recorded : audio.Recordings, optional
        Recordings of noise.
    kinds : sequence of str
        Of `MORE_KINDS`.
    """

    def __init__(self, speech, recorded=None, kinds=KINDS):
        self.speech = speech
        self.recorded = recorded
        missing = {"recorded"} if recorded is None else set()
        missing |= {"babble"} if len(speech) < 2 else set()
        self.kinds = [kind for kind in kinds if kind not in missing]

    def draw(self, samples, generator, own=-1):
        """Noise of one kind, [samples], at any level.

        Arguments
        ---------
        samples : int
            Wanted.
        generator : torch.Generator
            Decides.
        own : int
            Index of the recording to which it will be added: no babble.
        """
        kind = self.kinds[_integer(len(self.kinds), generator)]
        if kind == "coloured":
            return coloured(samples, generator)
        if kind == "modulated":
            return modulated(samples, generator)
        if kind == "hum":
            return hum(samples, generator)
        if kind == "recorded":
            return _excerpt(self.recorded, samples, generator)
        voices = [i for i in range(len(self.speech)) if i != own]
        total = torch.zeros(samples)
        for _ in range(6):
            voice = _excerpt(self.speech, samples, generator, voices)
            total += voice / _level(voice)
        return total


def coloured(samples, generator):
    """Gaussian noise, falling with frequency by 0 to 6 dB an octave."""
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    frequency = torch.arange(len(spectrum)).clamp_min(1)
    slope = torch.rand((), generator=generator)
    return torch.fft.irfft(spectrum * frequency**-slope, n=samples)


def modulated(samples, generator):
    """Gaussian noise of a random spectrum, whose level rises and falls."""
    points = 2.0 * torch.randn(1, 1, 12, generator=generator)
    white = torch.randn(samples, generator=generator)
    spectrum = torch.fft.rfft(white)
    gain = _curve(points, len(spectrum)).exp()
    count = max(samples // 4000, 2)
    levels = 1.0 * torch.randn(1, 1, count, generator=generator)
    noise = torch.fft.irfft(spectrum * gain, n=samples)
    return noise * _curve(levels, samples).exp()


def hum(samples, generator):
    """Harmonics of a tone between 0.6 and 2.5 % of the rate, and noise."""
    one = torch.rand(3, generator=generator)
    phase = 2 * torch.pi * (0.006 + 0.019 * one[0]) * torch.arange(samples)
    drift = torch.randn(1, 1, max(samples // 8000, 2), generator=generator)
    phase = phase * (1 + 0.01 * _curve(drift, samples))
    total = 0.3 * one[1] * torch.randn(samples, generator=generator)
    for order in range(1, 20):
        turn = torch.rand((), generator=generator) * 2 * torch.pi
        total = total + torch.cos(order * phase + turn) / order ** (2 * one[2])
    return total


def _curve(points, length):
    """A smooth curve through points, [length]."""
    curve = torch.nn.functional.interpolate(
        points, length, mode="linear", align_corners=True
    )
    return curve[0, 0]


def mix(clean, noise, snr):
    """Clean speech with noise, at a signal-to-noise ratio in dB."""
    gain = _level(clean) / _level(noise) * 10 ** (-snr / 20)
    return clean + gain * noise


class NoisyExcerpts(torch.utils.data.Dataset):
    """Pairs (noisy, clean) [samples] for training, new ones every time."""

    def __init__(self, excerpts, noise, lowest_snr, highest_snr):
        self.excerpts = excerpts
        self.noise = noise
        self.range = lowest_snr, highest_snr

    def __len__(self):
        return len(self.excerpts)

    def __getitem__(self, index):
        clean = self.excerpts[index]
        seed = int(torch.randint(2**31, ()))
        generator = torch.Generator().manual_seed(seed)
        own = self.excerpts.sources[index]
        noise = self.noise.draw(len(clean), generator, own)
        low, high = self.range
        snr = low + (high - low) * torch.rand((), generator=generator)
        return mix(clean, noise, snr), clean


class NoisyUtterances(torch.utils.data.Dataset):
    """Pairs (noisy, clean) [samples], whole recordings, always the same."""

    def __init__(self, recordings, noise, snrs):
        self.recordings = recordings
        self.noise = noise
        self.snrs = snrs

    def __len__(self):
        return len(self.recordings) * len(self.snrs)

    def __getitem__(self, index):
        recording, snr = divmod(index, len(self.snrs))
        clean = torch.from_numpy(self.recordings.waveform(recording))
        generator = torch.Generator().manual_seed(recording)
        noise = self.noise.draw(len(clean), generator, recording)
        return mix(clean, noise, self.snrs[snr]), clean


def _integer(limit, generator):
    return int(torch.randint(limit, (), generator=generator))


def _level(waveform):
    return waveform.square().mean().sqrt().clamp_min(1e-8)


def _excerpt(recordings, samples, generator, among=None):
    """A random stretch of a random recording, repeated where too short."""
    among = range(len(recordings)) if among is None else among
    index = among[_integer(len(among), generator)]
    waveform = torch.from_numpy(recordings.waveform(index))
    waveform = waveform.repeat(-(-samples // len(waveform)))
    start = _integer(len(waveform) - samples + 1, generator)
    return waveform[start : start + samples]
