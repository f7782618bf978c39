"""The drop-in, beside the transform that it replaces."""

import inspect
import subprocess
import sys

import pytest
import torch
import torchaudio
from conftest import synthetic_speech
from torch.autograd import forward_ad
from torchaudio.transforms import GriffinLim, Spectrogram

from speechbrain_phaseinv import (
    PhaseInversion,
    SpectrogramInverter,
    StftConfig,
    phase_inversion,
)


def spectrogram(shape=(1,), frames=20, n_fft=512, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    bins = n_fft // 2 + 1
    return torch.rand(*shape, bins, frames, generator=generator, dtype=dtype)


# Constructor arguments, and what they are applied to.
CALLS = [
    (dict(), spectrogram(n_fft=400)),
    (dict(n_fft=512), spectrogram()),
    (dict(n_fft=512, hop_length=128, power=1.0), spectrogram()),
    (dict(n_fft=512, win_length=400), spectrogram()),
    (dict(n_fft=512, win_length=400, hop_length=100), spectrogram()),
    (dict(n_fft=512, hop_length=128, length=2500), spectrogram()),
    (dict(n_fft=512, hop_length=256, length=19 * 256 + 255), spectrogram()),
    (dict(n_fft=512, window_fn=torch.hamming_window), spectrogram()),
    (
        dict(
            n_fft=512,
            hop_length=100,
            window_fn=torch.kaiser_window,
            wkwargs=dict(periodic=True, beta=8.0),
        ),
        spectrogram(),
    ),
    (dict(n_fft=512, power=0.5, momentum=0.0), spectrogram()),
    (dict(n_fft=401, hop_length=100), spectrogram(n_fft=401)),
    (dict(n_fft=512, hop_length=128), spectrogram(())),
    (dict(n_fft=512, hop_length=128), spectrogram((2, 3))),
    (dict(n_fft=512, hop_length=128), spectrogram((2, 1, 2))),
    (dict(n_fft=512, hop_length=128), spectrogram(dtype=torch.float64)),
    (dict(n_fft=512, hop_length=128, rand_init=False), spectrogram()),
    (
        dict(n_fft=512, hop_length=128),
        spectrogram((20,)).transpose(0, 2)[:8].transpose(0, 2),
    ),
    (dict(n_fft=512, hop_length=128), (9 * spectrogram()).long()),
]


@pytest.mark.parametrize("arguments, specgram", CALLS)
@pytest.mark.parametrize("n_iter", [0, 2])
def test_same_shape_and_dtype_as_griffin_lim(arguments, specgram, n_iter):
    expected = GriffinLim(**{"n_iter": 1, **arguments})(specgram)
    found = PhaseInversion(**{"n_iter": n_iter, **arguments})(specgram)
    assert found.dtype == expected.dtype
    assert found.isfinite().all() and found.any()
    if arguments.get("n_fft", 400) % 2:
        # torch.istft gives one sample more for odd transforms.
        assert found.shape[-1] == expected.shape[-1] - 1
    else:
        assert found.shape == expected.shape


def test_arguments_are_those_of_griffin_lim_in_name_and_order():
    ours = inspect.signature(PhaseInversion).parameters
    theirs = inspect.signature(GriffinLim).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        if name != "n_iter":
            assert ours[name].default == parameter.default, name
    ours = inspect.signature(phase_inversion).parameters
    theirs = inspect.signature(torchaudio.functional.griffinlim).parameters
    assert list(ours) == list(theirs)


@pytest.mark.parametrize("power", [1.0, 2.0, 0.7])
def test_it_inverts_torchaudio_spectrograms(power):
    x = synthetic_speech(2.0).float()
    settings = dict(n_fft=512, hop_length=128, power=power)
    magnitude = Spectrogram(512, hop_length=128, power=1.0)
    y = PhaseInversion(**settings, length=32000)(Spectrogram(**settings)(x))
    error = (magnitude(y) - magnitude(x)).norm() / magnitude(x).norm()
    assert error < 10 ** (-15 / 20)


def test_iterations_improve_the_spectrogram():
    x = synthetic_speech(2.0).float()
    magnitude = Spectrogram(512, hop_length=128, power=1.0)
    target = magnitude(x)
    errors = []
    for n_iter in (0, 4, 16):
        transform = PhaseInversion(
            512, n_iter, hop_length=128, power=1.0, length=32000
        )
        errors.append((magnitude(transform(target)) - target).norm())
    assert errors[2] < errors[1] < errors[0]


def test_function_and_class_give_the_same():
    specgram = spectrogram((2,))
    window = torch.hamming_window(400)
    expected = PhaseInversion(
        512,
        3,
        400,
        100,
        torch.hamming_window,
        1.5,
        momentum=0.5,
        length=1111,
    )(specgram)
    found = phase_inversion(
        specgram, window, 512, 100, 400, 1.5, 3, 0.5, 1111, True
    )
    assert torch.equal(found, expected)


# What GriffinLim refuses, or answers with NaN.
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_few_frames(frames):
    specgram = spectrogram(frames=frames)
    for n_iter in (0, 2):
        transform = PhaseInversion(512, n_iter, hop_length=256)
        y = transform(specgram)
        assert y.shape == (1, 256 * max(frames - 1, 0))
        transform.length = 700
        y = transform(specgram)
        assert y.shape == (1, 700) and y.isfinite().all()


@pytest.mark.parametrize("length", [0, 1, 4000, 5120, 5200, 20000])
def test_any_length(length):
    y = PhaseInversion(512, hop_length=256, length=length)(spectrogram())
    assert y.shape == (1, length) and y.isfinite().all()


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3)])
@pytest.mark.parametrize("n_iter", [0, 2])
def test_empty_batch(shape, n_iter):
    transform = PhaseInversion(512, n_iter, hop_length=128)
    assert transform(spectrogram(shape)).shape == (*shape, 19 * 128)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    specgram = spectrogram().to(dtype)
    transform = PhaseInversion(512, hop_length=128)
    y = transform(specgram)
    assert y.dtype == dtype
    assert torch.equal(y, transform(specgram.float()).to(dtype))


