"""What the tests of the recipes share: made-up recordings, runs in process."""

import csv
import logging
import random
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import soundfile
import torch
from conftest import synthetic_speech

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
HPARAMS = ROOT / "hparams"
sys.path.insert(0, str(RECIPES))


def write_speech(path, seed=0, seconds=0.7, rate=16000):
    """Write made-up speech."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = synthetic_speech(seconds, rate, seed)[0].numpy()
    soundfile.write(str(path), samples, rate)


def manifest(folder, counts, name="list.csv", seconds=0.7, corpus=None):
    """Write recordings of each split, at two rates, and their manifest."""
    rows = []
    folder.mkdir(exist_ok=True)
    for split, count in counts.items():
        for i in range(count):
            path = folder / f"{split}{i}.wav"
            write_speech(path, i, seconds, rate=16000 if i % 2 else 22050)
            row = {"path": path.name, "split": split, "speaker": split}
            rows.append({**row, "corpus": corpus})
    with open(folder / name, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / name


def run(module, *arguments):
    """Call the `main` of a recipe's script, and leave no trace of it here.

    Seeds, SpeechBrain's log files and its excepthook are as before.
    """
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = list(root.handlers), root.level
    seeds = random.getstate(), np.random.get_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            import_module(module).main([str(x) for x in arguments])
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers, sys.excepthook = handlers, hook
        root.setLevel(level)
        random.setstate(seeds[0])
        np.random.set_state(seeds[1])
        torch.set_num_threads(threads)


def train(module, configuration, data, output, *options):
    """Run a training script on a CPU, without a progress bar."""
    run(
        module,
        HPARAMS / configuration,
        f"--data_folder={data}",
        f"--output_folder={output}",
        "--device=cpu",
        "--noprogressbar",
        *options,
    )
