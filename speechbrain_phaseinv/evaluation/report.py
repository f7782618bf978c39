"""One page of HTML that shows and plays a comparison, and needs no network.

Pictures are SVG, recordings FLAC, all of them inside the page; there is no
script. `compare` measured what it shows.
"""

import html
from pathlib import Path

from ..audio import replacing
from . import charts, summary
from .compare import columns, missing
from .listening import QUALITY, listen
from .peers import BOUNDS
from .solvers import OURS

CSS = Path(__file__).parents[1] / "data" / "report.css"
# Which way each score is better.
BETTER = {
    "pesq_wb": "more is better",
    "stoi": "more is better",
    "estoi": "more is better",
    "spectral_convergence": "less is better",
    "log_spectral_distance": "less is better",
}


def write_report(results, examples, path):
    """Write the page, whole or not at all.

    Arguments
    ---------
    results : dict
        As from `compare.run`.
    examples : list of Outcome
        Recordings to listen to, as from `compare.run`.
    path : str or Path
        The file.
    """
    settings = results["settings"]
    parts = [
        _introduction(settings),
        "<h2>Quality</h2>",
        _table(results),
        *_charts(results),
        *_derivatives(results["derivatives"]),
        *_solver(results["solver"]),
        *listen(results, examples),
    ]
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Phase reconstruction, compared</title>
<style>
{CSS.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
{chr(10).join(parts)}
</main>
</body>
</html>
"""
    with replacing(path) as temporary:
        Path(temporary).write_text(page, encoding="utf-8")


def _introduction(settings):
    """What was done, and to what."""
    return (
        "<h1>Phase reconstruction, compared</h1>\n"
        f"<p>{settings['recordings']} recording"
        f"{'s' if settings['recordings'] > 1 else ''} at "
        f"{settings['sample_rate']:,} Hz lost the phase of their "
        f"spectrograms ({html.escape(settings['window'])} window of "
        f"{settings['win_length']} samples, hop {settings['hop_length']}, "
        f"n_fft {settings['n_fft']}), and each method found one again from "
        "the same magnitudes. One thread of "
        f"{html.escape(settings['machine'])}, "
        f"PyTorch {html.escape(settings['torch'])}.</p>"
    )


def _table(results):
    """The scores with their confidence intervals."""
    names = columns(results)
    heads = ["method", "waits for", "parameters"]
    heads += [summary.SCORES[name][0] for name in names]
    rows = []
    for method, found in results["summary"].items():
        about = results["methods"][method]
        cells = [_wait(about), f"{about['parameters']:,}"]
        cells += [_cell(found[name], name) for name in names]
        kind = f' class="{_group(method).split()[0]}"'
        rows.append(
            f'<tr{kind}><th scope="row">{html.escape(method)}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    more = [x for x in names if BETTER.get(x, "").startswith("more")]
    notes = [
        "Means over recordings with 95&nbsp;% confidence intervals. "
        + (f"More is better of {_titles(more)}, less " if more else "Less ")
        + f"of {_titles(x for x in names if x not in more)}. RTF, the "
        "real-time factor: time of computing over time of sound in one "
        "thread, median.",
        _explain(results),
    ]
    if "pesq_wb" in names:
        notes.append(
            "PESQ now and then fails to align a recording, and the mean "
            "drops: the median is in results.json."
        )
    notes += [
        f"Skipped {html.escape(name)}: {html.escape(reason.rstrip('.'))}."
        for name, reason in results["skipped"]
    ]
    notes += [html.escape(line) for line in missing(results)]
    head = "".join(f'<th scope="col">{html.escape(x)}</th>' for x in heads)
    return (
        '<div class="wide" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></div>\n"
        + "\n".join(f'<p class="note">{note}</p>' for note in notes)
    )


def _titles(names):
    """A list of scores in words."""
    titles = [summary.SCORES[name][0].split(" ")[0] for name in names]
    return " and ".join(filter(None, [", ".join(titles[:-1]), titles[-1]]))


def _explain(results):
    """What the names of the methods mean, as far as they are there."""
    meanings = {
        (
            "network",
            "gradient",
        ): "“network” and “gradient” (the gradient theorem, no "
        "training) are this package's, the number after them its look-ahead "
        "in frames, “+16” iterations of fast Griffin-Lim that follow.",
        (
            "zero-phase",
            "random-phase",
        ): "“zero-phase” and “random-phase” are what doing nothing gives.",
        ("true-derivatives",): "“true-derivatives” is what the least squares "
        "make of the derivatives of the true phase: the limit.",
    }
    return " ".join(
        meaning
        for starts, meaning in meanings.items()
        if any(name.startswith(starts) for name in results["summary"])
    )


def _wait(about):
    """How long a sample waits, in words."""
    if about["latency_ms"] is None:
        return "whole signal"
    return f"{about['latency_ms']:.0f} ms"


def _cell(entry, name):
    """A mean and its confidence interval."""
    form = summary.SCORES[name][1]
    if entry["mean"] is None:
        return "–"
    text = form.format(entry["mean"])
    if entry["ci95"] is not None:
        text += f" <small>±{form.format(entry['ci95'])}</small>"
    return text.replace("-", "−")


def _group(method):
    """Which of `charts.GROUPS` a method belongs to."""
    if "+" in method:
        return "refined by iterations"
    if method.startswith("gradient"):
        return "gradient theorem"
    return "network" if method.startswith("network") else "others"


def _charts(results):
    """Quality against cost, latency and size."""
    found, about = results["summary"], results["methods"]
    name = next(x for x in QUALITY if x in columns(results))
    ylabel = f"{summary.SCORES[name][0]} ({BETTER[name]})"
    points = {
        method: {
            "name": method,
            "y": scores[name]["mean"],
            "interval": scores[name]["ci95"],
            "group": _group(method),
        }
        for method, scores in found.items()
        if method not in BOUNDS and scores[name]["mean"] is not None
    }
    if not points:
        return []
    left_out = [method for method in found if method in BOUNDS]
    cost = [
        p | {"x": found[method]["real_time_factor"]["mean"]}
        for method, p in points.items()
    ]
    latencies = [about[method]["latency_ms"] for method in points]
    known = sorted({x for x in latencies if x is not None})
    # Those that wait for the end stand right of all others.
    end = (known[-1] if known else 10.0) * 1.4
    ticks = {x: f"{x:.0f}" for x in known}
    waits = [
        p | {"x": about[method]["latency_ms"] or end}
        for method, p in points.items()
    ]
    if None in latencies:
        ticks[end] = "whole\nsignal"
    # Online methods are compared by their size: what may look ahead to the
    # end may do better with none.
    sizes = [
        p | {"x": max(about[method]["parameters"], 100)}
        for method, p in points.items()
        if about[method]["latency_ms"] is not None
    ]
    powers = {10**i: f"{10**i:,}" for i in range(3, 7)}
    both = {
        f"{summary.SCORES[name][0]} against cost": (
            charts.scatter(
                cost,
                "real-time factor, one thread (less is faster)",
                ylabel,
                f"Quality of {len(cost)} methods against computing time.",
            )
        ),
        "Against latency": charts.scatter(
            waits,
            "algorithmic latency [ms]",
            ylabel,
            f"Quality of {len(waits)} methods against latency.",
            ticks,
            log=False,
        ),
        "Against size, online methods": charts.scatter(
            sizes,
            "trained parameters",
            ylabel,
            f"Quality of {len(sizes)} online methods against their number "
            "of trained parameters.",
            {100: "none"} | powers,
        )
        if any(about[method]["parameters"] for method in points)
        else "",
    }
    note = ""
    if left_out:
        note = f"Not shown: {', '.join(left_out)}, see the table."
    return [
        f"<h2>{html.escape(title)}</h2>\n"
        f'<figure class="wide" tabindex="0">{chart}'
        f"<figcaption>{html.escape(note)} Bars: 95 % confidence intervals."
        "</figcaption></figure>"
        for title, chart in both.items()
        if chart
    ]


def _derivatives(curves):
    """Where each estimator's derivatives are wrong."""
    if not curves:
        return []
    units = {"time": "radians per hop", "frequency": "radians per bin"}
    axes = {
        "frequency": "frequency [kHz]",
        "level": "level below the recording's maximum [dB]",
    }
    parts = ["<h2>Errors of the phase derivatives</h2>"]
    parts.append(
        "<p>Mean absolute error against the true phase, each bin weighted by "
        "its magnitude. A guess that knows nothing is off by π/2, 1.57 "
        "radians. A network that is trained through the least squares, as "
        "ours, says itself where it is not to be trusted, and an error there "
        "costs little; that is not shown.</p>"
    )
    for kind, unit in units.items():
        for axis, xlabel in axes.items():
            points = {
                name: (found[kind][axis]["x"], found[kind][axis]["radians"])
                for name, found in curves.items()
            }
            # Recordings of one frame have no derivative over time.
            points = {name: xy for name, xy in points.items() if len(xy[0])}
            if not points:
                continue
            chart = charts.lines(
                points,
                xlabel,
                f"mean error [{unit}]",
                f"Error of the derivative over {kind} against {axis}, for "
                f"{', '.join(points)}.",
                reverse=axis == "level",
            )
            parts.append(
                f"<h3>Derivative over {kind}, error over {axis}</h3>\n"
                f'<figure class="wide" tabindex="0">{chart}</figure>'
            )
    return parts


def _solver(solver):
    """Time of the least-squares step over the size of the system."""
    table, exponents = solver["microseconds"], solver["exponent"]
    chart = charts.lines(
        {
            f"{name} (F^{exponents[name]:.2f})": (
                list(row),
                list(row.values()),
            )
            for name, row in table.items()
        },
        "bins F",
        "time per frame [µs]",
        "Time per frame against the number of bins, for "
        + ", ".join(table)
        + ".",
        log=True,
    )
    dense = table.get("dense solve", {})
    ratios = [
        f"{dense[bins] / table[OURS][bins]:,.0f} times at {bins:,} bins"
        for bins in dense
    ]
    faster = f" Faster than the dense solve: {', '.join(ratios)}."
    return [
        "<h2>Least squares: time over size</h2>",
        f'<figure class="wide" tabindex="0">{chart}<figcaption>CPU time of '
        "one thread, single precision. In brackets: the fitted power of the "
        f"number of bins with which time grows.{faster if dense else ''}"
        "</figcaption></figure>",
    ]
