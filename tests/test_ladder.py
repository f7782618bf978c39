"""The ladder against dense solves, SciPy and finite differences."""

import numpy as np
import pytest
import scipy.linalg
import torch

from speechbrain_phaseinv.integration.ladder import solve_ladder

BACKENDS = ("numba", "torch")


def system(freq, rows=3, decades=2.0, dtype=torch.float64, seed=0):
    """Weights spread over decades, and targets on the unit circle."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(3, rows, freq, generator=generator, dtype=dtype)
    anchor, coupling = 10 ** (-decades * uniform[:2])
    target = torch.polar(torch.ones_like(anchor), 6.28 * uniform[2])
    return anchor, coupling, target


def dense_matrix(anchor, coupling):
    """The normal equations, written out from the energy."""
    freq = anchor.shape[-1]
    difference = torch.eye(freq) - torch.diag(torch.ones(freq - 1), -1)
    difference = difference[1:].to(anchor.dtype)
    return torch.diag_embed(anchor) + difference.T @ (
        coupling[..., 1:, None] * difference
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("freq", [1, 2, 3, 8, 9, 257, 513])
def test_equals_a_dense_solve(backend, freq):
    anchor, coupling, target = system(freq)
    matrix = dense_matrix(anchor, coupling).to(target.dtype)
    expected = torch.linalg.solve(matrix, anchor * target)
    found = solve_ladder(anchor, coupling, target, backend)
    assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_scipy_banded(backend):
    anchor, coupling, target = system(257, rows=1, decades=4)
    l, g, q = (x[0].numpy() for x in (anchor, coupling, target))
    above = np.append(g[1:], 0)
    bands = np.zeros((2, 257))
    bands[0, 1:] = -g[1:]
    bands[1] = l + above + np.append(0, g[1:])
    expected = scipy.linalg.solveh_banded(bands, l * q)
    found = solve_ladder(anchor, coupling, target, backend)[0].numpy()
    assert np.abs(found - expected).max() < 1e-10


@pytest.mark.parametrize("backend", BACKENDS)
def test_is_the_minimiser(backend):
    # The gradient of the energy itself, by automatic differentiation.
    anchor, coupling, target = system(50, decades=6)
    s = solve_ladder(anchor, coupling, target, backend).requires_grad_()
    energy = (anchor * (s - target).abs() ** 2).sum()
    energy = energy + (coupling[..., 1:] * s.diff().abs() ** 2).sum()
    (gradient,) = torch.autograd.grad(energy, s)
    assert gradient.abs().max() < 1e-14


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_is_accurate_over_twelve_decades(backend):
    # Inputs are exact in both. The kernel, which works in doubles, is right
    # even where targets cancel. LAPACK's cptsv fails on many such frames:
    # benchmarks/solver.py, "rough" weights.
    anchor, coupling, target = system(257, 20, decades=12, dtype=torch.float32)
    exact = solve_ladder(
        anchor.double(), coupling.double(), target.to(torch.complex128)
    )
    found = solve_ladder(anchor, coupling, target, backend)
    assert found.dtype == torch.complex64
    error = (found - exact).abs()
    assert error.max() < 1e-6
    if backend == "numba":
        assert (error / exact.abs()).max() < 1e-7


def test_doubles_are_accurate_over_thirty_decades():
    # Against rational arithmetic, which does not round at all.
    from fractions import Fraction

    anchor, coupling, target = system(33, rows=1, decades=30)
    l = [Fraction(x) for x in anchor[0].tolist()]
    g = [Fraction(x) for x in coupling[0].tolist()]
    for part in ("real", "imag"):
        q = [Fraction(x) for x in getattr(target, part)[0].tolist()]
        d = [
            l[k] + (g[k] if k else 0) + (g[k + 1] if k < 32 else 0)
            for k in range(33)
        ]
        b = [l[k] * q[k] for k in range(33)]
        for k in range(1, 33):  # Thomas
            factor = -g[k] / d[k - 1]
            d[k] += factor * g[k]
            b[k] -= factor * b[k - 1]
        s = [Fraction(0)] * 34
        for k in reversed(range(33)):
            s[k] = (b[k] + (g[k + 1] * s[k + 1] if k < 32 else 0)) / d[k]
        exact = np.array([float(x) for x in s[:33]])
        for backend in BACKENDS:
            found = solve_ladder(anchor, coupling, target, backend)
            found = getattr(found[0], part).numpy()
            assert np.abs(found / exact - 1).max() < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_only_ratios_of_weights_count(backend, scale):
    anchor, coupling, target = system(257)
    one = solve_ladder(anchor, coupling, target, backend)
    other = solve_ladder(scale * anchor, scale * coupling, target, backend)
    assert (one - other).abs().max() < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_couplings_and_next_to_no_anchors(backend):
    target = torch.polar(torch.ones(6), torch.arange(6.0))
    ones, weak = torch.ones(6), torch.full((6,), 1e-30)
    zeros = torch.zeros(6)
    for anchor in (ones, weak):  # no coupling: the targets
        found = solve_ladder(anchor, zeros, target, backend)
        assert torch.allclose(found, target)
    # Nothing but weak anchors: all bins take the mean.
    found = solve_ladder(weak, ones, target, backend)
    assert torch.allclose(found, target.mean().expand(6), atol=1e-5)
    # One anchor: every bin follows it.
    found = solve_ladder(weak + torch.eye(6)[2], ones, target, backend)
    assert torch.allclose(found, target[2].expand(6))
    # Two runs that are not coupled.
    found = solve_ladder(
        weak + torch.eye(6)[0] + torch.eye(6)[5],
        torch.tensor([0.0, 1, 1, 0, 1, 1]),
        target,
        backend,
    )
    assert torch.allclose(found, target[[0, 0, 0, 5, 5, 5]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("freq", [1, 2, 9])
def test_gradients_equal_finite_differences(backend, freq):
    inputs = [x.requires_grad_() for x in system(freq, rows=2)]

    def solve(*tensors):
        return torch.view_as_real(solve_ladder(*tensors, backend))

    assert torch.autograd.gradcheck(solve, inputs)
    assert torch.autograd.gradgradcheck(solve, inputs, fast_mode=True)


def test_gradients_at_the_weakest_anchors_are_finite():
    anchor = torch.full((1, 5), 1e-35, requires_grad=True)
    _, coupling, target = system(5, rows=1, dtype=torch.float32)
    solve_ladder(anchor, coupling, target).real.sum().backward()
    assert anchor.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_leading_shape_and_memory_layout(backend):
    anchor, coupling, target = system(12, rows=24)
    flat = solve_ladder(anchor, coupling, target, backend)
    shaped = solve_ladder(
        *(x.reshape(2, 3, 4, 12) for x in (anchor, coupling, target)), backend
    )
    assert torch.equal(shaped.reshape(24, 12), flat)
    strided = solve_ladder(
        *(x.T.contiguous().T for x in (anchor, coupling, target)), backend
    )
    assert torch.equal(strided, flat)
    empty = solve_ladder(anchor[:0], coupling[:0], target[:0], backend)
    assert empty.shape == (0, 12)


def test_work_is_linear_in_the_number_of_bins():
    # Operations, not seconds: each of the kernel's loops visits a bin once,
    # so its own bytecode, counted while it runs uncompiled, grows as F.
    from speechbrain_phaseinv.kernels import ladder as kernel

    def count(freq):
        anchor, coupling, target = (x.numpy() for x in system(freq, rows=1))
        reads = 0

        class Counted(np.ndarray):
            def __getitem__(self, index):
                nonlocal reads
                reads += 1
                return super().__getitem__(index)

        ratio = np.zeros((1, freq)).view(Counted)
        inverse = np.ones((1, freq)).view(Counted)
        solution = np.empty(freq, dtype=complex).view(Counted)
        kernel.factor.py_func(
            anchor.view(Counted),
            coupling.view(Counted),
            ratio,
            inverse,
            np.empty(kernel.LANES),
        )
        kernel.substitute.py_func(
            ratio[0], inverse[0], anchor[0], target[0], solution
        )
        return reads

    assert count(2048) / count(1024) == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda l, g, q: (l[..., :-1], g, q), "one shape"),
        (lambda l, g, q: (l.float(), g, q), "float32"),
        (lambda l, g, q: (l, g, q.real), "complex128"),
        (lambda l, g, q: (l.long(), g.long(), q), "int64"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        solve_ladder(*change(*system(9)))


def test_unknown_backends_are_refused():
    with pytest.raises(ValueError, match="unknown backend 'cuda'"):
        solve_ladder(*system(9), "cuda")
