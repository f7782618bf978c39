"""``phaseinv stream``: any WAV or raw samples, in pipes, to any end."""

import io
import os
import select
import signal
import subprocess
import sys
import time
import wave

import numpy as np
import pytest
import soundfile
import torch
from conftest import KINDS, make_inverter, synthetic_speech

from speechbrain_phaseinv import SpectrogramInverter, StftConfig, analysis
from speechbrain_phaseinv.cli import main
from speechbrain_phaseinv.cli.live import LiveInversion
from speechbrain_phaseinv.cli.pcm import (
    Format,
    SampleReader,
    SampleWriter,
    decode,
    encode,
    wav_header,
)
from speechbrain_phaseinv.estimation import Estimates, Schedule
from speechbrain_phaseinv.estimation.derivatives import phase_derivatives

CONFIG = StftConfig(16000, 512, hop_length=128)
COMMAND = [sys.executable, "-m", "speechbrain_phaseinv.cli", "stream"]
GRADIENT = ["--estimator", "gradient"]


def offline(waveform, config=CONFIG, lookahead=1):
    """What the stream has to give: zeros precede and follow the sound."""
    magnitude = analysis(waveform, config, pad_mode="constant").abs()
    inverter = SpectrogramInverter(config, lookahead, "gradient")
    return inverter(magnitude, length=waveform.shape[1])


def play(live, waveform, sizes):
    pieces = [live.push(x) for x in waveform.split(sizes, dim=1)]
    return torch.cat([*pieces, live.finish()], dim=1)


# Samples and headers, against libsndfile and the standard library.


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_reads_what_libsndfile_writes(subtype, kind):
    x = np.random.default_rng(0).uniform(-1, 1, (999, 3))
    file = io.BytesIO()
    soundfile.write(file, x, 22050, subtype, format=kind)
    file.seek(0)
    expected, _ = soundfile.read(file, dtype="float32")
    file.seek(0)
    reader = SampleReader(file, "test")
    assert reader.format[:2] == (22050, 3)
    found = np.concatenate([reader.read(400) for _ in range(4)], axis=1)
    np.testing.assert_array_equal(found, expected.T)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_reads_floats(subtype):
    x = np.random.default_rng(0).normal(size=(100, 1)).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, x, 8000, subtype, format="WAV")
    file.seek(0)
    np.testing.assert_array_equal(SampleReader(file, "test").read(200), x.T)


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
@pytest.mark.parametrize("channels", [1, 2])
def test_libsndfile_reads_what_is_written(encoding, channels):
    x = np.random.default_rng(0).uniform(-1, 1, (channels, 500))
    file = io.BytesIO()
    writer = SampleWriter(file, Format(16000, channels, encoding))
    for piece in np.split(x, [0, 130, 131], axis=1):
        writer.write(piece)
    unfinished = file.getvalue()
    writer.close()
    for data in (unfinished, file.getvalue()):
        found, rate = soundfile.read(io.BytesIO(data), always_2d=True)
        assert rate == 16000
        np.testing.assert_allclose(found.T, x, atol=2**-15)
    if encoding == "s16le":
        with wave.open(io.BytesIO(file.getvalue())) as found:
            assert found.getnframes() == 500


def test_clipping_is_counted_and_does_not_wrap_around():
    data, clipped = encode(np.array([1.5, -1.5, 1.0, -1.0, 0.0]), "s16le")
    assert clipped == 2
    found = decode(data, "s16le")
    np.testing.assert_allclose(found, [1, -1, 1, -1, 0], atol=2**-15)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "expected a WAV header"),
        (b"fLaC" + bytes(100), "expected a WAV header"),
        (b"RIFF\0\0\0\0WAVE", "no samples"),
        (
            wav_header(Format(16000, 1, "s16le")).replace(b"fmt ", b"fmtx"),
            "no samples",
        ),
        (
            wav_header(Format(16000, 1, "s16le")).replace(
                b"\x01\0\x01\0", b"\x55\0\x01\0"
            ),
            "WAV format 85",
        ),
    ],
)
def test_what_is_no_wav_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        SampleReader(io.BytesIO(data), "test")


# The sound.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 128, 1000])
def test_as_many_samples_as_went_in_whatever_the_blocks(kind, size):
    x = synthetic_speech(0.2).float()[:, :2901].repeat(2, 1)
    live = LiveInversion(make_inverter(kind, CONFIG))
    whole = play(live, x, 2901)
    found = play(live, x, size)
    assert found.shape == x.shape
    assert (found - whole).abs().max() <= 1e-5 * whole.abs().max()


