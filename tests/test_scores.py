"""Facts about the scores and their summaries."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import speechbrain_phaseinv
from speechbrain_phaseinv.audio import read_audio, resample
from speechbrain_phaseinv.evaluation import scores
from speechbrain_phaseinv.evaluation.methods import (
    METHODS,
    Unavailable,
    timed,
)
from speechbrain_phaseinv.evaluation.tables import summarise, summary_table
from speechbrain_phaseinv.stft import StftConfig, analysis

EXAMPLE = Path(speechbrain_phaseinv.__file__).parent / "data/example.flac"
needs_pesq = pytest.mark.skipif(
    find_spec("pesq") is None,
    reason=f"pesq is not installed: {scores.INSTALL['pesq']}",
)
needs_stoi = pytest.mark.skipif(
    find_spec("pystoi") is None,
    reason=f"pystoi is not installed: {scores.INSTALL['pystoi']}",
)
JUDGES = [
    pytest.param(scores.pesq_wb, marks=needs_pesq, id="pesq"),
    pytest.param(scores.stoi, marks=needs_stoi, id="stoi"),
]


@pytest.fixture(scope="module")
def example():
    waveform, rate, _ = read_audio(EXAMPLE)
    return waveform[0], rate


def noisy(waveform, decibels):
    noise = np.random.default_rng(0).standard_normal(len(waveform))
    noise *= np.linalg.norm(waveform) / np.linalg.norm(noise)
    return waveform + noise * 10 ** (-decibels / 20)


def test_spectral_convergence_is_a_relative_distance():
    reference = np.random.default_rng(0).random((5, 9))
    assert scores.spectral_convergence(reference, reference) == -np.inf
    # Ten percent too much everywhere: 20 log10(0.1).
    distance = scores.spectral_convergence(reference, 1.1 * reference)
    assert distance == pytest.approx(-20)
    assert scores.spectral_convergence(reference, 0 * reference) == 0
    assert scores.spectral_convergence(0 * reference, reference) == np.inf


def test_log_spectral_distance_is_in_decibels():
    reference = np.random.default_rng(0).uniform(0.5, 1, (5, 9))
    distance = scores.log_spectral_distance(reference, 2 * reference)
    assert distance == pytest.approx(20 * np.log10(2))
    # Below the floor all is silence.
    quiet = np.full((5, 9), 1e-9)
    loud = np.ones((1, 9))
    one, other = np.vstack([loud, quiet]), np.vstack([loud, quiet / 7])
    assert scores.log_spectral_distance(one, other) == 0
    assert scores.log_spectral_distance(0 * one, 0 * one) == 0


@needs_pesq
def test_pesq_of_equal_signals_is_the_best_there_is(example):
    waveform, rate = example
    value = scores.pesq_wb(waveform, waveform, rate)
    assert value == pytest.approx(4.64, abs=0.01)


@needs_stoi
@pytest.mark.parametrize("extended", [False, True])
def test_stoi_of_equal_signals_is_one(example, extended):
    waveform, rate = example
    value = scores.stoi(waveform, waveform, rate, extended)
    assert value == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("judge", JUDGES)
def test_noise_lowers_the_scores(example, judge):
    waveform, rate = example
    little, much = noisy(waveform, 20), noisy(waveform, 0)
    best = judge(waveform, waveform, rate)
    assert best > judge(waveform, little, rate)
    assert judge(waveform, little, rate) > judge(waveform, much, rate)


@needs_pesq
def test_other_rates_are_resampled_for_pesq(example):
    waveform, rate = example
    wide = scores.pesq_wb(waveform, noisy(waveform, 20), rate)
    pair = [
        resample(x.astype(np.float32), rate, 44100)
        for x in (waveform, noisy(waveform, 20))
    ]
    assert scores.pesq_wb(*pair, 44100) == pytest.approx(wide, abs=0.05)


@needs_pesq
def test_long_recordings_are_judged_in_parts(example):
    """Sixty utterances at once would crash the process."""
    waveform, rate = example
    speech = np.concatenate([waveform[:rate], np.zeros(rate // 2)])
    many = np.tile(speech, 60)
    other = noisy(many, 30)
    part = slice(0, 18 * rate)
    alone = scores.pesq_wb(many[part], other[part], rate)
    whole = scores.pesq_wb(many, other, rate)
    assert whole == pytest.approx(alone, abs=0.1)


@pytest.mark.parametrize("judge", JUDGES)
def test_what_is_short_or_silent_has_no_score(judge):
    for seconds in (0.0, 0.01, 0.2):
        short = 0.1 * np.ones(int(16000 * seconds))
        assert judge(short, short, 16000) is None
    silence = np.zeros(16000)
    assert judge(silence, silence, 16000) is None


@pytest.mark.parametrize("package", ["pesq", "pystoi"])
def test_a_package_that_is_missing_means_no_score(
    monkeypatch, example, package
):
    monkeypatch.setitem(sys.modules, package, None)
    waveform, rate = torch.from_numpy(example[0])[None], example[1]
    config = StftConfig(rate, n_fft=512, hop_length=128)
    values = scores.score(waveform, waveform, config)
    names = [x for x, needed in scores.NEEDS.items() if needed == package]
    assert all(values[name] is None for name in names)
    assert not set(names) & set(scores.available())
    assert any(x.startswith(f"{package} is not") for x in scores.missing())
    assert scores.missing(["spectral_convergence"]) == []


def test_names_that_are_no_scores_are_ignored():
    config = StftConfig(16000, n_fft=256, hop_length=64)
    names = ["real_time_factor", "log_spectral_distance"]
    values = scores.score(torch.ones(1, 900), torch.ones(1, 900), config, names)
    assert values == {"log_spectral_distance": 0}


def test_scores_are_means_over_channels():
    config = StftConfig(16000, n_fft=256, hop_length=64)
    x = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    pairs = [(x, 1.1 * x), (x, 1.01 * x)]
    pairs.append([torch.cat(both) for both in zip(*pairs)])
    one, other, mean = (
        scores.score(*pair, config, ["spectral_convergence"]) for pair in pairs
    )
    name = "spectral_convergence"
    assert mean[name] == pytest.approx((one[name] + other[name]) / 2)
    assert one[name] == pytest.approx(-20, abs=1e-3)
    assert other[name] == pytest.approx(-40, abs=1e-2)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_length_and_is_deterministic(name, speech):
    config = StftConfig(16000, n_fft=512, hop_length=128)
    magnitude = analysis(speech[:, :5003].float(), config).abs()
    try:
        invert = METHODS[name](config)
    except Unavailable as reason:
        pytest.skip(str(reason))
    first, seconds = timed(invert, magnitude, 5003)
    assert first.shape == (1, 5003) and seconds > 0
    assert torch.equal(first, invert(magnitude, 5003))


def test_summaries_are_means_with_confidence():
    values = [3.0, 4.0, 5.0, 8.0]
    rows = [
        {"method": "a", "pesq_wb": x, "real_time_factor": x} for x in values
    ]
    rows.append({"method": "b", "pesq_wb": None, "real_time_factor": 1.0})
    names = ["pesq_wb", "real_time_factor"]
    summary = summarise(rows, names)
    entry = summary["a"]["pesq_wb"]
    # Student's t of three degrees of freedom at 97.5 %: 3.1824.
    half = 3.1824 * np.std(values, ddof=1) / 2
    assert entry["mean"] == 5 and entry["median"] == 4.5
    assert entry["ci95"] == pytest.approx(half, rel=1e-4)
    assert summary["a"]["real_time_factor"]["mean"] == 4.5  # the median
    assert summary["b"]["pesq_wb"]["mean"] is None
    lines = summary_table(summary, names).splitlines()
    assert lines[0].split() == ["method", "PESQ-WB", "RTF"]
    assert lines[2].split() == ["a", "5.00", "±", "3.44", "(4.50)", "4.5000"]
    assert lines[3].split() == ["b", "-", "1.0000"]
