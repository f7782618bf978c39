"""Methods side by side: the same magnitudes, one clock, the same scores.

`run` does the measurements of ``phaseinv compare``, `write` leaves them as
JSON and CSV, and `page.write_page` shows them.
"""

import csv
import json
import platform
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import soundfile
import torch
from tqdm import tqdm

from ..audio import READABLE, replacing
from ..inversion import SpectrogramInverter
from ..pretrained import load_pretrained
from ..stft import StftConfig
from .derivatives import DerivativeErrors
from .methods import (
    METHODS,
    Inversion,
    Unavailable,
    one_thread,
    read_recording,
    timed,
    warm_up,
)
from .peers import PEERS, rendered
from .scores import NAMES, missing, score
from .tables import summarise, summary_table

# Values of a row: the scores and one time.
VALUES = (*NAMES, "real_time_factor")
# The numbers that describe a transform.
TRANSFORM = ("sample_rate", "n_fft", "win_length", "hop_length")
# Listening examples: number of recordings, and length in seconds.
EXAMPLES = 3
EXCERPT = 6.0


class Example(NamedTuple):
    """The beginning of a recording, and what each method makes of it."""

    file: str
    config: StftConfig
    signals: dict  # of [samples] by method, the first is the "original"


def recordings(paths):
    """The files with these paths, and the recordings in these folders."""
    files = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder.")
        if path.is_dir():
            inside = sorted(path.rglob("*"))
            files += [x for x in inside if x.suffix.lower() in READABLE]
        else:  # a file is taken whatever its name
            files.append(path)
    if not files:
        raise ValueError(
            f"{', '.join(map(str, paths))}: no recordings "
            f"({', '.join(sorted(READABLE))})."
        )
    return files


def _usual_rate(files):
    """The sample rate that most recordings have, in Hz."""
    rates = Counter()
    for file in files:
        try:
            rates[soundfile.info(file).samplerate] += 1
        except soundfile.LibsndfileError:
            pass  # reported where it is read
    return rates.most_common(1)[0][0] if rates else 16000


def choose(names=None, weights=(), renderings=None):
    """The methods to compare, a dict of name to method.

    Arguments
    ---------
    names : list of str, optional
        Of `methods.METHODS` and `peers.PEERS`. Default: all.
    weights : list of str or Path
        Folders of weights that the recipe has trained, to be added.
    renderings : dict of str to (str or Path), optional
        Names of other systems, and folders of recordings that they have
        made; see `peers.rendered`.

    Raises
    ------
    ValueError
        If a name is unknown or taken, or a folder holds nothing to compare.
    """
    methods = {**METHODS, **PEERS}
    unknown = sorted(set(names or ()) - set(methods))
    if unknown:
        raise ValueError(
            f"unknown methods {', '.join(unknown)}: expected some of "
            f"{', '.join(methods)}."
        )
    chosen = {name: methods[name] for name in names or methods}
    for folder in weights:
        load_pretrained(folder)  # or an error before any work
        chosen[str(folder)] = _trained(folder)
    for name, folder in (renderings or {}).items():
        if name in chosen:
            raise ValueError(f"{name} is another method: rename {folder}.")
        chosen[name] = rendered(folder)
    return chosen


def _trained(folder):
    """A method that uses the weights in a folder."""

    def make(config):
        try:
            network = load_pretrained(folder, config)
        except (OSError, ValueError) as error:
            raise Unavailable(str(error)) from None
        return Inversion(SpectrogramInverter(config, estimator=network))

    return make