@pytest.mark.parametrize("lookahead", [0, 1])
def test_live_is_offline(lookahead):
    x = synthetic_speech(0.5).float()
    live = LiveInversion(SpectrogramInverter(CONFIG, lookahead, "gradient"))
    expected = offline(x, lookahead=lookahead)
    assert torch.equal(play(live, x, 128), expected)


def device(inverter, waveform):
    """Take a hop, play a hop: what is heard, and the delay that it takes.

    The device begins with so much silence that it never runs out of samples.
    """
    live, lag, most, queue = LiveInversion(inverter), 0, 0, []
    for block in waveform.split(inverter.config.hop_length, dim=1):
        queue.append(live.push(block))
        lag += block.shape[1] - queue[-1].shape[1]
        most = max(most, lag)
    return torch.cat([torch.zeros(1, most), *queue], dim=1), most


class Oracle(torch.nn.Module):
    """An estimator that knows the answer, but not before its look-ahead."""

    def __init__(self, waveform, lookahead):
        super().__init__()
        stft = analysis(waveform, CONFIG, pad_mode="constant")
        self.derivatives = phase_derivatives(stft, CONFIG)
        self.schedule = Schedule(1, lookahead, (0,))

    def forward(self, log_magnitude, state=None):
        seen = 0 if state is None else state.item()
        ahead = self.schedule.lookahead
        first = max(seen - ahead, 0)
        seen += log_magnitude.shape[1]
        last = max(seen - ahead, 0)
        found = [x[:, first:last] for x in self.derivatives]
        return Estimates.single(*found), torch.tensor(seen)


@pytest.mark.parametrize("lookahead", [0, 1])
def test_latency_is_what_an_impulse_shows(lookahead):
    """n_fft - hop and the look-ahead: 24 and 32 ms at 16 kHz."""
    x = 1e-3 * torch.randn(1, 128 * 60)
    place = 128 * 30 + 17
    x[0, place] = 1.0
    for estimator in (Oracle(x, lookahead), "gradient"):
        inverter = SpectrogramInverter(CONFIG, lookahead, estimator)
        heard, delay = device(inverter, x)
        peak = heard.abs().argmax().item() - place
        assert delay == inverter.latency == 512 - 128 + 128 * lookahead
        # The gradient theorem is not exact.
        assert abs(peak - delay) <= (64 if estimator == "gradient" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_the_latency_has_to_be_waited(kind):
    inverter = make_inverter(kind, CONFIG)
    x = synthetic_speech(0.5).float()[:, : 128 * 60]
    _, delay = device(inverter, x)
    assert delay == inverter.latency


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_later_than_the_latency_has_an_influence(kind):
    """And what is as late as that has: the latency is not overstated."""
    inverter = make_inverter(kind, CONFIG)
    x = synthetic_speech(0.5).float()
    changed = x.clone()
    place = 128 * 30
    changed[:, place:] = 0.3 * torch.randn(
        changed[:, place:].shape, generator=torch.Generator().manual_seed(1)
    )
    live = LiveInversion(inverter)
    one, two = play(live, x, 128), play(live, changed, 128)
    first = (one != two)[0].nonzero()[0].item()
    # A block of a hop is complete with its last sample.
    assert first >= place - inverter.latency
    if kind != "paired":
        assert first < place - inverter.latency + 128


# The command.


def test_file_to_file(tmp_path, capsys):
    x = synthetic_speech(0.5).float().repeat(2, 1)
    x[1] *= 0.5
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, x.T.numpy(), 16000, "FLOAT")
    line = ["stream", str(source), str(target), *GRADIENT]
    assert main(line) == 0
    error = capsys.readouterr().err
    assert "latency 512 samples, 32.0 ms" in error
    assert "real-time factor" in error and "worst" in error
    found, rate = soundfile.read(target, dtype="float32")
    assert rate == 16000
    np.testing.assert_array_equal(found.T, offline(x).numpy())
    assert main(line) == 2  # the file exists
    assert "--overwrite" in capsys.readouterr().err
    assert main([*line, "--overwrite", "--quiet", "--dtype", "s16le"]) == 0
    assert capsys.readouterr().err == ""
    assert soundfile.info(target).subtype == "PCM_16"
    assert main(["stream", str(source), str(source), "--overwrite"]) == 2
    assert "its own input" in capsys.readouterr().err


