"""How near a reconstruction comes: spectral distances, PESQ, STOI.

The spectral distances need nothing but NumPy arrays of magnitudes. PESQ and
STOI come from the packages `pesq` and `pystoi`; where one is not installed,
or cannot judge a signal, the score is None.
"""

import warnings
from importlib.util import find_spec

import numpy as np

from .summary import mean_of

# Wide-band PESQ is defined at this rate, in Hz.
PESQ_RATE = 16000

# Longer recordings are judged in parts, in seconds: `pesq` 0.0.4 crashes the
# process where there are too many utterances, sixty in 90 s for one. No bursts
# and pauses of 0.05 to 0.3 s made it crash within 20 s.
PESQ_LONGEST = 20


def spectral_convergence(reference, estimate):
    """Distance of two magnitude spectrograms, relative to the first.

    Arguments
    ---------
    reference, estimate : array_like, one shape
        Magnitudes.

    Returns
    -------
    distance : float
        ``20 log10(|estimate - reference| / |reference|)`` with Frobenius
        norms, in dB; lower is better. 0 if the estimate is silence; -inf if
        the two are equal.

    Example
    -------
    >>> round(spectral_convergence([1.0, 1.0], [1.1, 0.9]), 3)
    -20.0
    """
    reference = np.asarray(reference, dtype=np.float64)
    estimate = np.asarray(estimate, dtype=np.float64)
    error = np.linalg.norm(estimate - reference)
    if error == 0:
        return -np.inf
    scale = np.linalg.norm(reference)
    return float(20 * np.log10(error / scale)) if scale > 0 else np.inf


def log_spectral_distance(reference, estimate, floor=-80.0):
    """Distance of two log-magnitude spectrograms.

    Arguments
    ---------
    reference, estimate : array_like, [..., time, freq]
        Magnitudes.
    floor : float
        What lies so far below the reference's maximum counts as so far, in
        dB.

    Returns
    -------
    distance : float
        Root mean square over frequency of the difference in dB, averaged
        over frames; lower is better.

    Example
    -------
    >>> round(log_spectral_distance([[1.0, 1.0]], [[10.0, 10.0]]), 3)
    20.0
    """
    reference = np.asarray(reference, dtype=np.float64)
    estimate = np.asarray(estimate, dtype=np.float64)
    least = reference.max() * 10 ** (floor / 20) if reference.size else 0.0
    least = max(least, np.finfo(np.float64).tiny)
    difference = np.log10(np.maximum(estimate, least))
    difference -= np.log10(np.maximum(reference, least))
    frames = np.sqrt(np.mean(difference**2, axis=-1))
    return float(20 * frames.mean())


def pesq_wb(reference, estimate, sample_rate):
    """Wide-band PESQ (ITU-T P.862.2), about 1 (bad) to 4.64 (equal).

    Arguments
    ---------
    reference, estimate : numpy.ndarray, [samples]
        Waveforms.
    sample_rate : int
        In Hz; any other than 16 kHz is resampled.

    Returns
    -------
    score : float or None
        None where `pesq` is not installed or finds no speech. Of more than
        `PESQ_LONGEST` seconds, the mean of equal parts in which it finds some.
    """
    if find_spec("pesq") is None:
        return None
    from ..audio import resample

    pair = [
        resample(np.asarray(x, dtype=np.float32), sample_rate, PESQ_RATE)
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
        score = pesq(PESQ_RATE, reference, estimate, "wb", on_error=raised)
    except (PesqError, ValueError, ZeroDivisionError):
        return None  # too short, or no speech found
    return float(score) if np.isfinite(score) else None


def stoi(reference, estimate, sample_rate, extended=False):
    """Short-time objective intelligibility (Taal et al. 2011), up to 1.

    Arguments
    ---------
    reference, estimate : numpy.ndarray, [samples]
        Waveforms.
    sample_rate : int
        In Hz.
    extended : bool
        ESTOI (Jensen and Taal 2016) instead.

    Returns
    -------
    score : float or None
        None where `pystoi` is not installed or finds too little speech.
    """
    try:
        import pystoi
    except ImportError:
        return None
    reference = np.asarray(reference, dtype=np.float64)
    estimate = np.asarray(estimate, dtype=np.float64)
    if not np.any(reference) or len(reference) < 0.4 * sample_rate:
        return None
    with warnings.catch_warnings():
        # Below 30 frames of speech it warns, and answers 1e-5.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            score = pystoi.stoi(reference, estimate, sample_rate, extended)
        except (RuntimeWarning, ValueError):
            return None
    return float(score) if np.isfinite(score) else None
