"""The part of the report that is listened to: pictures and players."""

import base64
import html
import io
from pathlib import Path

import numpy as np
import soundfile

from . import charts, summary
from .evaluate import magnitude_of

# The first of these that could be computed stands for quality in the charts.
QUALITY = ("pesq_wb", "estoi", "spectral_convergence")


def listen(results, examples):
    """Recordings and their reconstructions: pictures and players.

    Arguments
    ---------
    results : dict
        As from `compare.run`.
    examples : list of Outcome
        The recordings.

    Returns
    -------
    parts : list of str
        HTML.
    """
    if not examples:
        return []
    rows = {(row["file"], row["method"]): row for row in results["rows"]}
    parts = [
        "<h2>Listen</h2>",
        "<p>The pictures of the methods show the difference of the "
        "magnitudes, on the scale of the original: as loud as it looks, from "
        "0 (bright) to −80 dB (black) of its maximum.</p>",
    ]
    for example in examples:
        config, name = example.config, Path(example.file).stem
        original = magnitude_of(example.waveform.double(), config)[0].numpy()
        cards = [
            _card(
                "original",
                _picture(original, original, config, f"Spectrogram of {name}"),
                example.waveform,
                config,
            )
        ]
        for method, waveform in example.estimates.items():
            made = magnitude_of(waveform.double(), config)[0].numpy()
            error = np.abs(made - original)
            words = f"Error of {method}, {name}"
            score = _score(rows.get((example.file, method), {}))
            cards.append(
                _card(
                    method + score,
                    _picture(error, original, config, words),
                    waveform,
                    config,
                )
            )
        parts.append(
            f"<h3>{html.escape(name)}</h3>\n"
            f'<div class="cards">{"".join(cards)}</div>'
        )
    return parts


def _score(row):
    """The quality of one reconstruction, in brackets."""
    for name in QUALITY:
        if row.get(name) is not None:
            title, form = summary.SCORES[name]
            return f" ({title} {form.format(row[name])})"
    return ""


def _picture(magnitude, reference, config, words):
    """A spectrogram, in dB below the reference's maximum."""
    top = reference.max(initial=0.0) or 1.0
    level = 20 * np.log10(np.maximum(magnitude / top, 1e-4))
    return charts.spectrogram(level, config, words)


def _card(title, picture, waveform, config):
    """A name, a picture and a player."""
    buffer = io.BytesIO()
    samples = waveform[0].double().clamp(-1, 1).numpy()
    soundfile.write(buffer, samples, config.sample_rate, format="FLAC")
    sound = base64.b64encode(buffer.getvalue()).decode()
    label = html.escape(title, quote=True)
    return (
        f'<figure class="card"><figcaption>{label}</figcaption>{picture}'
        f'<audio controls preload="metadata" aria-label="{label}" '
        f'src="data:audio/flac;base64,{sound}"></audio></figure>\n'
    )
