"""The same window on a finer grid of bins: weights that know of it."""

import pytest
import torch

from speechbrain_phaseinv.estimation.grid import move_to_grid, padding_of
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.pretrained import load_pretrained
from speechbrain_phaseinv.stft import StftConfig, analysis

PADDED = StftConfig(16000, 1024, 320, 80)


def test_untrained_weights_move_to_untrained_weights():
    plain = PhaseDerivativeNet(StftConfig(16000, 320, 320, 80))
    move_to_grid(plain, padding_of(PADDED))
    other = PhaseDerivativeNet(PADDED)
    assert torch.allclose(plain.last.bias, other.last.bias, atol=1e-5)


def test_there_and_back_is_where_it_began():
    network = load_pretrained("hann-512-128")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    for factor in (3.2, 1 / 3.2):
        move_to_grid(network, factor)
    for name, value in network.state_dict().items():
        assert torch.allclose(value, before[name], atol=1e-5)


def test_weights_of_the_same_padding_stay_as_they_are():
    own = load_pretrained("hann-512-400-160")
    other = load_pretrained("hann-512-400-160", StftConfig(8000, 1024, 800))
    assert torch.equal(own.last.weight, other.last.weight)


@pytest.mark.parametrize("lookahead", [0, 1])
def test_padded_speech_comes_back_nearer_than_by_weights_as_they_are(
    speech, lookahead
):
    magnitude = analysis(speech, PADDED).abs()
    errors = []
    for factor in (1, 1 / padding_of(PADDED)):
        network = load_pretrained("hann-512-128", PADDED)
        move_to_grid(network, factor)
        inverter = SpectrogramInverter(PADDED, lookahead, network)
        made = inverter(magnitude, length=speech.shape[1])
        error = analysis(made, PADDED).abs() - magnitude
        errors.append(20 * torch.log10(error.norm() / magnitude.norm()))
    assert errors[0] < errors[1] - 2  # dB
