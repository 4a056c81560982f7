"""Prints, as JSON, variables of the audit roles as a play of playbooks/health.yml has them.

A process of its own, for Ansible's plugin loader changes how a whole process imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROLES = Path(__file__).resolve().parents[2] / "roles"


def declared(*names: str, **variables: Any) -> dict[str, Any]:
    """Return these variables of the roles, given others."""
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps({"names": names, "variables": variables}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.template import Templar, trust_as_template

    init_plugin_loader()
    wanted = json.load(sys.stdin)
    loader = DataLoader()
    here = ROLES / "audit_health"
    variables: dict[str, Any] = {"role_path": str(here), "ansible_search_path": [str(here)]}
    for role in ("audit_database", "audit_schema", "audit_partitions", "audit_access", "audit_health"):
        for file in ("defaults/main.yml", "vars/main.yml"):
            variables |= loader.load_from_file(str(ROLES / role / file), trusted_as_template=True)
    templar = Templar(loader=loader, variables=variables | wanted["variables"])
    json.dump({name: templar.template(trust_as_template(f"{{{{ {name} }}}}")) for name in wanted["names"]}, sys.stdout)


if __name__ == "__main__":
    main()
