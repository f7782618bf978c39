"""Facts about files: what is read, what is refused, what is left behind."""

import os
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import soundfile

from speechbrain_phaseinv.audio import (
    AudioReader,
    AudioWriter,
    check_subtype,
    kept_subtype,
    read_audio,
    replacing,
    resample,
    write_audio,
)
from speechbrain_phaseinv.cli.arrays import as_magnitude, open_magnitude


def read_magnitude(path, n_fft=None, power=1.0):
    """Magnitudes of a whole file."""
    array, n_fft = open_magnitude(path, n_fft)
    return as_magnitude(path, array, power), n_fft


def tone(samples=800, channels=2):
    time = np.arange(samples) / 8000
    rows = [0.5 * np.sin(2 * np.pi * 400 * (k + 1) * time) for k in (0, 1)]
    return np.stack(rows[:channels]).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_written_is_read_back(tmp_path, suffix, rate, channels):
    path = tmp_path / f"x{suffix}"
    assert write_audio(path, tone(channels=channels), rate) == 0
    waveform, found, subtype = read_audio(path)
    assert (found, subtype) == (rate, "PCM_16")
    # Half a step of 16 bit, and the other half for good measure.
    assert np.abs(waveform - tone(channels=channels)).max() < 2**-15


def test_a_sample_format_is_kept_only_if_it_is_uncompressed_and_fits():
    assert kept_subtype("WAV", "PCM_24") == "PCM_24"
    assert kept_subtype("WAV", "FLOAT") == "FLOAT"
    assert kept_subtype("FLAC", "FLOAT") is None
    assert kept_subtype("WAV", "MPEG_LAYER_III") is None
    assert kept_subtype("WAV", "ULAW") is None


def test_an_unknown_sample_format_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="FLAC files cannot hold 'FLOAT'.*24"):
        check_subtype("FLAC", "FLOAT")


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path):
    loud = np.array([[0.0, 1.5, -2.0, 0.5]], dtype=np.float32)
    assert write_audio(tmp_path / "x.wav", loud, 8000) == 2
    assert np.abs(read_audio(tmp_path / "x.wav")[0]).max() <= 1
    assert write_audio(tmp_path / "y.wav", loud, 8000, "FLOAT") == 0
    assert (read_audio(tmp_path / "y.wav")[0] == loud).all()


def test_bad_recordings_are_refused_by_name(tmp_path):
    text = tmp_path / "text.wav"
    text.write_text("this is no recording")
    with pytest.raises(ValueError, match="text.wav: cannot be read as audio"):
        read_audio(text)
    nothing = tmp_path / "nothing.wav"
    nothing.touch()
    with pytest.raises(ValueError, match="nothing.wav: the file is empty"):
        read_audio(nothing)
    header = tmp_path / "header.wav"
    soundfile.write(header, np.zeros((0, 1)), 8000)
    with pytest.raises(ValueError, match="header.wav.*empty, 0 samples"):
        read_audio(header)
    broken = tmp_path / "nan.wav"
    soundfile.write(broken, np.array([0.0, np.nan]), 8000, "FLOAT")
    with pytest.raises(ValueError, match="nan.wav.*NaN"):
        read_audio(broken)
    with pytest.raises(FileNotFoundError, match="missing.wav: no such file"):
        read_audio(tmp_path / "missing.wav")
    with pytest.raises(ValueError, match="got a folder"):
        read_audio(tmp_path)


