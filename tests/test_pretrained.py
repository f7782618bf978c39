"""The packaged weights: complete, safe, found by themselves, and of use."""

import json
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from conftest import synthetic_speech

from speechbrain_phaseinv.estimation.gradient_theorem import GradientTheorem
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.pretrained import (
    FOLDER,
    available_pretrained,
    find_pretrained,
    load_pretrained,
    load_weights,
    read_hyperparameters,
    save_pretrained,
    serves,
)
from speechbrain_phaseinv.pretrained.choice import REFINEMENTS
from speechbrain_phaseinv.stft import StftConfig, analysis

CONFIG = StftConfig(16000, 512, hop_length=128)
names = pytest.mark.parametrize("name", available_pretrained())


def convergence(estimator, waveform, lookahead=1):
    config = estimator.config
    magnitude = analysis(waveform, config).abs()
    inverter = SpectrogramInverter(config, lookahead, estimator)
    made = inverter(magnitude, length=waveform.shape[1])
    error = analysis(made, config).abs() - magnitude
    return 20 * torch.log10(error.norm() / magnitude.norm()).item()


@names
def test_each_is_found_by_what_it_is_for(name):
    hyperparameters = read_hyperparameters(FOLDER / name)
    network = hyperparameters["network"]
    found = find_pretrained(
        StftConfig(**hyperparameters["stft"]),
        network["lookahead"],
        network["paired"],
    )
    assert found == name


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_transforms_of_the_same_shape_share_weights(rate):
    for n_fft in (256, 400, 1024):
        for window in ("hann", "hamming"):
            for hop in (n_fft // 8, n_fft // 4):
                other = StftConfig(rate, n_fft, hop_length=hop, window=window)
                assert serves(CONFIG, other)
                assert find_pretrained(other) == find_pretrained(CONFIG)


def test_so_do_windows_of_other_shapes():
    for win_length, window in (
        (512, "blackman"),
        (400, "blackman"),
        (400, "hann"),
        (400, "hamming"),
    ):
        hop = win_length // 4
        other = StftConfig(16000, 512, win_length, hop, window)
        assert find_pretrained(other) == find_pretrained(CONFIG)
    # 25 ms every 10 ms: 60 %
    for lookahead in (0, 1):
        usual = StftConfig(16000, 512, 400, 160)
        assert find_pretrained(usual, lookahead) == "hann-512-400-160"
    # Those for half overlap were trained with look-ahead.
    bare = StftConfig(16000, 400, 400, 160)
    assert find_pretrained(bare) == "hamming-512-256"
    assert find_pretrained(bare, 0) is None


def test_so_do_windows_padded_with_zeros():
    for n_fft in (600, 1024, 2048):
        for hop in (32, 128, 192):
            padded = StftConfig(16000, n_fft, 512, hop)
            for lookahead in (0, 1):
                assert find_pretrained(padded, lookahead) == "hann-512-128"
    for hop in (128, 160):
        padded = StftConfig(16000, 512, 320, hop)
        assert find_pretrained(padded) == "hann-512-400-160"
    assert find_pretrained(padded, 0) is None  # half overlap


def test_so_do_windows_with_narrower_lobes():
    for n_fft in (320, 512):
        options = {"n_fft": n_fft, "window": "sqrt_hann"}
        half = StftConfig(16000, hop_length=n_fft // 2, **options)
        assert find_pretrained(half) == "hamming-512-256"
        assert find_pretrained(half, 0) is None
        for window in ("sqrt_hann", "rectangular"):
            options["window"] = window
            more = StftConfig(16000, hop_length=n_fft // 4, **options)
            for lookahead in (0, 1):
                assert find_pretrained(more, lookahead) == "hann-512-128"


def test_transforms_of_another_shape_find_none():
    for other in (
        StftConfig(16000, 512, hop_length=384),
        StftConfig(16000, 512, hop_length=16),
        StftConfig(16000, 1024, win_length=250, hop_length=60),
        StftConfig(16000, 512, hop_length=256, window="rectangular"),
    ):
        assert not serves(CONFIG, other)
        assert find_pretrained(other) is None


def test_weights_of_exactly_this_transform_come_first():
    assert find_pretrained(CONFIG, 1) == "hann-512-128"


def test_what_is_provisional_does_without_look_ahead():
    assert find_pretrained(CONFIG, 0) == "hann-512-128"
    assert SpectrogramInverter(CONFIG, 0).latency == 512 - 128
    other = StftConfig(16000, 512, hop_length=192, window="hamming")
    assert find_pretrained(other, 0) == "hann-512-128"
    # But where the newest frame is a large part of what comes out.
    half = StftConfig(16000, 512, hop_length=256, window="hamming")
    assert find_pretrained(half, 0) is None


def test_weights_of_the_nearest_overlap_come_next():
    half = StftConfig(16000, 512, hop_length=256, window="hamming")
    found = find_pretrained(half)
    stft = read_hyperparameters(FOLDER / found)["stft"]
    assert StftConfig(**stft) == half
    for window in ("hann", "hamming"):
        for n_fft in (400, 1024):
            for eighths in (1, 2, 3, 4):
                hop = eighths * n_fft // 8
                other = StftConfig(8000, n_fft, hop_length=hop, window=window)
                name = "hann-512-128" if eighths < 4 else found
                assert find_pretrained(other) == name
    # That overlap is beyond what the others were trained for.
    assert find_pretrained(half, lookahead=1, paired=True) is None


def test_a_transform_without_weights_is_said(recwarn):
    other = StftConfig(16000, 512, hop_length=384)
    SpectrogramInverter(CONFIG)
    SpectrogramInverter(other, estimator="gradient")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="n_fft 512.*gradient theorem"):
        inverter = SpectrogramInverter(other)
    assert inverter.method == "gradient theorem"
    assert inverter.refinements == REFINEMENTS
    assert SpectrogramInverter(other, estimator="gradient").refinements == 0
    with pytest.raises(ValueError, match="no packaged weights"):
        SpectrogramInverter(other, estimator="network")


@names
def test_each_is_small_frozen_and_finite(name):
    network = load_pretrained(name)
    parameters = list(network.parameters())
    assert sum(p.numel() for p in parameters) <= 8192
    assert not any(p.requires_grad for p in parameters)
    assert not network.training
    assert all(torch.isfinite(p).all() for p in parameters)


@names
def test_each_beats_the_gradient_theorem(name):
    network = load_pretrained(name)
    theorem = GradientTheorem(network.config, network.lookahead)
    seeds = range(4)
    waveform = torch.cat([synthetic_speech(seed=i).float() for i in seeds])
    # With half overlap, little more can be learned than the theorem knows.
    overlap = network.config.hop_length / network.config.win_length
    margin = {0.5: 0.2, 0.4: 1}.get(overlap, 2)
    # Also notices a change of the theorem, which the weights build upon.
    made = convergence(network, waveform)
    assert made < convergence(theorem, waveform) - margin
    if find_pretrained(network.config, 0) == name:
        theorem = GradientTheorem(network.config, 0)
        made = convergence(network, waveform, lookahead=0)
        assert made < convergence(theorem, waveform) - margin


@names
def test_each_has_a_model_card(name):
    card = (FOLDER / name / "README.md").read_text()
    for word in ("LibriSpeech", "CC BY 4.0", "PESQ", "train.py"):
        assert word in card


def test_what_is_saved_is_loaded(tmp_path):
    network = PhaseDerivativeNet(CONFIG, lookahead=1, paired=True, history=3)
    save_pretrained(network, tmp_path / "a", {"note": 1})
    again = load_pretrained(tmp_path / "a")
    assert again.config == CONFIG
    assert again.hyperparameters == network.hyperparameters
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_weights_run_with_another_transform_on_demand(tmp_path):
    save_pretrained(PhaseDerivativeNet(CONFIG), tmp_path)
    other = StftConfig(22050, 1024, hop_length=256)
    assert load_pretrained(tmp_path, other).config == other


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(FileNotFoundError, match="Expected one of"):
        load_pretrained("no-such-weights")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    save_pretrained(PhaseDerivativeNet(CONFIG), tmp_path)
    path = tmp_path / "hyperparameters.json"
    hyperparameters = json.loads(path.read_text())
    hyperparameters["network"]["channels"] = 8
    path.write_text(json.dumps(hyperparameters))
    with pytest.raises(ValueError, match="do not fit"):
        load_pretrained(tmp_path)


def write_weights(folder, change):
    """A folder whose weights and description a function has changed."""
    network = PhaseDerivativeNet(CONFIG)
    save_pretrained(network, folder)
    state = {k: v.numpy() for k, v in network.state_dict().items()}
    np.savez(folder / "weights.npz", **change(state))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x * np.nan, "holds NaN or infinity"),
        (lambda x: x / 0, "holds NaN or infinity"),
        (lambda x: x.astype(int), "type int64, not float"),
        (lambda x: x > 0, "type bool, not float"),
        (lambda x: x + 0j, "type complex64, not float"),
        (lambda x: np.array(["a"]), "not float"),
        (lambda x: x[:1], "size mismatch"),
        (lambda x: np.array([{"a": 1}], dtype=object), "allow_pickle"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero|invalid value")
def test_weights_that_are_no_finite_floats_are_refused(
    change, message, tmp_path
):
    def change_first(state):
        return {**state, "first.weight": change(state["first.weight"])}

    write_weights(tmp_path, change_first)
    with pytest.raises(ValueError, match=f"(?s)weights.npz.*{message}"):
        load_pretrained(tmp_path)


def test_weights_of_other_floats_are_read(tmp_path):
    write_weights(
        tmp_path, lambda x: {k: v.astype(">f8") for k, v in x.items()}
    )
    expected = PhaseDerivativeNet(CONFIG).state_dict()
    assert load_pretrained(tmp_path).state_dict().keys() == expected.keys()


@pytest.mark.parametrize("kept", [0, 10, 100, 30000])
def test_a_truncated_archive_is_refused(kept, tmp_path):
    write_weights(tmp_path, dict)
    path = tmp_path / "weights.npz"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="weights.npz.*no archive"):
        load_pretrained(tmp_path)


def test_an_archive_that_is_no_list_of_arrays_is_refused(tmp_path):
    write_weights(tmp_path, dict)
    with zipfile.ZipFile(tmp_path / "weights.npz", "a") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ValueError, match="weights.npz.*notes.txt"):
        load_pretrained(tmp_path)


