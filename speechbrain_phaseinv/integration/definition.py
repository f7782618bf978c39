"""Passes from estimates to samples: the definition, in PyTorch.

On any device, differentiable any number of times, and in operations that ONNX
has.
"""

import torch

from .least_squares import next_phasors, phase_weights, rotors
from .offset import is_offset
from .phasors import nearest_real
from .refinement import REOPENED, refine


def define(
    estimates,
    sizes,
    logs,
    state,
    pull,
    schedule,
    config,
    power,
    n_iter,
    position,
    ends,
    keep=None,
):
    """What `passes.run` returns; its arguments, by position.

    `pull` is empty where there is none.
    """
    stride, count = schedule.stride, len(schedule.offsets)
    first = REOPENED + schedule.offsets[0]
    new = schedule.offsets[-1] + 1
    weights = all_weights(estimates, logs, schedule, power)
    turns = rotors(*estimates[:2], config)
    done = [state.phasors[:, :0]]
    samples = [state.signal[:, :0]]
    for p in range(estimates.time.shape[1]):
        begin = p * stride
        known = sizes[:, begin : begin + REOPENED + new]
        held, stays = is_offset(known, config), None
        if keep is not None:
            stays = keep[:, begin : begin + REOPENED + new]
            held = held & ~stays
        held = held.unsqueeze(-1)
        last, answers = state.phasors[:, first - 1], []
        for j in range(count):
            if pull:
                share = pull[1][:, p, j].unsqueeze(-1)
                last = last + share * (pull[0][:, p, j] - last)
            turn = (x[:, p, j] for x in turns)
            weight = (x[:, p, j] for x in weights)
            found = next_phasors(last, *turn, *weight, config)
            # The phase of an offset goes on as it was.
            sign = nearest_real(last[:, :1])
            last = torch.where(held[:, first + j], sign, found)
            answers.append(last)
        valid = None
        if ends is not None:
            frames = torch.arange(stride, device=sizes.device)
            valid = frames + position + begin < ends.unsqueeze(1)
            valid = valid.to(sizes)
        phasors, hops, state = refine(
            torch.stack(answers, dim=1),
            known,
            config,
            state,
            n_iter,
            stride,
            valid,
            stays,
        )
        done.append(phasors)
        samples.append(hops)
    return torch.cat(samples, dim=1), torch.cat(done, dim=1), state


def all_weights(estimates, logs, schedule, power):
    """`phase_weights` of every estimate, from the log-magnitudes of `run`."""
    here = schedule.frames(estimates.time.shape[1], REOPENED).to(logs.device)
    return phase_weights(
        logs[:, here], logs[:, here - 1], *estimates[2:], power
    )
