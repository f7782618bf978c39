#!/usr/bin/env python3
"""Recipe to train the network that estimates phase derivatives.

    python train.py ../../hparams/train.yaml --data_folder /path/to/speech

Two stages in one run. In its first updates the network learns the derivatives
of the true phase. From then on it learns through the inverter's own step:
each rollout inverts the next frames of an excerpt, from the state that the
last one left, and the magnitudes of its waveform, at several resolutions, are
compared with the recording's.

Start reading at the bottom.
"""

# ruff: noqa: E402
import sys
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import speechbrain as sb
import torch
from common.audio import datasets
from common.prepare import prepare_data
from common.training import MuonBrain, experiment, fit
from speechbrain.utils.distributed import run_on_main

from speechbrain_phaseinv import SpectrogramInverter, analysis, synthesis
from speechbrain_phaseinv.estimation.derivatives import (
    PhaseDerivatives,
    phase_derivatives,
)
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.losses import derivative_loss
from speechbrain_phaseinv.pretrained import load_pretrained, save_pretrained


class PhaseBrain(MuonBrain):
    """Trains a `PhaseDerivativeNet`; an update is one rollout."""

    criterion = "sc"

    def fit_batch(self, batch):
        """Invert a batch of excerpts, with an update after each rollout.

        Arguments
        ---------
        batch : torch.Tensor, [batch, samples]
            Excerpts of recordings.

        Returns
        -------
        loss : torch.Tensor, scalar
        """
        self.begin_excerpts(batch.to(self.device))
        losses = []
        for _ in range(self.hparams.rollouts):
            losses.append(super().fit_batch(batch))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def begin_excerpts(self, waveform):
        """Analyse excerpts; the first rollout begins with the true phase."""
        stft = analysis(waveform, self.stft)
        # Some recordings have one, which would drown all else in the objective.
        self.offset = waveform.mean(1, keepdim=True)
        self.waveform = waveform
        self.target = stft
        self.magnitude = self.input_magnitude(stft)
        sound = waveform - self.offset
        self.level = sound.square().mean(1).sqrt() + 1e-4
        # With or without a hop of delay, by turns.
        turn = self.optimizer_step // self.hparams.rollouts
        self.inverter = self.inverters[turn % len(self.inverters)]
        # The first frames hang over the excerpt's border: context only.
        trimmed = -(-self.stft.trim // self.stft.hop_length)
        context = self.hparams.edge_frames + self.hparams.network.history + 1
        start = max(context, self.overlap + trimmed)
        self.seen = start + self.inverter.schedule.delay
        past = torch.polar(self.magnitude, stft.angle())[:, : self.seen]
        self.state = self.inverter.start(past)
        # What has come out so far, were its phases true.
        samples = self.state.position * self.stft.hop_length - self.stft.trim
        committed = past[:, : self.state.position]
        self.output = synthesis(committed, self.stft, samples)

    def compute_forward(self, batch, stage):
        """One rollout (training), or a whole inversion (evaluation).

        Arguments
        ---------
        batch : torch.Tensor, [batch, samples]
            In training, the argument of `begin_excerpts`.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        predictions : dict
            "waveform", and in training "estimates" and "position", the first
            frame that the rollout emitted.
        """
        if stage != sb.Stage.TRAIN:
            batch = batch.to(self.device)
            magnitude = self.input_magnitude(analysis(batch, self.stft))
            inverter = SpectrogramInverter(
                self.stft, estimator=self.hparams.network
            )
            return {"waveform": inverter(magnitude, length=batch.shape[1])}
        position, seen = self.state.position, self.seen
        self.seen += self.hparams.rollout_frames
        new = self.magnitude[:, seen : self.seen]
        estimates, state = self.inverter.estimate(new, self.state)
        # The solver and all angles stay in single precision under autocast.
        with torch.autocast(new.device.type, enabled=False):
            output, state = self.inverter.synthesise(estimates, state)
            # The hops before, the rollout's hops, and one that is pending.
            hop = self.stft.hop_length
            pending = self.inverter.pending(state)[:, :hop]
            before = self.output[:, -self.overlap * hop :]
            waveform = torch.cat([before, output, pending], dim=1)
        self.output, self.state = output.detach(), state.detach()
        return {
            "waveform": waveform,
            "estimates": estimates,
            "position": position,
        }

    def compute_objectives(self, predictions, batch, stage):
        """The loss of a rollout, or the spectral convergence, in dB.

        Arguments
        ---------
        predictions : dict
            From `compute_forward`.
        batch : torch.Tensor, [batch, samples]
            The recordings.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        loss : torch.Tensor, scalar
        """
        if stage != sb.Stage.TRAIN:
            metrics = self.evaluate_waveform(
                predictions["waveform"], batch, self.stft, stage
            )
            return torch.tensor(metrics["sc"])
        with torch.autocast(self.magnitude.device.type, enabled=False):
            loss = self.derivative_objective(predictions)
            if self.optimizer_step < self.hparams.derivative_steps:
                return loss
            loss = self.hparams.derivative_weight * loss
            return loss + self.magnitude_objective(
                predictions["waveform"], predictions["position"]
            )

    def derivative_objective(self, predictions):
        """Errors of all estimates, weighted by the root magnitude."""
        estimates = predictions["estimates"]
        frames = self.inverter.schedule.frames(
            estimates.time.shape[1], predictions["position"]
        ).flatten()
        # One frame more: its derivative over time needs the one before.
        first = frames.min() - 1
        target = phase_derivatives(
            self.target[:, first : frames.max() + 1], self.stft
        )
        target = PhaseDerivatives(*(x[:, frames - first] for x in target))
        predicted = PhaseDerivatives(*(x.flatten(1, 2) for x in estimates[:2]))
        weight = self.magnitude[:, frames].sqrt()
        return sum(derivative_loss(predicted, target, weight))

    def magnitude_objective(self, waveform, position):
        """Magnitudes of the resynthesised rollout, at all resolutions."""
        # A frame begins half a window before its centre.
        first = position - self.overlap
        begin = first * self.stft.hop_length - self.stft.trim
        target = self.waveform[:, begin : begin + waveform.shape[1]]
        total = 0
        for config in self.hparams.resolutions:
            loss = self.hparams.magnitude_loss(
                waveform - self.offset,
                target - self.offset,
                config,
                self.level,
                margin=self.hparams.edge_frames * self.stft.hop_length,
            )
            total = total + self.hparams.convergence_weight * loss.convergence
            total = total + self.hparams.compressed_weight * loss.compressed
        return total / len(self.hparams.resolutions)

    @staticmethod
    def is_matrix(name, parameter):
        """All matrices but the last layer's.

        Its rows mean different things, each with a scale of its own, which
        AdamW adapts to.
        """
        return parameter.dim() > 1 and "last" not in name.split(".")

    def input_magnitude(self, stft):
        """The magnitudes to invert: the true ones, or what a front end, such
        as a mel spectrogram and its inversion, makes of them."""
        front_end = getattr(self.hparams, "front_end", None)
        magnitude = stft.abs()
        return magnitude if front_end is None else front_end(magnitude)

    @cached_property
    def inverters(self):
        """One; of a network that estimates its look-ahead frame, two."""
        network, trained = self.hparams.network, self.modules.network
        # Where processes share gradients, the network is in a wrapper.
        for name in ("schedule", "power", "refinements"):
            if hasattr(network, name) and not hasattr(trained, name):
                setattr(trained, name, getattr(network, name))
        delays = [network.schedule.lookahead]
        if network.schedule.estimates_lookahead:
            delays = self.hparams.delays
        return [SpectrogramInverter(self.stft, x, trained) for x in delays]

    @property
    def stft(self):
        """The STFT that is inverted."""
        return self.hparams.stft

    @property
    def overlap(self):
        """Earlier frames whose windows reach into a frame's first hop."""
        return -(-self.stft.win_length // self.stft.hop_length) - 1


def warm_start(network, source):
    """Copy the channels that a network shares with other trained weights.

    The channels of the first layer and of the last one come in the same order
    for every operating point.
    """
    other = load_pretrained(source).state_dict()
    own = network.state_dict()
    for name in own.keys() & other.keys():
        shapes = zip(own[name].shape, other[name].shape)
        common = tuple(slice(min(sizes)) for sizes in shapes)
        own[name][common] = other[name][common]
    network.load_state_dict(own)


def main(argv=None):
    """Train, test and export, as the options say."""
    argv = sys.argv[1:] if argv is None else argv
    with experiment(argv, __file__, prepare_data) as (hparams, run_opts):
        data = datasets(hparams, hparams["augment"])
        if hparams["warm_start"] is not None:
            warm_start(hparams["network"], hparams["warm_start"])
        brain = PhaseBrain(
            modules=hparams["modules"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=hparams["checkpointer"],
        )
    fit(brain, *data, updates_per_batch=hparams["rollouts"])
    # Any other network stays in its checkpoint.
    if isinstance(hparams["network"], PhaseDerivativeNet):
        run_on_main(
            save_pretrained,
            kwargs={
                "network": hparams["network"],
                "folder": Path(hparams["output_folder"], "pretrained"),
            },
        )


if __name__ == "__main__":
    # Numbers of 1e-40, common where gates saturate or weights vanish, take a
    # processor many times longer than others, and mean nothing here.
    torch.set_flush_denormal(True)
    main()
