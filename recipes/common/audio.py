"""Recordings, decoded once, resampled once, and kept in memory."""

import json
import math
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from common import augment
from common.prepare import data_root, prepare


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

    def select(self, corpora=(), limit=None):
        """Keep some corpora only, and at most `limit` recordings of each."""
        count = Counter()
        kept = []
        for name, entry in self.entries:
            corpus = entry["corpus"]
            if (not corpora or corpus in corpora) and count[corpus] != limit:
                kept.append((name, entry))
                count[corpus] += 1
        self.entries = kept

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


def datasets(hparams, augment=False):
    """The excerpts for training, and the whole recordings of the other splits.

    Arguments
    ---------
    hparams : dict
        A recipe's hyperparameters, after `prepare`.
    augment : bool
        See `ExcerptDataset`.

    Returns
    -------
    train_data, valid_data, test_data : torch.utils.data.Dataset
    """
    tables, rate = Path(hparams["save_folder"]), hparams["sample_rate"]
    root = data_root(hparams["data_folder"])
    samples = hparams["excerpt_samples"]
    return (
        ExcerptDataset(tables / "train.json", root, rate, samples, augment),
        UtteranceDataset(tables / "valid.json", root, rate),
        UtteranceDataset(tables / "test.json", root, rate),
    )


class SplitRecordings:
    """The recordings of a split, one after the other.

    Iteration yields the name, the corpus and the waveform, [1, samples].

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
        The largest number of recordings of each corpus.
    corpora : sequence of str
        The corpora to take; all, if empty.

    Raises
    ------
    ValueError
        If no recording is left.
    """

    def __init__(
        self,
        data_folder,
        split,
        sample_rate,
        layout="auto",
        limit=None,
        corpora=(),
    ):
        with tempfile.TemporaryDirectory() as folder:
            prepare(data_folder, folder, layout)
            self.recordings = Recordings(
                Path(folder, f"{split}.json"),
                data_root(data_folder),
                sample_rate,
            )
        self.recordings.select(corpora, limit)
        if not self.recordings.entries:
            raise ValueError(
                f"there is no recording of the split {split!r} in "
                f"{data_folder}, of the corpora "
                f"{', '.join(corpora) or 'that it has'}."
            )

    def __len__(self):
        return len(self.recordings)

    def __iter__(self):
        for i, (name, entry) in enumerate(self.recordings.entries):
            waveform = torch.from_numpy(self.recordings.waveform(i))
            self.recordings.decoded.clear()
            yield name, entry["corpus"], waveform.unsqueeze(0)


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
        """A stretch from anywhere, with silence around what is too short."""
        missing = max(samples - len(waveform), 0)
        before = int(torch.randint(missing + 1, ()))
        waveform = torch.nn.functional.pad(waveform, (before, missing - before))
        start = int(torch.randint(len(waveform) - samples + 1, ()))
        return waveform[start : start + samples]
