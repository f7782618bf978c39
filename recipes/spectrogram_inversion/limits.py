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

import math
from collections import defaultdict

import torch
from evaluate import markdown, parse, targets
from metrics import inversion_metrics, mean_and_interval

from speechbrain_phaseinv.derivatives import phase_derivatives
from speechbrain_phaseinv.integration import (
    integrate,
    log_magnitude,
    phase_weights,
)
from speechbrain_phaseinv.pretrained import load_pretrained
from speechbrain_phaseinv.stft import analysis, synthesis

# Where PESQ's bands are as narrow as a bin of a 32 ms window, in Hz.
LOW = 750.0


def mixtures(predicted, true, config):
    """Predictions with some of the truth: name to PhaseDerivatives."""
    hertz = torch.arange(config.num_bins) * config.sample_rate / config.n_fft
    low = hertz < LOW

    def mixed(time, frequency):
        return predicted._replace(
            time=torch.where(time, true.time, predicted.time),
            frequency=torch.where(
                frequency, true.frequency, predicted.frequency
            ),
        )

    every, none = torch.tensor(True), torch.tensor(False)
    return {
        "as predicted": predicted,
        "true derivative over time": mixed(every, none),
        "true derivative over frequency": mixed(none, every),
        f"both true above {LOW:.0f} Hz": mixed(~low, ~low),
        f"both true below {LOW:.0f} Hz": mixed(low, low),
    }


@torch.inference_mode()
def partly_true(target, network):
    """Waveforms from the true magnitudes and partly true derivatives.

    Arguments
    ---------
    target : torch.Tensor, [1, samples]
        A recording.
    network : PhaseDerivativeNet
        What is examined.

    Returns
    -------
    waveforms : dict of str to torch.Tensor, [1, samples]
    """
    config = network.config
    stft = analysis(target, config)
    magnitude = stft.abs()
    level = log_magnitude(magnitude)
    # At the end of the signal the last frame stands for those to come.
    ahead = level[:, -1:].expand(-1, network.lookahead, -1)
    predicted, _ = network(torch.cat([level, ahead], dim=1))
    # As `SpectrogramInverter`: before the start, the same, inaudible.
    before = torch.cat([level[:, :1] + math.log(1e-6), level[:, :-1]], dim=1)
    weights = phase_weights(level, before, predicted, network.power)
    centre = config.centre_phasor()
    true = phase_derivatives(stft, config)

    def waveform(phasors):
        made = magnitude * phasors * config.start_phasor()
        return synthesis(made, config, length=target.shape[1])

    made = {
        name: waveform(integrate(derivatives, *weights, config))
        for name, derivatives in mixtures(predicted, true, config).items()
    }
    # One frame each: time becomes the batch.
    phasors = stft / magnitude.clamp_min(1e-20) * centre
    start = torch.cat([torch.ones_like(phasors[:, :1]), phasors[:, :-1]], 1)
    alone = predicted._replace(
        time=predicted.time.transpose(0, 1),
        frequency=predicted.frequency.transpose(0, 1),
    )
    weights = [w.transpose(0, 1) for w in weights]
    one = integrate(alone, *weights, config, start.squeeze(0))
    made["as predicted, from the true last frame"] = waveform(
        one.transpose(0, 1)
    )
    return made


def main(arguments=None):
    """Print a table for each corpus."""
    arguments = parse(arguments, __doc__)
    torch.set_num_threads(arguments.threads)
    network = load_pretrained(arguments.weights[0])
    rows = defaultdict(lambda: defaultdict(list))
    for corpus, target in targets(arguments, network.config.sample_rate):
        for name, made in partly_true(target, network).items():
            rows[corpus][name].append(
                inversion_metrics(made, target, network.config)
            )
    results = {
        corpus: {
            name: mean_and_interval(found) for name, found in table.items()
        }
        | {"utterances": len(table["as predicted"])}
        for corpus, table in rows.items()
    }
    print(markdown(results))


if __name__ == "__main__":
    main()
