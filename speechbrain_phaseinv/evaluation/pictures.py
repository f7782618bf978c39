"""Charts and spectrograms, drawn by matplotlib without a display."""

import base64
import io
from itertools import cycle

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..audio import check_writable, replacing

FORMATS = {".png": "png", ".pdf": "pdf", ".svg": "svg"}
# Range of the colours, in dB.
DEPTH = 80.0
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
}
# Told apart by the colour-blind too (after Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#606a73")
MARKERS = "osD^vPX"
DASHES = ("-", "--", "-.", ":")


@matplotlib.rc_context(STYLE)
def chart(series, xlabel, ylabel, points=False, **options):
    """A chart of curves or points with a legend beside it.

    `series` is a dict of name to abscissae, ordinates and half the intervals,
    or None for a name that keeps its colour and marker for other charts, and
    is not drawn. `options` are those of `matplotlib.axes.Axes.set`.
    """
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    axes = figure.subplots()
    colours, markers, dashes = map(cycle, (COLOURS, MARKERS, DASHES))
    for name, values in series.items():
        style = {"color": next(colours), "linestyle": next(dashes)}
        if points:
            style |= {"marker": next(markers), "ms": 7, "linestyle": "none"}
        if values is not None:
            axes.errorbar(*values, label=name, elinewidth=1, **style)
    axes.set(xlabel=xlabel, ylabel=ylabel, **options)
    axes.minorticks_off()
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def draw_spectrogram(axes, magnitude, peak, config):
    """Draw magnitudes [time, freq] in dB below a peak; returns the image."""
    level = np.maximum(magnitude / (peak or 1.0), 10 ** (-DEPTH / 20))
    # A frame covers one hop around its centre, a bin one step around its own.
    hop = config.hop_length / config.sample_rate
    step = config.sample_rate / config.n_fft / 1000
    frames, bins = np.array(magnitude.shape) - 0.5
    extent = (-hop / 2, frames * hop, -step / 2, bins * step)
    image = axes.imshow(
        20 * np.log10(level.T),
        origin="lower",
        aspect="auto",
        extent=extent,
        vmin=-DEPTH,
        vmax=0,
        cmap="magma",
    )
    axes.set(xlabel="time [s]", ylabel="frequency [kHz]")
    axes.set_ylim(0, config.sample_rate / 2000)
    return image


def spectrogram(magnitude, peak, config):
    """A small picture of magnitudes [time, freq], below a peak."""
    figure = Figure(figsize=(3.6, 2), layout="constrained")
    draw_spectrogram(figure.subplots(), magnitude, peak, config)
    return figure


def plot_comparison(path, original, reconstruction, config):
    """Draw two spectrograms and their difference under each other.

    Arguments
    ---------
    path : str or Path
        Picture to write: .png, .pdf or .svg.
    original, reconstruction : torch.Tensor, [time, freq]
        Magnitudes. All are drawn in dB below the original's maximum, so the
        difference is as loud as it looks.
    config : StftConfig
        Their transform.
    """
    kind = check_writable(path, FORMATS)
    original = original.double().cpu().numpy()
    reconstruction = reconstruction.double().cpu().numpy()
    panels = {
        "original": original,
        "reconstruction": reconstruction,
        "difference of the magnitudes": np.abs(reconstruction - original),
    }
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, sharey=True)
    peak = original.max(initial=0.0)
    for panel, (title, magnitude) in zip(axes, panels.items()):
        image = draw_spectrogram(panel, magnitude, peak, config)
        panel.set_title(title)
        panel.label_outer()
    figure.colorbar(image, ax=axes, shrink=0.6, label="level [dB]")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=120)


def data_uri(figure, kind="svg"):
    """A figure as the address of an image inside a page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    text = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.replace('svg', 'svg+xml')};base64,{text}"
