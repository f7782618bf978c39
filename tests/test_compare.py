"""The comparison: its figures, its files, and the page."""

import csv
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

from speechbrain_phaseinv.audio import read_audio
from speechbrain_phaseinv.cli.main import EXAMPLE, main
from speechbrain_phaseinv.estimation.derivatives import (
    PhaseDerivatives,
    phase_derivatives,
)
from speechbrain_phaseinv.evaluation import charts, compare
from speechbrain_phaseinv.evaluation.derivative_errors import DerivativeErrors
from speechbrain_phaseinv.evaluation.evaluate import score
from speechbrain_phaseinv.evaluation.methods import Unavailable
from speechbrain_phaseinv.evaluation.peers import PEERS
from speechbrain_phaseinv.stft import StftConfig, analysis

CONFIG = StftConfig(16000, n_fft=512, hop_length=128)
FAST = "gradient-0,gradient-1,griffin-lim-32,zero-phase,true-derivatives"


@pytest.fixture(autouse=True)
def quick_solvers(monkeypatch):
    """The solvers are timed on small systems here."""
    timed = compare.time_solvers
    monkeypatch.setattr(
        compare, "time_solvers", lambda: timed((9, 17), 1, 1e-4)
    )


@pytest.fixture
def folder(tmp_path):
    """Two recordings of different rates, one in a folder of its own."""
    speech = tmp_path / "speech"
    (speech / "more").mkdir(parents=True)
    for name, rate in (("a.wav", 16000), ("more/b.flac", 22050)):
        samples = synthetic_speech(0.8, rate)[0].numpy()
        soundfile.write(str(speech / name), samples, rate)
    return speech


def run(folder, *options):
    out = folder.parent / "out"
    arguments = ["compare", str(folder), "--out", str(out), *options]
    return main(arguments), out


