"""The STFT against `torch.stft` and `torch.istft`."""

import pickle

import pytest
import torch
from conftest import CONFIG

from speechbrain_phaseinv.stft import (
    ENVELOPE_FLOOR,
    StftConfig,
    analysis,
    analysis_flush,
    analysis_step,
    finish,
    normalise,
    sum_of_squares,
    synthesis,
    windowed_frames,
)

# Rounding of double precision sums over a window.
ROUNDING = 1e-12

CONFIGS = [
    CONFIG,
    StftConfig(16000, 512, 400, 100, "hamming"),
    StftConfig(16000, 512, 401, 150, "blackman"),
    StftConfig(22050, 401, 401, 100),
    StftConfig(16000, 512, hop_length=256, window="hamming"),
    StftConfig(16000, 256, hop_length=256, window="rectangular"),
]


def torch_stft(x, config, pad_mode="reflect"):
    return torch.stft(
        x,
        config.n_fft,
        config.hop_length,
        config.win_length,
        config.window_tensor(x.dtype),
        pad_mode=pad_mode,
        return_complex=True,
    )


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_analysis_equals_torch_stft(config, pad_mode):
    x = torch.randn(2, 5000, dtype=torch.float64)
    expected = torch_stft(x, config, pad_mode).transpose(1, 2)
    found = analysis(x, config, pad_mode)
    assert torch.equal(found, expected)
    assert found.shape[1] == config.num_frames(5000)


@pytest.mark.parametrize("config", CONFIGS[:5])
def test_synthesis_equals_torch_istft(config):
    # Any complex array, so that nothing cancels as it would for a true STFT.
    stft = torch.randn(2, 20, config.num_bins, dtype=torch.complex128)
    expected = torch.istft(
        stft.transpose(1, 2),
        config.n_fft,
        config.hop_length,
        config.win_length,
        config.window_tensor(torch.float64),
    )[:, : config.num_samples(20)]
    found = synthesis(stft, config)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < ROUNDING


@pytest.mark.parametrize("config", CONFIGS)
def test_synthesis_undoes_analysis(config):
    x = torch.randn(2, 5000, dtype=torch.float64)
    y = synthesis(analysis(x, config), config)
    assert (y - x[:, : y.shape[1]]).abs().max() < ROUNDING


@pytest.mark.parametrize("size", [1, 100, 128, 1000])
@pytest.mark.parametrize("samples", [0, 1, 300, 2000])
def test_analysis_in_chunks_is_the_same_bit_for_bit(samples, size):
    config = CONFIG
    x = torch.randn(2, samples)
    state, pieces = None, []
    for chunk in x.split(size, dim=1):
        stft, state = analysis_step(chunk, config, state)
        pieces.append(stft)
    pieces.append(analysis_flush(config, state))
    expected = analysis(x, config, "constant")
    assert torch.equal(torch.cat(pieces, dim=1), expected)


def test_a_frame_completes_a_hop():
    """A window reaches 256 samples before its frame's centre."""
    stft = torch.randn(1, 9, CONFIG.num_bins, dtype=torch.complex64)
    more = torch.randn(1, 5, CONFIG.num_bins, dtype=torch.complex64)
    one = synthesis(stft, CONFIG)
    two = synthesis(torch.cat([stft, more], dim=1), CONFIG)
    done = 9 * 128 - 256
    assert torch.equal(one[:, :done], two[:, :done])
    assert not torch.equal(one[:, : done + 2], two[:, : done + 2])


@pytest.mark.parametrize("length", [0, 1, 2431, 2432, 2500, 9000])
def test_synthesis_gives_any_length(length):
    config = CONFIG
    stft = torch.randn(1, 20, config.num_bins, dtype=torch.complex64)
    y = synthesis(stft, config, length)
    full = synthesis(stft, config)
    common = min(length, full.shape[1])
    assert y.shape == (1, length)
    assert torch.equal(y[:, :common], full[:, :common])
    assert y.isfinite().all()


def test_the_end_fades_and_does_not_click():
    # At 50 % overlap the last window runs out alone, and an inconsistent
    # spectrogram divided by it blows up.
    config = StftConfig(16000, 512, hop_length=256)
    stft = torch.randn(4, 20, config.num_bins, dtype=torch.complex64)
    y = synthesis(stft, config, length=20 * 256)
    steady = y[:, :-256].abs().max()
    blown_up = torch.istft(
        stft.transpose(1, 2),
        512,
        256,
        window=torch.hann_window(512),
        length=20 * 256 - 1,
    )
    assert blown_up.abs().max() > 100 * steady
    assert y.abs().max() < 10 * steady


def test_padded_frames_are_left_out():
    config = CONFIG
    stft = torch.randn(2, 20, config.num_bins, dtype=torch.complex128)
    y = synthesis(stft, config, lengths=torch.tensor([12, 20]))
    alone = synthesis(stft[:1, :12], config)
    assert torch.equal(y[:1, : alone.shape[1]], alone)
    assert not y[0, alone.shape[1] :].any()


