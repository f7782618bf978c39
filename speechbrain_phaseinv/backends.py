"""Which of the two forms of an inversion runs: compiled, or PyTorch's.

The definition in PyTorch serves any device, any derivative and any export; the
kernels serve the CPU. Every choice between the two is made here.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import wraps

import numpy as np
import torch
from torch.autograd import forward_ad

BACKENDS = ("auto", "numba", "torch")

# What kernels compute in.
_COMPILED = (torch.float32, torch.float64)


def resolve(backend, *tensors):
    """The backend that "auto" stands for.

    Arguments
    ---------
    backend : str
        "auto", "numba" or "torch". With "numba", tensors of another device
        make a round trip through the CPU.
    *tensors : torch.Tensor
        What it works on.

    Returns
    -------
    backend : str
        "numba" or "torch".

    Raises
    ------
    ValueError
        If there is no such backend.

    Example
    -------
    >>> resolve("auto", torch.zeros(3))
    'numba'
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"unknown backend {backend!r}: expected one of {BACKENDS}."
        )
    if backend != "auto":
        return backend
    own = all(x.device.type == "cpu" for x in tensors)
    return "numba" if own and not is_traced() else "torch"


def is_traced():
    """Whether operations are recorded or transformed rather than run.

    By an exporter, by `torch.func` or by forward-mode differentiation, which
    cannot see into a kernel. An exporter unrolls the definition: the number
    of frames is fixed then, and each adds 500 to 1,500 operations, a tenth of
    a second or more of export.
    """
    return (
        torch.compiler.is_exporting()
        or torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def eager(method):
    """A method that `torch.compile` leaves as it is.

    Kernels are compiled already, and its tracer cannot see into them.
    """

    @wraps(method)
    def call(*args, **kwargs):
        if torch.compiler.is_dynamo_compiling():
            return torch.compiler.disable(method)(*args, **kwargs)
        return method(*args, **kwargs)

    return call


def compiled_serves(*tensors):
    """Whether a kernel without a gradient may stand in for the definition."""
    if is_traced():
        return False
    # A loop, since a stream asks at every frame.
    wanted = torch.is_grad_enabled()
    for x in tensors:
        if not x.is_cpu or x.dtype not in _COMPILED:
            return False
        if wanted and x.requires_grad:
            return False
    return True


def to_arrays(*tensors):
    """C-contiguous arrays, so that each kernel is compiled only once."""
    return [
        np.ascontiguousarray(
            x.numpy()
            if x.is_cpu and not x.requires_grad
            else x.numpy(force=True)
        )
        for x in tensors
    ]


def over_signals(kernel, count, *arguments):
    """Call a kernel for all signals of a batch, some on each thread.

    Signals do not know of each other, and kernels run without Python's lock:
    the result has the same bits on any number of threads. One signal stays on
    one thread, since a frame needs the one before it.

    Arguments
    ---------
    kernel : callable
        Called with (first, stop), the range of signals, and the arguments.
    count : int
        Number of signals.
    *arguments : tuple
        Passed on.
    """
    threads = min(torch.get_num_threads(), count) if count > 1 else 1
    if threads == 1:
        kernel((0, count), *arguments)
        return
    ends = [count * i // threads for i in range(threads + 1)]
    pending = [
        _pool(threads).submit(kernel, part, *arguments)
        for part in zip(ends[1:-1], ends[2:])
    ]
    kernel((0, ends[1]), *arguments)
    for task in pending:
        task.result()


_pools = {}


def _pool(threads):
    """The threads beside the caller's, started once."""
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads - 1, "phaseinv")
    return _pools[threads]


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_pools.clear)
