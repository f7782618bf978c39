#!/usr/bin/env python3
"""Recipe to train the network that estimates phase derivatives.

    python train.py ../../hparams/train.yaml --data_folder /path/to/speech

Two stages in one run. For its first steps the network learns the derivatives
of the true phase. From then on it learns through the whole inverter: excerpts
are inverted, rollout after rollout, each going on from the phase that the
last one left behind, and the resynthesised waveform's magnitudes, at several
resolutions, are compared with those of the recording.

Start reading at the bottom.
"""

# ruff: noqa: E402
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import speechbrain as sb
import torch
from common.audio import datasets
from common.prepare import prepare_data
from common.training import MuonBrain, experiment, fit
from speechbrain.utils.distributed import run_on_main

from speechbrain_phaseinv.estimation.derivatives import phase_derivatives
from speechbrain_phaseinv.estimation.network import PhaseDerivativeNet
from speechbrain_phaseinv.integration import recursion
from speechbrain_phaseinv.integration.least_squares import log_magnitude
from speechbrain_phaseinv.integration.passes import arrange
from speechbrain_phaseinv.integration.refinement import Heard, refine, silence
from speechbrain_phaseinv.inversion import SpectrogramInverter
from speechbrain_phaseinv.losses import derivative_loss
from speechbrain_phaseinv.pretrained import load_pretrained, save_pretrained
from speechbrain_phaseinv.stft import (
    analysis,
    overlap_add_step,
    synthesis_flush,
)


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
        magnitude = self.given(stft)
        network = self.hparams.network
        # The first frames hang over the excerpt's border: context only.
        trimmed = -(-self.stft.trim // self.stft.hop_length)
        known = self.hparams.edge_frames + network.history + 1
        start = max(known, self.overlap + trimmed)
        # Some recordings have one, which would drown all else in the objective.
        self.offset = waveform.mean(1, keepdim=True)
        self.waveform = waveform
        self.target = stft
        self.magnitude = magnitude
        self.log_magnitude = log_magnitude(magnitude)
        sound = waveform - self.offset
        self.level = sound.square().mean(1).sqrt() + 1e-4
        # With or without a hop of delay, by turns.
        self.delay = 0
        if getattr(network, "provisional", False):
            delays = self.hparams.delays
            turn = self.optimizer_step // self.hparams.rollouts
            self.delay = delays[turn % len(delays)]
        # The rollout's first frame; the first that the network has not seen;
        # the network's state.
        self.position = start
        self.fed = start - self.reanswered
        history = slice(self.fed - network.history, self.fed)
        self.state = self.log_magnitude[:, history]
        # What true frames leave for the ones to come.
        past = slice(0, start)
        phasor = stft[:, past] / stft[:, past].abs().clamp_min(1e-20)
        phasor = phasor * self.stft.centre_phasor(device=phasor.device)
        size = magnitude[:, past]
        before = silence(size[:, 0], self.stft)
        _, frames, self.heard = refine(
            phasor, size, self.stft, before, 0, start
        )
        self.made, self.synthesis = overlap_add_step(frames, self.stft)

    def compute_forward(self, batch, stage):
        """One rollout (training), or a whole inversion (evaluation).

        Arguments
        ---------
        batch : torch.Tensor, [batch, samples]
            In training, what `begin_excerpts` was given.
        stage : sb.Stage
            TRAIN, VALID or TEST.

        Returns
        -------
        predictions : dict
            "waveform", and in training "derivatives", "start" and "stop".
        """
        if stage != sb.Stage.TRAIN:
            batch = batch.to(self.device)
            magnitude = self.given(analysis(batch, self.stft))
            inverter = SpectrogramInverter(
                self.stft, estimator=self.hparams.network
            )
            return {"waveform": inverter(magnitude, length=batch.shape[1])}
        network = self.hparams.network
        start = self.position
        stop = start + self.hparams.rollout_frames
        ahead = stop + network.lookahead - self.reanswered
        derivatives, self.state = self.modules.network(
            self.log_magnitude[:, self.fed : ahead], self.state
        )
        # The solver and all angles stay in single precision under autocast.
        with torch.autocast(self.log_magnitude.device.type, enabled=False):
            again = getattr(network, "again", False)
            seen = slice(start - 1 - self.reanswered - again, ahead)
            stride = getattr(network, "stride", 1)
            passes = arrange(
                derivatives,
                self.magnitude[:, seen],
                self.log_magnitude[:, seen],
                network.power,
                stride,
            )
            _, frames, self.heard = recursion.run(
                passes,
                self.stft,
                getattr(network, "refinements", 0),
                stride,
                self.delay,
                self.heard,
            )
            made, synthesis = overlap_add_step(
                frames, self.stft, self.synthesis
            )
            # The hops before, those of the rollout, and one that is pending.
            context = self.overlap * self.stft.hop_length
            pending = synthesis_flush(self.stft, synthesis)
            waveform = torch.cat(
                [
                    self.made[:, -context:],
                    made,
                    pending[:, : self.stft.hop_length],
                ],
                dim=1,
            )
        self.made = made.detach()
        self.heard = Heard(*(x.detach() for x in self.heard))
        self.synthesis = synthesis._replace(signal=synthesis.signal.detach())
        self.position, self.fed = stop, ahead
        return {
            "waveform": waveform,
            "derivatives": derivatives,
            "start": start,
            "stop": stop,
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
        with torch.autocast(self.log_magnitude.device.type, enabled=False):
            loss = self.derivative_objective(predictions)
            if self.optimizer_step < self.hparams.derivative_steps:
                return loss
            loss = self.hparams.derivative_weight * loss
            return loss + self.magnitude_objective(predictions["waveform"])

    def derivative_objective(self, predictions):
        """Errors of the derivatives, weighted by the root magnitude."""
        found = predictions["derivatives"]
        start = predictions["start"] - self.reanswered
        stop = predictions["stop"] - self.reanswered
        loss = self.derivative_error(found, start, stop)
        if found.ahead is not None:
            ahead = self.derivative_error(found.ahead, start + 1, stop + 1)
            loss = (loss + ahead) / 2
        if found.again is not None:
            stride = self.hparams.network.stride
            again = self.derivative_error(
                found.again, start - 1, stop - 1, stride
            )
            loss = (2 * loss + again) / 3
        return loss

    def derivative_error(self, derivatives, start, stop, step=1):
        """That of both derivatives, of the frames from start to stop."""
        # One frame more: its derivative over time needs the one before.
        target = phase_derivatives(self.target[:, start - 1 : stop], self.stft)
        target = target._replace(
            time=target.time[:, 1::step],
            frequency=target.frequency[:, 1::step],
        )
        weight = self.magnitude[:, start:stop:step].sqrt()
        return sum(derivative_loss(derivatives, target, weight))

    def magnitude_objective(self, waveform):
        """Magnitudes of the resynthesised rollout, at all resolutions."""
        # A frame begins half a window before its centre.
        first = (self.position - self.hparams.rollout_frames) - self.overlap
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

    def given(self, stft):
        """The magnitudes to invert: the true ones, or what a front end, such
        as a mel spectrogram and its inversion, makes of them."""
        front_end = getattr(self.hparams, "front_end", None)
        magnitude = stft.abs()
        return magnitude if front_end is None else front_end(magnitude)

    @property
    def stft(self):
        """The STFT that is inverted."""
        return self.hparams.stft

    @property
    def reanswered(self):
        """Frames of a pass, already heard, that are answered for anew."""
        return int(
            getattr(self.hparams.network, "provisional", False)
            and self.delay == 0
        )

    @property
    def overlap(self):
        """Earlier frames whose windows reach into a frame's first hop."""
        return -(-self.stft.win_length // self.stft.hop_length) - 1


def warm_start(network, source):
    """Take over what fits of other trained weights.

    The first layer's channels come in the same order for every operating
    point, and so do the last layer's: those in common are copied.
    """
    given = load_pretrained(source).state_dict()
    own = network.state_dict()
    for name in own.keys() & given.keys():
        shapes = zip(own[name].shape, given[name].shape)
        common = tuple(slice(min(sizes)) for sizes in shapes)
        own[name][common] = given[name][common]
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
