"""The network's parameters as its kernel takes them.

Arrays that share the parameters' memory are always up to date. They are kept
as long as no parameter moves.
"""

import numpy as np
from torch.nn.modules import module as _hooks

from ..backends import over_signals
from .gradient_theorem import BACKWARD_SHARE, CENTRAL_SHARE


class NetworkKernel:
    """`kernels.network.run` with the parameters of a `PhaseDerivativeNet`.

    Arguments
    ---------
    network : PhaseDerivativeNet
        Whose kernel it is.
    parameters : list of torch.Tensor
        Weight and bias of every layer, then the prior's scale, if any.
    step_scale : float
        What steps of log-magnitude are divided by.
    """

    def __init__(self, network, parameters, step_scale):
        # Kept as tensors, too, so that their places stay theirs.
        self.tensors = [x.detach().contiguous() for x in parameters]
        self.places = [x.data_ptr() for x in self.tensors]
        arrays = [x.numpy() for x in self.tensors]
        if len(arrays) % 2 == 0:
            arrays.append(np.zeros(2, arrays[0].dtype))
        *arrays, scale = arrays
        weights = tuple(x.reshape(len(x), -1) for x in arrays[::2])
        dilations = (1, *network.hyperparameters["dilations"], 1)
        slope = network.theorems[0].slope
        self.plan = network.history, network.window, network.stride
        self.given = (
            network.about,
            step_scale,
            (slope, BACKWARD_SHARE, CENTRAL_SHARE),
            scale,
            (weights, tuple(arrays[1::2]), dilations),
        )
        # For `is_current`: all parts and parameters and where they are to be
        # found, and who would change what goes in or out.
        registers = [
            register
            for module in network.modules()
            for register in (module._modules, module._parameters)
            if register
        ]
        self.counts = [(x, len(x)) for x in registers]
        self.entries = [(x, *item) for x in registers for item in x.items()]
        self.parameters = parameters
        own = {id(x) for x in network.parameters()}
        self.complete = own.issuperset(map(id, parameters))
        self.hooks = (
            network._forward_hooks,
            network._forward_pre_hooks,
            _hooks._global_forward_hooks,
            _hooks._global_forward_pre_hooks,
        )
        self.own = network.__dict__

    def holds(self, parameters):
        """Whether these are the parameters, where they were."""
        return self.places == [x.data_ptr() for x in parameters]

    def is_current(self):
        """Whether it does what a call of the network does.

        A stream asks at every frame: this takes a tenth of the time that
        finding the parameters takes.
        """
        if not self.complete or any(self.hooks) or "forward" in self.own:
            return False
        for register, count in self.counts:
            if len(register) != count:
                return False
        for register, name, part in self.entries:
            if register.get(name) is not part:
                return False
        return self.holds(self.parameters)

    def run(self, frames, begin, output):
        """Estimates of passes, without any check.

        Arguments
        ---------
        frames : numpy.ndarray, [batch, time, freq]
            Log-magnitudes.
        begin : int
            The frame that the first pass begins with.
        output : numpy.ndarray, [4, batch, passes, estimates, freq]
            Written to.
        """
        from ..kernels import network

        plan = (*self.plan, begin)
        over_signals(
            network.run, len(frames), frames, plan, *self.given, output
        )
