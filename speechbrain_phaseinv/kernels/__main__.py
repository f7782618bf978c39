"""Fill the cache of compiled code: ``python -m speechbrain_phaseinv.kernels``.

For container images and the like: the first inversion then does not wait for
the compiler. Compiles what single precision needs, the gradient included.
"""

import time


def main():
    """Invert a little noise once, forth and back."""
    import torch

    from ..config import StftConfig
    from ..estimation.enhancement import EnhancementNet
    from ..estimation.network import PhaseDerivativeNet
    from ..inversion import SpectrogramInverter
    from ..mel import GeneralMelNet, mel_preset
    from ..resynthesizer import Resynthesizer
    from ..streaming import InversionStream

    start = time.perf_counter()
    config = StftConfig(16000, 64, hop_length=16)
    network = PhaseDerivativeNet(config, provisional=True, refinements=1)
    inverter = SpectrogramInverter(config, estimator=network)
    magnitude = torch.rand(1, 8, config.num_bins)
    with torch.no_grad():
        inverter(magnitude)
        stream = InversionStream(inverter)
        for frame in torch.rand(12, 1, 1, config.num_bins):
            stream.push(frame)
        GeneralMelNet(mel_preset("whisper-80")).eval()(torch.zeros(1, 1, 80))
        Resynthesizer(config, estimator=EnhancementNet(config))(
            magnitude, torch.rand(1, config.num_samples(8))
        )
    inverter(magnitude.requires_grad_()).sum().backward()
    print(f"compiled in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
