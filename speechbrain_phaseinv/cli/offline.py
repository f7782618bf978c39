"""Whole recordings and arrays: read, inverted, compared, written.

What is only inverted goes through block by block, so that an hour needs no
more memory than a minute. What is iterated on, drawn or compared is read
whole.
"""

import sys

import numpy as np
import torch
from tqdm import tqdm

from ..audio import (
    FORMATS,
    AudioReader,
    AudioWriter,
    check_subtype,
    check_writable,
    kept_subtype,
)
from ..evaluation import methods, scores, tables
from ..inversion import SpectrogramInverter
from ..stft import analysis_step
from ..streaming import InversionStream
from . import complain, say
from .arrays import as_magnitude, read_mel
from .options import config_of, describe

COLUMNS = ["spectral_convergence", "estoi", "pesq_wb"]
PEER = "Griffin-Lim, 32 iterations"
LOUD = 4.0  # a peak that no magnitude spectrogram of a recording has

# Magnitudes that are inverted at a time, over all channels, frames and bins.
BLOCK = 1 << 19


def reconstruct_one(job, args):
    """One recording, its table and its picture."""
    if args.plot:
        from ..evaluation.pictures import FORMATS as PICTURES
        from ..evaluation.pictures import plot_comparison

        check_writable(args.plot, PICTURES)
    rows, notes, inverter, pair = _reconstruct(job, args)
    config = inverter.config
    if args.plot:
        pair_of_magnitudes = (scores.magnitude_of(x, config)[0] for x in pair)
        plot_comparison(args.plot, *pair_of_magnitudes, config)
    if args.quiet:
        return
    channels, samples = pair[0].shape
    rate, latency = config.sample_rate, inverter.latency
    delay = f"latency {latency} samples, {1000 * latency / rate:.0f} ms"
    if args.n_iter:
        delay = f"then {args.n_iter} iterations over the whole signal"
    say(
        f"{job.source}: {samples / rate:.2f} s at {rate} Hz, {channels} "
        f"channel{'s' * (channels > 1)}\n{describe(config)}; look-ahead "
        f"{args.lookahead}, {delay}\n\n{_table(rows)}\n"
    )
    for note in notes:
        say(note)
    say(f"wrote {job.target}" + (f" and {args.plot}" if args.plot else ""))


def reconstruct_all(jobs, args):
    """Many recordings: a bar, one table of means, what failed at the end."""
    rows, notes, failed = [], [], 0
    silent = args.quiet or sys.stderr is None
    bar = tqdm(jobs, unit="file", disable=silent, file=sys.stderr)
    for job in bar:
        try:
            new, more, *_ = _reconstruct(job, args)
        except (ValueError, OSError) as error:
            failed += 1
            with bar.external_write_mode(file=sys.stderr):
                complain(error)
            continue
        rows += new
        notes += [f"{job.source}: {note}" for note in more]
    if not args.quiet and rows:
        say(
            f"means over {len(jobs) - failed} recordings, medians of times\n\n"
            f"{_table(rows)}\n"
        )
        for note in dict.fromkeys(notes):
            say(note)
        say(f"wrote {len(jobs) - failed} files to {jobs[0].target.parent}")
    return 2 if failed else 0


