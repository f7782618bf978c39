"""Where other systems call a vocoder: objects of their interfaces."""

import numpy as np
import pytest
import torch
from conftest import synthetic_speech

pytest.importorskip("speechbrain.inference.interfaces")

from speechbrain_phaseinv.inference import (
    PhaseInversionVocoder,
    TorchaudioVocoder,
)
from speechbrain_phaseinv.mel import log_mel, mel_preset
from speechbrain_phaseinv.stft import analysis

HOP = 256


def vocoder_of(mel):
    return PhaseInversionVocoder.from_hparams("mel", mel=mel)


def mels(name, seconds=0.4):
    """[1, time, n_mels]."""
    config = mel_preset(name)
    waveform = synthetic_speech(seconds, config.stft.sample_rate).float()
    return log_mel(analysis(waveform, config.stft).abs(), config)


def bundle_of(vocoder):
    """A bundle of torchaudio, its Tacotron2 in the way to be untrained."""
    pipelines = pytest.importorskip("torchaudio.pipelines")

    class Bundle(pipelines.Tacotron2TTSBundle):
        def get_text_processor(self, dl_kwargs=None):
            return lambda text: (torch.ones(2, 9), torch.tensor([9, 7]))

        def get_tacotron2(self, dl_kwargs=None):
            return self

        def infer(self, tokens, lengths):
            mel = mels("speechbrain-22050").transpose(1, 2)
            return mel.repeat(2, 1, 1), torch.tensor([35, 20]), None

        def get_vocoder(self, dl_kwargs=None):
            return vocoder

    return Bundle()


@pytest.mark.parametrize("name", ["speechbrain-22050", "hifigan-22050"])
def test_a_torchaudio_bundle_gets_waveforms_and_their_lengths(name):
    ours = vocoder_of(name)
    bundle = bundle_of(TorchaudioVocoder(ours))
    # As in torchaudio's tutorial.
    processor = bundle.get_text_processor()
    tacotron2, vocoder = bundle.get_tacotron2(), bundle.get_vocoder()
    processed, lengths = processor(["one text", "another"])
    spec, spec_lengths, _ = tacotron2.infer(processed, lengths)
    waveforms, lengths = vocoder(spec, spec_lengths)
    assert vocoder.sample_rate == 22050
    frames = [34, 19] if name == "speechbrain-22050" else [35, 20]
    assert lengths.tolist() == [HOP * n for n in frames]
    assert waveforms.shape == (2, HOP * frames[0])
    alone = ours.decode_spectrogram(spec[1, :, :20])
    assert torch.equal(waveforms[1, : lengths[1]], alone[0])
    assert not waveforms[1, lengths[1] :].any()


def test_without_lengths_there_are_none_and_of_nothing_none_come_out():
    vocoder = TorchaudioVocoder(vocoder_of("hifigan-22050"))
    spec = mels("hifigan-22050").transpose(1, 2)
    waveforms, lengths = vocoder(spec)
    assert waveforms.shape == (1, HOP * spec.shape[2]) and lengths is None
    assert vocoder(spec, torch.tensor([0], dtype=torch.int32))[1].item() == 0
    with pytest.raises(ValueError, match="lengths must lie in"):
        vocoder(spec, [36])


def test_espnet_gets_one_waveform_of_frames():
    class Text2Speech:
        """What of espnet2.bin.tts_inference is about vocoders."""

        vocoder = None

        def __call__(self, feat_gen):
            return {"feat_gen": feat_gen, "wav": self.vocoder(feat_gen)}

    vocoder, text2speech = vocoder_of("espnet-24000"), Text2Speech()
    text2speech.vocoder = lambda mel: vocoder.decode_spectrogram(mel.T)[0]
    frames = mels("espnet-24000")[0]
    wav = text2speech(frames)["wav"]
    assert wav.shape == (300 * (len(frames) - 1),)
    assert torch.equal(wav, vocoder(frames.T[None])[0, 0])


def test_coqui_gets_a_waveform_of_numpy():
    class AudioProcessor:
        """What of TTS.utils.audio is about vocoders."""

        def inv_melspectrogram(self, mel_spectrogram):
            raise NotImplementedError

    def inv_spectrogram(postnet_output, ap):  # TTS.tts.utils.synthesis
        return ap.inv_melspectrogram(postnet_output.T)

    vocoder, ap = vocoder_of("coqui-22050"), AudioProcessor()
    ap.inv_melspectrogram = lambda mel: vocoder.decode_spectrogram(
        torch.from_numpy(mel)
    )[0].numpy()
    frames = mels("coqui-22050", 1.0)[0]
    wav = inv_spectrogram(frames.numpy(), ap)
    assert isinstance(wav, np.ndarray) and wav.dtype == np.float32
    assert wav.shape == (HOP * (len(frames) - 1),) and wav.any()
