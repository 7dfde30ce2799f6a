"""Front ends as graphs: log-mel spectrograms, Kaldi's filterbanks and MFCC, from their definitions."""
