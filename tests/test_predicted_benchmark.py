"""The benchmark of predicted mel spectrograms measures what it says."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import synthetic_speech

pytest.importorskip("torchaudio")


@pytest.fixture
def predicted(monkeypatch):
    """The module benchmarks/predicted.py, without the scores' packages."""
    folder = Path(__file__).parent.parent / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    for name in ("speechmos", "distillmos"):
        monkeypatch.setitem(sys.modules, name, None)
    yield import_module("predicted")
    for name in ("predicted", "mels"):
        sys.modules.pop(name, None)


def test_prints_a_row_for_each_method(predicted, tmp_path, capsys, monkeypatch):
    def level(waveform):
        return [np.sqrt(np.mean(waveform**2))]

    monkeypatch.setattr(predicted, "scorers", lambda: [lambda x: [7, 8], level])
    speech = synthetic_speech(0.5, 22050).float()
    mels = import_module("mels")
    mel = mels.mels_of(speech, mels.mel_preset("hifigan-22050"))
    np.save(tmp_path / "a.npy", mel[0])
    soundfile.write(tmp_path / "a.wav", speech[0].numpy(), 22050)
    line = [str(tmp_path), "--mel", "hifigan-22050", "--iterations", "2"]
    assert predicted.main([*line, "--rendered", f"other={tmp_path}"]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()[2:]
    assert header.endswith("largest step |")
    names, *columns = zip(*(x.strip("| ").split(" | ") for x in rows))
    peer = "InverseMelScale, Griffin-Lim 2"
    assert names == (peer, "updates", "ours", "other")
    assert set(columns[0]) == {"7.00"} and set(columns[1]) == {"8.00"}
    assert set(columns[2]) == {"0.05"}  # all have one level
    assert all(float(x) > 0 for x in columns[3])


def test_scores_without_their_packages_are_empty(predicted):
    waveform = synthetic_speech(0.3, 24000)[0].numpy()
    *scores, step = predicted.measure(waveform, 24000)
    assert len(scores) == 3 and np.isnan(scores).all()
    clicked = waveform.copy()
    clicked[3000] += 20 * waveform.std()
    assert predicted.measure(clicked, 24000)[-1] > 5 * step


def test_what_is_not_finite_is_refused(predicted):
    with pytest.raises(ValueError, match="NaN"):
        predicted.measure(np.array([0.1, np.nan]), 24000)


@pytest.mark.parametrize(
    "more, message",
    [
        ((), "holds no mel spectrograms"),
        (("--rendered", "other"), "expected NAME=FOLDER, got 'other'"),
    ],
)
def test_what_holds_nothing_is_refused(
    predicted, tmp_path, capsys, more, message
):
    with pytest.raises(SystemExit):
        predicted.main([str(tmp_path), "--mel", "hifigan-22050", *more])
    assert message in capsys.readouterr().err
