r"""The least-squares step: a tridiagonal system, solved as a resistor ladder.

Smooth the complex sequence q on a path graph,

.. math::
    \min_s \sum_k l_k |s_k - q_k|^2 + \sum_{k \ge 1} g_k |s_k - s_{k-1}|^2

with real weights l, g >= 0. The normal equations are tridiagonal, real,
symmetric and positive semidefinite; only the right-hand side is complex:

.. code-block:: none

    | l0+g1   -g1                     | |s0|   |l0 q0|
    |  -g1   l1+g1+g2   -g2           | |s1| = |l1 q1|
    |         -g2     l2+g2+g3   -g3  | |s2|   |l2 q2|
    |                   -g3     l3+g3 | |s3|   |l3 q3|

Read s and q as voltages and l, g as conductances, and the graph is a ladder of
resistors. Eliminating it from one end is what an engineer does by hand: a
rung l in parallel with the series of g and all that came before. Nothing is
ever subtracted, so every number keeps its relative accuracy, whatever the
range of the weights (cf. the elimination of Grassmann, Taksar and Heyman):

.. code-block:: none

    e[0] = l[0]                        b[0] = l[0] q[0]
    r[k] = g[k] / (e[k-1] + g[k])
    e[k] = l[k] + r[k] e[k-1]          b[k] = l[k] q[k] + r[k] b[k-1]
    s[F-1] = b[F-1] / e[F-1]
    s[k] = (b[k] + g[k+1] s[k+1]) / (e[k] + g[k+1])

This module knows nothing of audio. `integration` makes phases of it.
"""

import torch

BACKENDS = ("auto", "numba", "torch")


def solve_ladder(anchor, coupling, target, backend="auto"):
    """Smooth sequences on path graphs, each in linear time.

    Differentiable once, with respect to all three inputs, at the cost of a
    second solve.

    Arguments
    ---------
    anchor : torch.Tensor, [..., freq], real
        Weights l >= 0 that draw each s[k] to its target.
    coupling : torch.Tensor, [..., freq], real
        Weights g >= 0 that draw s[k] to s[k-1]. ``coupling[..., 0]`` has no
        neighbour and is ignored.
    target : torch.Tensor, [..., freq], complex
        The sequence q.
    backend : str
        "numba", the compiled recursion, on the CPU; "torch", parallel
        scans of logarithmic depth, on any device with double precision;
        "auto", the first on the CPU and the second on CUDA.

    Returns
    -------
    solution : torch.Tensor, [..., freq], complex
        The minimiser. Where a run of coupled bins has no anchor at all it is
        not unique, and the last bin of the run takes its target.

    Raises
    ------
    ValueError
        If shapes, dtypes or the backend do not fit. Signs are not checked.

    Example
    -------
    >>> anchor = torch.tensor([1.0, 0.0, 1.0])
    >>> coupling = torch.tensor([0.0, 1.0, 1.0])
    >>> target = torch.tensor([0.0 + 0j, 9.0 + 9j, 3.0 + 0j])
    >>> solve_ladder(anchor, coupling, target).real
    tensor([0.7500, 1.5000, 2.2500])
    """
    if not anchor.shape == coupling.shape == target.shape or not anchor.dim():
        raise ValueError(
            "anchor, coupling and target must have one shape [..., freq], got "
            f"{list(anchor.shape)}, {list(coupling.shape)} and "
            f"{list(target.shape)}."
        )
    if (
        anchor.dtype not in (torch.float32, torch.float64)
        or coupling.dtype != anchor.dtype
        or target.dtype != anchor.dtype.to_complex()
    ):
        raise ValueError(
            "expected float32 weights with a complex64 target, or float64 "
            f"with complex128, got {anchor.dtype}, {coupling.dtype} and "
            f"{target.dtype}."
        )
    if target.numel() == 0:
        return target.clone()
    return _Solve.apply(anchor, coupling, target, resolve(backend, target))


def resolve(backend, tensor):
    """The backend that "auto" stands for, checked against the device."""
    if backend not in BACKENDS:
        raise ValueError(
            f"unknown backend {backend!r}: expected one of {BACKENDS}."
        )
    if backend == "auto":
        return "torch" if tensor.is_cuda else "numba"
    return backend


