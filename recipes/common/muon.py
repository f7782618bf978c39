"""Momentum with orthogonalised updates (Muon, Jordan et al. 2024).

A convolution's gradient, written as a matrix, has a few large singular values
and many small ones; AdamW follows the large ones. Muon replaces the singular
values of the averaged gradient by ones, so that every direction of the matrix
learns. The matrices are tiny here (at most 32 x 80), so the decomposition is
exact, and it is nearly free. What it gives is in
spectrogram_inversion/NOTES.md.
"""

import torch


class Muon(torch.optim.Optimizer):
    """Optimizer for the weights of convolutions and linear layers.

    Arguments
    ---------
    params : iterable of torch.Tensor
        Weights [out, in, ...], taken as matrices [out, in * ...].
    lr : float
        Size of an update's singular values.
    momentum : float
        Share of the past in the averaged gradient (Nesterov's form).
    weight_decay : float
        Shrinks the weights by this times `lr` at each update, and so keeps
        their singular values below its inverse.

    Example
    -------
    >>> weight = torch.nn.Parameter(torch.zeros(2, 3))
    >>> optimizer = Muon([weight], lr=0.1)
    >>> (weight * torch.tensor([[1.0, 0, 0], [0, 100.0, 0]])).sum().backward()
    >>> optimizer.step()
    >>> weight.detach().abs().round(decimals=3)
    tensor([[0.1000, 0.0000, 0.0000],
            [0.0000, 0.1000, 0.0000]])
    """

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.0):
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay},
        )

    @torch.no_grad()
    def step(self, closure=None):
        """Update all weights once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    self._update(p, group["lr"], group["momentum"])
        return loss

    def _update(self, p, lr, momentum):
        state = self.state[p]
        if not state:
            state["average"] = torch.zeros_like(p)
        average = state["average"].lerp_(p.grad, 1 - momentum)
        matrix = p.grad.lerp(average, momentum).flatten(1).float()
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        # The same root mean square for tall matrices as for wide ones.
        ratio = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        p.add_((u @ vh).view_as(p).to(p.dtype), alpha=-lr * ratio)
