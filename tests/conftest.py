"""Property tests are short, repeatable, and leave nothing in the checkout but .build."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, configuration, settings

configuration.set_hypothesis_home_dir(Path(__file__).parents[1] / ".build" / "hypothesis")
settings.register_profile(
    "repository",
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # a host that is held up is no failure
)
settings.load_profile("repository")
