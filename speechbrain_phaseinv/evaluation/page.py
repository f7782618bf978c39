"""One page of HTML that shows and plays a comparison, and needs no network.

Pictures and recordings lie inside the page; there is no script. The words are
those of the template, ``data/report.html.j2``.
"""

import base64
import io
from pathlib import Path

import soundfile
from jinja2 import Environment, StrictUndefined

from ..audio import replacing
from .compare import columns
from .peers import BOUNDS
from .pictures import chart, data_uri, spectrogram
from .scores import magnitude_of, missing
from .tables import COLUMNS, cell

TEMPLATE = Path(__file__).parents[1] / "data" / "report.html.j2"
# The first of these that could be computed stands for quality in the charts.
QUALITY = {
    "pesq_wb": "more is better",
    "estoi": "more is better",
    "spectral_convergence": "less is better",
}
UNITS = {"time": "radians per hop", "frequency": "radians per bin"}
AXES = {
    "frequency": "frequency [kHz]",
    "level": "level below the recording's maximum [dB]",
}


def write_page(results, examples, path):
    """Write the page, whole or not at all.

    Arguments
    ---------
    results : dict
        As from `compare.run`.
    examples : list of Example
        Recordings to listen to, as from `compare.run`.
    path : str or Path
        The file.
    """
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    names = columns(results)
    page = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        settings=results["settings"],
        methods=list(results["summary"]),
        heads=[COLUMNS[name][0] for name in names],
        rows=[_row(results, method, names) for method in results["summary"]],
        skipped=results["skipped"],
        missing=missing(),
        charts=_quality_charts(results),
        derivatives=_derivative_charts(results["derivatives"]),
        examples=[_example(x, results["rows"]) for x in examples],
    )
    with replacing(path) as temporary:
        Path(temporary).write_text(page, encoding="utf-8")


def _row(results, method, names):
    """The cells of a method."""
    about, entries = results["methods"][method], results["summary"][method]
    cells = ["whole signal", f"{about['parameters']:,}"]
    if about["latency_ms"] is not None:
        cells[0] = f"{about['latency_ms']:.0f} ms"
    elif entries["real_time_factor"]["mean"] is None:  # not computed here
        cells = ["-", "-"]
    cells += [cell(entries[name], name) for name in names]
    return {"method": method, "cells": cells}


def _quality_charts(results):
    """Quality over cost, latency and size."""
    about, summary = results["methods"], results["summary"]
    quality = next((x for x in QUALITY if x in columns(results)), None)
    entries = {
        method: values[quality]
        for method, values in summary.items()
        if method not in BOUNDS and values[quality]["mean"] is not None
    }
    # A rendering by another system has no cost, latency and size.
    cost = {x: summary[x]["real_time_factor"]["mean"] for x in entries}
    cost = {x: value for x, value in cost.items() if value}
    if not cost:
        return []
    latency = {x: about[x]["latency_ms"] for x in cost}
    ticks = sorted({x for x in latency.values() if x is not None})
    # Methods that wait for the end stand right of all others.
    end = 1.4 * ticks[-1] if ticks else 10.0
    # Only online methods are compared by their size, on a logarithmic axis.
    size = {
        x: max(about[x]["parameters"], 100)
        for x, value in latency.items()
        if value is not None
    }
    latency = {x: value or end for x, value in latency.items()}
    waits = {x: f"{x:.0f}" for x in ticks} | {end: "whole\nsignal"}
    powers = {100: "none"} | {10**i: f"{10**i:,}" for i in range(3, 7)}
    kinds = {
        "cost": ("real-time factor, one thread", cost, None),
        "latency": ("algorithmic latency [ms]", latency, waits),
        "size": ("trained parameters", size, powers),
    }
    # The means decide on the scale: an interval of a few recordings may be
    # wider than all that there is to see.
    means = [entry["mean"] for entry in entries.values()]
    room = 0.1 * (max(means) - min(means)) or 1.0
    ylabel = f"{COLUMNS[quality][0]} ({QUALITY[quality]})"
    charts = []
    for kind, (xlabel, values, ticks) in kinds.items():
        if kind == "size" and max(size.values(), default=100) == 100:
            continue
        options = {"ylim": (min(means) - room, max(means) + room)}
        if kind != "latency":
            options["xscale"] = "log"
        if ticks:
            options |= {"xticks": list(ticks), "xticklabels": ticks.values()}
        series = {
            method: ([values[method]], [entry["mean"]], [entry["ci95"] or 0])
            if method in values
            else None
            for method, entry in entries.items()
        }
        figure = chart(series, xlabel, ylabel, points=True, **options)
        title = f"{COLUMNS[quality][0]} over {kind}"
        charts.append(_picture(title, figure, f"{ylabel} over {xlabel}"))
    return charts


def _picture(title, figure, description=None, kind="svg"):
    """What the template shows of a figure."""
    text = description or title
    return {"title": title, "text": text, "src": data_uri(figure, kind)}


def _derivative_charts(curves):
    """Where the derivatives of each estimator are wrong."""
    charts = []
    for kind, unit in UNITS.items():
        for axis, xlabel in AXES.items():
            series = {
                name: (*found[kind][axis].values(), None)
                for name, found in curves.items()
            }
            # Recordings of one frame have no derivative over time.
            if not any(x for x, *_ in series.values()):
                continue
            figure = chart(series, xlabel, f"mean error [{unit}]")
            title = f"Derivative over {kind}, error over {axis}"
            charts.append(_picture(title, figure))
    return charts


def _example(example, rows):
    """The pictures and players of a recording."""
    rows = {x["method"]: x for x in rows if x["file"] == example.file}
    config, cards, original = example.config, [], None
    for name, signal in example.signals.items():
        magnitude = magnitude_of(signal[None].double(), config)[0].numpy()
        if original is None:
            original, picture = magnitude, magnitude
        else:
            picture = abs(magnitude - original)
            quality = next((x for x in QUALITY if rows[name].get(x)), None)
            if quality is not None:
                title, form = COLUMNS[quality]
                name += f" ({title} {form.format(rows[name][quality])})"
        figure = spectrogram(picture, original.max(initial=0.0), config)
        sound = io.BytesIO()
        samples = signal.double().clamp(-1, 1).numpy()
        soundfile.write(sound, samples, config.sample_rate, format="FLAC")
        sound = base64.b64encode(sound.getvalue()).decode()
        sound = {"sound": f"data:audio/flac;base64,{sound}"}
        cards.append(_picture(name, figure, kind="png") | sound)
    return {"title": Path(example.file).stem, "cards": cards}