def compiled_serves(*tensors):
    """Whether compiled code may stand in for torch's.

    On the CPU, where no gradient is wanted and nothing is being traced.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return not wanted and all(
        x.is_cpu and x.dtype in (torch.float32, torch.float64) for x in tensors
    )


class _Solve(torch.autograd.Function):
    """The solve, and its adjoint: the matrix is symmetric, so the same solve.

    From A s = diag(l) q follows dL/d(l q) = y with A y = dL/ds, and with
    the weights' own part in A:  dL/dq = l y,
    dL/dl[k] = Re conj(y[k]) (q[k] - s[k]),
    dL/dg[k] = -Re conj(y[k] - y[k-1]) (s[k] - s[k-1]).
    """

    @staticmethod
    def forward(ctx, anchor, coupling, target, backend):
        solution = _solve(anchor, coupling, anchor, target, 1.0, backend)
        ctx.save_for_backward(anchor, coupling, target, solution)
        ctx.backend = backend
        return solution

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        anchor, coupling, target, solution = ctx.saved_tensors
        ones = torch.ones_like(anchor)
        y = _solve(anchor, coupling, ones, gradient, 0.0, ctx.backend)
        d_anchor = (y.conj() * (target - solution)).real
        d_coupling = torch.zeros_like(coupling)
        d_coupling[..., 1:] = -(y.diff().conj() * solution.diff()).real
        return d_anchor, d_coupling, anchor * y, None


def _solve(anchor, coupling, source, target, free, backend):
    """Solve A s = source * target; without an anchor, s = free * target."""
    if backend == "torch":
        return substitute(*factor(anchor, coupling), source, target, free)
    from ..kernels import ladder as _kernels

    rows = [
        x.detach().reshape(-1, x.shape[-1]).cpu().resolve_conj().contiguous()
        for x in (anchor, coupling, source, target)
    ]
    rows = [x.numpy() for x in rows]
    solution = torch.from_numpy(_kernels.solve_rows(*rows, free))
    return solution.reshape(target.shape).to(target.device)


def factor(anchor, coupling):
    """Eliminate all ladders at once: e and r of the module's docstring.

    A rung is the Moebius map e -> ((l + g) e + l g) / (e + g). Such maps
    compose as their matrices [[l + g, l g], [1, g]] do, so all prefixes follow
    from a scan of log2(freq) steps; the entries are non-negative, and no step
    subtracts. The products of weights need the range of doubles.

    Arguments
    ---------
    anchor, coupling : torch.Tensor, [..., freq], real
        As in `solve_ladder`.

    Returns
    -------
    inverse : torch.Tensor, [..., freq], float64
        1 / (e[k] + g[k+1]), zero where there is nothing to divide by.
    ratio : torch.Tensor, [..., freq], float64
        r[k]; ``ratio[..., 0]`` is zero.
    """
    l, g = anchor.double(), coupling.double()
    zero, one = torch.zeros_like(l), torch.ones_like(l)
    matrix = torch.stack([l + g, l * g, one, g], dim=-1)
    # Bin 0 starts the ladder: the constant map to l[0].
    constant = torch.stack([zero, l, zero, one], dim=-1)
    matrix = torch.cat([constant[..., :1, :], matrix[..., 1:, :]], dim=-2)
    step = 1
    while step < l.shape[-1]:
        a, b, c, d = matrix[..., step:, :].unbind(-1)
        p, q, r, s = matrix[..., :-step, :].unbind(-1)
        product = torch.stack(
            [a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s], -1
        )
        # Only ratios count: keep them from leaving the range.
        product = product * _inverse(product.amax(-1, keepdim=True))
        matrix = torch.cat([matrix[..., :step, :], product], dim=-2)
        step *= 2
    # Every prefix begins with the constant map: its first column is zero.
    e = matrix[..., 1] * _inverse(matrix[..., 3])
    inverse = _inverse(e + torch.nn.functional.pad(g[..., 1:], (0, 1)))
    ratio = g[..., 1:] * inverse[..., :-1]
    return inverse, torch.nn.functional.pad(ratio, (1, 0))


def substitute(inverse, ratio, source, target, free=1.0):
    """Carry right-hand sides source * target down and up factored ladders."""
    wide = target.to(torch.complex128)
    b = _scan(ratio.to(wide.dtype), source * wide)
    c = torch.where(inverse > 0, b * inverse, free * wide)
    # s[k] = (b[k] + g[k+1] s[k+1]) d[k], and g[k+1] d[k] is r[k+1].
    upward = torch.nn.functional.pad(ratio[..., 1:], (0, 1)).to(wide.dtype)
    return _scan(upward.flip(-1), c.flip(-1)).flip(-1).to(target.dtype)


def _scan(r, c):
    """x[k] = c[k] + r[k] x[k-1] for all k, in log2(freq) steps."""
    step = 1
    while step < c.shape[-1]:
        tail = c[..., step:] + r[..., step:] * c[..., :-step]
        c = torch.cat([c[..., :step], tail], dim=-1)
        r = torch.cat([r[..., :step], r[..., step:] * r[..., :-step]], dim=-1)
        step *= 2
    return c


def _inverse(x):
    """Reciprocal of non-negative numbers, zero for zero."""
    return torch.where(x > 0, 1 / x, 0)
