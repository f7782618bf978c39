"""What ``phaseinv compare`` does: everything measured, nothing drawn.

`run` compares methods on recordings, and measures the phase derivatives'
errors and the solvers' times; `write` leaves the figures as JSON and CSV, and
`report.write_report` draws and plays them.
"""

import csv
import json
import platform
import sys
import time
from collections import Counter
from pathlib import Path

import soundfile
import torch
from tqdm import tqdm

from ..audio import READABLE, replacing
from ..inversion import SpectrogramInverter
from ..pretrained import load_pretrained
from . import summary
from .derivative_errors import DerivativeErrors
from .evaluate import compare, one_thread
from .methods import METHODS, Inversion, Unavailable
from .peers import PEERS
from .solvers import time_solvers

SCORES = tuple(name for name in summary.SCORES if name != "seconds")
# Listening examples: how many recordings, and how much of each, in seconds.
EXAMPLES = 3
EXCERPT = 6.0


def recordings(paths):
    """The recordings named, or found below folders.

    Arguments
    ---------
    paths : list of str or Path

    Returns
    -------
    files : list of Path

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    ValueError
        If there are no recordings.
    """
    found = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder.")
        if path.is_dir():
            inside = sorted(path.rglob("*"))
            found += [x for x in inside if x.suffix.lower() in READABLE]
        else:  # named, so meant
            found.append(path)
    if not found:
        raise ValueError(
            f"{', '.join(map(str, paths))}: no recordings "
            f"({', '.join(sorted(READABLE))})."
        )
    return found


def usual_rate(files):
    """The sample rate that most recordings have, in Hz."""
    rates = Counter()
    for file in files:
        try:
            rates[soundfile.info(file).samplerate] += 1
        except soundfile.LibsndfileError:
            pass  # told where it is read
    return rates.most_common(1)[0][0] if rates else 16000


def choose(names=None, weights=()):
    """The methods to compare, by name.

    Arguments
    ---------
    names : list of str, optional
        Of `methods.METHODS` and `peers.PEERS`. Default: all.
    weights : list of str or Path
        Folders of weights that the recipe has trained, to be added.

    Returns
    -------
    methods : dict of str to callable
    """
    known = {**METHODS, **PEERS}
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ValueError(
            f"unknown methods {', '.join(unknown)}: expected some of "
            f"{', '.join(known)}."
        )
    chosen = {name: known[name] for name in names or known}
    for folder in weights:
        load_pretrained(folder)  # or an error before any work
        chosen[str(folder)] = trained(folder)
    return chosen


def trained(folder):
    """A method that uses the weights in a folder."""

    def make(config):
        try:
            network = load_pretrained(folder, config)
        except (OSError, ValueError) as error:
            raise Unavailable(str(error)) from None
        return Inversion(SpectrogramInverter(config, estimator=network))

    return make


def run(files, methods, stft_for, sample_rate=None, examples=EXAMPLES):
    """Measure everything, in one thread.

    Arguments
    ---------
    files : list of Path
        Recordings.
    methods : dict of str to callable
        As from `choose`.
    stft_for : callable
        (sample rate in Hz) -> StftConfig.
    sample_rate : int, optional
        In Hz; other recordings are resampled. Default: that of most.
    examples : int
        Of so many recordings the beginnings are kept, to be listened to.

    Returns
    -------
    results : dict
        "settings", "methods" (latency in samples and ms, parameters),
        "summary" (see `summary.summarise`), "skipped", "derivatives" (see
        `DerivativeErrors.curves`), "solver" and "rows", all fit for JSON.
    examples : list of Outcome
        Those kept, cut short.
    """
    with one_thread():
        return _run(files, methods, stft_for, sample_rate, examples)