def test_autocast_changes_nothing():
    transform = PhaseInversion(512, 2, hop_length=128)
    expected = transform(spectrogram())
    with torch.autocast("cpu", torch.bfloat16):
        found = transform(spectrogram())
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("n_iter", [0, 2])
def test_gradients_are_finite_at_zero(power, n_iter):
    specgram = spectrogram()
    specgram[:, 30:90] = 0
    specgram[..., 5:9] = 0
    specgram.requires_grad_()
    transform = PhaseInversion(512, n_iter, hop_length=128, power=power)
    transform(specgram).square().sum().backward()
    assert specgram.grad.isfinite().all() and specgram.grad.any()


def test_a_griffin_lim_checkpoint_loads():
    theirs, ours = GriffinLim(512), PhaseInversion(512)
    for name in ("n_fft", "win_length", "hop_length", "power", "momentum"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.length is theirs.length and ours.rand_init == theirs.rand_init
    state = GriffinLim(512).state_dict()
    assert PhaseInversion(512).load_state_dict(state)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        (dict(momentum=1.0), ValueError, "momentum"),
        (dict(momentum=-0.1), ValueError, "momentum"),
        (dict(power=0), ValueError, "power"),
        (dict(n_iter=-1), ValueError, "n_iter"),
        (dict(n_iter=1.5), TypeError, "n_iter"),
        (dict(length=-1), ValueError, "length"),
        (dict(hop_length=400), ValueError, "NOLA"),
        (dict(hop_length=500), ValueError, "hop_length"),
        (dict(win_length=500), ValueError, "n_fft"),
        (dict(lookahead=3), ValueError, "lookahead"),
        (dict(n_fft=10**8), ValueError, "win_length must lie in"),
        (dict(n_fft=400.5), TypeError, "win_length must be an integer"),
        (dict(window_fn=lambda n: torch.ones(n - 1)), ValueError, "399"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        PhaseInversion(**arguments)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda x: -x, ValueError, "negative"),
        (lambda x: x * torch.nan, ValueError, "finite"),
        (lambda x: x / 0, ValueError, "finite"),
        (lambda x: x + 0j, TypeError, "complex"),
        (lambda x: x[:, :80], ValueError, "mel"),
        (lambda x: x.transpose(1, 2), ValueError, "257"),
        (lambda x: x[0, 0], ValueError, "257"),
    ],
)
def test_bad_spectrograms_are_refused(power, change, error, message):
    with pytest.raises(error, match=message):
        PhaseInversion(512, power=power)(change(spectrogram()))


