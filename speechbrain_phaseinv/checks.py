"""What an inverter is given: magnitudes and lengths, or why they are not."""

import torch

from .backends import is_traced

# Of the largest number there is, what a magnitude may be: sums over bins,
# frames and iterations stay finite.
LOUDEST = 1e-6


def check_magnitude(magnitude, config):
    """Magnitudes that can be inverted, or an error that helps.

    Arguments
    ---------
    magnitude : torch.Tensor, [batch, time, freq]
        Real, not negative, and far from overflow. Whole numbers and half
        precision are made floats.
    config : StftConfig
        The transform.

    Returns
    -------
    magnitude : torch.Tensor, [batch, time, freq]
        Single or double precision.

    Raises
    ------
    TypeError
        If it is no tensor, or complex.
    ValueError
        If its shape or its values cannot be magnitudes of that transform.

    Example
    -------
    >>> from speechbrain_phaseinv.stft import StftConfig
    >>> config = StftConfig(16000, n_fft=512, hop_length=128)
    >>> check_magnitude(torch.ones(1, 3, 257).half(), config).dtype
    torch.float32
    """
    if not isinstance(magnitude, torch.Tensor):
        raise TypeError(
            f"expected a torch.Tensor, got {type(magnitude).__name__}."
        )
    if magnitude.is_complex():
        raise TypeError(
            "expected magnitudes, got a complex spectrogram: pass its .abs()."
        )
    if magnitude.dtype not in (torch.float32, torch.float64):
        double = torch.get_default_dtype() == torch.float64
        magnitude = magnitude.to(torch.float64 if double else torch.float32)
    bins = config.num_bins
    if magnitude.dim() != 3 or magnitude.shape[-1] != bins:
        raise ValueError(_explain_shape(magnitude, config))
    if magnitude.numel() and not is_traced():  # whose tensors have no values
        low, high = torch.aminmax(magnitude)
        low, high = low.item(), high.item()
        most = LOUDEST * torch.finfo(magnitude.dtype).max
        if not (low >= 0 and high <= most):
            hint = ""
            if low < 0:
                hint = (
                    " A log-magnitude needs .exp() first, a spectrogram "
                    "in dB 10 ** (x / 20)."
                )
            raise ValueError(
                "magnitudes must be finite and not negative, and at most "
                f"{most:.2g}, got values from {low:g} to {high:g}.{hint}"
            )
    return magnitude


def check_lengths(lengths, magnitude):
    """Numbers of valid frames that go with magnitudes, or an error that helps.

    Arguments
    ---------
    lengths : torch.Tensor or list of int, [batch]
        In frames.
    magnitude : torch.Tensor, [batch, time, freq]

    Returns
    -------
    lengths : torch.Tensor, [batch], int

    Raises
    ------
    ValueError
        If they are not one integer within the time axis for each.

    Example
    -------
    >>> check_lengths([2, 3], torch.ones(2, 3, 257))
    tensor([2, 3])
    """
    lengths = torch.as_tensor(lengths, device=magnitude.device)
    batch, time = magnitude.shape[:2]
    whole = not lengths.is_floating_point() and lengths.dtype != torch.bool
    if lengths.shape != (batch,) or not whole:
        raise ValueError(
            f"expected {batch} integer lengths in frames, got "
            f"{lengths.dtype} of shape {list(lengths.shape)}."
        )
    if not is_traced() and ((lengths < 0) | (lengths > time)).any():
        raise ValueError(
            f"lengths must lie in [0, {time}], got {lengths.tolist()}."
        )
    return lengths


def _explain_shape(magnitude, config):
    """What is wrong with a spectrogram's shape, and what to do."""
    shape = list(magnitude.shape)
    message = (
        f"expected magnitudes [batch, time, {config.num_bins}] for n_fft = "
        f"{config.n_fft}, got shape {shape}."
    )
    if magnitude.dim() == 3 and magnitude.shape[1] == config.num_bins:
        message += " Time and frequency look swapped: use .transpose(1, 2)."
    elif magnitude.dim() and magnitude.shape[-1] in (40, 64, 80, 100, 128):
        message += (
            f" {shape[-1]} bins look like a mel spectrogram: turn it into "
            "linear magnitudes first."
        )
    elif magnitude.dim() == 2:
        message += " Add the batch axis: use .unsqueeze(0)."
    return message