def _run(files, methods, stft_for, sample_rate, examples):
    sample_rate = sample_rate or usual_rate(files)
    config = stft_for(sample_rate)
    errors = DerivativeErrors(config)
    skipped, inverters, rows, kept = [], {}, [], []

    def skip(name, reason):
        if [name, reason] not in skipped:
            skipped.append([name, reason])

    bar = tqdm(total=len(files), unit="file", file=sys.stderr, leave=False)
    for outcome in compare(
        files,
        methods,
        stft_for,
        SCORES,
        skip,
        time.process_time,
        sample_rate,
    ):
        bar.update()
        rows += outcome.rows
        inverters.update(outcome.inverters)
        for name, invert in outcome.inverters.items():
            # Iterations that follow do not change the derivatives.
            if isinstance(invert, Inversion) and not invert.n_iter:
                estimator = invert.inverter.estimator
                errors.add(name, estimator, outcome.stft)
        if len(kept) < examples:
            kept.append(_excerpt(outcome))
    bar.close()
    if not rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped)
        raise ValueError(f"nothing could be compared. {reasons}")
    results = {
        "settings": {
            "recordings": len({row["file"] for row in rows}),
            "sample_rate": sample_rate,
            "n_fft": config.n_fft,
            "win_length": config.win_length,
            "hop_length": config.hop_length,
            "window": str(config.window),
            "threads": 1,
            "machine": machine(),
            "torch": torch.__version__,
        },
        "methods": {
            name: _describe(invert, config)
            for name, invert in inverters.items()
        },
        "summary": summary.summarise(rows, SCORES),
        "skipped": skipped,
        "derivatives": errors.curves(),
        "solver": time_solvers(),
        "rows": rows,
    }
    return results, kept


def _describe(invert, config):
    """Latency and size of a method."""
    latency = getattr(invert, "latency", None)
    milliseconds = latency and 1000 * latency / config.sample_rate
    return {
        "latency_samples": latency,
        "latency_ms": milliseconds,
        "parameters": getattr(invert, "parameters", 0),
    }


def _excerpt(outcome):
    """The beginning of a recording's first channel, as reconstructed."""
    samples = int(EXCERPT * outcome.config.sample_rate)
    cut = {
        name: waveform[:1, :samples]
        for name, waveform in outcome.estimates.items()
    }
    waveform = outcome.waveform[:1, :samples]
    return outcome._replace(waveform=waveform, estimates=cut, stft=None)


def text(results):
    """The results as text: settings, table, what was skipped."""
    settings = results["settings"]
    lines = [
        ", ".join(f"{name} {value}" for name, value in settings.items()),
        "mean and 95 % confidence interval, of PESQ the median too; RTF: "
        "median over recordings",
        "",
        summary.summary_table(results["summary"], columns(results)),
        "",
    ]
    lines += [f"skipped {x}: {reason}" for x, reason in results["skipped"]]
    return "\n".join([*lines, *missing(results)])


def columns(results):
    """The scores that could be computed."""
    rows = results["rows"]
    return [x for x in SCORES if any(row.get(x) is not None for row in rows)]


def missing(results):
    """What to install for the scores that could not be computed, in words."""
    packages = {"pesq_wb": "pesq", "stoi": "pystoi"}
    names = [y for x, y in packages.items() if x not in columns(results)]
    if not names:
        return []
    return [
        f"no scores of {' and '.join(names)}: not installed, or no recording "
        "could be judged. pip install 'speechbrain_phaseinv[metrics]'"
    ]


def write(results, folder):
    """``results.json``, all of it, and ``results.csv``, a method a line."""
    folder = Path(folder)
    with replacing(folder / "results.json") as temporary:
        Path(temporary).write_text(json.dumps(results, indent=1) + "\n")
    names = columns(results)
    with replacing(folder / "results.csv") as temporary:
        with open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            scores = [x for name in names for x in (name, f"{name}_ci95")]
            about = list(next(iter(results["methods"].values())))
            writer.writerow(["method", *about, *scores])
            for method, found in results["summary"].items():
                cells = [
                    found[name][kind]
                    for name in names
                    for kind in ("mean", "ci95")
                ]
                known = results["methods"][method].values()
                writer.writerow([method, *known, *cells])


def machine():
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [x.split(":")[1] for x in lines if x.startswith("model name")]
        return " ".join(names[0].split())
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