def run(files, methods, stft_for, sample_rate=None, examples=EXAMPLES):
    """Reconstruct recordings with each method, and measure, in one thread.

    Arguments
    ---------
    files : list of Path
        As from `recordings`.
    methods : dict of str to callable
        As from `choose`.
    stft_for : callable
        (sample rate in Hz) -> StftConfig.
    sample_rate : int, optional
        In Hz; other recordings are resampled. Default: the most frequent.
    examples : int
        Number of recordings whose beginnings are kept, to be listened to.

    Returns
    -------
    results : dict
        "settings", "methods" (latency in samples and ms, parameters),
        "summary" (see `tables.summarise`), "skipped", "derivatives" (see
        `DerivativeErrors.curves`) and "rows", all fit for JSON.
    examples : list of Example

    Raises
    ------
    ValueError
        If nothing could be compared.
    """
    with one_thread():
        config = stft_for(sample_rate or _usual_rate(files))
        skipped, rows, kept = {}, [], []
        inverters = _build(methods, config, skipped)
        errors = DerivativeErrors(config)
        for file in tqdm(files, unit="file", file=sys.stderr, leave=False):
            try:
                recording = read_recording(file, config)
            except (ValueError, OSError) as error:
                skipped[file.name] = str(error)
                continue
            signals = {"original": recording.waveform}
            for name, invert in inverters.items():
                try:
                    row, signals[name] = _measure(invert, recording, config)
                except Unavailable as error:  # of this recording only
                    skipped[f"{name}: {file.name}"] = str(error)
                    continue
                rows.append({"method": name, "file": str(file), **row})
                # Iterations that follow do not change the derivatives.
                if isinstance(invert, Inversion) and not invert.n_iter:
                    estimator = invert.inverter.estimator
                    errors.add(name, estimator, recording.stft)
            if len(kept) < examples:
                end = int(EXCERPT * config.sample_rate)
                cut = {name: x[0, :end] for name, x in signals.items()}
                kept.append(Example(str(file), config, cut))
    if not rows:
        reasons = "; ".join(f"{x}: {reason}" for x, reason in skipped.items())
        raise ValueError(f"nothing could be compared. {reasons}")
    summary = summarise(rows, VALUES)
    results = {
        "settings": {
            "recordings": len({row["file"] for row in rows}),
            **{name: getattr(config, name) for name in TRANSFORM},
            "window": str(config.window),
            "threads": 1,
            "machine": machine(),
            "torch": torch.__version__,
        },
        "methods": {x: _describe(inverters[x], config) for x in summary},
        "summary": summary,
        "skipped": list(skipped.items()),
        "derivatives": errors.curves(),
        "rows": rows,
    }
    return results, kept


def _build(methods, config, skipped):
    """The inverters that can be built here, warm."""
    inverters = {}
    for name, make in methods.items():
        try:
            invert = make(config)
            if getattr(invert, "needs", "") != "file":
                warm_up(invert, config)
            inverters[name] = invert
        except Unavailable as error:
            skipped[name] = str(error)
    return inverters


def _measure(invert, recording, config):
    """Scores of one reconstruction with its time, and the waveform."""
    needs = getattr(invert, "needs", "magnitude")
    target, samples = recording.waveform, recording.waveform.shape[-1]
    estimate, seconds = timed(
        invert, getattr(recording, needs), samples, time.process_time
    )
    if len(estimate) != len(target):
        raise Unavailable(
            f"{len(estimate)} channels, {len(target)} in the original"
        )
    row = score(target, estimate, config)
    if needs != "file":  # to read a file is no work of the method
        row["seconds"] = seconds
        row["real_time_factor"] = seconds * config.sample_rate / samples
    return row, estimate


def _describe(invert, config):
    """Latency and size of a method."""
    latency = getattr(invert, "latency", None)
    return {
        "latency_samples": latency,
        "latency_ms": latency and 1000 * latency / config.sample_rate,
        "parameters": getattr(invert, "parameters", 0),
    }


def columns(results):
    """The values that could be computed for at least one row."""
    rows = results["rows"]
    return [x for x in VALUES if any(row.get(x) is not None for row in rows)]


def text(results):
    """The results as text: settings, table, what was skipped or is missing."""
    settings = results["settings"].items()
    lines = [
        ", ".join(f"{name} {value}" for name, value in settings),
        "mean ± 95 % confidence interval (median of PESQ); RTF: median",
        "",
        summary_table(results["summary"], columns(results)),
        "",
    ]
    lines += [f"skipped {x}: {reason}" for x, reason in results["skipped"]]
    return "\n".join(lines + missing())


def write(results, folder):
    """``results.json``, all of it, and ``results.csv``, a method a line."""
    folder = Path(folder)
    with replacing(folder / "results.json") as temporary:
        Path(temporary).write_text(json.dumps(results, indent=1) + "\n")
    names = columns(results)
    lines = [
        {"method": method, **results["methods"][method]}
        | {name: entries[name]["mean"] for name in names}
        | {f"{name}_ci95": entries[name]["ci95"] for name in names}
        for method, entries in results["summary"].items()
    ]
    with replacing(folder / "results.csv") as temporary:
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, lines[0])
            writer.writeheader()
            writer.writerows(lines)


def machine():
    """The processor's name, as far as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [x.split(":")[1] for x in lines if x.startswith("model name")]
        return " ".join(names[0].split())
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
