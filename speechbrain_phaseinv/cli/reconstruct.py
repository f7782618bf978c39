"""What ``phaseinv reconstruct`` and ``phaseinv invert`` do once they know."""

import sys
from importlib.util import find_spec

import torch
from tqdm import tqdm

from ..audio import (
    FORMATS,
    check_subtype,
    check_writable,
    kept_subtype,
    read_audio,
    write_audio,
)
from ..evaluation import evaluate as evaluation
from ..evaluation import methods, summary
from ..inversion import SpectrogramInverter
from ..stft import StftConfig

COLUMNS = ["spectral_convergence", "estoi", "pesq_wb"]
NEEDS = {"estoi": "pystoi", "pesq_wb": "pesq"}
PEER = "Griffin-Lim, 32 iterations"
LOUD = 4.0  # a peak that no magnitude spectrogram of a recording has


def stft_for(
    sample_rate, n_fft=None, win_length=None, hop_length=None, window="hann"
):
    """The transform for speech at a sample rate, as far as it is left open.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    n_fft, win_length, hop_length : int, optional
        In samples. Default: the power of two next above 32 ms, or above the
        window if that is given; the whole of it; a quarter of the window.
    window : str
        As in `StftConfig`.

    Returns
    -------
    config : StftConfig

    Example
    -------
    >>> for rate in (8000, 16000, 22050, 48000):
    ...     config = stft_for(rate)
    ...     print(rate, config.n_fft, config.hop_length)
    8000 256 64
    16000 512 128
    22050 1024 256
    48000 2048 512
    """
    if n_fft is None:
        # In integers: 32 ms of 16 kHz are 512 samples, not a little more.
        shortest = win_length or -(-sample_rate * 32 // 1000)
        n_fft = max(1 << (shortest - 1).bit_length(), 32)
    return StftConfig(sample_rate, n_fft, win_length, hop_length, window)


def build(args, config):
    """The inverter that the options ask for, and the whole method."""
    inverter = SpectrogramInverter(config, args.lookahead, args.estimator)
    return inverter, methods.Inversion(inverter, args.n_iter)


def reconstruct_one(job, args):
    """One recording, its table and its picture."""
    if args.plot:
        from ..evaluation.plot import FORMATS as PICTURES
        from ..evaluation.plot import plot_comparison

        check_writable(args.plot, PICTURES)
    rows, notes, outcome = _reconstruct(job, args)
    waveform, estimate, inverter = outcome
    config = inverter.config
    if args.plot:
        plot_comparison(
            args.plot,
            evaluation.magnitude_of(waveform, config)[0],
            evaluation.magnitude_of(estimate, config)[0],
            config,
        )
    if args.quiet:
        return
    print(_describe(job.source, waveform, inverter, args))
    print()
    print(_table(rows))
    print()
    for note in notes:
        print(note)
    print(f"wrote {job.target}" + (f" and {args.plot}" if args.plot else ""))


def reconstruct_all(jobs, args, complain):
    """Many recordings: a bar, one table of means, what failed at the end."""
    rows, notes, failed = [], [], 0
    bar = tqdm(jobs, unit="file", disable=args.quiet, file=sys.stderr)
    for job in bar:
        try:
            new, more, _ = _reconstruct(job, args)
        except (ValueError, OSError) as error:
            failed += 1
            with bar.external_write_mode(file=sys.stderr):
                complain(error)
            continue
        rows += new
        notes += [f"{job.source}: {note}" for note in more]
    if not args.quiet and rows:
        print(f"means over {len(jobs) - failed} recordings, medians of times")
        print()
        print(_table(rows))
        print()
        for note in dict.fromkeys(notes):
            print(note)
        print(f"wrote {len(jobs) - failed} files to {jobs[0].target.parent}")
    return 2 if failed else 0


def invert_array(array, n_fft, args):
    """Magnitudes [channels, time, freq] to a recording."""
    config = StftConfig(
        args.sample_rate, n_fft, args.win_length, args.hop_length, args.window
    )
    magnitude = torch.from_numpy(array)
    samples = config.num_samples(magnitude.shape[1])
    if samples == 0:
        raise ValueError(
            f"{args.magnitude}: one frame is no recording: the output ends "
            "with the last frame's centre, and would be empty."
        )
    inverter, invert = build(args, config)
    estimate = invert(magnitude, samples)
    clipped = write_audio(
        args.output, estimate.numpy(), args.sample_rate, args.subtype
    )
    if args.quiet:
        return
    seconds = samples / args.sample_rate
    print(
        f"{args.magnitude}: {array.shape[1]} frames of {array.shape[2]} "
        f"bins; {_stft_text(config)}; {inverter.method}"
    )
    if clipped:
        print(_clipping(clipped, estimate))
    if estimate.abs().max() > LOUD:
        print(
            "so loud? A power spectrogram needs --power 2, decibels "
            "10 ** (x / 20) first"
        )
    print(f"wrote {args.output}, {seconds:.2f} s")


def _reconstruct(job, args):
    """Read, invert, write; and unless quiet, compare."""
    kind = check_writable(job.target, FORMATS)
    check_subtype(kind, args.subtype)
    audio, sample_rate, subtype = read_audio(job.source)
    config = stft_for(
        sample_rate, args.n_fft, args.win_length, args.hop_length, args.window
    )
    waveform = torch.from_numpy(audio)
    magnitude = evaluation.magnitude_of(waveform, config)
    samples = waveform.shape[-1]
    inverter, invert = build(args, config)
    if not args.quiet:
        evaluation.warm_up(invert, config)
    with evaluation.one_thread():
        estimate, seconds = evaluation.timed(invert, magnitude, samples)
    rows, notes = [], []
    if not args.quiet:
        ours = f"phaseinv, {inverter.method}"
        if args.n_iter:
            ours += f", {args.n_iter} iterations"
        results = [(ours, estimate, seconds)]
        try:
            peer = methods.torchaudio_griffin_lim(config)
            with evaluation.one_thread():
                result = evaluation.timed(peer, magnitude, samples)
            results.append((PEER, *result))
        except methods.Unavailable as error:
            notes.append(f"Griffin-Lim skipped: {error}")
        for name, result, seconds in results:
            row = evaluation.score(waveform, result, config, _columns())
            row["method"], row["seconds"] = name, seconds
            row["real_time_factor"] = seconds * sample_rate / samples
            rows.append(row)
        missing = [name for name in NEEDS.values() if not find_spec(name)]
        if missing:
            notes.append(
                f"{' and '.join(missing)} not installed: pip install "
                "'speechbrain_phaseinv[metrics]' for ESTOI and PESQ."
            )
    subtype = args.subtype or kept_subtype(kind, subtype)
    clipped = write_audio(job.target, estimate.numpy(), sample_rate, subtype)
    if clipped:
        notes.append(_clipping(clipped, estimate))
    return rows, notes, (waveform, estimate, inverter)


def _columns():
    """The scores that can be computed here."""
    return [x for x in COLUMNS if x not in NEEDS or find_spec(NEEDS[x])]


def _table(rows):
    """Mean scores and median times, a method a line."""
    names = [*_columns(), *summary.TIMES]
    found = summary.summarise(rows, names)
    return summary.summary_table(found, names, intervals=False)


def _describe(source, waveform, inverter, args):
    """One recording and what is done with it, in two lines."""
    channels, samples = waveform.shape
    config, latency = inverter.config, inverter.latency
    rate = config.sample_rate
    plural = "" if channels == 1 else "s"
    delay = (
        f"latency {latency} samples, {1000 * latency / rate:.0f} ms"
        if args.n_iter == 0
        else f"then {args.n_iter} iterations over the whole signal"
    )
    return (
        f"{source}: {samples / rate:.2f} s at {rate} Hz, {channels} "
        f"channel{plural}\n{_stft_text(config)}; look-ahead "
        f"{args.lookahead}, {delay}"
    )


def _stft_text(config):
    """The transform in a few words."""
    return (
        f"n_fft {config.n_fft}, {config.window} window of "
        f"{config.win_length}, hop {config.hop_length}"
    )


def _clipping(clipped, estimate):
    """What was cut off, and what would keep it."""
    peak = float(estimate.abs().max())
    return (
        f"{clipped} samples beyond full scale were clipped, the peak is "
        f"{peak:.3g}: scale the input, or keep them with --subtype FLOAT."
    )
