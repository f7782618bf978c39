#!/usr/bin/env python3
"""Where trained weights lose: parts of what they predict, replaced by truth.

    python limits.py WEIGHTS --data_folder /path/to/speech

Answers two questions before anyone changes the network. Which derivative,
and which bins, hold the result back? Each row but the first replaces some
predictions by the true derivatives; the confidences stay the network's. And
do errors add up over time, or is each frame's own error the limit? In the
last row every frame starts from the true phase of the frame before.

WEIGHTS (one) and the options are those of evaluate.py.
"""

# ruff: noqa: E402
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from common.evaluation import write_figures
from common.metrics import inversion_metrics, mean_and_interval
from spectrogram_inversion.evaluate import markdown, parse, targets

from speechbrain_phaseinv.estimation.derivatives import (
    expected_advance,
    phase_derivatives,
)
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.pretrained import load_pretrained
from speechbrain_phaseinv.stft import analysis, synthesis

# Passes of true frames before each pass of the last row.
PASSES_BEFORE = 8

# Where PESQ's bands are as narrow as a bin of a 32 ms window, in Hz.
LOW = 750.0


def mixtures(estimates, time, frequency, config):
    """Predictions with some of the truth: name to `Estimates`."""
    hertz = torch.arange(config.num_bins) * config.sample_rate / config.n_fft
    low = hertz < LOW

    def mixed(by_time, by_frequency):
        return estimates._replace(
            time=torch.where(by_time, time, estimates.time),
            frequency=torch.where(by_frequency, frequency, estimates.frequency),
        )

    every, none = torch.tensor(True), torch.tensor(False)
    return {
        "as predicted": estimates,
        "true derivative over time": mixed(every, none),
        "true derivative over frequency": mixed(none, every),
        f"both true above {LOW:.0f} Hz": mixed(~low, ~low),
        f"both true below {LOW:.0f} Hz": mixed(low, low),
    }


@torch.inference_mode()
def partly_true(target, inverter):
    """Waveforms from the true magnitudes and partly true derivatives.

    Arguments
    ---------
    target : torch.Tensor, [1, samples]
        A recording.
    inverter : SpectrogramInverter
        Whose estimator is examined.

    Returns
    -------
    waveforms : dict of str to torch.Tensor, [1, samples]
    """
    config, schedule = inverter.config, inverter.schedule
    stft = analysis(target, config)
    # The last frame goes on, for the look-ahead.
    after = stft[:, -1:].expand(-1, schedule.lookahead, -1)
    stft = torch.cat([stft, after], dim=1)
    estimates, state = inverter.estimate(stft.abs())
    true = true_estimates(stft, schedule, estimates.time.shape[1], config)
    waveforms = {}
    for name, mixed in mixtures(estimates, *true, config).items():
        samples, end = inverter.synthesise(mixed, state)
        samples = torch.cat([samples, inverter.pending(end)], dim=1)
        samples = samples[:, config.trim :]
        waveforms[name] = samples[:, : target.shape[1]]
    stft = from_true_frames(estimates, stft, inverter)
    name = "as predicted, from the true last frame"
    waveforms[name] = synthesis(stft, config, target.shape[1])
    return waveforms


def true_estimates(stft, schedule, passes, config):
    """Both true derivatives, [1, passes, estimates, freq] each."""
    frames = schedule.frames(passes)
    time, frequency = phase_derivatives(stft, config)
    # Before the start phases are zero.
    before = -int(frames.min())
    start = -expected_advance(config).expand(1, before, -1)
    time = torch.cat([start, time], dim=1)
    frequency = torch.cat([torch.zeros_like(start), frequency], dim=1)
    return time[:, frames + before], frequency[:, frames + before]


def from_true_frames(estimates, stft, inverter):
    """The STFT in which each pass goes on from true frames.

    Passes become the batch, and the state of each is of true frames.
    """
    schedule, stride = inverter.schedule, inverter.stride
    past = PASSES_BEFORE * stride
    silence = torch.zeros_like(stft[:, :1]).expand(-1, past, -1)
    frames = torch.cat([silence, stft], dim=1)[0]
    size = past + stride + schedule.lookahead
    frames = frames.unfold(0, size, stride).transpose(1, 2)
    state = inverter.start(frames[:, : size - stride])
    _, state = inverter.estimate(frames[:, size - stride :].abs(), state)
    alone = type(estimates)(*(x.transpose(0, 1) for x in estimates))
    _, state = inverter.synthesise(alone, state)
    phasors = torch.view_as_complex(state.phasors[:, -stride:].contiguous())
    phasors = phasors.flatten(0, 1) * inverter.config.centre_phasor().conj()
    return (stft[0, : len(phasors)].abs() * phasors).unsqueeze(0)


def main(arguments=None):
    """Print a table for each corpus."""
    arguments = parse(arguments, __doc__, "limits.json")
    if len(arguments.weights) != 1:
        raise SystemExit(f"expected one WEIGHTS, got {arguments.weights}.")
    torch.set_num_threads(arguments.threads)
    network = load_pretrained(arguments.weights[0])
    inverter = SpectrogramInverter(network.config, estimator=network)
    rows = defaultdict(lambda: defaultdict(list))
    for corpus, target in targets(arguments, network.config.sample_rate):
        for name, waveform in partly_true(target, inverter).items():
            rows[corpus][name].append(
                inversion_metrics(waveform, target, network.config)
            )
    results = {
        corpus: {
            name: mean_and_interval(metrics) for name, metrics in table.items()
        }
        | {"utterances": len(table["as predicted"])}
        for corpus, table in rows.items()
    }
    print(markdown(results))
    write_figures(arguments.json, results)


if __name__ == "__main__":
    main()
