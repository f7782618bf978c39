#!/usr/bin/env python3
"""Table of an enhancer's resynthesis: which phase, at which noise.

    python evaluate.py results/enhancement/1 --snrs 0 5 10 20

The argument is the output folder of train.py. Its enhancer is loaded as any
other of SpeechBrain, and its `resynth` is replaced by one method after the
other; the same methods then get the magnitudes of the clean speech, to tell
what the phase costs from what the mask does. Scores are PESQ-WB and ESTOI
against the clean speech, means over the utterances of the split. The figures
of each mixture also go into a JSON file, for compare.py too, with SI-SDR.
"""

# ruff: noqa: E402
import functools
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common.evaluation import argument_parser, progress, write_figures
from common.hparams import load_hparams
from common.metrics import si_sdr
from enhancement.mixing import NoisyUtterances
from enhancement.train import recordings
from speechbrain.inference.enhancement import SpectralMaskEnhancement
from speechbrain.processing.features import ISTFT
from speechbrain.processing.signal_processing import resynthesize

from speechbrain_phaseinv import Resynthesizer, analysis
from speechbrain_phaseinv.evaluation.methods import torchaudio_griffin_lim
from speechbrain_phaseinv.evaluation.scores import pesq_wb, stoi
from speechbrain_phaseinv.evaluation.tables import format_table, summarise
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
    default = ours()
    return {
        "noisy phase (SpeechBrain)": functools.partial(
            resynthesize, stft=stft, istft=istft, normalize_wavs=False
        ),
        "Griffin-Lim 32": lambda magnitude, noisy: griffin_lim(
            magnitude, noisy.shape[1]
        ),
        "ours": ours(phase="model"),
        "ours, with the noisy phase": ours(phase="both"),
        f"default ({default.phase})": default,
    }


@torch.inference_mode()
def evaluate(arguments):
    """One dict for each utterance, noise, magnitude and method."""
    torch.set_num_threads(arguments.threads)
    folder = Path(arguments.folder)
    hparams, _ = load_hparams(folder / "hyperparams.yaml")
    enhancer = SpectralMaskEnhancement.from_hparams(
        source=str(folder / "enhancer")
    )
    stft = enhancer.hparams.compute_stft
    config, pad_mode, _ = describe(stft)
    compared = {
        name: resynth
        for name, resynth in methods(stft).items()
        if name.startswith(tuple(arguments.phases))
    }
    snrs = arguments.snrs
    speech, noise = recordings(hparams, arguments.split)
    speech.select(arguments.corpora)
    data = NoisyUtterances(speech, noise, snrs)
    rows = []
    count = len(speech) if arguments.limit is None else arguments.limit
    mixtures = range(min(count * len(snrs), len(data)))
    for i in progress(mixtures, arguments):
        noisy, clean = (x.unsqueeze(0) for x in data[i])
        magnitude = analysis(clean, config, pad_mode).abs()
        waveforms = {}
        if not arguments.enhanced_only:
            waveforms["noisy speech", "as it is"] = noisy
        for name, resynth in compared.items():
            enhancer.hparams.resynth = resynth
            waveforms["enhanced", name] = enhancer.enhance_batch(noisy)
            if not arguments.enhanced_only:
                waveforms["clean magnitude", name] = resynth(magnitude, noisy)
        for (kind, name), waveform in waveforms.items():
            pair = clean[0].numpy(), waveform[0].numpy()
            rows.append(
                {
                    "method": f"{kind}, {name}",
                    "recording": i // len(snrs),
                    "snr": snrs[i % len(snrs)],
                    "pesq_wb": pesq_wb(*pair, config.sample_rate),
                    "estoi": stoi(*pair, config.sample_rate, extended=True),
                    "si_sdr": si_sdr(clean[0], waveform[0]),
                }
            )
    return rows


def table(rows, snrs):
    """Means as text: a method a line, a signal-to-noise ratio a column."""
    lines = []
    for snr in snrs:
        means = summarise(
            [row for row in rows if row["snr"] == snr], ["pesq_wb", "estoi"]
        )
        for i, (name, scores) in enumerate(means.items()):
            if len(lines) <= i:
                lines.append([name])
            cells = (scores[key]["mean"] for key in ("pesq_wb", "estoi"))
            pesq, estoi = ("-" if x is None else f"{x:.3f}" for x in cells)
            lines[i].append(f"{pesq} {estoi}")
    header = ["PESQ-WB, ESTOI at"] + [f"{snr:g} dB" for snr in snrs]
    return format_table([header, *sorted(lines, key=lambda x: x[0])])


def main(arguments=None):
    """Evaluate, print the table and write the figures."""
    parser = argument_parser(__doc__, "FOLDER/evaluation.json")
    parser.add_argument("folder", help="output folder of train.py")
    parser.add_argument("--snrs", type=float, nargs="+", default=[0, 5, 10, 20])
    parser.add_argument("--limit", type=int, help="recordings in all")
    parser.add_argument(
        "--phases", nargs="+", default=[""], help="beginnings of their names"
    )
    parser.add_argument(
        "--enhanced_only", action="store_true", help="no others beside"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(arguments)
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    rows = evaluate(arguments)
    print(table(rows, arguments.snrs))
    figures = arguments.json.replace("FOLDER", arguments.folder)
    write_figures(figures, rows)


if __name__ == "__main__":
    main()
