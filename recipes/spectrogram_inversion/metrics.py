"""What an inversion is measured by, and samples to listen to."""

import math

import numpy as np
import soundfile

from speechbrain_phaseinv.stft import analysis

try:  # see extra_requirements.txt; without them the columns are missing
    from pesq import NoUtterancesError, PesqError, pesq
    from pystoi import stoi
except ImportError:
    pesq = stoi = None


def inversion_metrics(waveform, target, config, perceptual=True):
    """Spectral convergence, PESQ and ESTOI of one utterance.

    Arguments
    ---------
    waveform, target : torch.Tensor, [1, samples]
        The inverted and the original recording.
    config : StftConfig
        Its magnitudes were inverted.
    perceptual : bool
        Whether to compute PESQ (at 8 and 16 kHz) and ESTOI.

    Returns
    -------
    metrics : dict
        "sc" in dB; "pesq" and "estoi" where they could be computed.
    """
    waveform, target = waveform.detach().float().cpu(), target.float().cpu()
    made = analysis(waveform, config).abs()
    wanted = analysis(target, config).abs()
    error = (made - wanted).norm() / wanted.norm().clamp_min(1e-12)
    metrics = {"sc": 20 * math.log10(max(error.item(), 1e-12))}
    rate = config.sample_rate
    if not perceptual or pesq is None:
        return metrics
    made, wanted = waveform[0].numpy(), target[0].numpy()
    if rate in (8000, 16000) and len(wanted) > rate // 2:
        try:
            mode = "wb" if rate == 16000 else "nb"
            metrics["pesq"] = float(pesq(rate, wanted, made, mode))
        except (NoUtterancesError, PesqError):
            pass  # nothing but silence: PESQ is not defined
    if len(wanted) > rate // 2:
        metrics["estoi"] = float(stoi(wanted, made, rate, extended=True))
    return metrics


def mean_and_interval(rows):
    """Mean of each metric and half its 95 % confidence interval.

    Arguments
    ---------
    rows : list of dict
        From `inversion_metrics`; a metric may be missing in some.

    Returns
    -------
    table : dict of str to (float, float)
    """
    table = {}
    for name in ("pesq", "estoi", "sc"):
        values = np.array([row[name] for row in rows if name in row])
        if len(values):
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            half = 1.96 * spread / math.sqrt(len(values))
            table[name] = (float(values.mean()), float(half))
    return table


def write_samples(folder, name, waveform, target, config):
    """Write both recordings, and a figure of the error over the STFT."""
    folder.mkdir(parents=True, exist_ok=True)
    signals = {"inverted": waveform, "original": target}
    for kind, signal in signals.items():
        samples = signal[0].detach().float().cpu().numpy()
        peak = max(1.0, np.abs(samples).max())
        path = folder / f"{name}_{kind}.wav"
        soundfile.write(str(path), samples / peak, config.sample_rate)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    wanted = analysis(target.float().cpu(), config).abs()[0]
    made = analysis(waveform.detach().float().cpu(), config).abs()[0]
    floor = 1e-4 * wanted.max().clamp_min(1e-12)
    panels = {
        "original": wanted,
        "inverted": made,
        "difference": (made - wanted).abs(),
    }
    figure = Figure(figsize=(8, 6), layout="constrained")
    top = 20 * math.log10(float(wanted.max().clamp_min(1e-12)))
    for axes, (title, values) in zip(figure.subplots(3, 1), panels.items()):
        level = 20 * values.clamp_min(floor).log10()
        axes.imshow(
            level.T.numpy(),
            origin="lower",
            aspect="auto",
            vmin=top - 80,
            vmax=top,
        )
        axes.set(title=f"{title}, dB", ylabel="bin")
    axes.set_xlabel("frame")
    figure.savefig(folder / f"{name}.png")
