#!/usr/bin/env python3
"""Table of trained weights beside the gradient theorem and Griffin-Lim.

    python evaluate.py --data_folder /path/to/speech WEIGHTS [WEIGHTS ...]

WEIGHTS is a packaged name, such as hann-512-128, or the folder
``pretrained`` that train.py leaves in its output folder. It takes the
recordings of the data's test split (or another, with --split) and prints a
table for each corpus, means with 95 % confidence intervals over utterances.
Griffin-Lim runs with --griffin_lim ITERATIONS, random phases from seed 0. The
figures also go into a JSON file.
"""

# ruff: noqa: E402
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common.audio import SplitRecordings
from common.augment import make_rumble
from common.evaluation import (
    add_data_options,
    argument_parser,
    progress,
    write_figures,
)
from common.metrics import inversion_metrics, mean_and_interval
from torchaudio.functional import highpass_biquad

from speechbrain_phaseinv.estimation.gradient_theorem import GradientTheorem
from speechbrain_phaseinv.evaluation.methods import torchaudio_griffin_lim
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.pretrained import load_pretrained
from speechbrain_phaseinv.stft import StftConfig, analysis

# Of rumble, in Hz.
RUMBLE_END = 60.0


def methods(arguments, config):
    """What is compared: name to callable (magnitude, length=...)."""
    table = {}
    for iterations in arguments.griffin_lim:
        name = f"Griffin-Lim {iterations}"
        table[name] = torchaudio_griffin_lim(config, iterations)
    for ahead in (0, 1):
        table[f"gradient theorem, look-ahead {ahead}"] = SpectrogramInverter(
            config, estimator=GradientTheorem(config, ahead)
        )
    for source in arguments.weights:
        network = load_pretrained(source, config)
        # A provisional network does without look-ahead, too.
        for ahead in (0, 1) if network.provisional else (network.lookahead,):
            table[f"{source}, look-ahead {ahead}"] = SpectrogramInverter(
                config,
                ahead,
                estimator=network,
                refinements=arguments.refinements,
            )
    return table


@torch.inference_mode()
def evaluate(arguments):
    """Metrics of each method and corpus, as a nested dict."""
    torch.set_num_threads(arguments.threads)
    config = StftConfig(
        arguments.sample_rate,
        n_fft=arguments.n_fft,
        win_length=arguments.win_length,
        hop_length=arguments.hop_length,
        window=arguments.window,
    )
    compared = methods(arguments, config)
    rows = defaultdict(lambda: defaultdict(list))
    for corpus, target in targets(arguments, config.sample_rate):
        rows[corpus]["count"].append(1)
        magnitude = analysis(target, config).abs()
        for name, invert in compared.items():
            waveform = invert(magnitude, length=target.shape[1])
            rows[corpus][name].append(
                inversion_metrics(waveform, target, config)
            )
    return {
        corpus: {name: mean_and_interval(table[name]) for name in compared}
        | {"utterances": len(table["count"])}
        for corpus, table in rows.items()
    }


def targets(arguments, sample_rate):
    """Corpus and waveform, [1, samples], of each recording asked for."""
    recordings = SplitRecordings(
        arguments.data_folder,
        arguments.split,
        sample_rate,
        arguments.layout,
        arguments.limit,
        arguments.corpora,
    )
    for _, corpus, waveform in progress(recordings, arguments):
        if arguments.high_pass is not None:
            for _ in range(2):  # of fourth order
                waveform = highpass_biquad(
                    waveform, sample_rate, arguments.high_pass
                )
        if arguments.offset is not None:
            level = waveform.square().mean().sqrt()
            waveform = waveform + level * 10 ** (arguments.offset / 20)
        if arguments.rumble is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                waveform = waveform + make_rumble(
                    waveform, sample_rate, RUMBLE_END, arguments.rumble
                )
        yield corpus, waveform


def markdown(results):
    """The tables, to be read or pasted."""
    lines = []
    for corpus, table in results.items():
        count = table["utterances"]
        lines += ["", f"{corpus}, {count} utterances", ""]
        lines += ["| method | PESQ | ESTOI | spectral convergence, dB |"]
        lines += ["|---|---|---|---|"]
        for name, metrics in table.items():
            if name == "utterances":
                continue
            cells = [
                f"{metrics[key][0]:.{digits}f} ± {metrics[key][1]:.{digits}f}"
                if key in metrics
                else "-"
                for key, digits in (("pesq", 3), ("estoi", 4), ("sc", 2))
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments=None, description=__doc__, figures="evaluation.json"):
    """The command line."""
    parser = argument_parser(description, f"results/{figures}")
    add_data_options(parser)
    parser.add_argument("weights", nargs="*")
    parser.add_argument(
        "--high_pass", type=float, metavar="HZ", help="filter the recordings"
    )
    parser.add_argument(
        "--offset",
        type=float,
        metavar="DB",
        help="add a constant, in dB above the recording's level",
    )
    parser.add_argument(
        "--rumble",
        type=float,
        metavar="DB",
        help=f"add noise below {RUMBLE_END:.0f} Hz, likewise",
    )
    parser.add_argument("--refinements", type=int, help="of the WEIGHTS")
    parser.add_argument("--griffin_lim", type=int, nargs="*", default=[])
    parser.add_argument("--sample_rate", type=int, default=16000)
    parser.add_argument("--n_fft", type=int, default=512)
    parser.add_argument("--win_length", type=int)
    parser.add_argument("--hop_length", type=int, default=128)
    parser.add_argument("--window", default="hann")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Evaluate, print the tables and write the figures."""
    arguments = parse(arguments)
    results = evaluate(arguments)
    print(markdown(results))
    write_figures(arguments.json, results)


if __name__ == "__main__":
    main()
