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

from collections import defaultdict

import torch
from evaluate import markdown, parse, targets
from metrics import inversion_metrics, mean_and_interval

from speechbrain_phaseinv import recursion
from speechbrain_phaseinv.derivatives import PhaseDerivatives, phase_derivatives
from speechbrain_phaseinv.integration import log_magnitude
from speechbrain_phaseinv.pretrained import load_pretrained
from speechbrain_phaseinv.refinement import refine
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
    time = stft.shape[1]
    # As `SpectrogramInverter`: before the start, the same, inaudible; and at
    # the end the last frame goes on, for the look-ahead and an odd last pair.
    before, after = 1e-6 * stft[:, :1].abs(), stft[:, -1:].abs()
    rest = [after] * (network.lookahead + time % network.stride)
    magnitude = torch.cat([before, stft.abs(), *rest], dim=1)
    log_mag = log_magnitude(magnitude)
    predicted, _ = network(log_mag[:, 1:])
    true = phase_derivatives(stft, config)
    missing = predicted.time.shape[1] - time
    true = PhaseDerivatives(
        *(torch.nn.functional.pad(x, (0, 0, 0, missing)) for x in true[:2])
    )

    def passes(derivatives):
        return recursion.arrange(
            derivatives, magnitude, log_mag, network.power, network.stride
        )

    def waveform(passes, phasor=None, overlap=None):
        found, _ = recursion.run(
            passes,
            config,
            network.refinements,
            network.stride,
            phasor,
            overlap,
        )
        found = found.reshape(1, -1, config.num_bins)[:, :time]
        made = stft.abs() * found * config.start_phasor()
        return synthesis(made, config, length=target.shape[1])

    made = {
        name: waveform(passes(derivatives))
        for name, derivatives in mixtures(predicted, true, config).items()
    }
    # One pass each: passes become the batch.
    alone = (x.transpose(0, 1) for x in passes(predicted))
    phasors = stft / stft.abs().clamp_min(1e-20) * config.centre_phasor()
    count = -(-config.win_length // config.hop_length) - 1
    pad = torch.nn.functional.pad
    past = pad(phasors, (0, 0, count, 0)).squeeze(0).unfold(0, count, 1)
    past = past[: time : network.stride].transpose(1, 2)
    sizes = pad(stft.abs(), (0, 0, count, 0)).squeeze(0).unfold(0, count, 1)
    sizes = sizes[: time : network.stride].transpose(1, 2)
    zeros = sizes.new_zeros(len(sizes), config.synthesis_latency)
    _, overlap = refine(past, sizes, config, zeros, 0, count)
    start = past[:, -1].clone()
    start[0] = 1
    made["as predicted, from the true last frame"] = waveform(
        recursion.Passes(*alone), start, overlap
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
