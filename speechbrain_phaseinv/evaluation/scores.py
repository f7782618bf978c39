"""Scores of a reconstruction beside its original: spectral, PESQ, STOI.

PESQ and STOI come from the packages `pesq` and `pystoi`; where one is not
installed, or cannot judge a signal, the score is None. `pesq` has to be
compiled when it is installed, so it is an extra of its own.
"""

import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch

from ..audio import resample
from ..stft import analysis
from .tables import mean_of

# Wide-band PESQ is defined at this rate, in Hz.
PESQ_RATE = 16000

# Longer recordings are judged in parts, in seconds: `pesq` 0.0.4 crashes the
# process where there are too many utterances, sixty in 90 s for one. No bursts
# and pauses of 0.05 to 0.3 s made it crash within 20 s.
PESQ_LONGEST = 20

# Log-spectral distances ignore what lies below this, in dB of the maximum.
LEVEL_FLOOR = -80.0


def magnitude_of(waveform, config):
    """Magnitudes [batch, time, freq] of a waveform [batch, samples]."""
    return analysis(waveform, config).abs()


def spectral_convergence(reference, estimate):
    """20 log10(|estimate - reference| / |reference|) of magnitudes, in dB."""
    error = np.linalg.norm(estimate - reference)
    if error == 0:
        return -np.inf
    scale = np.linalg.norm(reference)
    return float(20 * np.log10(error / scale)) if scale > 0 else np.inf


def log_spectral_distance(reference, estimate):
    """Difference of magnitudes [time, freq] in dB, RMS over frequency."""
    floor = reference.max(initial=0.0) * 10 ** (LEVEL_FLOOR / 20)
    floor = max(floor, np.finfo(np.float64).tiny)
    levels = [np.log10(np.maximum(x, floor)) for x in (reference, estimate)]
    frames = np.sqrt(np.mean((levels[1] - levels[0]) ** 2, axis=-1))
    return float(20 * frames.mean())


def pesq_wb(reference, estimate, sample_rate):
    """Wide-band PESQ (ITU-T P.862.2) of waveforms, 1 (bad) to 4.64 (equal).

    Of long recordings the mean over equal parts; None without any speech.
    """
    if not _installed("pesq"):
        return None
    pair = [
        resample(x.astype(np.float32), sample_rate, PESQ_RATE)
        for x in (reference, estimate)
    ]
    parts = max(-(-len(pair[0]) // (PESQ_LONGEST * PESQ_RATE)), 1)
    pairs = zip(*(np.array_split(x[: len(pair[0])], parts) for x in pair))
    return mean_of([_pesq(*part) for part in pairs])


def _pesq(reference, estimate):
    """PESQ of one part, or None."""
    from pesq import PesqError, pesq

    if not np.any(reference) or not np.any(estimate):
        return None
    raised = PesqError.RAISE_EXCEPTION
    try:
        value = pesq(PESQ_RATE, reference, estimate, "wb", on_error=raised)
    except (PesqError, ValueError, ZeroDivisionError):
        return None  # too short, or no speech
    return float(value) if np.isfinite(value) else None


def stoi(reference, estimate, sample_rate, extended=False):
    """STOI (Taal et al. 2011) or ESTOI (Jensen and Taal 2016), up to 1.

    None where there is too little speech.
    """
    if not _installed("pystoi"):
        return None
    import pystoi

    if not np.any(reference) or len(reference) < 0.4 * sample_rate:
        return None
    with warnings.catch_warnings():
        # Below 30 frames of speech it warns, and returns 1e-5.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            pair = (x.astype(np.float64) for x in (reference, estimate))
            value = pystoi.stoi(*pair, sample_rate, extended)
        except (RuntimeWarning, ValueError):
            return None
    return float(value) if np.isfinite(value) else None


def _installed(package):
    return find_spec(package) is not None


PERCEPTUAL = {
    "pesq_wb": pesq_wb,
    "stoi": stoi,
    "estoi": partial(stoi, extended=True),
}
SPECTRAL = {
    "spectral_convergence": spectral_convergence,
    "log_spectral_distance": log_spectral_distance,
}
NAMES = (*PERCEPTUAL, *SPECTRAL)
# The package that a score needs.
NEEDS = {"pesq_wb": "pesq", "stoi": "pystoi", "estoi": "pystoi"}
INSTALL = {
    "pesq": "pip install 'speechbrain_phaseinv[pesq]' (with a C compiler)",
    "pystoi": "pip install 'speechbrain_phaseinv[metrics]'",
}


def score(reference, estimate, config, names=NAMES):
    """Scores of a reconstruction, each the mean over the channels.

    Arguments
    ---------
    reference, estimate : torch.Tensor, [channels, samples]
        Waveforms.
    config : StftConfig
        The transform that the spectral distances are measured with.
    names : sequence of str
        Some of `NAMES`; others, such as times, are ignored.

    Returns
    -------
    scores : dict of str to float or None
        None where a score could not be computed.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> x = torch.randn(1, 4000)
    >>> score(x, 1.1 * x, config, ["log_spectral_distance"])
    {'log_spectral_distance': 0.827...}
    """
    names = [name for name in names if name in NAMES]
    values = {name: [] for name in names}
    for pair in zip(reference.detach().cpu(), estimate.detach().cpu()):
        pair = torch.stack(pair).double()
        waveforms, spectra = pair.numpy(), magnitude_of(pair, config).numpy()
        for name in names:
            if name in PERCEPTUAL:
                value = PERCEPTUAL[name](*waveforms, config.sample_rate)
            else:
                value = SPECTRAL[name](*spectra)
            values[name].append(value)
    return {name: mean_of(found) for name, found in values.items()}


def available(names=NAMES):
    """The scores that the installed packages can compute, in order."""
    return [x for x in names if x not in NEEDS or _installed(NEEDS[x])]


def missing(names=NAMES):
    """How to install what the other scores need, a sentence each."""
    packages = dict.fromkeys(NEEDS[x] for x in names if x in NEEDS)
    return [
        f"{package} is not installed: {INSTALL[package]}."
        for package in packages
        if not _installed(package)
    ]
