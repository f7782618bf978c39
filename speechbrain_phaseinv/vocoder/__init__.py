"""Parts of `inference.PhaseInversionVocoder`: what it takes, and online use."""
