#!/usr/bin/env python3
"""The paper's claims beside what is measured here, in one command.

    python benchmarks/claims.py RECORDINGS --previous-best CHECKPOINT \\
        --out comparison --readme README.md

Does what ``phaseinv compare RECORDINGS --out comparison`` does, with the
previous best network among the methods, and puts the figures of the methods
that it measures into ``claims.json`` beside this file, their one home.
``--readme`` writes the two tables that are made from it, between the marks
``<!-- methods -->`` and ``<!-- claims -->`` and their ends; without RECORDINGS
nothing is measured. CHECKPOINT is ``network.ckpt`` of a run of
``recipes/spectrogram_inversion/train.py hparams/masuyama.yaml``.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

import solver
import torch
from macs import macs_per_frame

from speechbrain_phaseinv import SpectrogramInverter, StftConfig
from speechbrain_phaseinv.audio import replacing
from speechbrain_phaseinv.evaluation import compare
from speechbrain_phaseinv.evaluation.methods import Inversion
from speechbrain_phaseinv.evaluation.page import write_page
from speechbrain_phaseinv.evaluation.tables import cell, format_table

ROOT = Path(__file__).resolve().parent.parent
FIGURES = Path(__file__).with_suffix(".json")
PREVIOUS = "masuyama-0"
# The table's rows, as `compare.choose` names them.
TITLES = {
    "griffin-lim-32": "Griffin-Lim, 32 iterations (torchaudio)",
    "griffin-lim-100": "Griffin-Lim, 100 iterations",
    "rtisi-la": "RTISI-LA",
    "gradient-0": "gradient theorem, untrained",
    "gradient-1": "gradient theorem, one hop of look-ahead",
    PREVIOUS: "previous best, Masuyama et al. 2023",
    "network-0": "network",
    "network-1-paired": "network, one hop, two frames per pass",
    "network-1": "network, one hop",
    "gradient-1+16": "gradient theorem, then 16 Griffin-Lim iterations",
    "network-1+16": "network, then 16 Griffin-Lim iterations",
}
# The table's scores, and their heads.
SCORES = {
    "pesq_wb": "PESQ (median)",
    "estoi": "ESTOI",
    "spectral_convergence": "SC, dB",
    "real_time_factor": "RTF",
}


def previous_best(checkpoint):
    """The method that uses the previous best network, trained here."""

    def make(config):
        network = untrained_previous_best(config)
        network.load_state_dict(torch.load(checkpoint, weights_only=True))
        return Inversion(SpectrogramInverter(config, estimator=network.eval()))

    return make


def untrained_previous_best(config):
    """The network of ``hparams/masuyama.yaml``."""
    folder = str(ROOT / "recipes" / "spectrogram_inversion")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("masuyama").MasuyamaNet(config)


def count(config):
    """Parameters and multiply-accumulates per frame of each network."""
    networks = {
        "network-0": SpectrogramInverter(config, 0, "network").estimator,
        "network-1": SpectrogramInverter(config, 1, "network").estimator,
        "network-1-paired": SpectrogramInverter(
            config, 1, "network", paired=True
        ).estimator,
        PREVIOUS: untrained_previous_best(config),
    }
    return {
        name: {
            "parameters": sum(p.numel() for p in network.parameters()),
            "macs": macs_per_frame(network),
        }
        for name, network in networks.items()
    }


def measure(args, config):
    """Compare methods, write the page, and update the figures."""
    methods = compare.choose(args.methods and args.methods.split(","))
    if args.previous_best:
        methods[PREVIOUS] = previous_best(args.previous_best)
    files = compare.recordings(args.paths)[: args.limit]
    results, examples = compare.run(
        files, methods, lambda _: config, config.sample_rate
    )
    out = Path(args.out)
    out.mkdir(exist_ok=True)
    compare.write(results, out)
    write_page(results, examples, out / "report.html")
    print(compare.text(results))
    figures = {"methods": {}}
    if Path(args.figures).exists():
        figures = json.loads(Path(args.figures).read_text())
    settings = results["settings"]
    for name in set(TITLES) & set(results["summary"]):
        figures["methods"][name] = {
            "machine": settings["machine"],
            "recordings": settings["recordings"],
            "latency_ms": results["methods"][name]["latency_ms"],
            "scores": {x: results["summary"][name][x] for x in SCORES},
        }
    figures |= {"networks": count(config), "solver": solver.claim()}
    with replacing(args.figures) as temporary:
        Path(temporary).write_text(json.dumps(figures, indent=1) + "\n")


def methods_table(figures):
    """Cost and quality of all methods, as Markdown."""
    head = ["method", "latency", "parameters", "MAC/frame", *SCORES.values()]
    rows, machines = [head], {}
    for name in filter(figures["methods"].get, TITLES):
        method, cells = figures["methods"][name], ["", ""]
        machines.setdefault(method["machine"], []).append(TITLES[name])
        network = figures["networks"].get(name)
        if network:
            cells = f"{network['parameters']:,}", _millions(network["macs"])
        latency = method["latency_ms"]
        latency = "whole signal" if latency is None else f"{latency:.0f} ms"
        scores = [cell(method["scores"][x], x) for x in SCORES]
        rows.append([TITLES[name], latency, *cells, *scores])
    first, *others = sorted(machines, key=lambda x: -len(machines[x]))
    notes = [f"Measured on one core of {first}."]
    notes += [f"On {x}: {'; '.join(machines[x])}." for x in others]
    return f"{format_table(rows, markdown=True)}\n\n{' '.join(notes)}"


def _millions(number):
    return f"{number / 1e6:.2f} million"


def claims_table(figures):
    """What the paper claims, and what is measured, as Markdown."""
    ours, before, paired = (
        figures["networks"][x]
        for x in ("network-1", PREVIOUS, "network-1-paired")
    )
    exponent = figures["solver"]["exponent"]
    faster = figures["solver"]["times_faster"]
    speed = " and ".join(
        f"{faster[bins]:,.0f} times faster at {int(bins):,} bins"
        for bins in (min(faster, key=int), max(faster, key=int))
    )
    size = ours["parameters"]
    rows = [
        ["the paper", "measured here"],
        [
            "8 thousand parameters, 30 times fewer than the previous best",
            f"{size:,}, {before['parameters'] / size:.0f} times fewer than the "
            f"{before['parameters']:,} of the previous best as its public "
            f"implementation has it ({240_000 / size:.0f} times fewer than "
            "the 240 thousand that the paper counts), and "
            f"{before['macs'] / ours['macs']:.0f} times fewer "
            "multiply-accumulates",
        ],
        [
            "one hop of latency halves the cost of the network",
            f"{paired['macs'] / ours['macs']:.1%} of the multiply-accumulates",
        ],
        [
            "least squares in linear time, orders of magnitude faster",
            f"time grows as F^{exponent[solver.OURS]:.2f} (dense: "
            f"F^{exponent[solver.DENSE]:.2f}); {speed} than a dense solve",
        ],
        ["the quality stays high", _quality(figures["methods"])],
    ]
    return format_table(rows, markdown=True)


def _quality(methods):
    """Ours and the previous best at the same latency, in words."""
    if not {PREVIOUS, "network-0"} <= set(methods):
        return "see the table of methods"
    pairs = []
    for name, title in (("pesq_wb", "PESQ"), ("estoi", "ESTOI")):
        ours, before = (
            methods[x]["scores"][name] for x in ("network-0", PREVIOUS)
        )
        if ours["mean"] is not None and before["mean"] is not None:
            text = f"{title} {ours['mean']:.3f} against {before['mean']:.3f}"
            if name == "pesq_wb":  # which now and then loses a recording
                medians = (f"{x['median']:.2f}" for x in (ours, before))
                text += f" (medians {' and '.join(medians)})"
            pairs.append(text)
    return (
        "without look-ahead, ours against the previous best as trained here: "
        + ", ".join(pairs)
    )


def replace_block(path, name, text):
    """Put a text between the marks of that name in a file."""
    page = Path(path).read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in page or end not in page:
        raise ValueError(f"{path}: has no {begin} ... {end}.")
    start, stop = page.index(begin) + len(begin), page.index(end)
    page = f"{page[:start]}\n{text}\n{page[stop:]}"
    with replacing(path) as temporary:
        Path(temporary).write_text(page, encoding="utf-8")


def main(arguments=None):
    """Measure where asked, print the tables, write them where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("paths", nargs="*", help="recordings, or folders")
    parser.add_argument("--out", default="comparison", help="folder")
    parser.add_argument("--previous-best", metavar="CHECKPOINT")
    parser.add_argument("--methods", help="with commas (default: all)")
    parser.add_argument("--limit", type=int, help="number of recordings")
    parser.add_argument("--figures", default=FIGURES, help="the JSON file")
    parser.add_argument("--readme", help="file to write the tables into")
    args = parser.parse_args(arguments)
    if args.paths:
        measure(args, StftConfig(16000, n_fft=512, hop_length=128))
    figures = json.loads(Path(args.figures).read_text())
    tables = {"methods": methods_table, "claims": claims_table}
    for name, table in tables.items():
        print(f"\n{table(figures)}")
        if args.readme:
            replace_block(args.readme, name, table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
