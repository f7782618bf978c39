#!/usr/bin/env python3
"""Table of an enhancer's resynthesis: which phase, at which noise.

    python evaluate.py results/enhancement/1 --snrs 0 5 10 20

The argument is the output folder of train.py. Its enhancer is loaded as any
other of SpeechBrain, and its `resynth` is replaced by one method after the
other; the same methods then get the magnitudes of the clean speech, to tell
what the phase costs from what the mask does. Scores are PESQ-WB and ESTOI
against the clean speech, means over the utterances of the split.
"""

import argparse
import functools
import json
import logging
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from mixing import NoisyUtterances
from speechbrain.inference.enhancement import SpectralMaskEnhancement
from speechbrain.processing.features import ISTFT
from speechbrain.processing.signal_processing import resynthesize
from train import recordings

from speechbrain_phaseinv import Resynthesizer, analysis
from speechbrain_phaseinv.evaluation.methods import torchaudio_griffin_lim
from speechbrain_phaseinv.evaluation.metrics import pesq_wb, stoi
from speechbrain_phaseinv.evaluation.summary import format_table, summarise
from speechbrain_phaseinv.resynthesizer import describe


def methods(stft):
    """What is compared: name to callable (magnitude, noisy)."""
    config, _, _ = describe(stft)
    istft = ISTFT(
        sample_rate=config.sample_rate,
        n_fft=config.n_fft,
        win_length=config.win_length / config.sample_rate * 1000,
        hop_length=config.hop_length / config.sample_rate * 1000,
    )
    griffin_lim = torchaudio_griffin_lim(config, 32)
    ours = functools.partial(Resynthesizer, stft, normalize_wavs=False)
    return {
        "noisy phase (SpeechBrain)": functools.partial(
            resynthesize, stft=stft, istft=istft, normalize_wavs=False
        ),
        "Griffin-Lim 32": lambda magnitude, noisy: griffin_lim(
            magnitude, noisy.shape[1]
        ),
        "ours": ours(phase="model"),
        "ours, with the noisy phase": ours(phase="both"),
    }


@torch.inference_mode()
def evaluate(arguments):
    """One dict for each utterance, noise, magnitude and method."""
    torch.set_num_threads(arguments.threads)
    folder = Path(arguments.folder)
    with open(folder / "hyperparams.yaml", encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file)
    enhancer = SpectralMaskEnhancement.from_hparams(
        source=str(folder / "enhancer")
    )
    stft = enhancer.hparams.compute_stft
    config, pad_mode, _ = describe(stft)
    compared = methods(stft)
    snrs = arguments.snrs
    speech, noise = recordings(hparams, arguments.split)
    if arguments.corpora:
        speech.entries = [
            (name, entry)
            for name, entry in speech.entries
            if entry["corpus"] in arguments.corpora
        ]
    data = NoisyUtterances(speech, noise, snrs)
    rows = []
    limit = len(speech) if arguments.limit is None else arguments.limit
    for i in range(min(limit * len(snrs), len(data))):
        noisy, clean = (x.unsqueeze(0) for x in data[i])
        magnitude = analysis(clean, config, pad_mode).abs()
        made = {("noisy speech", "as it is"): noisy}
        for name, resynth in compared.items():
            enhancer.hparams.resynth = resynth
            made["enhanced", name] = enhancer.enhance_batch(noisy)
            made["clean magnitude", name] = resynth(magnitude, noisy)
        for (kind, name), waveform in made.items():
            pair = clean[0].numpy(), waveform[0].numpy()
            rows.append(
                {
                    "method": f"{kind}, {name}",
                    "snr": snrs[i % len(snrs)],
                    "pesq_wb": pesq_wb(*pair, config.sample_rate),
                    "estoi": stoi(*pair, config.sample_rate, extended=True),
                }
            )
    return rows


def table(rows, snrs):
    """Means as text: a method a line, a signal-to-noise ratio a column."""
    lines = []
    for snr in snrs:
        found = summarise(
            [row for row in rows if row["snr"] == snr], ["pesq_wb", "estoi"]
        )
        for i, (name, scores) in enumerate(found.items()):
            if len(lines) <= i:
                lines.append([name])
            cells = (scores[key]["mean"] for key in ("pesq_wb", "estoi"))
            pesq, estoi = ("-" if x is None else f"{x:.3f}" for x in cells)
            lines[i].append(f"{pesq} {estoi}")
    header = ["PESQ-WB, ESTOI at"] + [f"{snr:g} dB" for snr in snrs]
    return format_table([header, *sorted(lines, key=lambda x: x[0])])


def main(arguments=None):
    """Evaluate and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", help="output folder of train.py")
    parser.add_argument("--split", default="test")
    parser.add_argument("--corpora", nargs="*", default=[])
    parser.add_argument("--snrs", type=float, nargs="+", default=[0, 5, 10, 20])
    parser.add_argument("--limit", type=int, help="so many utterances only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="write all figures to this file too")
    arguments = parser.parse_args(arguments)
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    rows = evaluate(arguments)
    print(table(rows, arguments.snrs))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
