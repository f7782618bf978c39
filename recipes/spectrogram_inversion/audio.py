"""Recordings, decoded once, resampled once, and kept in memory."""

import json
import math
import tempfile
from collections import Counter
from pathlib import Path

import augment
import numpy as np
import soundfile
import soxr
import torch
from prepare import data_root, prepare


class Recordings:
    """The recordings of a JSON file, decoded when they are first wanted.

    In memory they are 16-bit integers: an hour at 16 kHz takes 115 MB.

    Arguments
    ---------
    json_file : str or Path
        Written by `prepare.prepare`.
    data_root : str
        Stands for "{data_root}" in the file.
    sample_rate : int
        To which everything is resampled, in Hz.
    """

    def __init__(self, json_file, data_root, sample_rate):
        with open(json_file, encoding="utf-8") as file:
            table = json.load(file)
        self.entries = sorted(table.items())
        self.data_root = data_root
        self.sample_rate = sample_rate
        self.decoded = {}

    def __len__(self):
        return len(self.entries)

    def seconds(self, index):
        """Length of a recording, in seconds."""
        return self.entries[index][1]["length"]

    def waveform(self, index):
        """Samples in [-1, 1], float32, first channel."""
        if index not in self.decoded:
            path = self.entries[index][1]["wav"]
            path = path.replace("{data_root}", self.data_root)
            samples, rate = soundfile.read(path, dtype="float32")
            samples = samples.reshape(len(samples), -1)[:, 0]
            if rate != self.sample_rate:
                samples = soxr.resample(samples, rate, self.sample_rate)
            samples = np.round(np.clip(samples, -1, 1) * 32767)
            self.decoded[index] = samples.astype(np.int16)
        return self.decoded[index].astype(np.float32) / 32767


class UtteranceDataset(torch.utils.data.Dataset):
    """Whole recordings, as tensors [samples]."""

    def __init__(self, json_file, data_root, sample_rate):
        self.recordings = Recordings(json_file, data_root, sample_rate)

    def __len__(self):
        return len(self.recordings)

    def __getitem__(self, index):
        return torch.from_numpy(self.recordings.waveform(index))


def split_recordings(
    data_folder, split, sample_rate, layout="auto", limit=None, corpora=()
):
    """The recordings of a split, one after the other.

    Arguments
    ---------
    data_folder : str
        As for `prepare.prepare`.
    split : str
        "train", "valid" or "test".
    sample_rate : int
        To which everything is resampled, in Hz.
    layout : str
        As for `prepare.prepare`.
    limit : int, optional
        At most so many of each corpus.
    corpora : sequence of str
        These only; all, if empty.

    Yields
    ------
    name, corpus : str
    waveform : torch.Tensor, [1, samples]
    """
    with tempfile.TemporaryDirectory() as folder:
        prepare(data_folder, folder, layout)
        table = Path(folder, f"{split}.json")
        data = UtteranceDataset(table, data_root(data_folder), sample_rate)
    count = Counter()
    for i, (name, entry) in enumerate(data.recordings.entries):
        corpus = entry["corpus"]
        if (corpora and corpus not in corpora) or count[corpus] == limit:
            continue
        count[corpus] += 1
        yield name, corpus, data[i].unsqueeze(0)


class ExcerptDataset(torch.utils.data.Dataset):
    """Random excerpts, as many of each recording as fit into it.

    Each at a level of its own, between -20 and +10 dB, with noise 100 dB
    below full scale, so that digital silence does not teach the network
    anything about rounding.

    Arguments
    ---------
    json_file, data_root, sample_rate
        As for `Recordings`.
    samples : int
        Length of an excerpt.
    augment : bool
        Vary pitch, filter and noise too, see `augment`.
    """

    def __init__(
        self, json_file, data_root, sample_rate, samples, augment=False
    ):
        self.recordings = Recordings(json_file, data_root, sample_rate)
        self.samples = samples
        self.augment = augment
        self.sources = []
        for i in range(len(self.recordings)):
            fitting = self.recordings.seconds(i) * sample_rate / samples
            self.sources += [i] * max(1, round(fitting))

    def __len__(self):
        return len(self.sources)

    def __getitem__(self, index):
        waveform = torch.from_numpy(
            self.recordings.waveform(self.sources[index])
        )
        speed = augment.draw_speed() if self.augment else 1.0
        waveform = self._excerpt(waveform, math.ceil(self.samples * speed))
        if self.augment:
            waveform = augment.change_pitch(waveform, speed)
            waveform = augment.vary(self._excerpt(waveform, self.samples))
        gain = 10 ** (torch.rand(()) * 1.5 - 1)
        return gain * waveform + 1e-5 * torch.randn(self.samples)

    @staticmethod
    def _excerpt(waveform, samples):
        """So many samples from anywhere; silence around what is shorter."""
        missing = max(samples - len(waveform), 0)
        before = int(torch.randint(missing + 1, ()))
        waveform = torch.nn.functional.pad(waveform, (before, missing - before))
        start = int(torch.randint(len(waveform) - samples + 1, ()))
        return waveform[start : start + samples]


def collate(batch):
    """Tensors of equal length, [batch, samples]."""
    return torch.stack(batch)
