"""Facts about the scores."""

import sys

import numpy as np
import pytest
import torch

from speechbrain_phaseinv.audio import read_audio, resample
from speechbrain_phaseinv.cli.main import EXAMPLE
from speechbrain_phaseinv.evaluation import metrics
from speechbrain_phaseinv.evaluation.evaluate import (
    compare,
    magnitude_of,
    score,
    timed,
)
from speechbrain_phaseinv.evaluation.methods import METHODS, Unavailable
from speechbrain_phaseinv.evaluation.summary import summarise, summary_table
from speechbrain_phaseinv.stft import StftConfig


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
    assert metrics.spectral_convergence(reference, reference) == -np.inf
    # Ten percent too much everywhere: 20 log10(0.1).
    distance = metrics.spectral_convergence(reference, 1.1 * reference)
    assert distance == pytest.approx(-20)
    assert metrics.spectral_convergence(reference, 0 * reference) == 0
    assert metrics.spectral_convergence(0 * reference, reference) == np.inf


def test_log_spectral_distance_is_in_decibels():
    reference = np.random.default_rng(0).uniform(0.5, 1, (5, 9))
    found = metrics.log_spectral_distance(reference, 2 * reference)
    assert found == pytest.approx(20 * np.log10(2))
    # Below the floor all is silence.
    quiet = np.full((5, 9), 1e-9)
    loud = np.ones((1, 9))
    one, other = np.vstack([loud, quiet]), np.vstack([loud, quiet / 7])
    assert metrics.log_spectral_distance(one, other) == 0
    assert metrics.log_spectral_distance(0 * one, 0 * one) == 0


def test_equal_signals_have_the_best_scores(example):
    waveform, rate = example
    assert metrics.pesq_wb(waveform, waveform, rate) == pytest.approx(
        4.64, abs=0.01
    )
    for extended in (False, True):
        found = metrics.stoi(waveform, waveform, rate, extended)
        assert found == pytest.approx(1, abs=1e-3)


def test_noise_lowers_the_scores(example):
    waveform, rate = example
    little, much = noisy(waveform, 20), noisy(waveform, 0)
    for judge in (metrics.pesq_wb, metrics.stoi):
        best = judge(waveform, waveform, rate)
        assert best > judge(waveform, little, rate)
        assert judge(waveform, little, rate) > judge(waveform, much, rate)


def test_other_rates_are_resampled_for_pesq(example):
    waveform, rate = example
    wide = metrics.pesq_wb(waveform, noisy(waveform, 20), rate)
    pair = [
        resample(x.astype(np.float32), rate, 44100)
        for x in (waveform, noisy(waveform, 20))
    ]
    assert metrics.pesq_wb(*pair, 44100) == pytest.approx(wide, abs=0.05)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.2])
def test_what_cannot_be_judged_has_no_score(seconds):
    short = 0.1 * np.ones(int(16000 * seconds))
    assert metrics.stoi(short, short, 16000) is None
    assert metrics.pesq_wb(short, short, 16000) is None


def test_silence_has_no_score():
    silence = np.zeros(16000)
    assert metrics.stoi(silence, silence, 16000) is None
    assert metrics.pesq_wb(silence, silence, 16000) is None


@pytest.mark.parametrize("package", ["pesq", "pystoi"])
def test_a_package_that_is_missing_means_no_score(
    monkeypatch, example, package
):
    monkeypatch.setitem(sys.modules, package, None)
    judge = metrics.pesq_wb if package == "pesq" else metrics.stoi
    assert judge(*example[:1], *example[:1], example[1]) is None


def test_scores_are_means_over_channels():
    config = StftConfig(16000, n_fft=256, hop_length=64)
    x = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    both = torch.cat([x, x])
    found = [
        score(x, 1.1 * x, config, ["spectral_convergence"]),
        score(x, 1.01 * x, config, ["spectral_convergence"]),
        score(
            both,
            torch.cat([1.1 * x, 1.01 * x]),
            config,
            ["spectral_convergence"],
        ),
    ]
    one, other, mean = (x["spectral_convergence"] for x in found)
    assert mean == pytest.approx((one + other) / 2)
    assert (one, other) == (
        pytest.approx(-20, abs=1e-3),
        pytest.approx(-40, abs=1e-2),
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_length_and_is_deterministic(name, speech):
    config = StftConfig(16000, n_fft=512, hop_length=128)
    magnitude = magnitude_of(speech[:, :5003].float(), config)
    try:
        invert = METHODS[name](config)
    except Unavailable as reason:  # until weights are packaged
        assert name.startswith("network") and "no packaged weights" in str(
            reason
        )
        return
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
    found = summarise(rows, names)
    entry = found["a"]["pesq_wb"]
    # Student's t of three degrees of freedom at 97.5 %: 3.1824.
    half = 3.1824 * np.std(values, ddof=1) / 2
    assert entry["mean"] == 5 and entry["median"] == 4.5
    assert entry["ci95"] == pytest.approx(half, rel=1e-4)
    assert found["a"]["real_time_factor"]["mean"] == 4.5  # the median
    assert found["b"]["pesq_wb"]["mean"] is None
    lines = summary_table(found, names).splitlines()
    assert lines[0].split() == ["method", "PESQ-WB", "RTF"]
    assert lines[2].split() == ["a", "5.00", "±3.44", "(4.50)", "4.5000"]
    assert lines[3].split() == ["b", "-", "1.0000"]


def test_a_method_that_is_unavailable_is_skipped_with_its_reason():
    def broken(config):
        raise Unavailable("not today")

    reasons = {}
    methods = {"broken": broken, "ours": METHODS["gradient-0"]}
    (outcome,) = compare(
        [EXAMPLE],
        methods,
        lambda rate: StftConfig(rate, n_fft=512, hop_length=128),
        ["spectral_convergence"],
        reasons.__setitem__,
    )
    assert reasons == {"broken": "not today"}
    assert [row["method"] for row in outcome.rows] == ["ours"]
    assert outcome.rows[0]["spectral_convergence"] < -10


def test_long_recordings_are_judged_in_parts(example):
    """So many utterances at once would crash the process."""
    waveform, rate = example
    speech = np.concatenate([waveform[:rate], np.zeros(rate // 2)])
    many = np.tile(speech, 60)
    other = noisy(many, 30)
    found = metrics.pesq_wb(many, other, rate)
    part = slice(0, 18 * rate)
    alone = metrics.pesq_wb(many[part], other[part], rate)
    assert found == pytest.approx(alone, abs=0.1)
