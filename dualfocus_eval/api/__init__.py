"""The Python API. Its names are public in ``dualfocus_eval`` itself."""
