"""Random mel conventions, and speech at each one's sampling rate."""

import math
import random

import numpy as np
import soundfile
import soxr
import torch
from common import augment
from common.audio import Recordings
from common.prepare import data_root

from speechbrain_phaseinv import StftConfig
from speechbrain_phaseinv.mel import MelConfig, mel_preset

# Chances in a hundred. Systems of today have these; others lie in between.
RATES = {16000: 25, 22050: 30, 24000: 25, 32000: 5, 44100: 10, 48000: 5}
OVERLAPS = {1 / 4: 70, 2 / 5: 10, 1 / 2: 10, 1 / 3: 5, 1 / 5: 5}
WINDOWS = {"hann": 90, "hamming": 5, "sqrt_hann": 5}
BANDS = {80: 50, 100: 15, 128: 15, 64: 5, None: 15}  # None: any of 64 to 128
# A bin holds most of a band, at least.
MOST_BANDS = 0.65
# In seconds, and one in eight times zero-padded.
SHORTEST, LONGEST = 0.02, 0.1
PADDED = 0.12
# Pitch is varied this often, the microphone that often.
PITCH, MICROPHONE = 0.6, 0.25


def draw_convention():
    """A random `MelConfig`, from Python's generator.

    Returns
    -------
    config : MelConfig
        Natural logarithms: what else stands for them makes no difference.
    """
    rate = _draw(RATES)
    seconds = math.exp(random.uniform(math.log(SHORTEST), math.log(LONGEST)))
    win = 2 ** round(math.log2(seconds * rate))
    if random.random() < 0.3:
        win = 40 * max(round(seconds * rate / 40), 1)
    n_fft = win
    if random.random() < PADDED:
        n_fft = 2 ** math.ceil(math.log2(win + 1))
    stft = StftConfig(
        rate, n_fft, win, round(win * _draw(OVERLAPS)), _draw(WINDOWS)
    )
    n_mels = _draw(BANDS) or random.randint(64, 128)
    nyquist = rate / 2
    usual = [x for x in (7600, 8000, 11025, 12000) if x <= nyquist]
    high = random.choice([nyquist, nyquist, *usual, *usual])
    if random.random() < 0.15:
        high = random.uniform(6500, nyquist)
    scale, norm = random.choice([("slaney", "slaney")] * 3 + [("htk", None)])
    if random.random() < 0.15:
        norm = random.choice(["slaney", None])
    return MelConfig(
        stft,
        min(n_mels, int(MOST_BANDS * stft.num_bins)),
        random.choice([0, 0, 0, 80, 20, random.uniform(0, 130)]),
        high,
        floor=random.choice([1e-5, 1e-7, 1e-10]),
        scale=scale,
        norm=norm,
        power=random.choice([1, 1, 1, 2]),
    )


class ConventionDataset(torch.utils.data.Dataset):
    """Random conventions, each with a batch of excerpts at its rate.

    Levels and noise are those of `common.audio.ExcerptDataset`. Recordings at
    a lower rate than the convention's hold nothing near half of it, and would
    teach that: they serve conventions of their own rate or less, and the
    highest rate there is serves those above it.

    Arguments
    ---------
    json_file, data_root
        As for `common.audio.Recordings`.
    batches : int
        Length of the dataset.
    batch_size : int
        Excerpts of a batch.
    seconds : float
        Of an excerpt.
    """

    def __init__(self, json_file, data_root, batches, batch_size, seconds):
        self.pools = recordings_by_rate(json_file, data_root)
        self.batches, self.batch_size = batches, batch_size
        self.seconds = seconds

    def __len__(self):
        return self.batches

    def __getitem__(self, index):
        if index >= self.batches:
            raise IndexError(index)
        config = draw_convention()
        rate = config.stft.sample_rate
        samples = round(self.seconds * rate)
        least = min(rate, max(self.pools))
        pools = [x for own, x in self.pools.items() if own >= least]
        excerpts = [
            self.excerpt(random.choice(pools), rate, samples)
            for _ in range(self.batch_size)
        ]
        return config, torch.stack(excerpts)

    @staticmethod
    def excerpt(pool, rate, samples):
        """One excerpt, [samples]."""
        lengths = [pool.seconds(i) for i in range(len(pool))]
        (index,) = random.choices(range(len(pool)), lengths)
        waveform = pool.waveform(index)
        speed = augment.draw_speed() if random.random() < PITCH else 1.0
        # Played at another speed is resampled from another rate.
        own = pool.sample_rate * speed
        wanted = math.ceil(samples * own / rate) + 1
        start = random.randint(0, max(len(waveform) - wanted, 0))
        waveform = soxr.resample(waveform[start : start + wanted], own, rate)
        waveform = torch.from_numpy(waveform.astype(np.float32))[:samples]
        missing = samples - len(waveform)
        waveform = torch.nn.functional.pad(waveform, (0, missing))
        if random.random() < MICROPHONE:
            waveform = augment.vary(waveform)
        gain = 10 ** (random.random() * 1.5 - 1)
        return gain * waveform + 1e-5 * torch.randn(samples)


class PresetDataset(torch.utils.data.Dataset):
    """Whole recordings in each of some conventions, (config, [1, samples]).

    Arguments
    ---------
    json_file, data_root
        As for `common.audio.Recordings`.
    names : sequence of str
        Of the conventions.
    limit : int
        Recordings of each corpus, chosen by rate as in `ConventionDataset`.
    """

    def __init__(self, json_file, data_root, names, limit):
        pools = recordings_by_rate(json_file, data_root)
        self.items = []
        for pool in pools.values():
            pool.select(limit=limit)
        for name in names:
            config = mel_preset(name)
            least = min(config.stft.sample_rate, max(pools))
            for own, pool in pools.items():
                if own >= least:
                    self.items += [(config, pool, i) for i in range(len(pool))]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        config, pool, i = self.items[index]
        waveform = pool.waveform(i)
        rate = config.stft.sample_rate
        waveform = soxr.resample(waveform, pool.sample_rate, rate)
        return config, torch.from_numpy(waveform.astype(np.float32))[None]


def recordings_by_rate(json_file, data_root):
    """`Recordings` at their own rates, by rate."""
    every = Recordings(json_file, data_root, None)
    rates = {
        name: soundfile.info(
            entry["wav"].replace("{data_root}", data_root)
        ).samplerate
        for name, entry in every.entries
    }
    pools = {}
    for rate in sorted(set(rates.values())):
        pools[rate] = Recordings(json_file, data_root, rate)
        pools[rate].entries = [x for x in every.entries if rates[x[0]] == rate]
    return pools


def convention_datasets(hparams):
    """Random conventions to train on, presets to validate and to test."""
    tables = hparams["save_folder"]
    root = data_root(hparams["data_folder"])
    names, limit = hparams["presets"], hparams["recordings_per_corpus"]
    return (
        ConventionDataset(
            f"{tables}/train.json",
            root,
            hparams["updates_per_epoch"],
            hparams["batch_size"],
            hparams["excerpt_seconds"],
        ),
        PresetDataset(f"{tables}/valid.json", root, names, limit),
        PresetDataset(f"{tables}/test.json", root, names, limit),
    )


def _draw(chances):
    """One of the keys, as likely as its value says."""
    (drawn,) = random.choices(list(chances), list(chances.values()))
    return drawn
