"""Methods side by side: same magnitudes, same clock, same scores.

The command line, the benchmarks and the recipes all compare through here. A
method is a function that builds, for one transform, an inverter: magnitudes
[batch, time, freq] and a length in samples in, waveform [batch, samples] out.
`METHODS` names those that this package and its dependencies provide; where one
cannot be built, its builder raises `Unavailable` with the reason.
"""

import math
import time

import numpy as np
import torch

from . import metrics
from .griffinlim import griffin_lim
from .inversion import SpectrogramInverter
from .stft import analysis, synthesis

# What a comparison reports: title and format of each score, by its name.
SCORES = {
    "pesq_wb": ("PESQ-WB", "{:.2f}"),
    "stoi": ("STOI", "{:.3f}"),
    "estoi": ("ESTOI", "{:.3f}"),
    "spectral_convergence": ("SC [dB]", "{:.1f}"),
    "log_spectral_distance": ("LSD [dB]", "{:.2f}"),
    "real_time_factor": ("RTF", "{:.4f}"),
}


class Unavailable(Exception):
    """A method cannot be built here; the message is one line that says why."""


def phase_inversion(config, lookahead=1, n_iter=0, estimator=None):
    """This package's own inversion, at one operating point.

    Arguments
    ---------
    config : StftConfig
        The transform.
    lookahead : int
        0 or 1, in frames.
    n_iter : int
        Fast Griffin-Lim iterations that follow.
    estimator : torch.nn.Module, optional
        What predicts phase derivatives. Default: the gradient theorem.

    Returns
    -------
    invert : callable
        (magnitude [batch, time, freq], length) -> waveform [batch, length].
    """
    inverter = SpectrogramInverter(config, lookahead, estimator)

    @torch.no_grad()
    def invert(magnitude, length):
        stft = inverter.invert(magnitude)
        if n_iter:
            stft = griffin_lim(magnitude, config, stft, n_iter, length=length)
        return synthesis(stft, config, length)

    return invert


