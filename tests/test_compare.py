"""The comparison: its figures, its files, and the page."""

import base64
import csv
import io
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import synthetic_speech

import speechbrain_phaseinv
from speechbrain_phaseinv.audio import read_audio, resample, write_audio
from speechbrain_phaseinv.estimation import Estimates, Schedule
from speechbrain_phaseinv.estimation.derivatives import phase_derivatives
from speechbrain_phaseinv.evaluation import compare
from speechbrain_phaseinv.evaluation.derivatives import DerivativeErrors
from speechbrain_phaseinv.evaluation.methods import (
    METHODS,
    Unavailable,
    one_thread,
)
from speechbrain_phaseinv.evaluation.page import write_page
from speechbrain_phaseinv.evaluation.peers import PEERS
from speechbrain_phaseinv.evaluation.pictures import plot_comparison
from speechbrain_phaseinv.evaluation.scores import score
from speechbrain_phaseinv.stft import StftConfig, analysis

CONFIG = StftConfig(16000, n_fft=512, hop_length=128)
EXAMPLE = Path(speechbrain_phaseinv.__file__).parent / "data/example.flac"
FAST = ["gradient-0", "gradient-1", "griffin-lim-32", "zero-phase"]
FAST += ["true-derivatives"]


@pytest.fixture
def folder(tmp_path):
    """Two recordings of different rates, one in a folder of its own."""
    speech = tmp_path / "speech"
    (speech / "more").mkdir(parents=True)
    for name, rate in (("a.wav", 16000), ("more/b.flac", 22050)):
        samples = synthetic_speech(0.8, rate)[0].numpy()
        soundfile.write(str(speech / name), samples, rate)
    return speech


def run(folder, methods, examples=0, **options):
    """What ``phaseinv compare`` does: the results, and the output folder."""
    out = folder.parent / "out"
    out.mkdir()
    results, examples = compare.run(
        compare.recordings([folder]),
        compare.choose(methods, **options),
        lambda rate: StftConfig(rate, n_fft=512, hop_length=128),
        examples=examples,
    )
    compare.write(results, out)
    write_page(results, examples, out / "report.html")
    return results, out


