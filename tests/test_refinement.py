"""Refinement: what an iteration is, and that it leads where it should."""

import pytest
import torch
from conftest import (
    CONFIG,
    SMALL_CONFIGS,
    magnitudes,
    make_inverter,
    noise_phasors,
    small_configs,
    synthetic_speech,
)

from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.integration.least_squares import CANCELLED
from speechbrain_phaseinv.integration.refinement import (
    REOPENED,
    overlap_scale,
    refine,
    start_overlap,
)
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.stft import analysis


def refined(phasors, sizes, config, state, n_iter, emitted):
    """`refine` in complex numbers."""
    phasors, samples, state = refine(
        torch.view_as_real(phasors), sizes, config, state, n_iter, emitted
    )
    phasors, kept = map(torch.view_as_complex, (phasors, state.phasors))
    return phasors, samples, kept, state


def overlap_after(config, sizes, phasors):
    """The `OverlapState` that these frames leave."""
    before = start_overlap(config, len(sizes), sizes.dtype)
    count = sizes.shape[1]
    sizes = torch.nn.functional.pad(sizes, (0, 0, REOPENED, 0))
    return refined(phasors, sizes, config, before, 0, count)[-1]


def plain_transforms(config):
    """Inverse and forward, windowed, as matrices: [freq, n], [n, freq]."""
    window = torch.zeros(config.n_fft, dtype=torch.double)
    start = config.window_offset
    window[start : start + config.win_length] = config.window_tensor(
        torch.double
    )
    n = torch.arange(config.n_fft, dtype=torch.double)
    bins = torch.arange(config.num_bins, dtype=torch.double)
    wave = torch.exp(2j * torch.pi * torch.outer(bins, n) / config.n_fft)
    twice = torch.full((config.num_bins, 1), 2.0, dtype=torch.double)
    twice[0] = 1
    if config.n_fft % 2 == 0:
        twice[-1] = 1
    to_start = config.start_phasor(torch.complex128).unsqueeze(1)
    back = twice * to_start * wave * window / config.n_fft
    return back, (to_start * wave * window).conj().T, window


