#!/usr/bin/env python3
"""Which weights serve which transform: the table that `serves` follows.

    python transforms.py --data_folder /path/to/speech --split valid

Inverts recordings analysed by each of TRANSFORMS with every set of packaged
weights and of WEIGHTS that is named, with look-ahead and without, and with the
gradient theorem, refined as where it stands in for weights, and Griffin-Lim
beside them. The table has PESQ-WB, its mean over several beginnings
(`even_pesq`) and ESTOI; what `SpectrogramInverter` takes by itself is in bold
face. Choose by the validation split and report on the test split.
"""

# ruff: noqa: E402
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common.audio import SplitRecordings
from common.evaluation import (
    add_data_options,
    argument_parser,
    progress,
    write_figures,
)
from common.metrics import even_pesq, inversion_metrics, mean_and_interval
from spectrogram_inversion.evaluate import methods

from speechbrain_phaseinv import SpectrogramInverter, StftConfig, analysis
from speechbrain_phaseinv.pretrained import available_pretrained
from speechbrain_phaseinv.pretrained.choice import REFINEMENTS

# n_fft, win_length, hop_length and window, at 16 kHz.
TRANSFORMS = (
    (512, 512, 128, "hann"),
    (1024, 1024, 256, "hann"),
    (512, 400, 160, "hann"),
    (400, 400, 160, "hann"),
    (512, 512, 256, "hann"),
    (512, 512, 256, "hamming"),
    (512, 512, 256, "sqrt_hann"),
    (320, 320, 160, "hann"),
    (320, 320, 160, "sqrt_hann"),
    (512, 320, 160, "hann"),
    (512, 512, 128, "sqrt_hann"),
    (1024, 600, 150, "hann"),
    (1024, 320, 80, "hann"),
    (1024, 400, 160, "hann"),
    (512, 512, 32, "hann"),
    (512, 512, 128, "rectangular"),
)


def chosen(config):
    """What `SpectrogramInverter` takes by itself, in bold face."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for ahead in (0, 1):
            inverter = SpectrogramInverter(config, ahead)
            yield f"**{inverter.method}, look-ahead {ahead}**", inverter


@torch.inference_mode()
def evaluate(arguments):
    """For each transform, metrics of each method."""
    torch.set_num_threads(1)
    if not arguments.chosen:
        arguments.weights = [*available_pretrained(), *arguments.weights]
    results = {}
    for transform in TRANSFORMS:
        config = StftConfig(16000, *transform)
        compared = methods(arguments, config)
        for ahead in (0, 1):
            name = f"gradient theorem, look-ahead {ahead}"
            compared[name] = SpectrogramInverter(
                config, ahead, "gradient", refinements=REFINEMENTS
            )
            if arguments.chosen:
                del compared[name]
        compared |= dict(chosen(config))
        rows = {name: [] for name in compared}
        recordings = SplitRecordings(
            arguments.data_folder,
            arguments.split,
            config.sample_rate,
            arguments.layout,
            arguments.limit,
            arguments.corpora,
        )
        for _, _, waveform in progress(recordings, arguments):
            waveform = waveform[:, : int(16000 * arguments.seconds)]
            magnitude = analysis(waveform, config).abs()
            for name, invert in compared.items():
                made = invert(magnitude, length=waveform.shape[1])
                metrics = inversion_metrics(made, waveform, config)
                metrics["even_pesq"] = even_pesq(made, waveform, config)
                rows[name].append(metrics)
        means = {name: mean_and_interval(x) for name, x in rows.items()}
        label = "{}/{}/{} {}".format(*transform)
        results[label] = means
        print(table(label, means), flush=True)
    return results


def table(label, means):
    """One transform as a paragraph."""
    lines = [f"\n{label}\n", "| method | PESQ | even | ESTOI |"]
    lines.append("|---|---|---|---|")
    for name, metrics in means.items():
        pesq, even, estoi = (
            metrics.get(key, (float("nan"),))[0]
            for key in ("pesq", "even_pesq", "estoi")
        )
        lines.append(f"| {name} | {pesq:.3f} | {even:.3f} | {estoi:.4f} |")
    return "\n".join(lines)


def main(arguments=None):
    """Evaluate, print the tables and write the figures."""
    parser = argument_parser(__doc__, "results/transforms.json")
    add_data_options(parser)
    parser.add_argument("weights", nargs="*")
    parser.add_argument(
        "--chosen",
        action="store_true",
        help="only what is taken by itself, and Griffin-Lim",
    )
    parser.add_argument("--refinements", type=int, help="of all weights")
    parser.add_argument("--griffin_lim", type=int, nargs="*", default=[100])
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="of each recording"
    )
    arguments = parser.parse_args(arguments)
    write_figures(arguments.json, evaluate(arguments))


if __name__ == "__main__":
    main()
