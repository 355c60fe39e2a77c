"""Visual Genome's own files to DualFocus training samples (section 3.2, appendix D): ``dualfocus data vg``."""

from __future__ import annotations

__all__: list[str] = []
