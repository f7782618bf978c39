"""Spectrograms of a recording, of its reconstruction, and their difference."""

import numpy as np

from ..audio import check_writable, replacing

FORMATS = {".png": "png", ".pdf": "pdf", ".svg": "svg"}


def plot_comparison(path, original, reconstruction, config, depth=80.0):
    """Draw three spectrograms under each other, one axis of time for all.

    Arguments
    ---------
    path : str or Path
        Picture to write: .png, .pdf or .svg.
    original, reconstruction : torch.Tensor, [time, freq]
        Magnitudes.
    config : StftConfig
        Their transform; it gives the axes their units.
    depth : float
        Range of the colours below the original's maximum, in dB. The
        difference is drawn on the same scale: as loud as it looks.
    """
    kind = check_writable(path, FORMATS)
    # The Agg canvas draws without a display, and leaves pyplot's state, if
    # the caller has any, alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    original = original.double().cpu().numpy()
    reconstruction = reconstruction.double().cpu().numpy()
    panels = {
        "original": original,
        "reconstruction": reconstruction,
        "difference of the magnitudes": np.abs(reconstruction - original),
    }
    reference = original.max(initial=0.0) or 1.0
    # A frame covers one hop around its centre, a bin one step around its own.
    hop = config.hop_length / config.sample_rate
    step = config.sample_rate / config.n_fft / 1000
    frames, bins = original.shape
    extent = (
        -hop / 2,
        (frames - 0.5) * hop,
        -step / 2,
        (bins - 0.5) * step,
    )
    figure = Figure(figsize=(9, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 1, sharex=True, sharey=True)
    for axis, (title, magnitude) in zip(axes, panels.items()):
        floor = 10 ** (-depth / 20)
        level = 20 * np.log10(np.maximum(magnitude / reference, floor))
        image = axis.imshow(
            level.T,
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=-depth,
            vmax=0,
            cmap="magma",
            interpolation="nearest",
        )
        axis.set_title(title)
        axis.set_ylabel("frequency [kHz]")
    axes[0].set_ylim(0, config.sample_rate / 2000)
    axes[-1].set_xlabel("time [s]")
    bar = figure.colorbar(image, ax=axes, shrink=0.6)
    bar.set_label("level [dB]")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=120)
