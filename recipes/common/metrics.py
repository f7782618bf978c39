"""The metrics of an output, and samples to listen to."""

import torch

from speechbrain_phaseinv.audio import write_audio
from speechbrain_phaseinv.evaluation.pictures import plot_comparison
from speechbrain_phaseinv.evaluation.scores import magnitude_of, score
from speechbrain_phaseinv.evaluation.tables import summarise

# Columns here, and the scores of the package that they hold. PESQ and ESTOI
# need extra_requirements.txt; without them the columns are missing.
SCORES = {
    "sc": "spectral_convergence",
    "pesq": "pesq_wb",
    "estoi": "estoi",
}


# Samples that `even_pesq` leaves out of both signals, in turn.
BEGINNINGS = 0, 64, 128, 192


def inversion_metrics(waveform, target, config, perceptual=True):
    """Spectral convergence, PESQ and ESTOI of one utterance.

    Arguments
    ---------
    waveform, target : torch.Tensor, [1, samples]
        The inverted and the original recording.
    config : StftConfig
        Its magnitudes were inverted.
    perceptual : bool
        Whether to compute PESQ and ESTOI.

    Returns
    -------
    metrics : dict
        "sc" in dB; "pesq" and "estoi" where they could be computed.
    """
    names = list(SCORES) if perceptual else ["sc"]
    scores = score(
        target.float().cpu(),
        waveform.detach().float().cpu(),
        config,
        [SCORES[name] for name in names],
    )
    metrics = {name: scores[SCORES[name]] for name in names}
    return {name: x for name, x in metrics.items() if x is not None}


def even_pesq(waveform, target, config):
    """PESQ-WB, the mean over several beginnings.

    At 16 kHz PESQ looks at frames of 512 samples, 256 apart, from the first one
    on. With a hop of 256 these are the very frames whose magnitudes were
    given, and what happens in between is not heard.

    Arguments
    ---------
    waveform, target, config
        As for `inversion_metrics`.

    Returns
    -------
    pesq : float or None
    """
    values = [
        score(target[:, x:], waveform[:, x:], config, ["pesq_wb"])["pesq_wb"]
        for x in BEGINNINGS
    ]
    return None if None in values else sum(values) / len(values)


def si_sdr(reference, estimate):
    """Scale-invariant signal-to-distortion ratio of two waveforms, in dB."""
    reference, estimate = (x - x.mean() for x in (reference, estimate))
    scale = (reference @ estimate) / reference.square().sum()
    target = scale * reference
    error = (estimate - target).square().sum()
    return 10 * torch.log10(target.square().sum() / error).item()


def mean_and_interval(rows):
    """Mean of each metric and half its 95 % confidence interval (Student's t).

    Arguments
    ---------
    rows : list of dict
        From `inversion_metrics`; a metric may be missing in some.

    Returns
    -------
    table : dict of str to (float, float)
    """
    rows = [{"method": "", **row} for row in rows]
    means = summarise(rows, ("pesq", "even_pesq", "estoi", "sc")).get("", {})
    return {
        name: (entry["mean"], entry["ci95"] or 0.0)
        for name, entry in means.items()
        if entry["files"]
    }


def write_samples(folder, name, waveform, target, config):
    """Write both recordings, and a figure of the error over the STFT."""
    folder.mkdir(parents=True, exist_ok=True)
    signals = {"inverted": waveform, "original": target}
    signals = {k: x.detach().float().cpu() for k, x in signals.items()}
    for kind, signal in signals.items():
        path = folder / f"{name}_{kind}.wav"
        write_audio(path, signal.numpy(), config.sample_rate)
    plot_comparison(
        folder / f"{name}.png",
        magnitude_of(signals["original"], config)[0],
        magnitude_of(signals["inverted"], config)[0],
        config,
    )
