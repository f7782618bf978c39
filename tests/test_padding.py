"""Frames that are not centred on samples: "same" and "none"."""

from dataclasses import replace

import pytest
import torch
import torchaudio

from speechbrain_phaseinv import (
    InversionStream,
    PhaseInversion,
    SpectrogramInverter,
    StftConfig,
    analysis,
    synthesis,
)
from speechbrain_phaseinv.griffinlim import griffin_lim
from speechbrain_phaseinv.stft import analysis_flush, analysis_step

CENTER = StftConfig(16000, 512, 400, 160)
SAME = replace(CENTER, padding="same")
NONE = StftConfig(16000, 512, hop_length=128, padding="none")
both = pytest.mark.parametrize("config", [SAME, NONE])


@pytest.fixture
def waveform():
    return torch.randn(2, 4800, generator=torch.Generator().manual_seed(0))


def around(config):
    return 0 if config.padding == "none" else (512 - config.hop_length) // 2


@both
@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
def test_analysis_is_an_uncentred_stft_of_the_padded_signal(
    config, pad_mode, waveform
):
    pad = around(config)
    padded = torch.nn.functional.pad(waveform, (pad, pad), mode=pad_mode)
    expected = torch.stft(
        padded,
        512,
        config.hop_length,
        config.win_length,
        config.window_tensor(),
        center=False,
        return_complex=True,
    )
    made = analysis(waveform, config, pad_mode)
    assert torch.allclose(made, expected.transpose(1, 2), atol=1e-4)
    assert made.shape[1] == config.num_frames(waveform.shape[1])


@both
def test_blocks_of_samples_make_the_same_frames(config, waveform):
    state, pieces = None, []
    for piece in waveform.split(700, dim=1):
        stft, state = analysis_step(piece, config, state)
        pieces.append(stft)
    pieces.append(analysis_flush(config, state))
    whole = analysis(waveform, config, "constant")
    assert torch.allclose(torch.cat(pieces, dim=1), whole, atol=1e-5)


@both
def test_synthesis_gives_the_samples_back(config, waveform):
    made = synthesis(analysis(waveform, config), config)
    assert made.shape == (2, config.num_samples(config.num_frames(4800)))
    # A Hann window says little of the first samples where nothing pads them.
    edge = 64 if config.padding == "none" else 0
    count = made.shape[1] - edge
    expected = waveform[:, edge:count]
    assert torch.allclose(made[:, edge:count], expected, atol=1e-4)


def test_a_frame_is_a_hop_of_samples_with_padding_same():
    assert [SAME.num_samples(n) for n in (0, 1, 30)] == [0, 160, 4800]
    assert NONE.num_samples(3) == 512 + 2 * 128
    assert NONE.num_frames(100) == 0


@both
@pytest.mark.parametrize("lookahead", [0, 1])
def test_only_the_place_of_the_samples_differs_from_centred_frames(
    config, lookahead, waveform
):
    magnitude = analysis(waveform, config).abs()
    made = SpectrogramInverter(config, lookahead)(magnitude)
    centred = replace(config, padding="center")
    expected = SpectrogramInverter(centred, lookahead)(magnitude)
    first = 256 - around(config)  # the centre of the first frame
    assert torch.equal(made[:, first : first + expected.shape[1]], expected)
    assert made.shape[1] == config.num_samples(magnitude.shape[1])


@both
def test_a_stream_gives_the_same_samples(config, waveform):
    magnitude = analysis(waveform, config).abs()
    inverter = SpectrogramInverter(config)
    stream, pieces = InversionStream(inverter), []
    for frame in magnitude.split(1, dim=1):
        ready = stream.num_samples_ready()
        pieces.append(stream.push(frame))
        assert pieces[-1].shape[1] == ready
    pieces.append(stream.flush())
    assert torch.equal(torch.cat(pieces, dim=1), inverter(magnitude))


@both
def test_a_padded_batch_gives_the_same_samples_as_alone(config, waveform):
    magnitude = analysis(waveform, config).abs()
    inverter = SpectrogramInverter(config)
    made = inverter(magnitude, lengths=torch.tensor([20, magnitude.shape[1]]))
    alone = inverter(magnitude[:1, :20])
    assert torch.equal(made[:1, : alone.shape[1]], alone)
    assert not made[0, alone.shape[1] :].any()


def test_the_transform_inverts_spectrograms_that_are_not_centred(waveform):
    options = {"n_fft": 512, "hop_length": 128}
    spectrogram = torchaudio.transforms.Spectrogram(center=False, **options)
    transform = PhaseInversion(padding="none", **options)
    made = transform(spectrogram(waveform))
    assert made.shape[1] == 512 + 128 * ((4800 - 512) // 128)
    inverter = SpectrogramInverter(NONE)
    assert torch.allclose(
        made, inverter(analysis(waveform, NONE).abs()), atol=1e-3
    )


@both
def test_griffin_lim_keeps_the_number_of_frames(config, waveform):
    magnitude = analysis(waveform, config).abs()
    stft = griffin_lim(magnitude, config, n_iter=2)
    assert stft.shape == magnitude.shape
    assert torch.allclose(stft.abs(), magnitude, atol=1e-4)


def test_windows_that_leave_out_the_first_samples_are_refused():
    with pytest.raises(ValueError, match="win_length == n_fft"):
        StftConfig(16000, 512, 400, 160, padding="none")
    with pytest.raises(ValueError, match="one of center, same, none"):
        StftConfig(16000, 512, padding="valid")


def test_windows_have_names():
    root = torch.hann_window(400).sqrt()
    named = StftConfig(16000, 512, 400, 160, "sqrt_hann")
    assert torch.allclose(named.window_tensor(), root, atol=2e-5)
    assert StftConfig(16000, 512, 400, 160, tuple(root.tolist())) == named
    kaiser = torch.kaiser_window(512, True, 12.0)
    named = StftConfig(16000, 512, window="kaiser")
    assert torch.allclose(named.window_tensor(), kaiser, atol=1e-6)
