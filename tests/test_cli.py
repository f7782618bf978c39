"""Facts about the command ``phaseinv``."""

import io
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
import torch
from conftest import synthetic_speech

from speechbrain_phaseinv.audio import read_audio
from speechbrain_phaseinv.cli import COMMANDS, EXAMPLE, main
from speechbrain_phaseinv.cli.options import stft_for
from speechbrain_phaseinv.evaluation import methods, scores
from speechbrain_phaseinv.inference import PhaseInversionVocoder
from speechbrain_phaseinv.mel import log_mel, mel_preset
from speechbrain_phaseinv.stft import StftConfig, analysis


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def recording(here, speech):
    """A recording of one second in it."""
    soundfile.write("in.wav", speech[0].numpy(), 16000)
    return "in.wav"


def names(folder):
    return sorted(x.name for x in folder.rglob("*") if x.is_file())


def fails(capsys, *arguments):
    """Run, expect status 2 and one line on stderr, and return the line."""
    status = main([str(x) for x in arguments])
    output = capsys.readouterr()
    assert status == 2
    assert output.err.count("\n") == 1 and output.err.startswith("phaseinv")
    assert "error: " in output.err
    return output.err


def test_the_example_is_small_and_is_what_its_readme_says():
    assert EXAMPLE.stat().st_size < 100_000
    waveform, rate, _ = read_audio(EXAMPLE)
    assert rate == 16000 and waveform.shape[0] == 1
    assert 4 < waveform.shape[1] / rate < 5


def test_without_arguments_the_example_is_reconstructed(here, capsys):
    assert main(["reconstruct"]) == 0
    assert names(here) == ["example-phaseinv.flac"]
    output = capsys.readouterr()
    header, ours, theirs = [
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in output.out.splitlines()
        if line.startswith(("method", "phaseinv", "Griffin"))
    ]
    columns = ["method", "SC [dB]", "ESTOI", "PESQ-WB", "time [s]", "RTF"]
    if find_spec("pesq") is None:  # it needs a compiler
        columns.remove("PESQ-WB")
    assert header == columns
    assert float(ours[1]) < -15 and float(ours[2]) > 0.95
    assert float(theirs[1]) < -15
    # How fast is for `benchmarks/claims.py` to say, on a quiet machine.
    for row in (ours, theirs):
        assert float(row[-2]) == pytest.approx(4.76 * float(row[-1]), abs=2e-3)
    assert main(["reconstruct"]) == 0  # its own result may be replaced


def test_a_reconstruction_is_another_waveform_of_like_magnitudes(recording):
    assert main(["reconstruct", recording, "out.wav", "--quiet"]) == 0
    config = StftConfig(16000, n_fft=512, hop_length=128)
    pair = [torch.from_numpy(read_audio(x)[0]) for x in (recording, "out.wav")]
    one, other = (analysis(x, config).abs() for x in pair)
    assert (one - other).norm() < 0.2 * one.norm()
    assert (pair[0] - pair[1]).norm() > 0.5 * pair[0].norm()


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_rate_channels_and_samples_are_kept(here, rate, channels):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (4321, channels))
    soundfile.write("in.wav", noise, rate, "PCM_24")
    assert main(["reconstruct", "in.wav", "out.flac", "--quiet"]) == 0
    info = soundfile.info("out.flac")
    assert (info.samplerate, info.channels) == (rate, channels)
    assert (info.frames, info.subtype) == (4321, "PCM_24")


@pytest.mark.parametrize("samples", [1, 2, 200, 300])
def test_the_shortest_recordings_work(here, capsys, samples):
    soundfile.write("in.wav", np.full(samples, 0.1), 16000)
    assert main(["reconstruct", "in.wav"]) == 0
    assert soundfile.info("in-phaseinv.wav").frames == samples
    skipped = "Griffin-Lim skipped" in capsys.readouterr().out
    assert skipped == (samples <= 256)  # half a window, for its reflection


