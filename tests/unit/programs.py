"""Programs of hosts that are one file, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def program(role: str, name: str) -> ModuleType:
    """Return the program of this name of a role."""
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), ROOT / f"roles/{role}/files/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
