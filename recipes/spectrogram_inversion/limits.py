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
from speechbrain_phaseinv.integration import recursion
from speechbrain_phaseinv.integration.passes import Passes, arrange, for_answers
from speechbrain_phaseinv.integration.refinement import (
    REOPENED,
    refine,
    silence,
)
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.pretrained import load_pretrained
from speechbrain_phaseinv.stft import analysis, overlap_add

# Where PESQ's bands are as narrow as a bin of a 32 ms window, in Hz.
LOW = 750.0


def mixtures(passes, time, frequency, config):
    """Predictions with some of the truth: name to `Passes`."""
    hertz = torch.arange(config.num_bins) * config.sample_rate / config.n_fft
    low = hertz < LOW

    def mixed(by_time, by_frequency):
        return passes._replace(
            time=torch.where(by_time, time, passes.time),
            frequency=torch.where(by_frequency, frequency, passes.frequency),
        )

    every, none = torch.tensor(True), torch.tensor(False)
    return {
        "as predicted": passes,
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
    config, stride = inverter.config, inverter.stride
    stft = analysis(target, config)
    size, count = stft.abs(), stft.shape[1]
    # The last frame goes on, for the look-ahead and an odd last pair.
    after = [size[:, -1:]] * (inverter.lookahead + count % stride)
    known, state = inverter.estimate(torch.cat([size, *after], dim=1))
    passes = arrange(*known, inverter.power, stride)
    derivatives, seen, _ = known
    # Nothing is known of frames after the end; before the start phases are
    # zero.
    past = seen.shape[1] - len(after) - count
    around = 0, 0, past, len(after)
    true = phase_derivatives(stft, config)
    true = [torch.nn.functional.pad(x, around) for x in true[:2]]
    true[0][:, :past] = -expected_advance(config)
    time, frequency = for_answers(
        lambda found, here, before: [x[:, here] for x in true],
        derivatives,
        stride,
    )

    def waveform(passes, heard):
        _, added, _ = recursion.run(
            passes,
            config,
            inverter.refinements,
            stride,
            inverter.delay,
            heard,
        )
        added = added.reshape(1, -1, config.win_length)[:, :count]
        return overlap_add(added, config, length=target.shape[1])

    mixed = mixtures(passes, time, frequency, config)
    made = {name: waveform(x, state.heard) for name, x in mixed.items()}
    # One pass each: passes become the batch, and what they have heard is the
    # true frames before.
    alone = Passes(*(x.transpose(0, 1) for x in passes))
    phasors = stft / size.clamp_min(1e-20) * config.centre_phasor()
    before = REOPENED - 1 - (-config.win_length // config.hop_length)

    def past_of(x):
        x = torch.nn.functional.pad(x, (0, 0, before, 0))[0]
        return x.unfold(0, before, 1)[:count:stride].transpose(1, 2)

    sizes, phasors = past_of(size), past_of(phasors)
    start = silence(sizes[:, 0], config)
    *_, heard = refine(phasors, sizes, config, start, 0, before)
    heard.phasors[0] = 1
    made["as predicted, from the true last frame"] = waveform(alone, heard)
    return made


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
        for name, made in partly_true(target, inverter).items():
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
    write_figures(arguments.json, results)


if __name__ == "__main__":
    main()