def double_precision(n_iter, momentum=0.99):
    """A small transform, and a spectrogram, in double precision."""
    options = dict(hop_length=20, power=1.0, momentum=momentum)
    transform = PhaseInversion(80, n_iter, **options).double()
    # Away from zero, where nothing is differentiable.
    specgram = 0.5 + spectrogram((), frames=5, n_fft=80, dtype=torch.float64)
    return transform, specgram.requires_grad_()


@pytest.mark.parametrize("n_iter, momentum", [(0, 0.99), (2, 0.0), (2, 0.99)])
def test_first_and_second_derivatives_are_right(n_iter, momentum):
    transform, specgram = double_precision(n_iter, momentum)
    # Along random directions: all of them take minutes.
    assert torch.autograd.gradcheck(transform, specgram, fast_mode=True)
    assert torch.autograd.gradgradcheck(transform, specgram, fast_mode=True)


@pytest.mark.parametrize("n_iter", [0, 2])
def test_torch_func_grad_is_the_gradient(n_iter):
    transform, specgram = double_precision(n_iter)

    def loss(x):
        return transform(x).square().sum()

    (expected,) = torch.autograd.grad(loss(specgram), specgram)
    found = torch.func.grad(loss)(specgram.detach())
    assert torch.allclose(found, expected, rtol=1e-9)


def slope(function, x, direction):
    """By central differences."""
    step = 1e-6 * direction
    return (function(x + step) - function(x - step)) / 2e-6


def in_double(kind):
    """A differentiable function, and a point inside its domain."""
    if kind == "inverter":
        config = StftConfig(16000, 512, hop_length=128)
        function = SpectrogramInverter(config).double()
        specgram = spectrogram(frames=6).transpose(1, 2)
    else:
        function, specgram = double_precision(n_iter=kind)
    return function, specgram.detach().double() + 0.1


@pytest.mark.parametrize("kind", [0, 2, "inverter"])
def test_forward_derivatives_are_slopes(kind):
    function, x = in_double(kind)
    direction = torch.randn_like(x)
    expected = slope(function, x, direction)
    value, found = torch.func.jvp(function, (x,), (direction,))
    torch.testing.assert_close(value, function(x))
    assert (found - expected).norm() < 1e-4 * expected.norm()
    with forward_ad.dual_level():
        y = function(forward_ad.make_dual(x, direction))
        found = forward_ad.unpack_dual(y).tangent
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("kind", [0, 2, "inverter"])
def test_vmap_is_a_loop(kind):
    function, x = in_double(kind)
    several = torch.stack([x, x.flip(0), 2 * x])
    found = torch.func.vmap(function)(several)
    expected = torch.stack([function(x) for x in several])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("n_iter", [0, 2])
def test_compiled_it_gives_the_same_from_the_first_call(backend, n_iter):
    code = (
        "import torch\n"
        "from speechbrain_phaseinv import PhaseInversion\n"
        f"transform = PhaseInversion(64, {n_iter}, hop_length=16)\n"
        "torch.manual_seed(0)\n"
        "x = torch.rand(2, 33, 12)\n"
        f"y = torch.compile(transform, backend={backend!r})(x)\n"
        "torch.testing.assert_close(y, transform(x), rtol=0, atol=1e-5)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("n_iter", [0, 2])
def test_another_default_device_changes_nothing(n_iter):
    transform = PhaseInversion(64, n_iter, hop_length=16)
    specgram = spectrogram(n_fft=64)
    expected = transform(specgram)
    with torch.device("meta"):
        assert torch.equal(transform(specgram), expected)


def test_built_on_meta_and_materialised_it_gives_the_same():
    transform = PhaseInversion(96, hop_length=24)
    with torch.device("meta"):
        late = PhaseInversion(96, hop_length=24)
    late.to_empty(device="cpu").load_state_dict(transform.state_dict())
    specgram = spectrogram(n_fft=96)
    assert torch.equal(late(specgram), transform(specgram))
