"""Complex numbers as pairs of real ones, [..., 2].

The definition of an inversion is written in pairs, because the runtimes of
devices, and with them ONNX, have no complex numbers. `torch.view_as_complex`
and `torch.view_as_real` lead from one to the other at no cost.
"""

import torch


def from_angle(angle):
    """exp(j angle), [...] to [..., 2]."""
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def multiply(a, b):
    """The complex product.

    Example
    -------
    >>> multiply(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    tensor([-1.,  0.])
    """
    (x, y), (u, v) = a.unbind(-1), b.unbind(-1)
    return torch.stack([x * u - y * v, x * v + y * u], dim=-1)


def modulus(z):
    """|z|, [..., 2] to [..., 1], with a gradient of zero at zero."""
    square = z.square().sum(-1, keepdim=True)
    nothing = square == 0
    size = torch.where(nothing, 1, square).sqrt()
    return torch.where(nothing, 0, size)


def nearest_real(z):
    """1 or -1, whichever is nearer, as pairs, [..., 2]."""
    x = torch.where(z[..., :1] >= 0, 1.0, -1.0).to(z)
    return torch.cat([x, torch.zeros_like(x)], dim=-1)
