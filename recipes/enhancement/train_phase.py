#!/usr/bin/env python3
"""Recipe to train the phase network of `Resynthesizer`.

    python train_phase.py ../../hparams/enhancement_phase.yaml \
        --data_folder SPEECH --noise_folder NOISE

Mixtures are masked, well and badly, and the network learns through the
inverter: the waveform that comes out is compared with the clean one. With the
ONNX files of published enhancers (see enhancers.py) they are among the
maskers: `--dtln FILE --gtcrn FILE --nsnet2 FILE`.

Start reading at the bottom.
"""

# ruff: noqa: E402
import sys
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import speechbrain as sb
import torch
from common.training import MuonBrain, experiment, fit
from enhancement.maskers import MaskedExcerpts, magnitude, make_mixtures
from enhancement.mixing import MORE_KINDS
from enhancement.train import prepare_all, recordings
from speechbrain.utils.distributed import run_on_main

from speechbrain_phaseinv import SpectrogramInverter, analysis, synthesis
from speechbrain_phaseinv.estimation.enhancement import EnhancementNet
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.losses import NEGLIGIBLE, critical_band_density
from speechbrain_phaseinv.noisy_phase import (
    direction,
    invert_towards,
    observe,
)
from speechbrain_phaseinv.pretrained import load_pretrained, save_pretrained


class EnhancementBrain(MuonBrain):
    """Trains an `EnhancementNet` on `MaskedExcerpts`."""

    def compute_forward(self, batch, stage):
        """The waveforms that come out, and those with the noisy phase."""
        batch = [x.to(self.device) for x in batch]
        # By turns, in the training as in the validation.
        turn = self.optimizer_step
        if stage != sb.Stage.TRAIN:
            turn = len(self.metrics)
        inverter = self.inverters[turn % len(self.inverters)]
        config, noisy = inverter.config, batch[1]
        with torch.autocast(noisy.device.type, enabled=False):
            size = magnitude(*batch, config)
            stft = analysis(noisy, config)
            known = observe(inverter, stft, size)
            samples = noisy.shape[1]
            waveform = invert_towards(inverter, size, *known, samples)
            reference = synthesis(size * direction(stft), config, samples)
            return waveform, reference

    def compute_objectives(self, predictions, batch, stage):
        """Distance to the clean waveforms; more where it does harm.

        The distance of the noisy phase's waveform is what it must not exceed.
        """
        clean = batch[0].to(self.device)
        if stage != sb.Stage.TRAIN:
            self.evaluate_waveform(predictions[0], clean, self.stft, stage)
        made = self.distance(predictions[0], clean)
        with torch.no_grad():
            noisy = self.distance(predictions[1], clean)
        harm = (made - noisy).clamp_min(0)
        return (made + self.hparams.harm_weight * harm).mean()

    def distance(self, waveform, clean):
        """Of each waveform from the clean one, at all resolutions, [batch]."""
        level = clean.square().mean(1).sqrt() + 1e-4
        margin = self.hparams.edge_frames * self.stft.hop_length
        total = 0
        for config in self.hparams.resolutions:
            losses = spectral_distances(waveform, clean, config, level, margin)
            total = total + self.hparams.convergence_weight * losses[0]
            total = total + self.hparams.compressed_weight * losses[1]
            total = total + self.hparams.complex_weight * losses[2]
        return total / len(self.hparams.resolutions)

    @staticmethod
    def is_matrix(name, parameter):
        """All matrices but the last layer's, whose rows differ in scale."""
        return parameter.dim() > 1 and "last" not in name.split(".")

    @cached_property
    def inverters(self):
        """One for each transform, by turns; all share the same layers."""
        return [
            SpectrogramInverter(x, estimator=sharing(self.hparams.network, x))
            for x in self.hparams.transforms
        ]

    @property
    def stft(self):
        """In which edges and spectral convergence are measured."""
        return self.hparams.stft


