"""The strategy that the Makefile chooses leaves it to the kernel where its processes run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MITOGEN = Path(sys.prefix).glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is but one core")
@pytest.mark.parametrize(
    ("strategy", "directory", "pinned"),
    [("mitogen_unpinned", ROOT / "molecule/shared/strategy", False), ("mitogen_linear", next(MITOGEN), True)],
)
def test_a_worker_may_run_on_each_core(strategy, directory, pinned):
    """Mitogen's own is tried as well: once it no longer pins, ours is in vain."""
    environment = {**os.environ, "ANSIBLE_STRATEGY": strategy, "ANSIBLE_STRATEGY_PLUGINS": str(directory)}
    status = "{{ lookup('ansible.builtin.file', '/proc/self/status') }}"
    argv = [Path(sys.prefix, "bin/ansible"), "localhost", "-m", "ansible.builtin.debug", "-a", f"msg={status!r}"]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    own = re.search(r"Cpus_allowed:\s*(\w+)", Path("/proc/self/status").read_text())[1]
    assert (re.search(r"Cpus_allowed:(?:\\t|\s)*(\w+)", done.stdout)[1] != own) == pinned, done.stdout