class Page(HTMLParser):
    """What the page is made of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in ("meta", "path", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag


def test_everything_is_written(folder, capsys):
    status, out = run(folder, "--methods", FAST, "--examples", "1")
    assert status == 0
    results = json.loads((out / "results.json").read_text())
    names = FAST.split(",")
    assert list(results["summary"]) == names
    assert results["settings"]["recordings"] == 2
    # Both at the rate that came first: two recordings, two rates.
    assert results["settings"]["sample_rate"] == 16000
    with open(out / "results.csv") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        wanted = results["summary"][row["method"]]["spectral_convergence"]
        assert float(row["spectral_convergence"]) == wanted["mean"]
        assert float(row["spectral_convergence_ci95"]) == wanted["ci95"]
    about = results["methods"]
    assert about["gradient-0"]["latency_ms"] == 24
    assert about["gradient-1"]["latency_samples"] == 512
    assert about["griffin-lim-32"]["latency_ms"] is None
    # A second of each, give or take: the exponent is a number at least.
    assert all(map(math.isfinite, results["solver"]["exponent"].values()))
    assert "gradient-0" in capsys.readouterr().out


def test_the_page_stands_alone_and_is_well_formed(folder):
    status, out = run(folder, "--methods", FAST, "--examples", "1")
    assert status == 0
    text = (out / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags and "link" not in page.tags
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href"):
            assert re.match(r"data:|#", value), (tag, name, value[:50])
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    # Every identifier once, and every reference leads somewhere.
    found = [value for _, name, value in page.attributes if name == "id"]
    assert len(found) == len(set(found))
    wanted = re.findall(r"url\(#([^)]+)\)", text)
    wanted += re.findall(r'xlink:href="#([^"]+)"', text)
    assert set(wanted) <= set(found)
    # A player for the original and each method, a description a picture.
    assert page.tags.count("audio") == 1 + len(FAST.split(","))
    labels = [x for tag, x, _ in page.attributes if (tag, x) == ("svg", "role")]
    assert len(labels) == page.tags.count("svg")
    assert charts.INK not in text


def test_the_players_play_what_the_method_made(folder):
    import base64
    import io

    status, out = run(folder, "--methods", "true-derivatives")
    assert status == 0
    text = (out / "report.html").read_text()
    sounds = re.findall(r"data:audio/flac;base64,([^\"]+)", text)
    original, made = (
        soundfile.read(io.BytesIO(base64.b64decode(x)))[0] for x in sounds[:2]
    )
    true, _, _ = read_audio(folder / "a.wav")
    assert np.abs(original - true[0]).max() < 2**-15
    # The true derivatives give the recording back, but for 16 bits.
    assert min(np.abs(made - s * original).max() for s in (1, -1)) < 1e-3


def test_recordings_that_cannot_be_read_are_named_and_left_out(folder, capsys):
    (folder / "c.wav").write_bytes(b"no audio at all")
    soundfile.write(str(folder / "short.wav"), np.zeros(100) + 0.1, 16000)
    loud = np.full(3000, 3e36, np.float32)
    soundfile.write(str(folder / "loud.wav"), loud, 16000, subtype="FLOAT")
    status, out = run(folder, "--methods", "gradient-0,griffin-lim-32")
    assert status == 0
    results = json.loads((out / "results.json").read_text())
    assert results["settings"]["recordings"] == 3
    assert (
        results["summary"]["gradient-0"]["spectral_convergence"]["files"] == 3
    )
    output = capsys.readouterr().out
    assert "skipped c.wav: " in output
    assert "skipped loud.wav: magnitudes must be finite" in output
    # It pads by reflection, and goes on with the others.
    assert "skipped griffin-lim-32: short.wav: " in output
    griffin = results["summary"]["griffin-lim-32"]["spectral_convergence"]
    assert griffin["files"] == 2


def test_without_pesq_and_pystoi_the_columns_are_missing(
    folder, monkeypatch, capsys
):
    for name in ("pesq", "pystoi"):
        monkeypatch.setitem(sys.modules, name, None)
    status, out = run(folder, "--methods", "gradient-0,gradient-1")
    assert status == 0
    output = capsys.readouterr().out
    assert "PESQ-WB" not in output and "SC [dB]" in output
    assert "no scores of pesq and pystoi" in output
    text = (out / "report.html").read_text()
    assert "SC [dB] (less is better)" in text and "pystoi" in text


@pytest.mark.parametrize(
    "options, message",
    [
        (["--methods", "magic"], "unknown methods magic"),
        (["--limit", "0"], "--limit 0"),
        (["--weights", "nowhere"], "no pretrained weights 'nowhere'"),
        (["--examples", "-1"], "--examples -1"),
    ],
)
def test_wrong_options_are_one_line(folder, capsys, options, message):
    status, out = run(folder, *options)
    assert status == 2 and not out.exists()
    assert message in capsys.readouterr().err


def test_a_folder_without_recordings_is_an_error(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("nothing to hear")
    assert main(["compare", str(tmp_path)]) == 2
    assert "no recordings (.aif" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "none")]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_weights_of_ones_own_are_compared(folder):
    from speechbrain_phaseinv.pretrained import FOLDER

    weights = FOLDER / "hann-512-128"
    status, out = run(
        folder, "--methods", "network-1", "--weights", str(weights)
    )
    assert status == 0
    found = json.loads((out / "results.json").read_text())["summary"]
    one, other = (x["spectral_convergence"]["mean"] for x in found.values())
    assert one == other and list(found)[1] == str(weights)


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
    waveform = speech.float().clone()
    samples = waveform.shape[1]
    waveform[:, samples // 3 : samples // 2] = 0  # it has to come back
    invert = PEERS["rtisi-la"](CONFIG)
    assert invert.latency == CONFIG.n_fft - CONFIG.hop_length + 3 * 128
    made = invert(analysis(waveform, CONFIG).abs(), samples)
    scores = score(waveform, made, CONFIG, ["spectral_convergence"])
    assert scores["spectral_convergence"] < -15
    assert specinv.methods.torch is torch  # what is installed is untouched
    with pytest.raises(Unavailable, match="constant sum"):
        PEERS["rtisi-la"](StftConfig(16000, 512, hop_length=256))


def test_zero_and_random_phase_keep_no_phase_and_the_truth_all_of_it(speech):
    waveform = speech.float()
    stft = analysis(waveform, CONFIG)
    samples = waveform.shape[1]
    found = {}
    for name in ("zero-phase", "random-phase", "true-derivatives"):
        invert = PEERS[name](CONFIG)
        given = stft if name == "true-derivatives" else stft.abs()
        made = invert(given, samples)
        assert torch.equal(made, invert(given, samples))
        scores = score(waveform, made, CONFIG, ["spectral_convergence"])
        found[name] = scores["spectral_convergence"]
    assert found["true-derivatives"] < -80
    assert -12 < found["zero-phase"] < 0 and -12 < found["random-phase"] < 0


class Wrong:
    """An estimator that is off by known angles."""

    lookahead = 0

    def __init__(self, stft, time, frequency):
        true = phase_derivatives(stft, CONFIG)
        self.answer = PhaseDerivatives(
            true.time + time + 4 * math.pi, true.frequency + frequency
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


def test_silence_has_no_derivatives(speech):
    errors = DerivativeErrors(CONFIG)
    stft = analysis(torch.zeros(1, 4000), CONFIG)
    errors.add("one", Wrong(stft, 0.1, 0.1), stft)
    assert errors.curves() == {}


def test_labels_are_moved_apart_and_no_further():
    random = np.random.default_rng(0)
    for _ in range(20):
        places = np.sort(random.uniform(0, 100, 12))
        moved = np.array(charts.spread(list(places), 5.0))
        assert np.diff(moved).min() > 5 - 1e-9
        assert moved.mean() == pytest.approx(places.mean())
    assert charts.spread([1.0, 7.0, 20.0], 5.0) == [1.0, 7.0, 20.0]


def test_the_bundled_sentence_will_do():
    assert compare.recordings([EXAMPLE]) == [EXAMPLE]
    # What is named is taken, whatever its name.
    assert compare.recordings([__file__]) == [Path(__file__)]
    assert compare.usual_rate([EXAMPLE]) == 16000


def test_one_frame_has_no_derivative_over_time(tmp_path):
    soundfile.write(str(tmp_path / "a.wav"), np.zeros(100) + 0.1, 16000)
    status, out = run(tmp_path, "--methods", "gradient-0")
    assert status == 0
    text = (out / "report.html").read_text()
    assert "Derivative over frequency" in text
    assert "Derivative over time" not in text