class Page(HTMLParser):
    """What the page consists of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_everything_is_written(folder):
    results, out = run(folder, FAST)
    assert results["settings"]["recordings"] == 2
    # Two recordings, two rates: all have the rate of the first.
    assert results["settings"]["sample_rate"] == 16000
    summary, about = results["summary"], results["methods"]
    assert list(summary) == list(about) == FAST
    written = json.loads((out / "results.json").read_text())
    assert written["summary"] == summary
    with open(out / "results.csv") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        wanted = summary[row["method"]]["spectral_convergence"]
        assert float(row["spectral_convergence"]) == wanted["mean"]
        assert float(row["spectral_convergence_ci95"]) == wanted["ci95"]
    assert about["gradient-0"]["latency_ms"] == 24
    assert about["gradient-1"]["latency_samples"] == 512
    assert about["griffin-lim-32"]["latency_ms"] is None
    text = compare.text(results)
    assert "gradient-0" in text and "SC [dB]" in text


def test_the_page_stands_alone_and_is_well_formed(folder):
    _, out = run(folder, FAST, examples=1)
    text = (out / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert name not in ("href", "srcset", "style")
        if name == "src":
            assert value.startswith("data:"), (tag, value[:50])
    assert "@import" not in text and "url(" not in text
    # A player for the original and each method, a description a picture.
    assert page.tags.count("audio") == 1 + len(FAST)
    labels = [x for tag, x, _ in page.attributes if (tag, x) == ("img", "alt")]
    assert len(labels) == page.tags.count("img") >= 6 + 1 + len(FAST)


def test_names_with_markup_are_shown_as_text(folder):
    soundfile.write(
        str(folder / "<b>&x.wav"), synthetic_speech(0.3)[0].numpy(), 16000
    )
    _, out = run(folder, ["gradient-0"], examples=1)
    text = (out / "report.html").read_text()
    assert "&lt;b&gt;&amp;x" in text and "<b>" not in text


def test_the_players_play_what_the_method_made(folder):
    _, out = run(folder, ["true-derivatives"], examples=1)
    text = (out / "report.html").read_text()
    sounds = re.findall(r"data:audio/flac;base64,([^\"]+)", text)
    original, made = (
        soundfile.read(io.BytesIO(base64.b64decode(x)))[0] for x in sounds
    )
    true, _, _ = read_audio(folder / "a.wav")
    assert np.abs(original - true[0]).max() < 2**-15
    # The true derivatives give the recording back, but for 16 bits.
    assert min(np.abs(made - s * original).max() for s in (1, -1)) < 1e-3


def test_recordings_that_cannot_be_read_are_named_and_left_out(folder):
    (folder / "c.wav").write_bytes(b"no audio at all")
    soundfile.write(str(folder / "short.wav"), np.zeros(100) + 0.1, 16000)
    loud = np.full(3000, 3e36, np.float32)
    soundfile.write(str(folder / "loud.wav"), loud, 16000, subtype="FLOAT")
    results, _ = run(folder, ["gradient-0", "griffin-lim-32"])
    assert results["settings"]["recordings"] == 3
    summary = results["summary"]
    assert summary["gradient-0"]["spectral_convergence"]["files"] == 3
    text = compare.text(results)
    assert "skipped c.wav: " in text
    assert "skipped loud.wav: magnitudes must be finite" in text
    # It pads by reflection, and goes on with the others.
    assert "skipped griffin-lim-32: short.wav: " in text
    assert summary["griffin-lim-32"]["spectral_convergence"]["files"] == 2


def test_methods_that_cannot_be_built_are_named_and_left_out(folder):
    def broken(config):
        raise Unavailable("not today")

    methods = {"broken": broken, "ours": METHODS["gradient-0"]}
    files = [folder / "a.wav"]
    results, _ = compare.run(files, methods, lambda rate: CONFIG)
    assert results["skipped"] == [("broken", "not today")]
    assert list(results["summary"]) == ["ours"]
    del methods["ours"]
    with pytest.raises(ValueError, match="nothing .* broken: not today"):
        compare.run(files, methods, lambda rate: CONFIG)


def test_without_pesq_and_pystoi_the_columns_are_missing(folder, monkeypatch):
    for name in ("pesq", "pystoi"):
        monkeypatch.setitem(sys.modules, name, None)
    results, out = run(folder, ["gradient-0", "gradient-1"])
    text = compare.text(results)
    assert "PESQ-WB" not in text and "SC [dB]" in text
    for wanted in ("speechbrain_phaseinv[pesq]", "pystoi is not installed"):
        assert wanted in text and wanted in (out / "report.html").read_text()
    page = (out / "report.html").read_text()
    assert "SC [dB] (less is better) over real-time factor" in page


def test_renderings_of_other_systems_are_one_more_method(folder):
    """An original with noise 20 dB below it, in another rate and format."""
    other = folder.parent / "theirs"
    other.mkdir()
    audio, _, _ = read_audio(folder / "a.wav")
    noise = np.random.default_rng(0).standard_normal(audio.shape)
    noise *= 0.1 * np.linalg.norm(audio) / np.linalg.norm(noise)
    made = (audio + noise)[:, :-50].astype(np.float32)  # a little shorter
    # The folder's name may stand before the recording's.
    made = resample(made, 16000, 22050)
    write_audio(other / "theirs_a.flac", made, 22050)
    results, out = run(folder, ["gradient-0"], 1, renderings={"T": other})
    entry = results["summary"]["T"]
    assert -24 < entry["spectral_convergence"]["mean"] < -15
    assert entry["real_time_factor"]["mean"] is None
    assert entry["spectral_convergence"]["files"] == 1
    assert "skipped T: b.flac: " in compare.text(results)
    page = (out / "report.html").read_text()
    assert page.count("<audio") == 3 and ">T (" in page


def test_renderings_that_do_not_fit_are_named(folder, tmp_path):
    other = tmp_path / "theirs"
    other.mkdir()
    with pytest.raises(ValueError, match="expected a folder of recordings"):
        compare.choose(["gradient-0"], renderings={"T": other})
    write_audio(other / "a.wav", np.zeros((1, 3000), np.float32), 16000)
    stereo = np.zeros((2, int(0.8 * 16000)), np.float32)
    write_audio(other / "b.wav", stereo, 16000)
    results, _ = run(folder, ["gradient-0"], renderings={"T": other})
    reasons = dict(results["skipped"])
    assert "lasts 3000 samples" in reasons["T: a.wav"]
    assert "2 channels, 1 in the original" in reasons["T: b.flac"]
    with pytest.raises(ValueError, match="gradient-0 is another method"):
        compare.choose(["gradient-0"], renderings={"gradient-0": other})


def test_wrong_names_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown methods magic: expected"):
        compare.choose(["magic"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        compare.choose(["gradient-0"], weights=["nowhere"])
    (tmp_path / "notes.txt").write_text("nothing to hear")
    with pytest.raises(ValueError, match=r"no recordings \(\.aif"):
        compare.recordings([tmp_path])
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        compare.recordings([tmp_path / "none"])
    # A file is taken whatever its name.
    assert compare.recordings([__file__]) == [Path(__file__)]


def test_weights_of_ones_own_are_compared(folder):
    from speechbrain_phaseinv.pretrained import FOLDER

    weights = str(FOLDER / "hann-512-128")
    results, _ = run(folder, ["network-1"], weights=[weights])
    one, other = (
        x["spectral_convergence"]["mean"] for x in results["summary"].values()
    )
    assert one == other and list(results["summary"])[1] == weights


def test_peers_that_are_missing_say_so(monkeypatch):
    for name in ("lws", "pghipy", "torch_specinv"):
        monkeypatch.setitem(sys.modules, name, None)
    packages = {
        "lws-online": "lws",
        "lws-100": "lws",
        "pghipy": "pghipy",
        "rtisi-la": "torch-specinv",
    }
    for name, package in packages.items():
        with pytest.raises(Unavailable, match=package):
            PEERS[name](CONFIG)


def test_rtisi_la_inverts_and_says_where_it_cannot(speech):
    specinv = pytest.importorskip(
        "torch_specinv", reason="a peer: pip install torch-specinv"
    )
    waveform = speech[:, :8000].float().clone()
    waveform[:, 3000:4500] = 0  # it has to come back
    invert = PEERS["rtisi-la"](CONFIG)
    assert invert.latency == CONFIG.n_fft - CONFIG.hop_length + 3 * 128
    with one_thread():
        made = invert(analysis(waveform, CONFIG).abs(), 8000)
    scores = score(waveform, made, CONFIG, ["spectral_convergence"])
    assert scores["spectral_convergence"] < -15
    assert specinv.methods.torch is torch  # what is installed is untouched
    with pytest.raises(Unavailable, match="constant sum"):
        PEERS["rtisi-la"](StftConfig(16000, 512, hop_length=256))


def test_zero_and_random_phase_keep_no_phase_and_the_truth_all_of_it(speech):
    waveform = speech.float()
    stft = analysis(waveform, CONFIG)
    samples = waveform.shape[1]
    convergence = {}
    for name in ("zero-phase", "random-phase", "true-derivatives"):
        invert = PEERS[name](CONFIG)
        spectrum = stft if name == "true-derivatives" else stft.abs()
        made = invert(spectrum, samples)
        assert torch.equal(made, invert(spectrum, samples))
        scores = score(waveform, made, CONFIG, ["spectral_convergence"])
        convergence[name] = scores["spectral_convergence"]
    assert convergence["true-derivatives"] < -80
    assert -12 < convergence["zero-phase"] < 0
    assert -12 < convergence["random-phase"] < 0


class Wrong:
    """An estimator that is off by constant angles, but not in every estimate.

    A pass emits one frame, and has estimates of its neighbours too.
    """

    schedule = Schedule(stride=1, lookahead=1, offsets=(-1, 0, 1))

    def __init__(self, stft, time, frequency):
        true = phase_derivatives(stft, CONFIG)
        self.answer = Estimates(
            *(
                torch.stack([0 * x, x + error + 4 * math.pi, 0 * x], 2)[:, :-1]
                for x, error in zip(true, (time, frequency))
            ),
            None,
            None,
        )

    def __call__(self, log_magnitude, state=None):
        return self.answer, None


def test_derivative_errors_are_angles_without_whole_turns(speech):
    stft = analysis(speech, CONFIG)
    bins = torch.linspace(0, 0.4, CONFIG.num_bins)
    errors = DerivativeErrors(CONFIG)
    for _ in range(2):  # a mean does not grow with the number of recordings
        errors.add("one", Wrong(stft, bins, -0.3), stft)
    curves = errors.curves()["one"]
    for axis in ("frequency", "level"):
        assert curves["frequency"][axis]["radians"] == pytest.approx(
            [0.3] * len(curves["frequency"][axis]["x"]), abs=1e-4
        )
    # Off by 0.4 radians at 8 kHz and in proportion below.
    ramp = curves["time"]["frequency"]
    assert ramp["radians"] == pytest.approx(
        [0.4 * x / 8 for x in ramp["x"]], abs=0.01
    )


def test_silence_has_no_derivatives():
    errors = DerivativeErrors(CONFIG)
    stft = analysis(torch.zeros(1, 4000), CONFIG)
    errors.add("one", Wrong(stft, 0.1, 0.1), stft)
    assert errors.curves() == {}


def test_one_frame_has_no_derivative_over_time(tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(str(tmp_path / "in/a.wav"), np.zeros(100) + 0.1, 16000)
    _, out = run(tmp_path / "in", ["gradient-0"])
    text = (out / "report.html").read_text()
    assert "Derivative over frequency" in text
    assert "Derivative over time" not in text


def test_a_picture_of_three_spectrograms_is_written(tmp_path, speech):
    magnitude = analysis(speech, CONFIG).abs()[0]
    for name in ("a.png", "a.pdf", "a.svg"):
        plot_comparison(tmp_path / name, magnitude, 0 * magnitude, CONFIG)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(ValueError, match="ends in .png"):
        plot_comparison(tmp_path / "a.bmp", magnitude, magnitude, CONFIG)