def test_output_names_are_checked(tmp_path):
    with pytest.raises(ValueError, match="ends in .wav, .flac, .ogg"):
        write_audio(tmp_path / "x.mp4", tone(), 8000)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        write_audio(tmp_path / "nowhere" / "x.wav", tone(), 8000)
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_audio(tmp_path / "folder.wav", tone(), 8000)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_no_file_and_keeps_the_old_one(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(error):
        with replacing(path) as temporary:
            with open(temporary, "w") as file:
                file.write("half")
            raise error
    assert [x.name for x in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "real.wav").touch()
    (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
    write_audio(tmp_path / "link.wav", tone(), 8000)
    assert (tmp_path / "link.wav").is_symlink()
    assert read_audio(tmp_path / "real.wav")[1] == 8000


def test_resampling_keeps_a_tone_and_the_axes():
    time = np.arange(8000) / 8000
    low = np.sin(2 * np.pi * 440 * time)[None].repeat(2, 0)
    high = resample(low, 8000, 16000)
    time = np.arange(16000) / 16000
    assert high.shape == (2, 16000)
    middle = slice(2000, -2000)
    wanted = np.sin(2 * np.pi * 440 * time)
    assert np.abs(high - wanted)[:, middle].max() < 1e-3
    assert resample(low, 8000, 8000) is low


@pytest.mark.parametrize("given", [None, 64])
def test_the_frequency_axis_is_found_in_either_order(tmp_path, given):
    magnitude = np.random.default_rng(0).random((33, 20))
    for array in (magnitude, magnitude.T, magnitude[None]):
        np.save(tmp_path / "x.npy", array)
        found, n_fft = read_magnitude(tmp_path / "x.npy", given)
        assert n_fft == 64
        assert found.dtype == np.float64
        assert (found == magnitude.T[None]).all()


def test_a_square_array_is_freq_by_time(tmp_path):
    magnitude = np.random.default_rng(0).random((33, 33))
    np.save(tmp_path / "x.npy", magnitude)
    assert (read_magnitude(tmp_path / "x.npy")[0][0] == magnitude.T).all()


def test_lengths_that_are_no_power_of_two_need_n_fft(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((201, 20)))
    with pytest.raises(ValueError, match="Give --n-fft"):
        read_magnitude(tmp_path / "x.npy")
    assert read_magnitude(tmp_path / "x.npy", 400)[0].shape == (1, 20, 201)


def test_powers_become_magnitudes(tmp_path):
    magnitude = np.random.default_rng(0).random((33, 20))
    np.save(tmp_path / "x.npy", magnitude**2)
    found, _ = read_magnitude(tmp_path / "x.npy", power=2.0)
    assert np.allclose(found[0].T, magnitude)
    with pytest.raises(ValueError, match="power must be positive"):
        read_magnitude(tmp_path / "x.npy", power=0)


@pytest.mark.parametrize("dtype", [int, np.uint8, np.float16, ">f4", bool])
def test_other_numbers_are_computed_in_single_precision(tmp_path, dtype):
    np.save(tmp_path / "x.npy", np.ones((33, 20), dtype))
    if dtype is bool:
        with pytest.raises(TypeError, match="expected numbers, got bool"):
            read_magnitude(tmp_path / "x.npy")
    else:
        found, _ = read_magnitude(tmp_path / "x.npy")
        assert found.dtype == np.float32 and (found == 1).all()


@pytest.mark.parametrize(
    "array, error, message",
    [
        (np.full((33, 20), np.nan), ValueError, "finite and not negative"),
        (np.full((33, 20), np.inf), ValueError, "finite and not negative"),
        (np.full((33, 20), -1.0), ValueError, "finite and not negative"),
        (np.ones((33, 20), complex), TypeError, "complex array"),
        (np.ones((80, 20)), ValueError, "looks like a mel spectrogram"),
        (np.ones((17, 33)), ValueError, "both axes"),
        (np.ones(33), ValueError, "got shape"),
        (np.ones((33, 0)), ValueError, "got shape"),
        (np.array([{"a": 1}]), ValueError, "cannot be read"),
        (np.array([["a"]]), TypeError, "expected numbers"),
    ],
)
def test_bad_arrays_are_refused_by_name(tmp_path, array, error, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(error, match=message) as caught:
        read_magnitude(tmp_path / "x.npy")
    assert "x.npy" in str(caught.value)


def test_other_files_are_no_arrays(tmp_path):
    (tmp_path / "x.npy").write_text("1 2 3")
    with pytest.raises(ValueError, match="cannot be read as a .npy array"):
        read_magnitude(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="archive of 1"):
        read_magnitude(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_magnitude(tmp_path / "y.npy")


@pytest.mark.parametrize(
    "name, subtype",
    [
        ("x.wav", "GSM610"),
        ("x.aiff", "GSM610"),
        ("x.au", "G721_32"),
        ("x.au", "G723_24"),
        ("x.au", "G723_40"),
    ],
)
def test_formats_without_an_index_are_read_in_sequence(tmp_path, name, subtype):
    samples = 70000  # more than a block
    x = 0.3 * np.sin(0.1 * np.arange(samples))
    soundfile.write(tmp_path / name, x, 8000, subtype)
    waveform, rate, found = read_audio(tmp_path / name)
    assert (rate, found) == (8000, subtype)
    # These codecs work on blocks of samples; the last one is filled up.
    assert 0 <= waveform.shape[1] - samples < 640
    assert np.abs(waveform[0, :samples] - x).mean() < 0.02


def test_minutes_of_vorbis_are_written(tmp_path):
    code = (
        "import sys; import numpy as np\n"
        "from speechbrain_phaseinv.audio import write_audio\n"
        "write_audio(sys.argv[1], np.zeros((1, 240 * 16000)), 16000)"
    )
    path = str(tmp_path / "long.ogg")
    # In a process of its own: the fault was a crash.
    status = subprocess.run([sys.executable, "-c", code, path]).returncode
    assert status == 0
    assert soundfile.info(path).frames == 240 * 16000
    assert [x.name for x in tmp_path.iterdir()] == ["long.ogg"]


def test_blocks_are_the_whole(tmp_path):
    x = np.random.default_rng(0).uniform(-2, 2, (2, 40000)).astype("f4")
    write_audio(tmp_path / "whole.wav", x, 8000, "PCM_24")
    with AudioWriter(tmp_path / "parts.wav", 8000, 2, "PCM_24") as writer:
        for piece in np.split(x, [0, 1, 20000], axis=1):
            writer.write(piece)
    assert writer.samples == 40000
    assert writer.clipped == (np.abs(x) > 1).sum()
    assert writer.peak == np.abs(x).max()
    whole, parts = (tmp_path / f"{n}.wav" for n in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    with AudioReader(whole) as reader:
        pieces = [*reader.blocks(999)]
    assert [x.shape[1] for x in pieces] == [999] * 40 + [40]
    expected = soundfile.read(whole, dtype="float32")[0].T
    assert (np.concatenate(pieces, axis=1) == expected).all()


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".au"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_truncated_recording_is_read_with_a_warning(
    tmp_path, suffix, subtype
):
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, tone()[0], 8000, subtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_audio(path)[0].shape == (1, 800)
    path.write_bytes(path.read_bytes()[:-600])
    width = int(subtype[4:]) // 8
    stated = 800 * width + 8 * (suffix == ".aiff")  # which counts more
    with pytest.warns(UserWarning, match=f"x{suffix}.*truncated.*{stated}"):
        assert read_audio(path)[0].shape == (1, 800 - 600 // width)


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFEFFE, 0xFFFFFFFF])
def test_a_header_of_unknown_length_is_not_truncated(tmp_path, size):
    path = tmp_path / "x.wav"
    soundfile.write(path, tone()[0], 8000)
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_audio(path)[0].shape == (1, 800)


@pytest.mark.parametrize(
    "place, code, number, message",
    [
        (24, "<I", 4294967295, "x.wav: cannot be read"),
        (24, "<I", 2147483647, "x.wav: sample rate.* at most 10000000 Hz"),
        (22, "<H", 60000, "x.wav: cannot be read"),
    ],
)
def test_absurd_headers_are_refused(tmp_path, place, code, number, message):
    path = tmp_path / "x.wav"
    soundfile.write(path, tone()[0], 8000)
    data = bytearray(path.read_bytes())
    struct.pack_into(code, data, place, number)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_audio(path)


@pytest.mark.parametrize("rate", [1, 2_000_000])
def test_extreme_rates_are_read(tmp_path, rate):
    write_audio(tmp_path / "x.wav", tone(), rate)
    assert read_audio(tmp_path / "x.wav")[1] == rate


@pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 on Windows")
def test_a_name_may_be_any_bytes(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    write_audio(path, tone(), 8000)
    assert os.listdir(os.fsencode(tmp_path)) == [b"caf\xe9.wav"]
    assert read_audio(path)[0].shape == (2, 800)


def test_a_large_array_is_not_read_to_be_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((513, 4000), np.float32))
    array, n_fft = open_magnitude(tmp_path / "x.npy")
    assert isinstance(array, np.memmap)
    assert array.shape == (1, 4000, 513) and n_fft == 1024
