"""Summaries over recordings, and the one writer of tables."""

import math

import numpy as np
from scipy.special import stdtrit

# Title and format of every column, by the name of the score.
COLUMNS = {
    "pesq_wb": ("PESQ-WB", "{:.2f}"),
    "stoi": ("STOI", "{:.3f}"),
    "estoi": ("ESTOI", "{:.3f}"),
    "spectral_convergence": ("SC [dB]", "{:.1f}"),
    "log_spectral_distance": ("LSD [dB]", "{:.2f}"),
    "seconds": ("time [s]", "{:.3f}"),
    "real_time_factor": ("RTF", "{:.4f}"),
}
TIMES = ("seconds", "real_time_factor")


def summarise(rows, names=tuple(COLUMNS)):
    """Means over recordings with their confidence intervals.

    Arguments
    ---------
    rows : list of dict
        One for each recording and method: "method", and values by name.
    names : sequence of str
        Which values.

    Returns
    -------
    summary : dict
        summary[method][name] is a dict of "mean", "median", "ci95", half
        the width of the 95 % confidence interval of the mean (Student's t;
        None below two recordings), and "files", the number of values.
        Infinite values, of silent recordings, are left out. For times "mean"
        is the median, which one disturbed run does not move.
    """
    summary = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        summary[method] = {
            name: _entry([row.get(name) for row in mine], name in TIMES)
            for name in names
        }
    return summary


def _entry(values, is_time):
    """Mean, median and confidence interval of the finite values."""
    values = [x for x in values if x is not None and math.isfinite(x)]
    median = float(np.median(values)) if values else None
    interval = None
    if len(values) > 1 and not is_time:
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        interval = float(stdtrit(len(values) - 1, 0.975) * error)
    return {
        "mean": median if is_time else mean_of(values),
        "median": median,
        "ci95": interval,
        "files": len(values),
    }


def cell(entry, name, intervals=True):
    """One entry of a summary as text, with its interval if wanted.

    The median is added to PESQ, which now and then fails to align a recording.

    Example
    -------
    >>> cell({"mean": 4.2, "median": 4.3, "ci95": 0.1}, "pesq_wb")
    '4.20 ± 0.10 (4.30)'
    """
    form = COLUMNS[name][1].format
    if entry["mean"] is None:
        return "-"
    text = form(entry["mean"])
    if intervals and entry["ci95"] is not None:
        text += f" ± {form(entry['ci95'])}"
        if name == "pesq_wb":
            text += f" ({form(entry['median'])})"
    return text


def summary_table(summary, names=tuple(COLUMNS), intervals=True):
    """A summary, as from `summarise`, in plain text: one line a method."""
    rows = [["method", *(COLUMNS[name][0] for name in names)]]
    for method, entries in summary.items():
        cells = [cell(entries[name], name, intervals) for name in names]
        rows.append([method, *cells])
    return format_table(rows)


def format_table(rows, markdown=False):
    """Rows of text as a table, plain or in Markdown; the first is the head.

    Example
    -------
    >>> print(format_table([["method", "RTF"], ["ours", "0.01"]]))
    method   RTF
    ------  ----
    ours    0.01
    """
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        lines.insert(1, "|" + "---|" * len(rows[0]))
        return "\n".join(lines)
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "  ".join(
            text.rjust(width) if i else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    )


def mean_of(values):
    """Mean of the values that are not None; None if all are."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None
