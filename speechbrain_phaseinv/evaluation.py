"""Methods side by side: same magnitudes, same clock, same scores.

The command line, the benchmarks and the recipes all compare through here. A
method is a function that builds, for one transform, an inverter: magnitudes
[batch, time, freq] and a length in samples in, waveform [batch, samples] out.
`METHODS` names those that this package and its dependencies provide; where one
cannot be built, its builder raises `Unavailable` with the reason.
"""

import time

import torch

from . import metrics
from .audio import read_audio
from .griffinlim import griffin_lim
from .inversion import SpectrogramInverter
from .stft import analysis, synthesis
from .summary import SCORES, TIMES, mean_of


class Unavailable(Exception):
    """A method cannot be built here; the message is one line that says why."""


def phase_inversion(inverter, n_iter=0):
    """This package's own inversion, and iterations if wanted.

    Arguments
    ---------
    inverter : SpectrogramInverter
        At the operating point wanted.
    n_iter : int
        Fast Griffin-Lim iterations that follow.

    Returns
    -------
    invert : callable
        (magnitude [batch, time, freq], length) -> waveform [batch, length].
    """
    config = inverter.config

    @torch.no_grad()
    def invert(magnitude, length):
        stft = inverter.invert(magnitude)
        if n_iter:
            stft = griffin_lim(magnitude, config, stft, n_iter, length=length)
        return synthesis(stft, config, length)

    return invert


def operating_point(estimator, lookahead, n_iter=0, **options):
    """A method of ours: (config) -> invert, see `SpectrogramInverter`."""

    def make(config):
        try:
            inverter = SpectrogramInverter(
                config, lookahead, estimator, **options
            )
        except ValueError as error:  # no weights for this transform
            raise Unavailable(str(error)) from None
        return phase_inversion(inverter, n_iter)

    return make


def torchaudio_griffin_lim(config, n_iter=32, seed=0):
    """torchaudio's fast Griffin-Lim, from random phases of a fixed seed."""
    try:
        from torchaudio.transforms import GriffinLim
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Unavailable(
            f"torchaudio cannot be imported: {reason[0]}"
        ) from None

    def window(_, **options):
        return config.window_tensor(**options)

    @torch.no_grad()
    def invert(magnitude, length):
        if length <= config.n_fft // 2:
            raise Unavailable(
                f"torchaudio pads by reflection, which takes more than the "
                f"{length} samples there are: {config.n_fft // 2 + 1}"
            )
        transform = GriffinLim(
            config.n_fft,
            n_iter,
            config.win_length,
            config.hop_length,
            window,
            power=1.0,
            wkwargs={"dtype": magnitude.dtype},
            length=length,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return transform(magnitude.transpose(1, 2))

    return invert


METHODS = {
    "gradient-0": operating_point("gradient", 0),
    "gradient-1": operating_point("gradient", 1),
    "gradient-0+16": operating_point("gradient", 0, n_iter=16),
    "gradient-1+16": operating_point("gradient", 1, n_iter=16),
    "network-0": operating_point("network", 0),
    "network-1": operating_point("network", 1),
    "network-1-paired": operating_point("network", 1, paired=True),
    "network-0+16": operating_point("network", 0, n_iter=16),
    "network-1+16": operating_point("network", 1, n_iter=16),
    "griffin-lim-32": lambda config: torchaudio_griffin_lim(config, 32),
    "griffin-lim-100": lambda config: torchaudio_griffin_lim(config, 100),
}


def magnitude_of(waveform, config):
    """What is left of a waveform without its phase, [batch, time, freq]."""
    return analysis(waveform, config).abs()


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


def compare(
    paths,
    methods,
    stft_for,
    names=tuple(SCORES),
    skip=None,
    clock=time.perf_counter,
):
    """Reconstruct recordings with each method, and score them.

    Arguments
    ---------
    paths : iterable of str or Path
        Recordings, of any rate and number of channels.
    methods : dict of str to callable
        As `METHODS`. One that turns out to be unavailable is left out.
    stft_for : callable
        (sample rate in Hz) -> StftConfig.
    names : sequence of str
        Which of `SCORES`.
    skip : callable, optional
        Called with the name of each method left out, and the reason.
    clock : callable
        See `timed`.

    Yields
    ------
    rows : list of dict
        One dict for each method, of one recording: "method", "file",
        "seconds", "real_time_factor" and the scores. Kernels are warm.
    """
    inverters = {}
    methods = dict(methods)
    for path in paths:
        audio, sample_rate, _ = read_audio(path)
        config = stft_for(sample_rate)
        waveform = torch.from_numpy(audio)
        magnitude = magnitude_of(waveform, config)
        samples = waveform.shape[-1]
        rows = []
        for name, make in list(methods.items()):
            try:
                if (name, config) not in inverters:
                    inverters[name, config] = make(config)
                    warm_up(inverters[name, config], config)
                invert = inverters[name, config]
                estimate, seconds = timed(invert, magnitude, samples, clock)
            except Unavailable as error:
                del methods[name]
                if skip is not None:
                    skip(name, str(error))
                continue
            row = {"method": name, "file": str(path), "seconds": seconds}
            row["real_time_factor"] = seconds * sample_rate / samples
            row.update(score(waveform, estimate, config, names))
            rows.append(row)
        yield rows
