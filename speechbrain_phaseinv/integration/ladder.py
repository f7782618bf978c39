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
resistors. An engineer eliminates a node by hand: what the node drew from its
neighbours goes to them, and its two couplings are in series. Nothing is ever
subtracted, so every number keeps its relative accuracy, whatever the range of
the weights (cf. the elimination of Grassmann, Taksar and Heyman).

The definition here eliminates every second bin at once, and the kernel one bin
after the other. This module knows nothing of audio: `least_squares` makes
phases of it.
"""

import torch

from ..backends import compiled_serves, resolve, to_arrays


def solve_ladder(anchor, coupling, target, backend="auto"):
    """Smooth sequences on path graphs, each in linear time.

    Differentiable any number of times.

    Arguments
    ---------
    anchor : torch.Tensor, [..., freq], real
        Weights l > 0 that draw each s[k] to its target.
    coupling : torch.Tensor, [..., freq], real
        Weights g >= 0 that draw s[k] to s[k-1]. ``coupling[..., 0]`` has no
        neighbour and is ignored.
    target : torch.Tensor, [..., freq], complex
        The sequence q.
    backend : str
        "auto", "numba" or "torch". "auto" is compiled on the CPU, where no
        gradient is wanted.

    Returns
    -------
    solution : torch.Tensor, [..., freq], complex
        The minimiser.

    Raises
    ------
    ValueError
        If shapes, dtypes or the backend do not fit. Signs are not checked.

    Example
    -------
    >>> anchor = torch.tensor([1.0, 1e-9, 1.0])
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
    backend = resolve(backend, anchor, coupling, target)
    parts = torch.view_as_real(target.resolve_conj())
    if backend == "torch" or not compiled_serves(
        *(x.cpu() for x in (anchor, coupling, parts))
    ):
        solution = eliminate(anchor, coupling, parts).contiguous()
        return torch.view_as_complex(solution)
    from ..kernels import ladder

    rows = [x.reshape(-1, x.shape[-1]) for x in (anchor, coupling, target)]
    solution = torch.from_numpy(ladder.solve_rows(*to_arrays(*rows)))
    return solution.reshape(target.shape).to(target.device)


def eliminate(anchor, coupling, target):
    """`solve_ladder` with the target in pairs, [..., freq, 2].

    Every second bin goes at once, and so on until one is left: log2(freq)
    steps, each of plain arithmetic.
    """
    above = torch.nn.functional.pad(coupling[..., 1:], (0, 1))
    real, imag = (anchor.unsqueeze(-1) * target).unbind(-1)
    ladder = torch.stack([anchor, real, imag, above], dim=-2)
    # The anchor is a right-hand side too, that of a target of ones.
    return _halve(ladder.unsqueeze(-1)).squeeze(-1)[..., 1:, :].mT


def _halve(ladder):
    """Solve [..., (anchor, sources, coupling to the next), freq, 1]."""
    size = ladder.shape[-2]
    if size == 1:
        return ladder[..., :-1, :, :] / ladder[..., :1, :, :]
    if size % 2:  # a lone bin, coupled to nothing, makes it even
        lone = torch.zeros_like(ladder[..., :1, :])
        lone[..., 0, :, :] = 1
        return _halve(torch.cat([ladder, lone], -2))[..., :size, :]
    pairs = ladder.unflatten(-2, (size // 2, 2)).squeeze(-1)
    kept, gone = pairs.split(1, dim=-1)
    x, left = kept[..., :-1, :, :], kept[..., -1:, :, :]
    gone, right = gone[..., :-1, :, :], gone[..., -1:, :, :]
    total = gone[..., :1, :, :] + left + right
    left, right, own = left / total, right / total, gone / total
    up = torch.nn.functional.pad(gone * right, (0, 0, 1, -1))
    x = x + gone * left + up
    solved = _halve(torch.cat([x, left * right * total], dim=-3))
    follow = torch.nn.functional.pad(solved, (0, 0, -1, 1))
    back = own + left * solved + right * follow
    return torch.cat([solved, back], dim=-1).flatten(-2).unsqueeze(-1)
