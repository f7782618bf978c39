"""A vocoder in torchaudio's text-to-speech bundles."""

import torch

from .input import count_frames


class TorchaudioVocoder(torch.nn.Module):
    """A vocoder in the place of one of torchaudio's text-to-speech bundles.

    It is called as what ``Tacotron2TTSBundle.get_vocoder`` returns, and gives
    waveforms and their lengths.

    Arguments
    ---------
    vocoder : PhaseInversionVocoder
        "mel80-22050" for the bundles as they are.

    Example
    -------
    >>> from speechbrain_phaseinv.inference import PhaseInversionVocoder
    >>> mel, lengths = 2 * torch.randn(2, 80, 30) - 6, torch.tensor([30, 20])
    >>> vocoder = PhaseInversionVocoder.from_hparams("mel80-22050")
    >>> waveforms, lengths = TorchaudioVocoder(vocoder)(mel, lengths)
    >>> waveforms.shape, lengths
    (torch.Size([2, 7424]), tensor([7424, 4864]))
    """

    def __init__(self, vocoder):
        super().__init__()
        self.vocoder = vocoder

    @property
    def sample_rate(self):
        """Of the waveforms, in Hz."""
        return self.vocoder.hparams.stft.sample_rate

    def forward(self, specgrams, lengths=None):
        """Waveforms of a batch of spectrograms.

        Arguments
        ---------
        specgrams : torch.Tensor, [batch, mels, time]
            As `PhaseInversionVocoder.decode_batch` takes them.
        lengths : torch.Tensor, [batch], optional
            Valid frames of each.

        Returns
        -------
        waveforms : torch.Tensor, [batch, samples]
            Zeros past the end of each.
        lengths : torch.Tensor, [batch], int64, or None
            Samples of each; None where no `lengths` were given.
        """
        waveforms = self.vocoder.decode_batch(specgrams, lengths).squeeze(1)
        if lengths is not None:
            frames = count_frames(lengths, specgrams.transpose(1, 2))
            lengths = self.vocoder.hparams.stft.num_samples(frames)
        return waveforms, lengths
