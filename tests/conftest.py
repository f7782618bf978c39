"""Signals that every test may use. All are made here, none is recorded."""

import math

import pytest
import torch

from speechbrain_phaseinv import SpectrogramInverter, StftConfig, analysis
from speechbrain_phaseinv.estimation import Schedule
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet

CONFIG = StftConfig(16000, 512, hop_length=128)

# Small transforms of every kind, on which the definition is fast.
SMALL_CONFIGS = [
    StftConfig(16000, 64, hop_length=16),
    StftConfig(16000, 64, hop_length=32, window="hamming"),
    StftConfig(16000, 64, 48, 20),
    StftConfig(16000, 63, 51, 10),
    StftConfig(16000, 64, 63, 16),
    StftConfig(16000, 8, hop_length=8, window="rectangular"),
]
small_configs = pytest.mark.parametrize("config", SMALL_CONFIGS, ids=str)

# Stride, look-ahead and offsets: one frame after the other; with a look-ahead
# frame, waited for or emitted at once; two at a time; and once more.
SCHEDULES = [
    Schedule(1, 0, (0,)),
    Schedule(1, 1, (0,)),
    Schedule(1, 1, (0, 1)),
    Schedule(1, 0, (-1, 0)),
    Schedule(2, 0, (0, 1)),
    Schedule(1, 1, (-1, 0, 1)),
    Schedule(1, 0, (-2, -1, 0)),
    Schedule(2, 0, (-1, 0, 1)),
]
schedules = pytest.mark.parametrize(
    "schedule",
    SCHEDULES,
    ids=lambda x: f"{x.stride}, {x.lookahead}, {x.offsets}",
)


def synthetic_speech(seconds=1.0, sample_rate=16000, seed=0):
    """Something that changes as speech does: gliding harmonics, noise, gaps.

    Returns a waveform, [1, samples], in double precision.
    """
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * sample_rate), dtype=torch.float64)
    time = time / sample_rate
    pitch = 120 + 40 * torch.sin(2 * math.pi * 0.7 * time + seed)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / sample_rate
    voiced = sum(torch.sin(k * phase) / k for k in range(1, 25))
    noise = torch.randn(len(time), generator=generator, dtype=torch.float64)
    syllables = torch.sin(2 * math.pi * 2 * time).clamp_min(0)
    fricatives = (-torch.sin(2 * math.pi * 2 * time + 0.5)).clamp_min(0)
    speech = voiced * syllables + 0.2 * noise * fricatives + 1e-4 * noise
    return (0.1 * speech).unsqueeze(0)


@pytest.fixture
def speech():
    return synthetic_speech()


def magnitudes(batch=1, seconds=1.0, config=CONFIG):
    """Of synthetic speech, another in each member, [batch, time, freq]."""
    x = torch.cat([synthetic_speech(seconds, seed=i) for i in range(batch)])
    return analysis(x.float(), config).abs()


def noise_phasors(config, frames, seed=0):
    """A noise's magnitudes and centre-referred phasors, [1, frames, freq]."""
    torch.manual_seed(seed)
    samples = config.hop_length * (frames + 8)
    stft = analysis(torch.randn(1, samples, dtype=torch.double), config)
    phasors = stft / stft.abs() * config.centre_phasor(stft.dtype)
    return stft.abs()[:, 4 : 4 + frames], phasors[:, 4 : 4 + frames]


# The operating points of the package, by name.
KINDS = (
    "gradient-0",
    "gradient-1",
    "network-0",
    "network-1",
    "paired",
    "refined-0",
    "refined-1",
    "refined-again",
)


def make_inverter(kind, config, backend="auto"):
    """An inverter; a network's weights are random, but not harmless."""
    lookahead = 0 if kind.endswith("0") else 1
    if kind.startswith("gradient"):
        return SpectrogramInverter(
            config, lookahead, "gradient", backend=backend
        )
    refined, again = kind.startswith("refined"), kind == "refined-again"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PhaseDerivativeNet(
            config,
            1 if refined else lookahead,
            paired=again or kind == "paired",
            provisional=refined and not again,
            again=again,
            refinements=2 if refined else 0,
        )
        for parameter in network.requires_grad_(False).parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return SpectrogramInverter(
        config, lookahead, estimator=network.eval(), backend=backend
    )