def test_silence_gives_silence(here):
    soundfile.write("in.wav", np.zeros(5000), 16000)
    assert main(["reconstruct", "in.wav"]) == 0
    assert (read_audio("in-phaseinv.wav")[0] == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        ["--lookahead", "0"],
        ["--n-iter", "3"],
        ["--n-fft", "400"],
        ["--win-length", "300", "--hop-length", "75", "--window", "hamming"],
        ["--hop-length", "256", "--subtype", "FLOAT"],
    ],
)
def test_options_reach_the_method(recording, options):
    assert main(["reconstruct", recording, "a.wav", "--quiet"]) == 0
    assert main(["reconstruct", recording, "b.wav", "--quiet", *options]) == 0
    one, other = read_audio("a.wav")[0], read_audio("b.wav")[0]
    assert one.shape == other.shape and (one != other).any()


def test_the_window_covers_at_least_32_ms():
    for rate, n_fft in ((8000, 256), (16000, 512), (22050, 1024)):
        config = stft_for(rate)
        assert (config.n_fft, config.hop_length) == (n_fft, n_fft // 4)
    config = stft_for(16000, win_length=600)
    assert (config.n_fft, config.win_length) == (1024, 600)
    assert stft_for(100).n_fft == 32


def test_a_picture_is_drawn(recording, here):
    assert main(["reconstruct", recording, "--plot", "picture.png"]) == 0
    assert names(here) == ["in-phaseinv.wav", "in.wav", "picture.png"]
    assert (here / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_where_torchaudio_is_missing_one_line_says_so(
    recording, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torchaudio.transforms", None)
    assert main(["reconstruct", recording]) == 0
    output = capsys.readouterr().out
    lines = [x for x in output.splitlines() if "Griffin-Lim" in x]
    assert len(lines) == 1 and "torchaudio cannot be imported" in lines[0]


def test_where_metrics_are_missing_their_columns_are(
    recording, monkeypatch, capsys
):
    monkeypatch.setattr(scores, "_installed", lambda name: False)
    assert main(["reconstruct", recording]) == 0
    output = capsys.readouterr().out
    assert "PESQ-WB" not in output and "SC [dB]" in output
    for name in ("pystoi", "pesq"):
        assert f"{name} is not installed: pip install" in output


def test_quiet_prints_nothing_and_compares_nothing(
    recording, monkeypatch, capsys
):
    monkeypatch.delattr(methods, "torchaudio_griffin_lim")
    assert main(["reconstruct", recording, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_folder_goes_into_a_folder(recording, here, capsys):
    (here / "all" / "deep").mkdir(parents=True)
    os.rename(recording, "all/deep/one.wav")
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 2000)
    soundfile.write("all/two.flac", noise, 8000)
    (here / "all" / "notes.txt").write_text("not a recording")
    assert main(["reconstruct", "all", "results"]) == 0
    assert names(here / "results") == ["one.wav", "two.flac"]
    assert (here / "results" / "deep" / "one.wav").exists()
    output = capsys.readouterr()
    assert "means over 2 recordings" in output.out
    assert "2/2" in output.err  # the bar
    # Without a name for it, the folder is named after the input.
    assert main(["reconstruct", "all", "--quiet"]) == 0
    assert names(here / "all-phaseinv") == ["one.wav", "two.flac"]
    # What an earlier run has left is no input of the next.
    os.chdir("all")
    for _ in range(2):
        assert main(["reconstruct", ".", "--quiet"]) == 0
    found = here / "all" / "all-phaseinv"
    assert names(found) == ["one.wav", "two.flac"]


def test_several_files_go_into_a_folder(recording, here, capsys):
    other = np.random.default_rng(0).uniform(-0.1, 0.1, 2000)
    soundfile.write("other.wav", other, 8000)
    arguments = ["reconstruct", recording, "other.wav", "--quiet"]
    assert main([*arguments, "results"]) == 0
    assert names(here / "results") == ["in.wav", "other.wav"]
    assert "exists already" in fails(capsys, *arguments, "results")
    assert main([*arguments, "results", "--overwrite"]) == 0
    assert main([*arguments, "--output-folder", "more"]) == 0
    assert names(here / "more") == ["in.wav", "other.wav"]


def test_one_bad_file_does_not_stop_the_others(recording, here, capsys):
    (here / "bad.wav").write_text("bad")
    arguments = ["bad.wav", recording, "results", "--quiet"]
    error = fails(capsys, "reconstruct", *arguments)
    assert "bad.wav: cannot be read as audio" in error
    assert names(here / "results") == ["in.wav"]


def test_what_would_be_lost_is_not_replaced(recording, here, capsys):
    before = (here / recording).read_bytes()
    (here / "out.wav").write_bytes(b"precious")
    run = ["reconstruct", recording]
    assert "--overwrite" in fails(capsys, *run, "out.wav")
    assert (here / "out.wav").read_bytes() == b"precious"
    for other in (recording, f"./{recording}"):
        message = fails(capsys, *run, other, "--overwrite")
        assert "would replace its own input" in message
    assert "own input" in fails(capsys, *run, ".", "--overwrite")
    assert (here / recording).read_bytes() == before
    assert main([*run, "out.wav", "--overwrite", "--quiet"]) == 0
    assert soundfile.info("out.wav").frames == 16000


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing.wav"], "missing.wav: no such file"),
        (["in.wav", "nowhere/out.wav"], "nowhere does not exist"),
        (["in.wav", "a.wav", "b.wav"], "need an output folder"),
        (["in.wav", "--output-folder", "no/where"], "no does not exist"),
        (["in.wav", "out.mp4"], "ends in .wav, .flac, .ogg"),
        (["empty"], "holds no recordings"),
        (["in.wav", "x/in.wav", "results"], "would both be written"),
        (["in.wav", "--plot", "no/p.png"], "folder no does not exist"),
        (["in.wav", "--plot", "p.txt"], "ends in .png"),
        (["x", "--plot", "p.png"], "--plot draws one recording"),
        (["in.wav", "--hop-length", "600"], "must not exceed win_length"),
        (["in.wav", "--hop-length", "0"], "must be positive"),
        (["in.wav", "--n-fft", "-4"], "must be positive"),
        (["in.wav", "--hop-length", "512"], "NOLA"),
        (["in.wav", "--window", "round"], "unknown window 'round'"),
        (["in.wav", "--lookahead", "2"], "0<=x<=1"),
        (["in.wav", "--n-iter", "-1"], "must not be negative"),
        (["in.wav", "--n-iter", "many"], "not a valid integer"),
        (["in.wav", "--subtype", "PCM_7"], "cannot hold 'PCM_7'"),
        (["in.wav", "--frobnicate"], "No such option"),
        (["text.wav"], "cannot be read as audio"),
        (["none.wav"], "the file is empty"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    recording, here, capsys, arguments, message
):
    (here / "empty").mkdir()
    (here / "x").mkdir()
    (here / "x" / "in.wav").write_bytes((here / recording).read_bytes())
    (here / "text.wav").write_text("text")
    (here / "none.wav").touch()
    before = names(here)
    assert message in fails(capsys, "reconstruct", *arguments)
    assert names(here) == before


def test_no_command_is_an_error(capsys):
    assert "Missing command" in fails(capsys)
    assert "No such command" in fails(capsys, "frobnicate")


def test_saved_magnitudes_are_inverted_in_either_order(here, speech):
    config = StftConfig(16000, n_fft=512, hop_length=128)
    magnitude = analysis(speech, config).abs()
    rate = ["--sample-rate", "16000", "--hop-length", "128", "--quiet"]
    rate += ["--subtype", "FLOAT"]
    np.save("tf.npy", magnitude[0].numpy())
    np.save("ft.npy", magnitude[0].T.numpy())
    np.save("power.npy", magnitude.square().numpy())
    assert main(["invert", "tf.npy", "tf.wav", *rate]) == 0
    assert main(["invert", "ft.npy", "ft.wav", *rate]) == 0
    power = ["power.npy", "power.wav", "--power", "2"]
    assert main(["invert", *power, *rate]) == 0
    one, other, third = (
        read_audio(f"{x}.wav")[0] for x in ("tf", "ft", "power")
    )
    assert one.shape == (1, 16000) and (one == other).all()
    assert np.allclose(one, third, atol=1e-5)
    found = analysis(torch.from_numpy(one).double(), config).abs()
    assert (found - magnitude).norm() < 0.2 * magnitude.norm()


def test_three_axes_are_channels(here, capsys):
    np.save("m.npy", np.random.default_rng(0).random((3, 65, 20)))
    run = ["invert", "m.npy", "out.wav", "--sample-rate", "8000"]
    assert main([*run, "--hop-length", "32", "--subtype", "PCM_24"]) == 0
    info = soundfile.info("out.wav")
    assert (info.channels, info.frames) == (3, 19 * 32)
    assert "20 frames of 65 bins" in capsys.readouterr().out


@pytest.mark.parametrize(
    "array, message",
    [
        (np.full((257, 9), np.nan), "from nan to nan"),
        (np.full((257, 9), -1.0), "finite and not negative"),
        (np.ones((257, 9), complex), "complex"),
        (np.ones((80, 9)), "looks like a mel"),
        (np.ones((257, 1)), "one frame is no recording"),
        (np.ones((0, 257)), "got shape"),
    ],
)
def test_bad_magnitudes_are_one_line_and_leave_nothing(
    here, capsys, array, message
):
    np.save("m.npy", array)
    run = ["invert", "m.npy", "out.wav", "--sample-rate", "16000"]
    assert message in fails(capsys, *run, "--hop-length", "128")
    assert names(here) == ["m.npy"]


def test_invert_needs_a_rate_and_a_hop(here, capsys):
    np.save("m.npy", np.ones((257, 9), int))
    run = ["invert", "m.npy", "out.wav"]
    assert "Missing option '--sample-rate'" in fails(capsys, *run)
    run += ["--sample-rate", "16000"]
    assert "Missing option '--hop-length'" in fails(capsys, *run)
    run += ["--hop-length"]
    assert "must not exceed" in fails(capsys, *run, "600")
    assert "must be positive" in fails(capsys, *run, "128", "--power", "0")
    assert main([*run, "128", "--quiet"]) == 0  # integers are numbers too
    assert "exists already" in fails(capsys, *run, "128")


def test_mels_of_a_named_convention_become_the_vocoders_samples(here, capsys):
    config = mel_preset("vocos-24000")
    speech = synthetic_speech(1.0, 24000).float()
    mel = log_mel(analysis(speech, config.stft).abs(), config)
    np.save("tf.npy", mel[0].numpy())
    np.save("ft.npy", mel[0].T.double().numpy())
    options = ["--mel", "vocos-24000", "--subtype", "FLOAT"]
    assert main(["invert", "tf.npy", "tf.wav", *options]) == 0
    output = capsys.readouterr().out
    assert "94 frames of 100 mel bands" in output and "0.99 s" in output
    options += ["--quiet", "--sample-rate", "24000"]
    assert main(["invert", "ft.npy", "ft.wav", *options]) == 0
    vocoder = PhaseInversionVocoder.from_hparams("mel", mel="vocos-24000")
    for name in ("tf.wav", "ft.wav"):
        found, rate, _ = read_audio(name)
        assert rate == 24000
        assert (found == vocoder(mel.transpose(1, 2))[0].numpy()).all()
    assert capsys.readouterr().err == ""


def test_mels_that_are_not_of_the_convention_leave_nothing(here, capsys):
    np.save("m.npy", np.zeros((80, 9)) - 5)
    run = ["invert", "m.npy", "out.wav", "--mel"]
    assert "bigvgan-24000" in fails(capsys, *run, "bigvgan")
    assert "the 100 bands" in fails(capsys, *run, "vocos-24000")
    coqui = [*run, "coqui-22050"]
    assert "decibels" in fails(capsys, *coqui)
    assert "settles --hop-length" in fails(capsys, *coqui, "--hop-length", "9")
    assert "22050 Hz" in fails(capsys, *coqui, "--sample-rate", "16000")
    assert names(here) == ["m.npy"]


def test_clipping_is_reported(here, capsys):
    np.save("m.npy", np.full((257, 20), 50.0))
    run = ["invert", "m.npy", "out.wav", "--sample-rate", "16000"]
    assert main([*run, "--hop-length", "128"]) == 0
    output = capsys.readouterr().out
    assert "were clipped" in output and "--power 2" in output


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_end_well(capsys, option):
    assert main([option]) == 0
    assert "phaseinv" in capsys.readouterr().out


def test_help_names_units(capsys):
    for command in ("reconstruct", "invert"):
        assert main([command, "--help"]) == 0
        assert "samples" in capsys.readouterr().out


def test_an_interrupt_is_status_130_and_leaves_nothing(
    recording, here, monkeypatch, capsys
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(soundfile.SoundFile, "write", interrupt)
    assert main(["reconstruct", recording, "out.wav"]) == 130
    assert capsys.readouterr().err == ""
    assert names(here) == ["in.wav"]


@pytest.mark.skipif(os.name == "nt", reason="there are no signals on Windows")
def test_control_c_ends_the_process_quietly(here):
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 30 * 48000)
    soundfile.write("in.wav", noise, 48000)
    process = subprocess.Popen(
        [sys.executable, "-m", "speechbrain_phaseinv.cli", "reconstruct"]
        + ["in.wav", "out.wav", "--n-iter", "100000"],
        stderr=subprocess.PIPE,
        # Where the tests run in the background, the signal is ignored, and
        # that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(6)  # well into the iterations, which take hours
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert names(here) == ["in.wav"]


@pytest.mark.parametrize("command", [[], *([x] for x in COMMANDS)])
def test_help_imports_nothing_heavy(command):
    heavy = {"torch", "numpy", "soundfile", "matplotlib", "numba", "scipy"}
    code = (
        "import sys; from speechbrain_phaseinv.cli import main; "
        f"main({[*command, '--help']}); print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert "Usage: phaseinv" in result.stdout
    assert not heavy & set(result.stdout.split())


def test_the_shell_completes_commands_and_options():
    words = {"recon": "reconstruct", "stream --over": "--overwrite"}
    for line, completion in words.items():
        line = f"phaseinv {line}"
        environment = {
            **os.environ,
            "_PHASEINV_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(line.count(" ")),
        }
        result = subprocess.run(
            [sys.executable, "-m", "speechbrain_phaseinv.cli"],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert result.stdout == f"plain,{completion}\n"


def test_a_dash_between_options_is_a_path():
    context = main.get_command(None, "stream").make_context(
        "stream", ["in.wav", "--quiet", "-"]
    )
    assert context.params["paths"] == ("in.wav", "-")


# Blocks.


@pytest.mark.parametrize(
    "seconds, rate, options",
    [
        (5.3, 16000, []),
        (0.004, 16000, []),
        (4.5, 16000, ["--lookahead", "0", "--hop-length", "384"]),
        (4, 22050, ["--n-fft", "999", "--hop-length", "100"]),
    ],
)
def test_by_blocks_is_the_whole(here, seconds, rate, options):
    options = [*options, "--estimator", "gradient", "--subtype", "FLOAT"]
    x = synthetic_speech(seconds, rate).float().repeat(2, 1)
    x[1] *= 0.5
    soundfile.write("in.wav", x.T.numpy(), rate, "FLOAT")
    assert (
        main(["reconstruct", "in.wav", "blocks.wav", "--quiet", *options]) == 0
    )
    assert main(["reconstruct", "in.wav", "whole.wav", *options]) == 0
    blocks, whole = (read_audio(f"{n}.wav")[0] for n in ("blocks", "whole"))
    assert blocks.shape == whole.shape == x.shape
    np.testing.assert_allclose(blocks, whole, atol=1e-5)


def test_memory_does_not_grow_with_the_recording(here):
    """Of the process, beyond what one block takes; a minute is 4 MB."""
    code = (
        "import resource, sys; from speechbrain_phaseinv.cli import main\n"
        "def run(name):\n"
        "    line = ['reconstruct', name, 'out.wav', '--estimator=gradient']\n"
        "    line += ['--overwrite', '--quiet']\n"
        "    assert main(line) == 0\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(run('short.wav'), run('long.wav'))"
    )
    x = synthetic_speech(10)[0].numpy()
    soundfile.write("short.wav", x, 16000)
    soundfile.write("long.wav", np.tile(x, 20), 16000)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    short, long = map(int, result.stdout.split())
    assert long - short < 20_000  # kB


# Names, pipes and files that are not what they should be.


def run(*arguments, **options):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "speechbrain_phaseinv.cli", *arguments],
        timeout=120,
        **options,
    )


@pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 on Windows")
@pytest.mark.parametrize("name", [b"caf\xe9", "\u67e5".encode()])
def test_names_that_no_console_can_show_are_written(
    recording, here, monkeypatch, name
):
    console = io.TextIOWrapper(io.BytesIO(), "cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    source, out = os.fsdecode(name + b".wav"), os.fsdecode(name + b"-out.wav")
    os.rename(recording, source)
    line = [source, out, "--estimator", "gradient"]
    assert main(["reconstruct", *line]) == 0
    assert b"\\u" in console.buffer.getvalue()
    assert os.path.getsize(out) == os.path.getsize(source)
    assert main(["stream", *line, "--overwrite"]) == 0
    assert os.path.getsize(out) == os.path.getsize(source)


def test_nobody_has_to_read_what_is_printed(here):
    np.save("m.npy", np.ones((257, 9)))
    read, write = os.pipe()
    os.close(read)
    result = run(
        *["invert", "m.npy", "out.wav", "--sample-rate", "16000"],
        *["--hop-length", "128"],
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (0, b"")
    assert soundfile.info("out.wav").frames == 1024


@pytest.mark.skipif(os.name == "nt", reason="a shell's redirections")
def test_closed_descriptors_are_no_error(here):
    np.save("m.npy", np.ones((257, 9)))
    line = f"{sys.executable} -m speechbrain_phaseinv.cli invert m.npy out.wav"
    line += " --sample-rate 16000 --hop-length 128 <&- >&- 2>&-"
    assert subprocess.run(line, shell=True).returncode == 0
    assert soundfile.info("out.wav").frames == 1024


@pytest.mark.skipif(os.name == "nt", reason="there is no /dev/stdin")
def test_standard_input_has_a_name(recording, here):
    data = (here / recording).read_bytes()
    line = ["reconstruct", "/dev/stdin", "out.wav", "--quiet"]
    result = run(*line, input=data, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    assert soundfile.info("out.wav").frames == 16000


def test_a_link_to_nowhere_fails_alone(recording, here, capsys):
    (here / "all").mkdir()
    os.rename(recording, "all/in.wav")
    (here / "all" / "lost.wav").symlink_to("nowhere.wav")
    (here / "all" / "folder.wav").mkdir()
    error = fails(capsys, "reconstruct", "all", "results", "--quiet")
    assert "lost.wav: no such file" in error
    assert names(here / "results") == ["in.wav"]


def test_a_batch_takes_voicemail_and_names_what_fails(here, capsys):
    (here / "all").mkdir()
    x = 0.3 * np.sin(0.1 * np.arange(8000))
    soundfile.write("all/voicemail.wav", x, 8000, "GSM610")
    soundfile.write("all/ok.wav", x, 8000)
    assert main(["reconstruct", "all", "results", "--quiet"]) == 0
    assert names(here / "results") == ["ok.wav", "voicemail.wav"]


def test_a_truncated_recording_is_a_warning(recording, here, capsys):
    data = (here / recording).read_bytes()
    (here / recording).write_bytes(data[:-1000])
    assert main(["reconstruct", recording, "out.wav", "--quiet"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("phaseinv: warning: in.wav: the file is truncated")
    assert error.count("\n") == 1
    assert soundfile.info("out.wav").frames == 15500


@pytest.mark.parametrize(
    "line",
    [
        ["reconstruct", "in.wav", "--n-fft", "100000000"],
        ["reconstruct", "in.wav", "--win-length", "100000000"],
        ["compare", "in.wav", "--sample-rate", "3000000000"],
        ["export", "folder", "--sample-rate", "3000000000"],
        ["stream", "--raw", "--sample-rate", "3000000000"],
        ["stream", "--raw", "--sample-rate", "8000", "--channels", "60000"],
        [
            *["invert", "m.npy", "out.wav", "--hop-length", "128"],
            *["--sample-rate", "3000000000"],
        ],
    ],
)
def test_absurd_options_are_refused_at_once(recording, here, capsys, line):
    np.save("m.npy", np.ones((257, 9)))
    assert "is not in the range x<=" in fails(capsys, *line)
    assert names(here) == ["in.wav", "m.npy"]


def test_the_largest_transform_works(recording, here):
    # A twentieth of a second would take 2e6 samples at the highest rate.
    line = ["reconstruct", recording, "out.wav", "--quiet"]
    assert main([*line, "--n-fft", str(1 << 20), "--hop-length", "60000"]) == 0
    assert soundfile.info("out.wav").frames == 16000
