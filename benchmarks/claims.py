#!/usr/bin/env python3
"""The paper's claims beside what is measured here, in one command.

    python benchmarks/claims.py RECORDINGS --previous-best CHECKPOINT \\
        --out comparison --readme README.md

Does what ``phaseinv compare RECORDINGS --out comparison`` does, with the
previous best network among the methods, and writes two tables into the
README, between the marks ``<!-- methods -->`` and ``<!-- claims -->`` and their
ends. CHECKPOINT is ``network.ckpt`` of a run
of ``recipes/spectrogram_inversion/train.py hparams/masuyama.yaml``. Without
RECORDINGS the tables are made anew from the results that lie in the folder.
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

import torch
from macs import macs_per_frame

from speechbrain_phaseinv import SpectrogramInverter, StftConfig
from speechbrain_phaseinv.audio import replacing
from speechbrain_phaseinv.evaluation import compare
from speechbrain_phaseinv.evaluation.methods import Inversion
from speechbrain_phaseinv.evaluation.report import write_report
from speechbrain_phaseinv.evaluation.solvers import OURS

ROOT = Path(__file__).resolve().parent.parent
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
NETWORKS = ("network-0", "network-1", "network-1-paired", PREVIOUS)


def previous_best(checkpoint):
    """The method that uses the previous best network, trained here."""

    def make(config):
        network = untrained_previous_best(config)
        if checkpoint is not None:
            weights = torch.load(checkpoint, weights_only=True)
            network.load_state_dict(weights)
        return Inversion(SpectrogramInverter(config, estimator=network.eval()))

    return make


def untrained_previous_best(config):
    """The network of ``hparams/masuyama.yaml``."""
    folder = str(ROOT / "recipes" / "spectrogram_inversion")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_module("masuyama").MasuyamaNet(config)


def count(config):
    """Parameters and multiply-accumulates of each network, with no look
    at any recording.

    Arguments
    ---------
    config : StftConfig
        One that all networks serve.

    Returns
    -------
    sizes : dict of str to (int, float)
    """
    networks = {PREVIOUS: untrained_previous_best(config)}
    for name in NETWORKS:
        if name != PREVIOUS:
            networks[name] = SpectrogramInverter(
                config,
                int("1" in name),
                "network",
                paired=name.endswith("paired"),
            ).estimator
    return {
        name: (
            sum(p.numel() for p in networks[name].parameters()),
            macs_per_frame(networks[name]),
        )
        for name in NETWORKS
    }


def claims_table(results, sizes):
    """What the paper claims, and what is measured, as Markdown.

    Arguments
    ---------
    results : dict
        As from `compare.run`.
    sizes : dict
        As from `count`.

    Returns
    -------
    text : str
    """
    ours, macs = sizes["network-1"]
    before, macs_before = sizes[PREVIOUS]
    paired = sizes["network-1-paired"][1] / macs
    table = results["solver"]["microseconds"]
    exponent = results["solver"]["exponent"]
    # Keys of a dictionary are text once they have been in a file.
    times = {int(bins): x for bins, x in table[OURS].items()}
    faster = {
        int(bins): x / times[int(bins)]
        for bins, x in table["dense solve"].items()
    }
    speed = " and ".join(
        f"{faster[bins]:,.0f} times faster at {bins:,} bins"
        for bins in (min(faster), max(faster))
    )
    rows = [
        (
            "8 thousand parameters, 30 times fewer than the previous best",
            f"{ours:,}, {before / ours:.0f} times fewer than the "
            f"{before:,} of the previous best as its public implementation "
            f"has it ({240_000 / ours:.0f} times fewer than the 240 thousand "
            f"that the paper counts), and {macs_before / macs:.0f} times "
            "fewer multiply-accumulates",
        ),
        (
            "one hop of latency halves the cost of the network",
            f"{paired:.1%} of the multiply-accumulates",
        ),
        (
            "least squares in linear time, orders of magnitude faster",
            f"time grows as F^{exponent[OURS]:.2f} (dense: "
            f"F^{exponent['dense solve']:.2f}); {speed} than a dense solve",
        ),
        ("the quality stays high", _quality(results)),
    ]
    lines = ["| the paper | measured here |", "|---|---|"]
    return "\n".join([*lines, *(f"| {x} | {y} |" for x, y in rows)])


def _quality(results):
    """Ours and the previous best at the same latency, in words."""
    found = results["summary"]
    if PREVIOUS not in found:
        return "see the table of methods"
    pairs = []
    for name, title in (("pesq_wb", "PESQ"), ("estoi", "ESTOI")):
        ours, before = (found[x][name] for x in ("network-0", PREVIOUS))
        if ours["mean"] is not None and before["mean"] is not None:
            # Where PESQ loses a recording, the median says more.
            pairs.append(
                f"{title} {ours['mean']:.3f} against {before['mean']:.3f} "
                f"(medians {ours['median']:.3f} and {before['median']:.3f})"
            )
    return (
        "without look-ahead, ours against the previous best as trained here: "
        + ", ".join(pairs)
    )


def methods_table(results, sizes):
    """Cost and quality of all methods, as Markdown.

    Arguments
    ---------
    results : dict
        As from `compare.run`.
    sizes : dict
        As from `count`.

    Returns
    -------
    text : str
    """
    lines = [
        "| method | latency | parameters | MAC/frame | PESQ (median) | ESTOI "
        "| SC, dB | RTF |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        if name not in results["summary"]:
            continue
        latency = results["methods"][name]["latency_ms"]
        parameters, macs = sizes.get(name, (0, 0))
        cells = [
            title,
            "whole signal" if latency is None else f"{latency:.0f} ms",
            f"{parameters:,}" if parameters else "",
            f"{macs / 1e6:.2f} million" if macs else "",
        ]
        for score, form in (
            ("pesq_wb", "{:.2f}"),
            ("estoi", "{:.3f}"),
            ("spectral_convergence", "{:.1f}"),
            ("real_time_factor", "{:.4f}"),
        ):
            entry = results["summary"][name][score]
            text = "-" if entry["mean"] is None else form.format(entry["mean"])
            if entry["ci95"] is not None:
                text += f" ± {form.format(entry['ci95'])}"
            if score == "pesq_wb" and entry["median"] is not None:
                text += f" ({form.format(entry['median'])})"
            cells.append(text)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replace_block(path, name, text):
    """Put a text between the marks of that name in a file."""
    path = Path(path)
    page = path.read_text(encoding="utf-8")
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
    parser.add_argument("--limit", type=int, help="so many recordings only")
    parser.add_argument("--readme", help="file to write the tables into")
    args = parser.parse_args(arguments)
    config = StftConfig(16000, n_fft=512, hop_length=128)
    out = Path(args.out)
    if args.paths:
        methods = compare.choose(args.methods and args.methods.split(","))
        if args.previous_best:
            methods[PREVIOUS] = previous_best(args.previous_best)
        files = compare.recordings(args.paths)[: args.limit]
        results, examples = compare.run(
            files, methods, lambda _: config, config.sample_rate
        )
        out.mkdir(exist_ok=True)
        compare.write(results, out)
        write_report(results, examples, out / "report.html")
        print(compare.text(results))
    results = json.loads((out / "results.json").read_text())
    sizes = count(config)
    machine = f"Measured on one core of {results['settings']['machine']}."
    blocks = {
        "methods": f"{methods_table(results, sizes)}\n\n{machine}",
        "claims": claims_table(results, sizes),
    }
    for name, text in blocks.items():
        print(f"\n{text}")
        if args.readme:
            replace_block(args.readme, name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