@small_configs
@pytest.mark.parametrize("new, emitted", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("n_iter", [0, 1, 5])
def test_an_iteration_is_two_transforms_of_a_weighted_mean(
    config, new, emitted, n_iter
):
    """Against plain sums over samples and bins."""
    before = -(-config.win_length // config.hop_length) - 1 + REOPENED
    total, hop = before + new, config.hop_length
    size, phasors = noise_phasors(config, total)
    turns = torch.exp(1j * torch.randn(1, new, config.num_bins))
    given = phasors[:, before:] * turns
    past = overlap_after(config, size[:, :before], phasors[:, :before])
    first = before - REOPENED  # the first that is open
    found, samples, held, rest = refined(
        given, size[:, first:], config, past, n_iter, emitted
    )

    back, forward, window = plain_transforms(config)
    out = before * hop  # samples before are out
    phasors = torch.cat([phasors[:, :before], given], dim=1)[0]
    count = torch.ones(total, 1, dtype=torch.double)
    count[before + emitted :] = 0.5
    length = config.n_fft + (total - 1) * hop

    def overlap(frames):
        signal = torch.zeros(length, dtype=torch.double)
        for t, frame in enumerate(frames):
            signal[t * hop : t * hop + config.n_fft] += frame
        return signal

    envelope = overlap(count * window**2)
    at = config.window_offset
    squares = window[at : at + config.win_length] ** 2
    squares = torch.nn.functional.pad(squares, (0, -len(squares) % hop))
    floor = 0.1 * squares.reshape(-1, hop).sum(0).max()
    old = overlap(((size[0] * phasors) @ back).real[:before])
    # Two at a time, from the newest to the oldest, and again.
    # A pair counts while a sample of it is to come.
    pairs = [
        (t, t + 1)
        for t in range(first, total - 1)
        if (t + 1) * hop + config.win_length > out
    ][::-1]
    for i in range(n_iter):
        signal = overlap(count * ((size[0] * phasors) @ back).real)
        signal[: out + at] = old[: out + at]
        signal = signal / envelope.clamp_min(floor)
        for t in pairs[i % len(pairs)]:
            frame = signal[t * hop : t * hop + config.n_fft]
            rebuilt = frame.to(forward) @ forward
            known = rebuilt.abs() > CANCELLED * size[0, t]
            turned = rebuilt / rebuilt.abs()
            phasors[t] = torch.where(known, turned, phasors[t])
    done = before + emitted
    assert (found[0] - phasors[before:done]).abs().max() < 1e-9
    assert (held[0] - phasors[done - REOPENED : done]).abs().max() < 1e-9
    signal = overlap(((size[0] * phasors) @ back).real[:done])
    signal[: out + at] = old[: out + at]
    since = (done - REOPENED) * hop + at
    kept = signal[since : since + rest.signal.shape[1]]
    assert (rest.signal[0] - kept).abs().max() < 1e-9
    hops = signal[out + at : out + at + emitted * hop]
    assert (samples[0] - hops).abs().max() < 1e-9
    again = ((size[0] * phasors) @ back).real[done - REOPENED : done]
    again = again[:, at : at + config.win_length]
    assert (rest.frames[0] - again).abs().max() < 1e-9


@small_configs
def test_the_scale_is_that_of_whole_windows_where_all_have_come(config):
    """In the first hop of the open frames, unless the floor is above."""
    hop = config.hop_length
    squares = config.window_tensor(torch.double).square()
    squares = torch.nn.functional.pad(squares, (0, -len(squares) % hop))
    envelope = squares.reshape(-1, hop).sum(0)
    expected = envelope.clamp_min(0.1 * envelope.max()).reciprocal()
    for new in (1, 2):
        scale = overlap_scale(config, new, new)
        count = REOPENED + new
        assert len(scale) == config.win_length + (count - 1) * hop
        for i in range(count):
            part = scale[i * hop : (i + 1) * hop]
            torch.testing.assert_close(part, expected)


def test_true_phases_stay():
    stft = analysis(synthetic_speech(0.5), CONFIG)
    size, phasors = stft.abs(), stft / stft.abs().clamp_min(1e-30)
    phasors = phasors * CONFIG.centre_phasor(stft.dtype)
    past = overlap_after(CONFIG, size[:, 14:20], phasors[:, 14:20])
    true, open_sizes = phasors[:, 20:22], size[:, 20 - REOPENED : 22]
    found, *_ = refined(true, open_sizes, CONFIG, past, 10, emitted=2)
    size = size[:, 20:22]
    error = (size * (found - true)).norm(dim=2) / size.norm(dim=2)
    # But for the end of the last window, which nothing overlaps.
    assert error[0, 0] < 0.01 and error[0, 1] < 0.1


def test_it_brings_the_magnitudes_nearer():
    magnitude = magnitudes()
    errors = []
    for n_iter in (0, 2):
        inverter = SpectrogramInverter(CONFIG, paired=True, refinements=n_iter)
        made = analysis(inverter(magnitude), CONFIG).abs()
        errors.append((made - magnitude).norm() / magnitude.norm())
    assert errors[1] < 0.95 * errors[0]


def test_how_many_iterations_is_for_the_estimator_to_say_and_the_user():
    config = SMALL_CONFIGS[0]
    network = PhaseDerivativeNet(config, provisional=True, refinements=3)
    assert SpectrogramInverter(config, estimator=network).refinements == 3
    inverter = SpectrogramInverter(config, estimator=network, refinements=0)
    assert inverter.refinements == 0
    assert SpectrogramInverter(config, estimator="gradient").refinements == 0
    with pytest.raises(ValueError, match="got -1"):
        SpectrogramInverter(config, refinements=-1)


def test_without_iterations_what_is_ahead_has_no_say():
    inverter = make_inverter("refined-1", CONFIG)
    plain = SpectrogramInverter(
        CONFIG, estimator=inverter.estimator, refinements=0
    )
    magnitude = magnitudes(seconds=0.3)
    expected = plain(magnitude), inverter(magnitude)
    inverter.estimator.last.weight[4:] += 1
    assert torch.equal(plain(magnitude), expected[0])
    assert not torch.equal(inverter(magnitude), expected[1])
