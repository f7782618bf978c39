"""Enhanced magnitudes of every quality, to train a phase network on.

Mixtures are made once, with the gains that published enhancers have for them
(see `enhancers`). Each excerpt then gets magnitudes anew: those of the clean
speech, those behind an enhancer, or behind a mask that knows the speech and is
smoothed, floored and disturbed; and anything between them and the clean ones.
"""

import torch
from enhancement.enhancers import TRANSFORMS, Enhancer, carry
from enhancement.mixing import mix

from speechbrain_phaseinv import StftConfig, analysis

# Where gains are kept and masks are made, at 16 kHz.
GRID = StftConfig(16000, 512, hop_length=128)

# Shares of the magnitudes: clean ones, published enhancers', and those drawn
# towards the clean ones.
CLEAN, PUBLISHED, BLENDED = 0.2, 0.6, 0.3


def make_mixtures(speech, noise, count, seconds, enhancers, snrs, seed=0):
    """Mixtures with the gains of enhancers.

    Arguments
    ---------
    speech : audio.Recordings
    noise : mixing.Noise
    count : int
        Mixtures.
    seconds : float
        Of each; shorter recordings are shorter.
    enhancers : dict of str to str
        Name and ONNX file of each.
    snrs : tuple of float
        Lowest and highest, in dB.

    Returns
    -------
    mixtures : list of dict
        "clean" and "noisy", [1, samples], and "gains", by name.
    """
    models = [Enhancer(name, path) for name, path in enhancers.items()]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(speech), generator=generator).tolist()
    samples, mixtures = int(seconds * speech.sample_rate), []
    for i in range(count):
        index = order[i % len(order)]
        clean = torch.from_numpy(speech.waveform(index))
        last = max(len(clean) - samples, 0)
        start = int(torch.randint(last + 1, (), generator=generator))
        clean = clean[start : start + samples]
        low, high = snrs
        snr = low + (high - low) * torch.rand((), generator=generator)
        drawn = noise.draw(len(clean), generator, index)
        noisy = mix(clean, drawn, snr)
        level = 10 ** (torch.rand((), generator=generator) - 1.5)
        level = level / noisy.abs().max().clamp_min(1e-5)
        clean, noisy = level * clean[None], level * noisy[None]
        gains = {x.name: x.gain(noisy).half() for x in models}
        mixtures.append({"clean": clean, "noisy": noisy, "gains": gains})
    return mixtures


class MaskedExcerpts(torch.utils.data.Dataset):
    """(clean, noisy, gain, share) of excerpts of mixtures.

    The gain is that of `GRID`, and `share` says how much of the magnitudes is
    the clean speech's: `magnitude` makes them, for any transform.

    Arguments
    ---------
    mixtures : list of dict
        From `make_mixtures`.
    frames : int
        Of an excerpt, in `GRID`.
    repeats : int
        Excerpts of each mixture.
    fixed : bool
        The same excerpts every time, for validation.
    """

    def __init__(self, mixtures, frames, repeats=1, fixed=False):
        self.frames, self.fixed, self.repeats = frames, fixed, repeats
        self.samples = (frames - 1) * GRID.hop_length
        self.mixtures = [
            {**x, "gains": carried(x["gains"], GRID, x["noisy"].shape[1])}
            for x in mixtures
            if x["clean"].shape[1] > self.samples
        ]

    def __len__(self):
        return self.repeats * len(self.mixtures)

    def __getitem__(self, index):
        seed = index if self.fixed else int(torch.randint(2**31, ()))
        generator = torch.Generator().manual_seed(seed)
        mixture = self.mixtures[index % len(self.mixtures)]
        hop, clean = GRID.hop_length, mixture["clean"]
        last = (clean.shape[1] - self.samples) // hop
        starts = torch.randint(last + 1, (2,), generator=generator).tolist()
        # Of two, the louder one: less of the training is about pauses.
        parts = {x: clean[:, x * hop : x * hop + self.samples] for x in starts}
        start = max(parts, key=lambda x: parts[x].square().sum())
        clean, noisy = parts[start], mixture["noisy"]
        noisy = noisy[:, start * hop : start * hop + self.samples]
        gains = [
            x[:, start : start + self.frames].float() for x in mixture["gains"]
        ]
        chance, kind, blend, share = torch.rand(4, generator=generator).tolist()
        if gains and kind < PUBLISHED:
            which = int(torch.randint(len(gains), (), generator=generator))
            gain = gains[which]
        else:
            gain = disturbed(oracle(clean, noisy, generator), generator)
        share = 1.0 if chance < CLEAN else share * (blend < BLENDED)
        return clean[0], noisy[0], gain[0], torch.tensor(share)


def carried(gains, config, samples):
    """The gains of a mixture in a transform, half precision."""
    frames = config.num_frames(samples)
    return [
        carry(gain.float(), TRANSFORMS[name], config, frames).half()
        for name, gain in gains.items()
    ]


def magnitude(clean, noisy, gain, share, config):
    """Enhanced magnitudes of excerpts, [batch, time, freq].

    Arguments
    ---------
    clean, noisy, gain, share
        A batch of `MaskedExcerpts`.
    config : StftConfig
        Of the magnitudes.
    """
    speech, recorded = (analysis(x, config).abs() for x in (clean, noisy))
    enhanced = carry(gain, GRID, config, speech.shape[1]) * recorded
    return enhanced + share[:, None, None] * (speech - enhanced)


def oracle(clean, noisy, generator):
    """One of three masks that know speech and noise."""
    waveforms = clean, noisy - clean, noisy
    speech, noise, recorded = (analysis(x, GRID).abs() for x in waveforms)
    tiny = 1e-9
    power = speech.square() / (speech.square() + noise.square() + tiny)
    masks = power, power.sqrt(), (speech / (recorded + tiny)).clamp_max(1)
    return masks[int(torch.randint(3, (), generator=generator))]


def disturbed(mask, generator):
    """A mask, smoothed, multiplied by smooth noise, and floored."""
    across, along, loud, floor = torch.rand(4, generator=generator).tolist()
    mask = _smooth(mask, int(4 * along), int(4 * across))
    noise = torch.randn(mask.shape, generator=generator)
    noise = _smooth(noise, int(3 * across), int(5 * along))
    noise = loud * noise / noise.std().clamp_min(1e-5)
    return (mask * noise.exp()).clamp(10 ** (-0.5 - 2 * floor), 1)


def _smooth(x, frames, bins):
    """Mean over so many frames and bins on each side."""
    around = bins, bins, frames, frames
    x = torch.nn.functional.pad(x[None], around, mode="replicate")
    size = 2 * frames + 1, 2 * bins + 1
    return torch.nn.functional.avg_pool2d(x, size, stride=1)[0]
