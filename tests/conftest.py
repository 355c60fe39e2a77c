"""Hypothesis profiles: 1,000 examples by default, 100,000 under HYPOTHESIS_PROFILE=prove."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("default", max_examples=1_000, deadline=None)
settings.register_profile(
    "prove", max_examples=100_000, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
