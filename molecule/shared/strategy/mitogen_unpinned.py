"""Mitogen's linear strategy, for machines with few cores.

Mitogen pins its processes to cores. On two cores all workers share one of them, with the workers of every other run
that goes on, while the other core idles; here the kernel chooses (ansible_mitogen.affinity explains the policies).
"""

from __future__ import annotations

import ansible_mitogen.affinity
import ansible_mitogen.loaders
import ansible_mitogen.strategy

ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()


class StrategyModule(
    ansible_mitogen.strategy.StrategyMixin,
    ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True),
):
    """As mitogen_linear, unpinned."""
