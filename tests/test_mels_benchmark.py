"""The benchmark of mel conventions measures what it says."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import synthetic_speech

pytest.importorskip("torchaudio")


@pytest.fixture
def mels(monkeypatch):
    """The module benchmarks/mels.py."""
    folder = Path(__file__).parent.parent / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield import_module("mels")
    sys.modules.pop("mels", None)


def test_prints_a_row_for_each_convention(mels, tmp_path, capsys):
    speech = synthetic_speech(0.8, 16000)[0].numpy()
    soundfile.write(tmp_path / "a.wav", speech, 16000)
    names = ["hifigan-22050"]
    line = [str(tmp_path), "--iterations", "2", "--mels", *names]
    assert mels.main(line) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0] for row in rows[4:]] == [
        f"| {name}" for name in (*names, "mean")
    ]
    peer, updates, ours = (
        [float(x) for x in cell.split()] for cell in rows[4].split(" | ")[1:4]
    )
    assert min(ours[1], updates[1]) > peer[1]  # ESTOI


@pytest.mark.parametrize("name", ["hifigan-22050", "librosa-22050"])
def test_both_methods_begin_at_the_first_frames_centre(mels, name):
    config = mels.mel_preset(name)
    waveform = synthetic_speech(1.0, 22050)[:, :20480].float()
    mel = mels.mels_of(waveform, config)
    samples = config.stft.hop_length * (mel.shape[2] - 1)
    first, half = mels.first_centre(config), config.stft.hop_length // 2

    def magnitude(waveform):
        return mels.analysis(waveform, config.stft).abs()[:, 4:-4, :200]

    for method in (mels.peer_of(config, 16), mels.ours_of(config)):
        with torch.no_grad():
            made = method(mel)
        assert made.shape[1] == samples
        late, right = (
            (magnitude(made) - magnitude(target[:, :samples])).norm()
            for target in (
                waveform.roll(-half, 1)[:, first:],
                waveform[:, first:],
            )
        )
        assert right < late  # half a hop fits less