def invert_array(array, config, args):
    """Magnitudes of a file, [channels, time, freq], to a recording."""
    channels, frames, bins = array.shape
    samples = config.num_samples(frames)
    if samples == 0:
        raise ValueError(
            f"{args.magnitude}: one frame is no recording: the output ends "
            "with the last frame's centre, and would be empty."
        )
    inverter = SpectrogramInverter(config, args.lookahead, args.estimator)
    step = frames if args.n_iter else max(BLOCK // (channels * bins), 1)
    magnitudes = (
        torch.from_numpy(
            as_magnitude(args.magnitude, array[:, i : i + step], args.power)
        )
        for i in range(0, frames, step)
    )
    with AudioWriter(
        args.output, config.sample_rate, channels, args.subtype
    ) as writer:
        if args.n_iter:
            invert = methods.Inversion(inverter, args.n_iter)
            writer.write(invert(next(magnitudes), samples).numpy())
        else:
            _stream(magnitudes, inverter, writer, lambda: samples)
    if args.quiet:
        return
    say(
        f"{args.magnitude}: {frames} frames of {bins} bins; "
        f"{describe(config)}; {inverter.method}"
    )
    if writer.clipped:
        say(_clipping(writer))
    if writer.peak > LOUD:
        say(
            "so loud? A power spectrogram needs --power 2, decibels "
            "10 ** (x / 20) first"
        )
    say(f"wrote {args.output}, {samples / config.sample_rate:.2f} s")


def invert_mel(args):
    """A file of a mel spectrogram to a recording, block by block."""
    from ..inference import PhaseInversionVocoder
    from ..mel.recognise import check_mel

    vocoder = PhaseInversionVocoder.from_hparams("mel", mel=args.mel)
    config = vocoder.hparams.mel
    rate = config.stft.sample_rate
    if args.sample_rate not in (None, rate):
        raise ValueError(
            f"--mel {args.mel} is of {rate} Hz, got --sample-rate "
            f"{args.sample_rate}."
        )
    mel = torch.from_numpy(read_mel(args.magnitude, config.n_mels))
    check_mel(mel.transpose(1, 2), config)
    channels, _, frames = mel.shape
    if config.stft.num_samples(frames) == 0:
        raise ValueError(f"{args.magnitude}: one frame is no recording.")
    stream = vocoder.stream()
    blocks = mel.split(max(BLOCK // (channels * config.stft.num_bins), 1), 2)
    with AudioWriter(args.output, rate, channels, args.subtype) as writer:
        for block in blocks:
            writer.write(stream.push(block).squeeze(1).numpy())
        writer.write(stream.flush().squeeze(1).numpy())
    if args.quiet:
        return
    say(f"{args.magnitude}: {frames} frames of {config.n_mels} mel bands")
    if writer.clipped:
        say(_clipping(writer))
    say(f"wrote {args.output}, {writer.samples / rate:.2f} s")


def _reconstruct(job, args):
    """Scores, notes, the inverter; the waveforms where they are whole."""
    kind = check_writable(job.target, FORMATS)
    check_subtype(kind, args.subtype)
    rows, notes, pair = [], [], None
    with AudioReader(job.source) as reader:
        rate, channels = reader.sample_rate, reader.channels
        config = config_of(args, rate)
        inverter = SpectrogramInverter(config, args.lookahead, args.estimator)
        subtype = args.subtype or kept_subtype(kind, reader.subtype)
        blocks = reader.blocks(max(1 << 16, config.n_fft))
        with AudioWriter(job.target, rate, channels, subtype) as writer:
            if args.quiet and not args.n_iter and not args.plot:
                magnitudes = _magnitudes(blocks, config)
                with methods.one_thread():
                    _stream(
                        magnitudes, inverter, writer, lambda: reader.samples
                    )
            else:
                waveform = torch.from_numpy(np.concatenate([*blocks], axis=1))
                estimate, rows, notes = _compare(waveform, inverter, args)
                writer.write(estimate.numpy())
                pair = waveform, estimate
    if writer.clipped:
        notes.append(_clipping(writer))
    return rows, notes, inverter, pair


def _stream(magnitudes, inverter, writer, samples):
    """Invert blocks of magnitudes, write `samples()`, which grow meanwhile."""
    stream = InversionStream(inverter)
    for magnitude in magnitudes:
        waveform = stream.push(magnitude)
        # Where windows hardly overlap, a stream overshoots the end.
        writer.write(waveform[:, : samples() - writer.samples].numpy())
    writer.write(stream.flush(samples()).numpy())


def _magnitudes(blocks, config):
    """Blocks of samples to blocks of magnitudes, those of `analysis`."""
    state = None
    for block in _reflected(blocks, config.pad_length):
        step = max(BLOCK // (len(block) * config.num_bins), 1)
        state = block[:, :0] if state is None else state
        for piece in block.split(step * config.hop_length, dim=1):
            stft, state = analysis_step(piece, config, state)
            yield stft.abs()


def _reflected(blocks, half):
    """A signal continued at both ends by its reflection, as in `analysis`.

    A signal that is too short for that, in one block, by zeros.
    """
    last = None
    for block in map(torch.from_numpy, blocks):
        if last is None:
            zeros = block.new_zeros(len(block), half)
            short = block.shape[1] <= half
            yield zeros if short else block[:, 1 : half + 1].flip(1)
            last = block[:, :0]
        last = torch.cat([last, block], dim=1)[:, -half - 1 :]
        yield block
    yield zeros if short else last[:, :-1].flip(1)


def _compare(waveform, inverter, args):
    """A reconstruction; unless quiet, scores beside Griffin-Lim, and notes."""
    config, samples = inverter.config, waveform.shape[1]
    magnitude = scores.magnitude_of(waveform, config)
    invert = methods.Inversion(inverter, args.n_iter)
    rows, notes = [], []
    if args.quiet:
        return invert(magnitude, samples), rows, notes
    methods.warm_up(invert, config)
    with methods.one_thread():
        results = {
            f"phaseinv, {inverter.method}"
            + f", {args.n_iter} iterations" * bool(args.n_iter): (
                methods.timed(invert, magnitude, samples)
            )
        }
        try:
            peer = methods.torchaudio_griffin_lim(config)
            results[PEER] = methods.timed(peer, magnitude, samples)
        except methods.Unavailable as error:
            notes.append(f"Griffin-Lim skipped: {error}")
    for name, (estimate, seconds) in results.items():
        row = scores.score(waveform, estimate, config, COLUMNS)
        row["method"], row["seconds"] = name, seconds
        row["real_time_factor"] = seconds * config.sample_rate / samples
        rows.append(row)
    notes += scores.missing(COLUMNS)
    return next(iter(results.values()))[0], rows, notes


def _table(rows):
    """Mean scores and median times, a method a line."""
    names = [*scores.available(COLUMNS), *tables.TIMES]
    summary = tables.summarise(rows, names)
    return tables.summary_table(summary, names, intervals=False)


def _clipping(writer):
    """What was cut off, and what would keep it."""
    return (
        f"{writer.clipped} samples beyond full scale were clipped, the peak "
        f"is {writer.peak:.3g}: scale the input, or keep them with --subtype "
        "FLOAT."
    )