def test_an_oversized_archive_is_refused_before_it_is_unpacked(tmp_path):
    save_pretrained(PhaseDerivativeNet(CONFIG), tmp_path)
    path = tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("first.weight.npy", "w", force_zip64=True) as file:
            for _ in range(64):
                file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(ValueError, match="weights.npz.*bytes, expected"):
        load_pretrained(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_damaged_weights_leave_a_module_as_it_was(tmp_path):
    write_weights(
        tmp_path, lambda x: {**x, "last.bias": x["last.bias"] * np.nan}
    )
    network = PhaseDerivativeNet(CONFIG)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(ValueError, match="last.bias holds NaN"):
        load_weights(network, tmp_path / "weights.npz")
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize(
    "part, name, value, message",
    [
        ("network", "dilations", [1, -2, 1], r"dilations\[1\] must lie in"),
        ("network", "dilations", [1, 1e9, 1], r"dilations\[1\] must be an int"),
        ("network", "dilations", 3, "not iterable"),
        ("network", "channels", 10**9, "channels must lie in"),
        ("network", "channels", -16, "channels must lie in"),
        ("network", "kernel_size", -5, "kernel_size must lie in"),
        ("network", "kernel_size", 4, "odd kernel_size"),
        ("network", "history", 0, "history must lie in"),
        ("network", "refinements", 10**6, "refinements must lie in"),
        ("network", "lookahead", 2, "lookahead must lie in"),
        ("network", "paired", "no", "paired must be true or false"),
        ("network", "colour", 1, "has no 'colour'"),
        ("stft", "n_fft", -512, "n_fft"),
        ("stft", "colour", 1, "colour"),
    ],
)
def test_a_description_out_of_its_range_is_refused(
    part, name, value, message, tmp_path
):
    save_pretrained(PhaseDerivativeNet(CONFIG), tmp_path)
    path = tmp_path / "hyperparameters.json"
    hyperparameters = json.loads(path.read_text())
    hyperparameters[part][name] = value
    path.write_text(json.dumps(hyperparameters))
    with pytest.raises(ValueError, match=f"hyperparameters.json.*{message}"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stft": 3}'])
def test_a_damaged_description_is_refused(text, tmp_path):
    save_pretrained(PhaseDerivativeNet(CONFIG), tmp_path)
    (tmp_path / "hyperparameters.json").write_text(text)
    with pytest.raises(ValueError, match="hyperparameters.json"):
        load_pretrained(tmp_path)


def test_weights_are_read_under_another_default_device():
    expected = load_pretrained("hann-512-128").state_dict()
    with torch.device("meta"):
        state = load_pretrained("hann-512-128").state_dict()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("hop", [128, 256])
def test_windows_wider_than_learned_are_refined_more(hop):
    plain, wide = (
        SpectrogramInverter(StftConfig(16000, 512, hop_length=hop, window=x))
        for x in ("hann", "sqrt_hann")
    )
    assert "network" in plain.method and "network" in wide.method
    assert plain.refinements == plain.estimator.hyperparameters["refinements"]
    assert wide.refinements == REFINEMENTS > plain.refinements
