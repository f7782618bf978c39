"""Mel spectrograms that an acoustic model predicted: vocoders side by side.

    python benchmarks/predicted.py FOLDER --mel NAME [--rendered NAME=FOLDER]

FOLDER holds NAME.npy, [n_mels, time], in the numbers of the convention --mel.
There is no recording to compare with, and the scores need none: DNSMOS
(overall, and P.808) of `pip install speechmos`, DistillMOS of `pip install
distillmos`, both with their weights in the wheel; without a package its
columns are empty. --rendered adds what another vocoder made of the same mels,
NAME.wav. All waveforms get the same level before they are scored. The largest
step between two samples, relative to the root mean square, shows clicks.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
from functools import cache
from pathlib import Path

import numpy as np
import torch
from mels import ours_of, peer_of

from speechbrain_phaseinv.audio import read_audio, resample
from speechbrain_phaseinv.cli.arrays import read_mel
from speechbrain_phaseinv.mel import available_mels, mel_preset

RATE = 16000  # of all scores
LEVEL = 0.05  # root mean square, -26 dB
COLUMNS = ("DNSMOS", "DNSMOS P.808", "DistillMOS", "largest step")


@cache
def scorers():
    """Functions of a waveform at 16 kHz: each a list of values, or None."""
    functions = [lambda x: [np.nan, np.nan], lambda x: [np.nan]]
    try:
        from speechmos import dnsmos

        names = ("ovrl_mos", "p808_mos")
        functions[0] = lambda x: [dnsmos.run(x, RATE)[k] for k in names]
    except ImportError:
        pass
    try:
        from distillmos import ConvTransformerSQAModel

        model = ConvTransformerSQAModel().eval()
        functions[1] = lambda x: [model(torch.from_numpy(x)[None]).item()]
    except ImportError:
        pass
    return functions


def measure(waveform, rate):
    """The columns of one waveform, [samples]; it has to be finite."""
    if not np.isfinite(waveform).all():
        raise ValueError("a waveform holds NaN or infinite values.")
    waveform = waveform.astype(np.float64)
    waveform = waveform * (LEVEL / np.sqrt(np.mean(waveform**2)))
    step = np.abs(np.diff(waveform)).max() / LEVEL
    heard = resample(waveform[None], rate, RATE)[0]
    heard = heard.clip(-1, 1).astype(np.float32)
    return [*(x for score in scorers() for x in score(heard)), step]


def waveforms(files, config, n_iter, rendered):
    """Method, waveform [samples] and sampling rate, file by file."""
    peer = f"InverseMelScale, Griffin-Lim {n_iter}"
    methods = {peer: peer_of(config, n_iter), "ours": ours_of(config)}
    for file in files:
        mel = torch.from_numpy(read_mel(file, config.n_mels))
        for method, vocode in methods.items():
            yield method, vocode(mel)[0].numpy(), config.stft.sample_rate
        for method, folder in rendered.items():
            audio, rate, _ = read_audio(Path(folder, f"{file.stem}.wav"))
            yield method, audio[0], rate


@torch.inference_mode()
def main(arguments=None):
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--mel", required=True, choices=available_mels())
    parser.add_argument("--rendered", nargs="*", default=[])
    parser.add_argument("--iterations", type=int, default=32)
    options = parser.parse_args(arguments)
    files = sorted(Path(options.folder).glob("*.npy"))
    if not files:
        parser.error(f"{options.folder} holds no mel spectrograms (.npy).")
    rendered = dict(x.partition("=")[::2] for x in options.rendered)
    torch.set_num_threads(1)
    rows = {}
    config = mel_preset(options.mel)
    for method, waveform, rate in waveforms(
        files, config, options.iterations, rendered
    ):
        rows.setdefault(method, []).append(measure(waveform, rate))
    print(f"{len(files)} mel spectrograms, {options.mel}\n")
    print(f"| method | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for method, values in rows.items():
        *means, step = np.mean(values, axis=0)
        step = np.max([x[-1] for x in values])
        cells = [f"{x:.2f}" for x in (*means, step)]
        print(f"| {method} | {' | '.join(cells)} |".replace("nan", ""))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