def plain_sum_of_squares(config, frames):
    """All frames' squared windows, added one by one."""
    squares = config.window_tensor(torch.float64).square()
    hop, length = config.hop_length, config.win_length
    total = torch.zeros((frames + length) * hop + length, dtype=torch.float64)
    for t in range(frames):
        total[t * hop : t * hop + length] += squares
    return total


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("frames", [1, 3, 12])
def test_the_sum_of_squares_runs_in_and_out(config, frames):
    plain = plain_sum_of_squares(config, frames)
    # In the middle of many, it is steady: the floor is relative to that.
    many = plain_sum_of_squares(config, 40)[20 * config.hop_length :]
    floor = ENVELOPE_FLOOR * many[: config.hop_length].max()
    for first, count in ((0, 14), (5, 9), (frames, 2)):
        ends = torch.tensor([frames, frames + 50])
        both = sum_of_squares(config, first, count, ends, torch.float64)
        stop = (first + count) * config.hop_length
        expected = plain[first * config.hop_length : stop].clamp_min(floor)
        torch.testing.assert_close(both[0].flatten(), expected)
        # Where none ends, as where the end is far.
        never = sum_of_squares(config, first, count, dtype=torch.float64)
        torch.testing.assert_close(never[0], both[1])


@pytest.mark.parametrize("config", CONFIGS)
def test_an_overlap_add_is_normalised_and_cut(config):
    stft = torch.randn(2, 12, config.num_bins, dtype=torch.complex128)
    frames = windowed_frames(stft, config)
    hop, length = config.hop_length, config.win_length
    signal = torch.zeros(2, 11 * hop + length, dtype=torch.float64)
    for t in range(12):
        signal[:, t * hop : t * hop + length] += frames[:, t]
    signal = normalise(signal, config, 0, torch.tensor([12, 12]))
    found = finish(signal, config, 12)
    torch.testing.assert_close(found, synthesis(stft, config))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_pulse_in_the_window_centre_has_phase_zero(config):
    # The physical meaning of the phase convention. A pulse at sample 10 hop
    # is at the centre of frame 10, to half a sample for windows of odd length.
    hop = config.hop_length
    x = torch.zeros(1, 20 * hop + config.n_fft, dtype=torch.float64)
    x[0, 10 * hop] = 1
    stft = analysis(x, config)[:, 10]
    phase = (stft * config.centre_phasor(stft.dtype)).angle()
    k = torch.arange(config.num_bins, dtype=torch.float64)
    offset = (config.win_length % 2) / 2
    if config.win_length % 2 and config.n_fft % 2 == 0:
        offset = -0.5
    expected = 2 * torch.pi * k * offset / config.n_fft
    assert (
        torch.polar(torch.ones_like(k), phase - expected) - 1
    ).abs().max() < 1e-9


def test_signals_too_short_to_reflect_are_padded_with_zeros():
    config = CONFIG
    for samples in (0, 1, 256):
        x = torch.ones(2, samples)
        stft = analysis(x, config)
        assert torch.equal(stft, analysis(x, config, "constant"))
        assert stft.shape[1] == config.num_frames(samples)
    assert analysis(torch.ones(0, 1000), config).shape == (0, 8, 257)


def test_defaults():
    config = StftConfig(16000, 512)
    assert (config.win_length, config.hop_length) == (512, 128)


def test_config_is_one_value():
    config = StftConfig(16000, 512, 400, 100, "hamming")
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(config) == hash(StftConfig(16000, 512, 400, 100, "hamming"))
    with pytest.raises(AttributeError):
        config.n_fft = 1024


def test_samples_of_a_known_window_get_its_name():
    samples = torch.hann_window(512)
    assert StftConfig(16000, 512, window=samples).window == "hann"
    other = torch.hann_window(512, periodic=False)
    assert len(StftConfig(16000, 512, window=other).window) == 512


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(n_fft=512, win_length=600), "must not exceed n_fft"),
        (dict(n_fft=512, win_length=400, hop_length=401), "hop_length"),
        (dict(n_fft=512, hop_length=512), "NOLA"),
        (dict(n_fft=512, hop_length=0), "hop_length must be positive"),
        (dict(n_fft=1), "n_fft must be at least 2"),
        (dict(n_fft=512, window="gauss"), "unknown window 'gauss'"),
        (dict(n_fft=4, window=(1.0, 1.0)), "2 samples"),
        (dict(n_fft=2, window=(1.0, float("nan"))), "NaN"),
        (dict(n_fft=8, window=(0.0,) * 8), "NOLA"),
    ],
)
def test_what_cannot_be_inverted_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        StftConfig(16000, **arguments)


def test_lengths_are_integers():
    with pytest.raises(TypeError, match="n_fft must be an integer"):
        StftConfig(16000, 512.5)


def test_analysis_refuses_what_is_no_waveform():
    with pytest.raises(ValueError, match=r"\[batch, samples\]"):
        analysis(torch.zeros(100), CONFIG)
    with pytest.raises(ValueError, match="int64"):
        analysis(torch.zeros(1, 100, dtype=torch.int64), CONFIG)


@pytest.mark.parametrize("n_fft", [510, 511, 512])
def test_nothing_to_analyse(n_fft):
    config = StftConfig(16000, n_fft, hop_length=128)
    for shape in ((0, 0), (0, 1000), (2, 0)):
        stft = analysis(torch.zeros(shape), config)
        frames = config.num_frames(shape[1])
        assert stft.shape == (shape[0], frames, config.num_bins)
    stft, state = analysis_step(torch.zeros(0, 1000), config)
    assert stft.shape[0] == state.shape[0] == 0


def test_synthesis_refuses_what_is_no_spectrogram():
    stft = analysis(torch.randn(1, 4000), CONFIG)
    for wrong in (stft.mT, stft.abs(), stft[..., :-1], stft[0]):
        with pytest.raises(ValueError, match=r"\[batch, time, \d+\]"):
            synthesis(wrong, CONFIG)
