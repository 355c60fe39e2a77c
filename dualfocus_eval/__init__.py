"""DualFocus for lmms-eval: answer from the whole image, answer from a zoomed sub-region, keep the surer one."""

__version__ = "0.1.0"
