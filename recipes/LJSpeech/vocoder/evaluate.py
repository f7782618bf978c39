#!/usr/bin/env python3
"""Vocoders side by side: from mel spectrograms, and from linear magnitudes.

    python evaluate.py --data_folder SPEECH [--mel NAME] [--linear NAME]

NAME is a packaged vocoder or a folder like one; it says which transform is
taken of the recordings of the test split (or another, with --split). All
methods get the same spectrograms and one thread; the clock counts CPU time
from the spectrogram to the waveform. Before PESQ both signals are resampled
to 16 kHz. Griffin-Lim is torchaudio's, random phases from seed 0. The figures
of each recording also go into a JSON file.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torchaudio
from common.audio import SplitRecordings
from common.evaluation import (
    add_data_options,
    argument_parser,
    progress,
    write_figures,
)

from speechbrain_phaseinv.evaluation.methods import torchaudio_griffin_lim
from speechbrain_phaseinv.evaluation.scores import score
from speechbrain_phaseinv.evaluation.tables import summarise, summary_table
from speechbrain_phaseinv.inference import PhaseInversionVocoder
from speechbrain_phaseinv.mel import MelInversion, log_mel
from speechbrain_phaseinv.stft import analysis

SCORES = ("pesq_wb", "estoi", "real_time_factor")


def vocoders(arguments):
    """What is compared: name to callable (log_mel, length) -> waveform.

    Arguments
    ---------
    arguments : argparse.Namespace
        From `parse`.

    Returns
    -------
    mels, linears : dict of str to callable
        For log-mels, [1, time, n_mels], and for magnitudes, [1, time, freq].
    mel : MelConfig
        What the log-mels are.
    """
    ours = PhaseInversionVocoder.from_hparams(arguments.mel)
    mel = ours.mods.front_end.config
    stft = mel.stft
    inverse = torchaudio.transforms.InverseMelScale(
        stft.num_bins,
        mel.n_mels,
        stft.sample_rate,
        mel.f_min,
        mel.f_max,
        norm="slaney",
        mel_scale="slaney",
    )
    spread = MelInversion(mel)
    mels, linears = {}, {}
    for n in arguments.griffin_lim:
        invert = torchaudio_griffin_lim(stft, n)
        linears[f"Griffin-Lim {n}"] = invert
        mels[f"InverseMelScale, Griffin-Lim {n}"] = (
            lambda x, length, invert=invert: invert(
                inverse(x.exp().transpose(1, 2)).transpose(1, 2), length
            )
        )
    for n in arguments.griffin_lim[:1]:
        invert = torchaudio_griffin_lim(stft, n)
        mels[f"our magnitudes, Griffin-Lim {n}"] = (
            lambda x, length, invert=invert: invert(
                ours.mods.front_end(x)[0], length
            )
        )
    mels["non-negative magnitudes, our phase"] = lambda x, length: (
        ours.mods.inverter(spread(x)[0], length=length)
    )
    mels[Path(arguments.mel).name] = lambda x, length: fit(
        ours.decode_batch(x.transpose(1, 2)).squeeze(1), length
    )
    for ahead in (0, 1):
        vocoder = PhaseInversionVocoder.from_hparams(
            arguments.linear, overrides={"lookahead": ahead}
        )
        name = f"{Path(arguments.linear).name}, look-ahead {ahead}"
        linears[name] = lambda x, length, vocoder=vocoder: fit(
            vocoder.decode_batch(x.transpose(1, 2)).squeeze(1), length
        )
    mels, linears = (
        {
            name: vocode
            for name, vocode in table.items()
            if any(word in name for word in arguments.methods)
        }
        for table in (mels, linears)
    )
    return mels, linears, mel


def fit(waveform, length):
    """The same samples, cut off or filled with zeros to a length."""
    return torch.nn.functional.pad(waveform, (0, length - waveform.shape[1]))


@torch.inference_mode()
def evaluate(arguments):
    """Scores, a dict for each recording and method."""
    torch.set_num_threads(1)
    mels, linears, mel = vocoders(arguments)
    rows, warm = [], set()
    recordings = SplitRecordings(
        arguments.data_folder,
        arguments.split,
        mel.stft.sample_rate,
        arguments.layout,
        arguments.limit,
        arguments.corpora,
    )
    for name, corpus, target in progress(recordings, arguments):
        samples = target.shape[1]
        magnitude = analysis(target, mel.stft).abs()
        inputs = ((mels, log_mel(magnitude, mel)), (linears, magnitude))
        for table, spectrogram in inputs:
            for method, vocode in table.items():
                if method not in warm:
                    vocode(spectrogram, samples)
                    warm.add(method)
                start = time.process_time()
                waveform = vocode(spectrogram, samples)
                seconds = time.process_time() - start
                row = {"method": method, "file": name, "corpus": corpus}
                row["real_time_factor"] = (
                    seconds * mel.stft.sample_rate / samples
                )
                row.update(score(target, waveform, mel.stft, SCORES[:2]))
                rows.append(row)
    return rows


def tables(rows):
    """The tables, one for each corpus and one for all."""
    lines = []
    corpora = sorted({row["corpus"] for row in rows})
    for corpus in [*corpora, "all"]:
        mine = [row for row in rows if corpus in (row["corpus"], "all")]
        files = len({row["file"] for row in mine})
        means = summarise(mine, SCORES)
        lines += ["", f"{corpus}, {files} recordings", ""]
        lines += [summary_table(means, SCORES)]
    return "\n".join(lines)


def parse(arguments=None):
    """The command line."""
    parser = argument_parser(__doc__, "results/evaluation.json")
    add_data_options(parser)
    parser.add_argument("--mel", default="mel80-22050")
    parser.add_argument("--linear", default="linear-22050")
    parser.add_argument("--griffin_lim", type=int, nargs="*", default=[32, 100])
    parser.add_argument(
        "--methods",
        nargs="*",
        default=[""],
        help="only those with one of these words in their names",
    )
    return parser.parse_args(arguments)


def main(arguments=None):
    """Evaluate, print the tables and write the figures."""
    arguments = parse(arguments)
    rows = evaluate(arguments)
    print(tables(rows))
    write_figures(arguments.json, rows)


if __name__ == "__main__":
    main()
