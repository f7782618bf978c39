"""Methods side by side: same magnitudes, same clock, same scores.

The command line, the benchmarks and the recipes all compare through here;
what they compare are `methods` and `peers`.
"""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from ..audio import read_audio, resample
from ..checks import check_magnitude
from ..stft import StftConfig, analysis
from . import metrics
from .methods import Unavailable
from .summary import SCORES, TIMES, mean_of


def magnitude_of(waveform, config):
    """What is left of a waveform without its phase, [batch, time, freq]."""
    return analysis(waveform, config).abs()


@contextmanager
def one_thread():
    """For times that can be compared: not all methods make use of more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def timed(invert, magnitude, length, clock=time.perf_counter):
    """Invert, and take the time.

    Arguments
    ---------
    invert : callable
        As a method builds it.
    magnitude : torch.Tensor, [batch, time, freq]
        To be inverted.
    length : int
        Samples wanted.
    clock : callable
        Answers with seconds. With one thread, ``time.process_time`` is the
        clock that other programs on the machine do not disturb.

    Returns
    -------
    waveform : torch.Tensor, [batch, length]
    seconds : float
        Reading, analysis and scoring not included.
    """
    start = clock()
    waveform = invert(magnitude, length)
    return waveform, clock() - start


def warm_up(invert, config):
    """Let compiled kernels be loaded before the clock runs."""
    # Longer than a window, which some peers insist on.
    frames = 8 + config.n_fft // config.hop_length
    magnitude = torch.ones(1, frames, config.num_bins)
    if getattr(invert, "needs_phase", False):
        magnitude = magnitude.to(magnitude.dtype.to_complex())
    invert(magnitude, config.num_samples(frames))


def score(reference, estimate, config, names=tuple(SCORES)):
    """Scores of a reconstruction, each the mean over the channels.

    Arguments
    ---------
    reference, estimate : torch.Tensor, [channels, samples]
        Waveforms.
    config : StftConfig
        The transform that the spectral distances are taken with.
    names : sequence of str
        Which of `SCORES`; the times are none of this function's.

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
    wanted = [name for name in names if name not in TIMES]
    scores = {name: [] for name in wanted}
    for one, other in zip(reference, estimate):
        pair = one.cpu().numpy(), other.cpu().numpy()
        spectra = [
            magnitude_of(x[None].double(), config)[0].cpu().numpy()
            for x in (one, other)
        ]
        for name in wanted:
            if name == "pesq_wb":
                value = metrics.pesq_wb(*pair, config.sample_rate)
            elif name in ("stoi", "estoi"):
                value = metrics.stoi(
                    *pair, config.sample_rate, extended=name == "estoi"
                )
            else:
                value = getattr(metrics, name)(*spectra)
            scores[name].append(value)
    return {name: mean_of(values) for name, values in scores.items()}


class Outcome(NamedTuple):
    """What came of one recording.

    Attributes
    ----------
    file : str
        The recording.
    config : StftConfig
        Its transform.
    stft : torch.Tensor, [channels, time, freq], complex
        Its spectrogram.
    waveform : torch.Tensor, [channels, samples]
        The original, at the rate of `config`.
    estimates : dict of str to torch.Tensor
        The reconstruction of each method, of the same shape.
    inverters : dict of str to callable
        What made them.
    rows : list of dict
        One for each method: "method", "file", "seconds",
        "real_time_factor" and the scores.
    """

    file: str
    config: StftConfig
    stft: torch.Tensor
    waveform: torch.Tensor
    estimates: dict
    inverters: dict
    rows: list


def compare(
    paths,
    methods,
    stft_for,
    names=tuple(SCORES),
    skip=None,
    clock=time.perf_counter,
    sample_rate=None,
):
    """Reconstruct recordings with each method, and score them.

    Arguments
    ---------
    paths : iterable of str or Path
        Recordings, of any rate and number of channels.
    methods : dict of str to callable
        As `methods.METHODS`. One that cannot be built is left out.
    stft_for : callable
        (sample rate in Hz) -> StftConfig.
    names : sequence of str
        Which of `SCORES`.
    skip : callable, optional
        Called with a method or recording that was left out, and the reason.
        Default: what is wrong with a recording is an error.
    clock : callable
        See `timed`.
    sample_rate : int, optional
        Rate to which recordings are resampled, in Hz. Default: none are.

    Yields
    ------
    outcome : Outcome
        Of each recording. Kernels are warm.
    """
    inverters = {}
    methods = dict(methods)
    for path in paths:
        try:
            audio, rate, _ = read_audio(path)
            if sample_rate is not None:
                audio, rate = resample(audio, rate, sample_rate), sample_rate
            config = stft_for(rate)
            waveform = torch.from_numpy(audio)
            stft = analysis(waveform, config)
            # Samples may be finite and so loud that these are not.
            magnitude = check_magnitude(stft.abs(), config)
        except (ValueError, OSError) as error:
            if skip is None:
                raise
            skip(Path(path).name, str(error))
            continue
        samples = waveform.shape[-1]
        outcome = Outcome(str(path), config, stft, waveform, {}, {}, [])
        for name, make in list(methods.items()):
            if (name, config) not in inverters:
                try:
                    inverters[name, config] = make(config)
                    warm_up(inverters[name, config], config)
                except Unavailable as error:
                    del methods[name]
                    _report(skip, name, error)
                    continue
            invert = inverters[name, config]
            given = stft if getattr(invert, "needs_phase", 0) else magnitude
            try:
                estimate, seconds = timed(invert, given, samples, clock)
            except Unavailable as error:  # of this recording only
                _report(skip, name, f"{Path(path).name}: {error}")
                continue
            row = {"method": name, "file": str(path), "seconds": seconds}
            row["real_time_factor"] = seconds * rate / samples
            row.update(score(waveform, estimate, config, names))
            outcome.estimates[name] = estimate
            outcome.inverters[name] = invert
            outcome.rows.append(row)
        yield outcome


def _report(skip, name, reason):
    """Hand on why a method was left out."""
    if skip is not None:
        skip(name, str(reason))
