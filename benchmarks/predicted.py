"""Mel spectrograms that an acoustic model predicted: vocoders side by side.

    python benchmarks/predicted.py FOLDER --mel NAME [--rendered NAME=FOLDER]

FOLDER holds mel spectrograms as .npy, [n_mels, time], in the numbers of the
convention --mel. There is no recording to compare with, and the scores need
none: DNSMOS (overall, and P.808) of `pip install speechmos`, DistillMOS of
`pip install distillmos`, both with their weights in the wheel; without a
package its columns are empty. --rendered adds what another vocoder made of the
same mels, .wav files of the same names. "Updates" are ours without a network
for magnitudes, as in mels.py.

All waveforms get the same level before they are scored; scores are means. The
largest step between two samples of all files, relative to the root mean
square, shows clicks.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
from contextlib import suppress
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
    """Functions of a waveform at 16 kHz, each gives a list."""
    functions = [lambda x: [np.nan, np.nan], lambda x: [np.nan]]
    with suppress(ImportError):
        from speechmos import dnsmos

        names = ("ovrl_mos", "p808_mos")
        functions[0] = lambda x: [dnsmos.run(x, RATE)[k] for k in names]
    with suppress(ImportError):
        from distillmos import ConvTransformerSQAModel

        model = ConvTransformerSQAModel().eval()
        functions[1] = lambda x: [model(torch.from_numpy(x)[None]).item()]
    return functions


def measure(waveform, rate):
    """The columns of one waveform, [samples]; it has to be finite."""
    if not np.isfinite(waveform).all():
        raise ValueError("a waveform holds NaN or infinite values.")
    waveform = waveform.astype(np.float64)
    level = max(np.sqrt(np.mean(waveform**2)), 1e-9)
    waveform = waveform * (LEVEL / level)
    step = np.abs(np.diff(waveform)).max() / LEVEL
    heard = resample(waveform[None], rate, RATE)[0].clip(-1, 1)
    heard = heard.astype(np.float32)
    return [*(x for score in scorers() for x in score(heard)), step]


def waveforms(files, options):
    """Method, waveform [samples] and sampling rate, file by file."""
    config, n_iter = mel_preset(options.mel), options.iterations
    peer = f"InverseMelScale, Griffin-Lim {n_iter}"
    methods = {
        peer: peer_of(config, n_iter),
        "updates": ours_of(config, "none"),
        "ours": ours_of(config),
    }
    for file in files:
        mel = torch.from_numpy(read_mel(file, config.n_mels))
        for method, vocode in methods.items():
            yield method, vocode(mel)[0].numpy(), config.stft.sample_rate
        for method, folder in options.rendered:
            audio, rate, _ = read_audio(Path(folder, f"{file.stem}.wav"))
            yield method, audio[0], rate


def _named(text):
    """A name and a folder."""
    name, equals, folder = text.partition("=")
    if not (name and equals and Path(folder).is_dir()):
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, got {text!r}.")
    return name, folder


@torch.inference_mode()
def main(arguments=None):
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--mel", required=True, choices=available_mels())
    parser.add_argument(
        "--rendered", nargs="+", default=[], type=_named, metavar="NAME=FOLDER"
    )
    parser.add_argument("--iterations", type=int, default=32)
    options = parser.parse_args(arguments)
    files = sorted(Path(options.folder).glob("*.npy"))
    if not files:
        parser.error(f"{options.folder} holds no mel spectrograms (.npy).")
    torch.set_num_threads(1)
    rows = {}
    for method, *audio in waveforms(files, options):
        rows.setdefault(method, []).append(measure(*audio))
    print(f"{len(files)} mel spectrograms, {options.mel}\n")
    print(f"| method | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for method, values in rows.items():
        cells = [*np.mean(values, axis=0)[:-1], np.max(values, axis=0)[-1]]
        cells = ["" if np.isnan(x) else f"{x:.2f}" for x in cells]
        print(f"| {method} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
