#!/usr/bin/env python3
"""Table of phases behind published enhancers: paired differences.

    python evaluate_phase.py --data_folder SPEECH --noise_folder NOISE \
        --dtln FILE --gtcrn FILE --nsnet2 FILE

Each enhancer's gain (see enhancers.py; those without a file are left out) is
applied in the transforms below, and so are the magnitudes of the clean speech.
The waveforms of all phases are then compared with that of the noisy phase, at
the same magnitudes: PESQ-WB, ESTOI, SI-SDR and, with the package `speechmos`,
DNSMOS: mean differences with 95 % intervals over the mixtures. "clean" is the
phase of the clean speech, a bound.
"""

# ruff: noqa: E402
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common.evaluation import (
    add_data_options,
    argument_parser,
    progress,
    write_figures,
)
from common.metrics import si_sdr
from enhancement.enhancers import TRANSFORMS, Enhancer, carry
from enhancement.mixing import NoisyUtterances
from enhancement.train import prepare_all, recordings

from speechbrain_phaseinv import Resynthesizer, StftConfig, analysis, synthesis
from speechbrain_phaseinv.evaluation.scores import pesq_wb, stoi
from speechbrain_phaseinv.evaluation.tables import format_table, summarise
from speechbrain_phaseinv.pretrained import load_pretrained

HANN = StftConfig(16000, 512, hop_length=128)
HAMMING = StftConfig(16000, 512, hop_length=256, window="hamming")
ROOT, SHORT = TRANSFORMS["gtcrn"], TRANSFORMS["nsnet2"]

# Where each enhancer's gain is applied.
CASES = {
    "dtln": (HANN,),
    "gtcrn": (ROOT, HANN),
    "nsnet2": (SHORT, HANN, HAMMING),
    "clean": (ROOT, SHORT, HANN, HAMMING),
}
# With the columns' titles.
SCORES = {
    "pesq_wb": "PESQ-WB",
    "estoi": "ESTOI",
    "si_sdr": "SI-SDR",
    "dnsmos": "DNSMOS",
}


def dnsmos(waveform):
    """DNSMOS P.835, overall, at 16 kHz; None without `speechmos`."""
    if find_spec("speechmos") is None:
        return None
    from speechmos import dnsmos

    return float(dnsmos.run(waveform.clip(-1, 1), 16000)["ovrl_mos"])


def scores(clean, waveform):
    """All scores of a waveform, by name."""
    pair = clean[0].numpy(), waveform[0].numpy()
    return {
        "pesq_wb": pesq_wb(*pair, 16000),
        "estoi": stoi(*pair, 16000, extended=True),
        "si_sdr": si_sdr(clean[0], waveform[0]),
        "dnsmos": dnsmos(pair[1]),
    }


def resynthesizers(config, phases, network):
    """One for each phase, by name, where a transform has it."""
    made = {}
    for phase in phases:
        if phase == "clean":
            continue
        options = {"normalize_wavs": False}
        if phase == "learnt" and network is not None:
            options["estimator"] = load_pretrained(network, config)
        try:
            made[phase] = Resynthesizer(config, phase, **options)
        except ValueError:  # no weights for this transform
            continue
        made[phase].pad_mode = "constant"
    return made


