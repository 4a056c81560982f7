"""The charts of the benchmarks, as SVG that is the same for the same figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def pyplot() -> Any:
    """Return matplotlib's pyplot, which only `make bench-NAME` installs."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "auditdb"
    return plt


def bars(axis: Any, values: Mapping[str, float], colours: Sequence[str]) -> None:
    """Draw a bar for each value, which it says, the first on top."""
    drawn = axis.barh(range(len(values)), [*values.values()], color=colours)
    axis.bar_label(drawn, fmt="{:.0f}", fontsize=7, padding=2)
    axis.margins(x=0.25)
    axis.set_yticks(range(len(values)), [*values], fontsize=7)
    axis.invert_yaxis()


def save(figure: Any, file: Path) -> None:
    """Write the chart."""
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
