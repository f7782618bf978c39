"""Charts as SVG that a page takes in: its ink, its font, no script.

matplotlib draws them; lines and text of the page's own colour are written as
``currentColor``, so that they are readable on a light and on a dark page.
"""

import html
import io
import re
from itertools import count

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

# Stands for the colour of the page's text while matplotlib draws.
INK = "#010203"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "phaseinv",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.2,
    "lines.linewidth": 2,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        INK,
    ),
}
# Colours of middle lightness, told apart by the colour-blind too (after Okabe
# and Ito), each with a marker of its own.
GROUPS = {
    "network": ("#1f83c4", "o"),
    "gradient theorem": ("#13996f", "s"),
    "refined by iterations": ("#b8860b", "D"),
    "others": ("#d1592a", "^"),
}
SERIES = ("#1f83c4", "#d1592a", "#13996f", "#b765a5", "#b8860b", "#808a93")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
_numbers = count()


def figure(width=7.0, height=4.4):
    """An empty figure and its axes, in the style of the page."""
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.add_subplot()


def svg(fig, description):
    """A figure as an <svg> element, described for those who do not see it."""
    buffer = io.StringIO()
    FigureCanvasSVG(fig)
    fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor")
    # Identifiers are to be unique on a page of many charts.
    prefix = f"c{next(_numbers)}-"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r"url\(#", f"url(#{prefix}", text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    label = html.escape(description, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


@matplotlib.rc_context(STYLE)
def scatter(points, xlabel, ylabel, description, ticks=None, log=True):
    """Points with error bars, each labelled where there is room.

    Arguments
    ---------
    points : list of dict
        "name", "x", "y", "interval" (half its width, or None) and "group", a
        key of `GROUPS`.
    xlabel, ylabel : str
        With units.
    description : str
        What there is to see.
    ticks : dict of float to str, optional
        Marks on the horizontal axis. Default: 1, 2 and 5 of each decade.
    log : bool
        Whether the horizontal axis is logarithmic.

    Returns
    -------
    svg : str
    """
    fig, axes = figure()
    if log:
        axes.set_xscale("log")
    places = {p["x"] for p in points}
    if len(places) == 1:  # which has no width of its own
        axes.set_xlim(*(x * f for x in places for f in (0.5, 2)))
    for group, (colour, marker) in GROUPS.items():
        mine = [p for p in points if p["group"] == group]
        if not mine:
            continue
        axes.errorbar(
            [p["x"] for p in mine],
            [p["y"] for p in mine],
            [p["interval"] or 0 for p in mine],
            linestyle="none",
            marker=marker,
            markersize=8,
            color=colour,
            elinewidth=1.2,
            alpha=0.95,
            label=group,
        )
    axes.margins(x=0.12)
    # The means decide on the scale: an interval of a few recordings may be
    # wider than all that there is to see.
    heights = [p["y"] for p in points]
    room = 0.12 * (max(heights) - min(heights)) or 1.0
    axes.set_ylim(min(heights) - room, max(heights) + room)
    if ticks:
        axes.set_xticks(list(ticks), list(ticks.values()))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.legend(
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=4,
        handletextpad=0.2,
        columnspacing=1.2,
    )
    _label(fig, axes, points)
    return svg(fig, description)


def _label(fig, axes, points, size=9.5):
    """Write each point's name beside it, over as little as possible."""
    FigureCanvasAgg(fig).draw()  # settles the layout
    fig.set_layout_engine("none")
    scale = fig.dpi / 72
    spots = axes.transData.transform([(p["x"], p["y"]) for p in points])
    frame = axes.get_window_extent()
    taken = [_box(x, y, 11 * scale, 11 * scale) for x, y in spots]
    order = np.argsort(-spots[:, 1])
    for i in order:
        x, y = spots[i]
        width = 0.56 * size * scale * len(points[i]["name"])
        height = 1.1 * size * scale
        best = None
        for distance in (9, 16, 26, 40):
            for angle in range(0, 360, 30):
                dx = distance * scale * np.cos(np.radians(angle))
                dy = distance * scale * np.sin(np.radians(angle))
                # The nearest point of the label lies on the circle.
                cx = x + dx + np.sign(round(dx, 3)) * width / 2
                cy = y + dy + np.sign(round(dy, 3)) * height / 2
                box = _box(cx, cy, width, height)
                cost = sum(_overlap(box, other) for other in taken)
                cost += 4 * (_area(box) - _overlap(box, frame.extents))
                cost += 0.4 * distance * scale
                if best is None or cost < best[0]:
                    best = cost, cx, cy, box, distance
        _, cx, cy, box, distance = best
        taken.append(box)
        axes.annotate(
            points[i]["name"],
            (points[i]["x"], points[i]["y"]),
            fig.transFigure.inverted().transform((cx, cy)),
            textcoords="figure fraction",
            ha="center",
            va="center_baseline",
            fontsize=size,
            arrowprops=None
            if distance < 20
            else {"arrowstyle": "-", "color": INK, "alpha": 0.5, "lw": 0.7},
        )


def _box(x, y, width, height):
    """Corners of a rectangle around a centre."""
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(one, other):
    """Area that two rectangles share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


@matplotlib.rc_context(STYLE)
def lines(curves, xlabel, ylabel, description, log=False, reverse=False):
    """Curves, each labelled at its end.

    Arguments
    ---------
    curves : dict of str to (sequence, sequence)
        Name to abscissae and ordinates.
    xlabel, ylabel : str
        With units.
    description : str
        What there is to see.
    log : bool
        Whether both axes are logarithmic; abscissae are marked then.
    reverse : bool
        Whether the horizontal axis runs down.

    Returns
    -------
    svg : str
    """
    fig, axes = figure(7.0, 3.9)
    if log:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
    for i, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(
            x,
            y,
            color=SERIES[i % len(SERIES)],
            linestyle=DASHES[i // len(SERIES) % len(DASHES)]
            if len(curves) > len(SERIES)
            else DASHES[i % len(DASHES)],
            marker="o" if log else None,
            label=name,
        )
    if log:
        marks = sorted({x for xs, _ in curves.values() for x in xs})
        axes.set_xticks(marks, [f"{x:,}" for x in marks])
        axes.minorticks_off()
    else:
        axes.set_ylim(bottom=0)
    if reverse:
        axes.invert_xaxis()
    axes.margins(x=0.03 if log else 0)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    _label_ends(fig, axes, curves)
    return svg(fig, description)


def _label_ends(fig, axes, curves, size=9.5):
    """Name the curves right of their last points, one below the other."""
    axes.set_title(" " * 8)  # height for labels above the topmost curve
    ends = {name: (x[-1], y[-1]) for name, (x, y) in curves.items()}
    room = 0.6 * size * max(map(len, ends)) / 72 / fig.get_size_inches()[0]
    fig.get_layout_engine().set(rect=(0, 0, 1 - room - 0.03, 1))
    FigureCanvasAgg(fig).draw()
    fig.set_layout_engine("none")
    scale = fig.dpi / 72
    spots = {x: axes.transData.transform(y) for x, y in ends.items()}
    order = sorted(spots, key=lambda name: spots[name][1])
    heights = spread([spots[x][1] for x in order], 1.25 * size * scale)
    right = axes.get_window_extent().x1
    for name, height in zip(order, heights):
        axes.annotate(
            name,
            ends[name],
            fig.transFigure.inverted().transform((right + 14 * scale, height)),
            textcoords="figure fraction",
            va="center_baseline",
            fontsize=size,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": INK,
                "alpha": 0.5,
                "lw": 0.7,
            },
        )


def spread(positions, gap):
    """Move sorted numbers apart, as little as it takes.

    Arguments
    ---------
    positions : list of float
        Ascending.
    gap : float
        Least distance of two neighbours.

    Returns
    -------
    moved : list of float

    Example
    -------
    >>> spread([0.0, 1.0, 10.0], 3.0)
    [-1.0, 2.0, 10.0]
    """
    # Neighbours that are too near form a group around their common mean.
    groups = []
    for position in positions:
        groups.append([position])
        while len(groups) > 1:
            one, other = groups[-2:]
            reach = gap * (len(one) + len(other)) / 2
            if np.mean(other) - np.mean(one) >= reach:
                break
            groups[-2:] = [one + other]
    moved = []
    for group in groups:
        first = float(np.mean(group)) - gap * (len(group) - 1) / 2
        moved += [first + gap * i for i in range(len(group))]
    return moved


@matplotlib.rc_context(STYLE)
def spectrogram(levels, config, description, width=3.6, height=1.9):
    """A spectrogram with its axes.

    Arguments
    ---------
    levels : numpy.ndarray, [time, freq]
        In dB, from -80 to 0.
    config : StftConfig
        Of the transform; it gives the axes their units.
    description : str
        What there is to see.

    Returns
    -------
    svg : str
    """
    fig, axes = figure(width, height)
    hop = config.hop_length / config.sample_rate
    top = config.sample_rate / 2000
    axes.imshow(
        levels.T,
        origin="lower",
        aspect="auto",
        extent=(0, len(levels) * hop, 0, top),
        vmin=-80,
        vmax=0,
        cmap="magma",
        interpolation="antialiased",
    )
    axes.grid(False)
    axes.set_xlabel("time [s]")
    axes.set_ylabel("kHz")
    return svg(fig, description)
