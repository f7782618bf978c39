"""Scores of many files and methods: means, confidence, tables as text."""

import math

import numpy as np

# What a comparison reports: title and format of each score, by its name.
SCORES = {
    "pesq_wb": ("PESQ-WB", "{:.2f}"),
    "stoi": ("STOI", "{:.3f}"),
    "estoi": ("ESTOI", "{:.3f}"),
    "spectral_convergence": ("SC [dB]", "{:.1f}"),
    "log_spectral_distance": ("LSD [dB]", "{:.2f}"),
    "seconds": ("time [s]", "{:.3f}"),
    "real_time_factor": ("RTF", "{:.4f}"),
}
TIMES = ("seconds", "real_time_factor")


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
        summary[method][name] is a dict of "mean", "median", "ci95", half
        the width of the 95 % confidence interval of the mean (Student's t;
        None below two files), and "files", the number of values. Infinite
        ones, of silent recordings, are left out. Of times "mean" is the
        median, which a disturbed run does not move.

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
            entry = {
                "mean": mean_of(values),
                "median": float(np.median(values)) if values else None,
                "ci95": None,
                "files": len(values),
            }
            if name in TIMES and values:
                entry["mean"] = entry["median"]
            elif len(values) > 1:
                error = np.std(values, ddof=1) / math.sqrt(len(values))
                entry["ci95"] = float(t.ppf(0.975, len(values) - 1) * error)
            summary[method][name] = entry
    return summary


def summary_table(summary, names=tuple(SCORES), intervals=True):
    """The summary as text, a method a line.

    Arguments
    ---------
    summary : dict
        As from `summarise`.
    names : sequence of str
        Which scores.
    intervals : bool
        Whether to add the confidence intervals, and of PESQ the median.

    Returns
    -------
    text : str
    """
    lines = [["method"] + [SCORES[name][0] for name in names]]
    for method, scores in summary.items():
        line = [method]
        for name in names:
            entry, form = scores[name], SCORES[name][1]
            text = "-" if entry["mean"] is None else form.format(entry["mean"])
            if intervals and entry["ci95"] is not None:
                text += " ±" + form.format(entry["ci95"]).lstrip("0")
                if name == "pesq_wb":  # which now and then loses a file
                    text += f" ({form.format(entry['median'])})"
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


def mean_of(values):
    """Mean of the values that are there, None if none is."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None