def test_invalid_samples_are_muted_and_reported(tmp_path, capsys):
    x = synthetic_speech(0.5).float()
    broken, muted = x.clone(), x.clone()
    nan, inf = torch.nan, torch.inf
    broken[0, 3000:3004] = torch.tensor([nan, inf, -inf, 3e38])
    muted[0, 3000:3004] = 0
    source, target = tmp_path / "in.raw", tmp_path / "out.wav"
    source.write_bytes(broken.numpy().tobytes())
    raw = ["--raw", "--sample-rate", "16000", "--dtype", "f32le"]
    assert main(["stream", str(source), str(target), *raw, *GRADIENT]) == 0
    error = capsys.readouterr().err
    assert "4 samples were NaN, infinite or beyond 1e+30" in error
    found, _ = soundfile.read(target, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(found.T, offline(muted).numpy())


@pytest.mark.parametrize(
    "options, message",
    [
        (["--raw"], "--raw needs --sample-rate"),
        (["--channels", "2"], "are for --raw"),
        (["--raw", "--sample-rate", "-1"], "must be positive"),
        (["--window", "nuttall"], "unknown window"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, options, message):
    source = tmp_path / "in.wav"
    soundfile.write(source, np.zeros(100), 16000)
    target = tmp_path / "out.wav"
    assert main(["stream", str(source), str(target), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not target.exists()


def test_a_name_promises_what_is_written(tmp_path, capsys):
    source, target = tmp_path / "in.wav", tmp_path / "out.flac"
    soundfile.write(source, np.zeros(100), 16000)
    assert main(["stream", str(source), str(target)]) == 2
    assert "written as .wav" in capsys.readouterr().err
    assert not target.exists()


# Pipes. Each of these starts a process, so there are few.


def start(*options, **kwargs):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(
        [*COMMAND, *options, *GRADIENT],
        stderr=subprocess.PIPE,
        bufsize=0,
        **{**pipes, **kwargs},
    )


def read_exactly(pipe, size, seconds=60):
    """So many bytes of a pipe, within that time, or fewer."""
    data, end = b"", time.monotonic() + seconds
    while len(data) < size and time.monotonic() < end:
        if select.select([pipe], [], [], 0.1)[0]:
            more = os.read(pipe.fileno(), size - len(data))
            if not more:
                break
            data += more
    return data


def test_a_pipe_gets_its_samples_in_time():
    """All samples but the latency come before the input goes on."""
    x = synthetic_speech(0.5).float()
    data, _ = encode(x[0].numpy(), "s16le")
    heard = decode(data, "s16le")
    process = start("-", "-")
    process.stdin.write(wav_header(Format(16000, 1, "s16le")))
    process.stdin.write(data[: 2 * 128 * 40])
    ready = 128 * 40 - 512
    head = read_exactly(process.stdout, 44 + 2 * ready)
    assert len(head) == 44 + 2 * ready
    assert not select.select([process.stdout], [], [], 0.2)[0]
    rest, error = process.communicate(data[2 * 128 * 40 :], timeout=60)
    assert process.returncode == 0, error
    found, rate = soundfile.read(io.BytesIO(head + rest), dtype="float32")
    assert rate == 16000 and len(found) == x.shape[1]
    expected = offline(torch.from_numpy(heard)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2**-15)


def test_a_closed_pipe_is_no_error():
    x = np.zeros(2 * 16000 * 30, np.uint8).tobytes()
    raw = ["--raw", "--sample-rate", "16000"]
    read, write = os.pipe()
    process = start("-", "-", *raw, stdout=write)
    os.close(write)
    process.stdin.write(x[:40000])
    assert len(read_exactly(os.fdopen(read, "rb", 0), 1000)) == 1000
    # Collecting the file object has closed the reading end.
    try:
        _, error = process.communicate(x, timeout=60)
    except BrokenPipeError:
        error = process.stderr.read()
    assert process.wait(60) == 0, error
    assert b"Traceback" not in error and b"nobody reads" in error


@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_an_interrupted_file_is_complete_up_to_there(tmp_path, number, status):
    target = tmp_path / "out.wav"
    x = synthetic_speech(0.5).float()
    data, _ = encode(x[0].numpy(), "s16le")
    process = start("-", str(target))
    process.stdin.write(wav_header(Format(16000, 1, "s16le")) + data)
    end = time.monotonic() + 60
    while time.monotonic() < end:  # until all of it has been taken
        sizes = [x.stat().st_size for x in tmp_path.iterdir()]
        if sum(sizes) >= 44 + 2 * (8000 // 128 * 128 - 512):
            break
        time.sleep(0.05)
    assert not target.exists()  # not before it is whole
    process.send_signal(number)
    error = process.stderr.read()
    assert process.wait(60) == status, error
    process.stdin.close()
    process.stdout.close()
    assert b"Traceback" not in error and b"interrupted" in error
    # The last 64 samples made no hop yet.
    with wave.open(str(target)) as found:
        assert found.getnframes() == 8000 // 128 * 128
        data = found.readframes(8000)
    assert target.stat().st_size == 44 + len(data)
    heard = torch.from_numpy(decode(encode(x[0].numpy(), "s16le")[0], "s16le"))
    expected = offline(heard[None, : 8000 // 128 * 128])[0].numpy()
    np.testing.assert_allclose(decode(data, "s16le"), expected, atol=2**-15)


# Headers and ends that are not what they should be.


@pytest.mark.parametrize(
    "channels, subtype", [(1, 16), (2, 16), (2, 24), (3, 16), (6, 24), (5, 32)]
)
def test_sizes_that_sox_does_not_know_mean_until_the_end(channels, subtype):
    block = channels * subtype // 8
    size = 0x7FFFF000 // block * block  # as SoX rounds it down
    file = io.BytesIO()
    x = np.zeros((10, channels))
    soundfile.write(file, x, 48000, f"PCM_{subtype}", format="WAV")
    data = bytearray(file.getvalue())
    place = data.index(b"data")
    data[place + 4 : place + 8] = size.to_bytes(4, "little")

    reader = SampleReader(io.BytesIO(data), "sox")
    assert reader.missing == 0
    assert reader.read(20).shape == (channels, 10)


def test_a_size_a_little_smaller_is_a_size():
    header = bytearray(wav_header(Format(8000, 2, "s16le")))
    header[40:44] = (0x7FFFEFFC - 4).to_bytes(4, "little")
    reader = SampleReader(io.BytesIO(header), "test")
    assert reader.missing == 0x7FFFEFFC - 4


@pytest.mark.parametrize("place, number", [(22, 60000), (24, 4294967295)])
def test_absurd_headers_are_refused(place, number):
    size = 2 if place == 22 else 4
    header = bytearray(wav_header(Format(8000, 1, "s16le")))
    header[place : place + size] = number.to_bytes(size, "little")
    with pytest.raises(ValueError, match="at most 10000000 Hz and 1024, got"):
        SampleReader(io.BytesIO(header), "test")


def test_a_truncated_input_is_a_warning(tmp_path, capsys):
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, np.zeros(2000), 16000)
    source.write_bytes(source.read_bytes()[:-1000])
    line = ["stream", str(source), str(target), *GRADIENT, "--quiet"]
    assert main(line) == 0
    error = capsys.readouterr().err
    assert "in.wav: the input is truncated" in error and "1000 bytes" in error
    assert error.count("\n") == 1
    assert soundfile.info(target).frames == 1500


@pytest.mark.parametrize(
    "end, message",
    [
        ("stdin", "standard input, which is closed"),
        ("stdout", "standard output is closed"),
    ],
)
def test_a_closed_end_is_one_line(tmp_path, monkeypatch, capsys, end, message):
    source = tmp_path / "in.wav"
    soundfile.write(source, np.zeros(2000), 16000)
    monkeypatch.setattr(sys, end, None)  # as the interpreter leaves it
    path = "-" if end == "stdin" else str(source)
    assert main(["stream", path, "-", *GRADIENT]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_killed_stream_leaves_nothing_under_the_name(tmp_path):
    target = tmp_path / "out.wav"
    target.write_bytes(b"precious")
    process = start("-", str(target), "--overwrite")
    process.stdin.write(wav_header(Format(16000, 1, "s16le")) + bytes(32000))
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sizes = [x.stat().st_size for x in tmp_path.iterdir()]
        if sum(sizes) > 10000:
            break
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert target.read_bytes() == b"precious"


def test_a_device_is_written_to(tmp_path):
    source = tmp_path / "in.wav"
    soundfile.write(source, np.zeros(2000), 16000)
    assert main(["stream", str(source), os.devnull, "--quiet", *GRADIENT]) == 0
    assert not os.path.isfile(os.devnull)
    nowhere = str(tmp_path / "no" / "out.wav")
    assert main(["stream", str(source), nowhere]) == 2