@torch.inference_mode()
def evaluate(arguments):
    """One dict for each mixture, enhancer, transform and phase."""
    torch.set_num_threads(1)
    given = {x: getattr(arguments, x) for x in TRANSFORMS}
    enhancers = {x: Enhancer(x, path) for x, path in given.items() if path}
    used = [x for x in arguments.magnitudes if x in (*enhancers, "clean")]
    cases = [(x, config) for x in used for config in CASES[x]]
    tools = {
        config: resynthesizers(config, arguments.phases, arguments.network)
        for config in {config for _, config in cases}
    }
    with tempfile.TemporaryDirectory() as folder:
        hparams = {
            "data_folder": arguments.data_folder,
            "noise_folder": arguments.noise_folder,
            "layout": arguments.layout,
            "save_folder": folder,
            "skip_prep": False,
            "sample_rate": 16000,
        }
        prepare_all(hparams)
        speech, noise = recordings(hparams, arguments.split)
    speech.select(arguments.corpora)
    data = NoisyUtterances(speech, noise, arguments.snrs)
    rows = []
    count = len(speech) if arguments.limit is None else arguments.limit
    mixtures = range(min(count * len(arguments.snrs), len(data)))
    for i in progress(mixtures, arguments):
        noisy, clean = (x[None, : arguments.samples] for x in data[i])
        gains = {x: y.gain(noisy) for x, y in enhancers.items()}
        for name, config in cases:
            stft = analysis(clean, config, "constant")
            magnitude = stft.abs()
            if name in gains:
                recorded = analysis(noisy, config, "constant").abs()
                gain = carry(
                    gains[name], TRANSFORMS[name], config, stft.shape[1]
                )
                share = arguments.clean_share
                magnitude = share * magnitude + (1 - share) * gain * recorded
            true = torch.polar(magnitude, stft.angle())
            waveforms = {
                phase: tool(magnitude, noisy)
                for phase, tool in tools[config].items()
            }
            if "clean" in arguments.phases:
                waveforms["clean"] = synthesis(true, config, noisy.shape[1])
            found = {x: scores(clean, w) for x, w in waveforms.items()}
            rows.append(
                {
                    "enhancer": name,
                    "transform": shown(config),
                    "snr": arguments.snrs[i % len(arguments.snrs)],
                    "scores": found,
                }
            )
    return rows


def shown(config):
    """A transform, in short."""
    return f"{config.window} {config.n_fft}/{config.hop_length}"


def table(rows, markdown=True):
    """The noisy phase's means, and the others' differences, as text."""
    lines = [["magnitudes", "transform", "phase", *SCORES.values()]]
    for case in dict.fromkeys((x["enhancer"], x["transform"]) for x in rows):
        own = [
            x["scores"] for x in rows if (x["enhancer"], x["transform"]) == case
        ]
        for phase in own[0]:
            base = 0 if phase == "noisy" else 1
            entries = [
                {
                    "method": phase,
                    **{
                        key: x[phase][key] - base * x["noisy"][key]
                        for key in SCORES
                        if None not in (x[phase][key], x["noisy"][key])
                    },
                }
                for x in own
            ]
            summary = summarise(entries, SCORES)[phase].values()
            form = "{:+.3f} ± {:.3f}" if base else "{:.3f}"
            cells = [
                form.format(x["mean"], x["ci95"] or 0) if x["files"] else "-"
                for x in summary
            ]
            lines.append([*case, phase, *cells])
    return format_table(lines, markdown)


def main(arguments=None):
    """Evaluate, print the table and write the figures."""
    parser = argument_parser(__doc__, "results/enhancement_phase.json")
    add_data_options(parser)
    parser.add_argument("--noise_folder")
    for name in TRANSFORMS:
        parser.add_argument(f"--{name}", metavar="ONNX")
    parser.add_argument("--snrs", type=float, nargs="+", default=[0, 5, 10, 15])
    parser.add_argument("--samples", type=int, help="of a mixture, at most")
    parser.add_argument("--network", help="folder of weights to be learnt")
    parser.add_argument(
        "--phases",
        nargs="+",
        default=["noisy", "learnt", "both", "model", "clean"],
        help="the noisy one first",
    )
    parser.add_argument(
        "--clean_share",
        type=float,
        default=0,
        help="of the clean magnitudes in the enhanced ones",
    )
    parser.add_argument(
        "--magnitudes", nargs="+", default=list(CASES), choices=CASES
    )
    arguments = parser.parse_args(arguments)
    rows = evaluate(arguments)
    print(table(rows))
    write_figures(arguments.json, rows)


if __name__ == "__main__":
    main()
