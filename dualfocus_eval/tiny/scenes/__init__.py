"""Rendered scenes with Visual Genome annotations: the training and held-out data of the embedded checkpoint."""
