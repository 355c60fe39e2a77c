"""Whether a model is set up right, before hours are spent on it: what ``dualfocus check`` finds out."""