def torchaudio_griffin_lim(config, n_iter=32, seed=0):
    """torchaudio's fast Griffin-Lim, from random phases of a fixed seed."""
    try:
        from torchaudio.transforms import GriffinLim
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Unavailable(
            f"torchaudio cannot be imported: {reason[0]}"
        ) from None

    def window(_, **options):
        return config.window_tensor(**options)

    @torch.no_grad()
    def invert(magnitude, length):
        transform = GriffinLim(
            config.n_fft,
            n_iter,
            config.win_length,
            config.hop_length,
            window,
            power=1.0,
            wkwargs={"dtype": magnitude.dtype},
            length=length,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return transform(magnitude.transpose(1, 2))

    return invert


METHODS = {
    "gradient-0": lambda config: phase_inversion(config, 0),
    "gradient-1": lambda config: phase_inversion(config, 1),
    "gradient-0+16": lambda config: phase_inversion(config, 0, n_iter=16),
    "gradient-1+16": lambda config: phase_inversion(config, 1, n_iter=16),
    "griffin-lim-32": lambda config: torchaudio_griffin_lim(config, 32),
    "griffin-lim-100": lambda config: torchaudio_griffin_lim(config, 100),
}


def magnitude_of(waveform, config):
    """What is left of a waveform without its phase, [batch, time, freq]."""
    return analysis(waveform, config).abs()


def timed(invert, magnitude, length, repeat=1):
    """Invert, and take the time: the median of some repetitions.

    Arguments
    ---------
    invert : callable
        As a method builds it.
    magnitude : torch.Tensor, [batch, time, freq]
        To be inverted.
    length : int
        Samples wanted.
    repeat : int
        Number of runs.

    Returns
    -------
    waveform : torch.Tensor, [batch, length]
        Of the last run.
    seconds : float
        Reading, analysis and scoring not included.
    """
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        waveform = invert(magnitude, length)
        seconds.append(time.perf_counter() - start)
    return waveform, float(np.median(seconds))


def warm_up(invert, config):
    """Let compiled kernels be loaded before the clock runs."""
    magnitude = torch.rand(1, 12, config.num_bins)
    invert(magnitude, config.num_samples(12))


def score(reference, estimate, config, names=tuple(SCORES)):
    """Scores of a reconstruction, each the mean over the channels.

    Arguments
    ---------
    reference, estimate : torch.Tensor, [channels, samples]
        Waveforms.
    config : StftConfig
        The transform that the spectral distances are taken with.
    names : sequence of str
        Which of `SCORES`; the real-time factor is none of this function's.

    Returns
    -------
    scores : dict of str to float or None
        None where a score could not be computed.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> x = torch.randn(1, 4000)
    >>> score(x, 1.1 * x, config, ["log_spectral_distance"])
    {'log_spectral_distance': 0.827...}
    """
    wanted = [name for name in names if name != "real_time_factor"]
    scores = {name: [] for name in wanted}
    for one, other in zip(reference, estimate):
        pair = one.cpu().numpy(), other.cpu().numpy()
        spectra = [
            magnitude_of(x[None].double(), config)[0].cpu().numpy()
            for x in (one, other)
        ]
        for name in wanted:
            if name == "pesq_wb":
                value = metrics.pesq_wb(*pair, config.sample_rate)
            elif name in ("stoi", "estoi"):
                value = metrics.stoi(
                    *pair, config.sample_rate, extended=name == "estoi"
                )
            else:
                value = getattr(metrics, name)(*spectra)
            scores[name].append(value)
    return {name: _mean(values) for name, values in scores.items()}


def summarise(rows, names=tuple(SCORES)):
    """Mean over files, and how far it is to be trusted, method by method.

    Arguments
    ---------
    rows : list of dict
        One a file and method, with "method" and scores.
    names : sequence of str
        Which scores.

    Returns
    -------
    summary : dict
        summary[method][name] is a dict of "mean", "ci95", half the width of
        the 95 % confidence interval of the mean (Student's t; None below two
        files), and "files", the number of values. Of the real-time factor
        "mean" is the median, which a disturbed run does not move.

    Example
    -------
    >>> rows = [{"method": "ours", "stoi": x} for x in (0.8, 0.9, 1.0)]
    >>> found = summarise(rows, ["stoi"])["ours"]["stoi"]
    >>> round(found["mean"], 6), round(found["ci95"], 3), found["files"]
    (0.9, 0.248, 3)
    """
    from scipy.stats import t

    summary = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        summary[method] = {}
        for name in names:
            values = [row.get(name) for row in mine]
            values = [x for x in values if x is not None and math.isfinite(x)]
            entry = {"mean": _mean(values), "ci95": None, "files": len(values)}
            if name == "real_time_factor" and values:
                entry["mean"] = float(np.median(values))
            elif len(values) > 1:
                error = np.std(values, ddof=1) / math.sqrt(len(values))
                entry["ci95"] = float(t.ppf(0.975, len(values) - 1) * error)
            summary[method][name] = entry
    return summary


def summary_table(summary, names=tuple(SCORES), intervals=True):
    """The summary as text, a method a line."""
    lines = [["method"] + [SCORES[name][0] for name in names]]
    for method, scores in summary.items():
        line = [method]
        for name in names:
            entry, form = scores[name], SCORES[name][1]
            text = "-" if entry["mean"] is None else form.format(entry["mean"])
            if intervals and entry["ci95"] is not None:
                text += " ±" + form.format(entry["ci95"]).lstrip("0")
            line.append(text)
        lines.append(line)
    return format_table(lines)


def format_table(lines):
    """Align columns, the first to the left and the others to the right.

    Example
    -------
    >>> print(format_table([["method", "RTF"], ["ours", "0.01"]]))
    method   RTF
    ------  ----
    ours    0.01
    """
    widths = [max(len(cell) for cell in column) for column in zip(*lines)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in [lines[0], rule, *lines[1:]]
    )


def _mean(values):
    """Mean of the values that are there, None if none is."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None
