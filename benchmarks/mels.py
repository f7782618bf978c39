"""Every mel convention by name: our vocoder beside InverseMelScale and
Griffin-Lim.

    python benchmarks/mels.py RECORDINGS [--mels NAME ...] [--iterations 32]

RECORDINGS are files or folders of speech of any rate, resampled to that of
each convention. All methods get the same mel spectrograms, framed as the
convention says, and one thread; the clock counts CPU time from the mel
spectrogram to the waveform. "Updates" are our phase of magnitudes found
without training; "ours" is the vocoder as it is, with the network for any mel
spectrogram or the one for these bands; with --general, always the former.

What is scored lies between the centres of the first and the last frame. The
mels of the peer are sums of magnitudes, or of powers, for torchaudio's
InverseMelScale, whose least squares get LAPACK's gelsd: its default fails where
bands are empty. Griffin-Lim is torchaudio's, random phases from seed 0.
"""

# The threads have to be set before the libraries are imported.
# ruff: noqa: E402
import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import time
import warnings
from dataclasses import replace

import torch
from torchaudio.transforms import InverseMelScale

from speechbrain_phaseinv.audio import read_audio, resample
from speechbrain_phaseinv.evaluation.compare import recordings
from speechbrain_phaseinv.evaluation.methods import torchaudio_griffin_lim
from speechbrain_phaseinv.evaluation.scores import score
from speechbrain_phaseinv.inference import PhaseInversionVocoder
from speechbrain_phaseinv.mel import (
    available_mels,
    log_mel,
    mel_front_end,
    mel_preset,
    natural_log,
)
from speechbrain_phaseinv.stft import analysis

SCORES = ("pesq_wb", "estoi")


def mels_of(waveform, config):
    """A mel spectrogram, [batch, n_mels, time], framed as its config says."""
    stft = analysis(waveform, config.stft)
    return log_mel(stft.abs(), config).transpose(1, 2)


def first_centre(config):
    """Sample on which the first frame is centred."""
    return config.stft.n_fft // 2 - config.stft.pad_length


def peer_of(config, n_iter):
    """InverseMelScale and Griffin-Lim, from the first frame's centre on."""
    stft = config.stft
    inverse = InverseMelScale(
        stft.num_bins,
        config.n_mels,
        stft.sample_rate,
        config.f_min,
        config.f_max,
        config.norm,
        config.scale,
        driver="gelsd",
    )
    invert = torchaudio_griffin_lim(replace(stft, padding="center"), n_iter)

    def vocode(mel):
        sums = natural_log(mel.transpose(1, 2), config).exp()
        magnitude = inverse(sums.transpose(1, 2)) ** (1 / config.power)
        samples = stft.hop_length * (mel.shape[2] - 1)
        return invert(magnitude.transpose(1, 2), samples)

    return vocode


def ours_of(config, network="auto"):
    """Our vocoder, from the first frame's centre on."""
    vocoder = PhaseInversionVocoder.from_hparams(source="mel", mel=config)
    if network != "auto":
        front_end = mel_front_end(config, network)
        vocoder.mods["front_end"] = front_end.requires_grad_(False)
    first = first_centre(config)

    def vocode(mel):
        samples = config.stft.hop_length * (mel.shape[2] - 1)
        return vocoder(mel)[:, 0, first : first + samples]

    return vocode


@torch.inference_mode()
def measure(name, files, n_iter, network="auto"):
    """Means over the files: a row of scores and real-time factor a method."""
    config = mel_preset(name)
    rate, first = config.stft.sample_rate, first_centre(config)
    methods = {
        "peer": peer_of(config, n_iter),
        "updates": ours_of(config, "none"),
        "ours": ours_of(config, network),
    }
    found = {method: [] for method in methods}
    for i, file in enumerate(files):
        audio, own_rate, _ = read_audio(file)
        waveform = torch.from_numpy(resample(audio, own_rate, rate)).float()
        mel = mels_of(waveform, config)
        samples = config.stft.hop_length * (mel.shape[2] - 1)
        target = waveform[:, first : first + samples]
        for method, vocode in methods.items():
            if i == 0:
                vocode(mel)  # kernels are loaded before the clock runs
            start = time.process_time()
            estimate = vocode(mel)[:, : target.shape[1]]
            seconds = time.process_time() - start
            scores = score(target, estimate, config.stft, SCORES)
            # What cannot be computed, as PESQ without its package, is NaN.
            row = [float("nan") if x is None else x for x in scores.values()]
            found[method].append([*row, seconds * rate / samples])
    return {
        method: torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
        for method, rows in found.items()
    }


def main(arguments=None):
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--mels", nargs="+", default=available_mels())
    parser.add_argument("--iterations", type=int, default=32)
    parser.add_argument("--general", action="store_true")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", "this mel spectrogram is unusual")
    torch.set_num_threads(1)
    files = recordings(options.recordings)
    peer = f"InverseMelScale, Griffin-Lim {options.iterations}"
    print(f"{len(files)} recordings: PESQ-WB, ESTOI, real-time factor\n")
    print(f"| mel spectrogram | {peer} | updates | ours | PESQ gained |")
    print("|---|---|---|---|---|")
    network = "general" if options.general else "auto"
    gains = []
    for name in options.mels:
        rows = measure(name, files, options.iterations, network)
        cells = ["{:.2f} {:.3f} {:.4f}".format(*x) for x in rows.values()]
        gains.append(rows["ours"][0] - rows["peer"][0])
        print(
            f"| {name} | {' | '.join(cells)} | {gains[-1]:+.2f} |", flush=True
        )
    print(f"| mean | | | | {sum(gains) / len(gains):+.2f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