def spectral_distances(waveform, clean, config, level, margin, power=0.3):
    """How far spectra are from those of the clean speech, [batch] each.

    Arguments
    ---------
    waveform, clean : torch.Tensor, [batch, samples]
    config : StftConfig
        In which they are compared; bins weigh as critical bands do.
    level : torch.Tensor, [batch]
        Errors 25 dB below it do not count in the first distance.
    margin : int
        Samples to leave out at both ends.
    power : float
        Compression of the magnitudes.

    Returns
    -------
    convergence, compressed, complex : torch.Tensor, [batch]
        Logarithm of the magnitudes' error; mean error of the compressed
        magnitudes, and of the compressed spectra, phases included, relative
        to their mean.
    """
    density = critical_band_density(config).to(waveform)
    scale = level * config.window_tensor().square().sum().sqrt()
    margin = -(-margin // config.hop_length)
    pairs = []
    for x in (waveform, clean):
        stft = analysis(x, config) / scale[:, None, None]
        stft = torch.view_as_real(stft[:, margin : stft.shape[1] - margin])
        size = (stft.square().sum(-1) + 1e-8).sqrt()
        small = size**power
        pairs.append((size, small, stft * (small / size).unsqueeze(-1)))
    (size, small, spectrum), (other, wanted, target) = pairs
    error = (density.sqrt() * (size - other).square()).mean((1, 2))
    turned = (spectrum - target).square().sum(-1).add(1e-8).sqrt()
    mean = (density * wanted).mean((1, 2))
    return (
        (error + NEGLIGIBLE).log() / 2,
        (density * (small - wanted).abs()).mean((1, 2)) / mean,
        (density * turned).mean((1, 2)) / mean,
    )


def sharing(network, config):
    """The same network for another transform."""
    other = EnhancementNet(config, **network.hyperparameters)
    for name in ("first", "blocks", "last", "prior_scale"):
        setattr(other, name, getattr(network, name))
    return other


def warm_start(network, source):
    """Take over the layers of other weights, as far as their shapes allow."""
    trained = load_pretrained(source)
    own, other = network.state_dict(), trained.state_dict()
    if isinstance(trained, PhaseDerivativeNet):
        # Whose confidence is not relative to the theorem's.
        other["last.bias"][3] -= trained.theorems[0].confidence
    for name in own.keys() & other.keys():
        mine, theirs = own[name], other[name]
        if "blocks" in name:  # values, then gates
            mine, theirs = (x.unflatten(0, (2, -1)) for x in (mine, theirs))
        if "first" in name and mine.dim() > 1:  # what others do not see
            mine.zero_()
        shapes = zip(mine.shape, theirs.shape)
        common = tuple(slice(min(sizes)) for sizes in shapes)
        if "last" in name:  # others may not know of the noisy phase
            common = slice(len(theirs) if len(theirs) == 5 else 4), *common[1:]
        mine[common] = theirs[common]
    network.load_state_dict(own)


def mixtures(hparams):
    """Mixtures of each split; made once, and kept beside the checkpoints."""
    enhancers = {
        name: hparams[name]
        for name in ("dtln", "gtcrn", "nsnet2")
        if hparams[name] is not None
    }
    for split, seed in (("train", 0), ("valid", 1)):
        path = Path(hparams["mixture_folder"], f"{split}_mixtures.pt")
        if not path.is_file():
            speech, noise = recordings(hparams, split, MORE_KINDS)
            made = make_mixtures(
                speech,
                noise,
                hparams[f"{split}_mixtures"],
                hparams["mixture_seconds"],
                enhancers,
                (hparams["lowest_snr"], hparams["highest_snr"]),
                seed,
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(made, path)
        yield torch.load(path)


def datasets(hparams):
    """Excerpts for training, and longer ones, always the same, to choose."""
    frames = hparams["excerpt_frames"]
    train, valid = mixtures(hparams)
    return (
        MaskedExcerpts(train, frames, hparams["repeats"]),
        MaskedExcerpts(valid, 4 * frames, fixed=True),
    )


def main(argv=None):
    """Train and export, as the options say."""
    argv = sys.argv[1:] if argv is None else argv
    with experiment(argv, __file__, prepare_all) as (hparams, run_opts):
        train, valid = datasets(hparams)
        if hparams["warm_start"] is not None:
            warm_start(hparams["network"], hparams["warm_start"])
        brain = EnhancementBrain(
            modules=hparams["modules"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=hparams["checkpointer"],
        )
    fit(brain, train, valid, valid)
    run_on_main(
        save_pretrained,
        kwargs={
            "network": hparams["network"],
            "folder": Path(hparams["output_folder"], "pretrained"),
        },
    )


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # see spectrogram_inversion/train.py
    main()
