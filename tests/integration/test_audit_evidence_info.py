"""audit_evidence_info through ansible-playbook: signed reports verify, and what was done to them is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - auditdb.postgresql.audit_evidence:
        directory: "{{ directory }}/evidence"
        name: "{{ item }}"
        signing_key: "{{ directory }}/signing.key"
        content: {results: [{status: ok, name: x}]}
      loop: "{{ names | default([]) }}"
    - auditdb.postgresql.audit_evidence_info:
        directory: "{{ directory }}/evidence"
        public_key: "{{ public_key | default(directory ~ '/signing.key.pub') }}"
      register: found
    - ansible.builtin.copy: {dest: "{{ directory }}/found.json", content: "{{ found | to_json }}"}
      check_mode: false
"""


class Evidence:
    """A directory of signed reports."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.place = directory / "evidence"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "signing.key"], check=True)

    def play(self, *arguments: str, **variables: object) -> subprocess.CompletedProcess[str]:
        (self.directory / "play.yml").write_text(PLAY)
        given = json.dumps({"directory": str(self.directory), **variables})
        return subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", self.directory / "play.yml", "-e", given, *arguments],
            env={name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
            capture_output=True,
            text=True,
            check=False,
        )

    def problems(self, *arguments: str, **variables: object) -> list[str]:
        done = self.play(*arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads((self.directory / "found.json").read_text())
        assert found["changed"] is False
        return found["problems"]

    def files(self) -> list[Path]:
        return sorted(self.place.glob("*.json"))


@pytest.fixture
def evidence(tmp_path) -> Evidence:
    found = Evidence(tmp_path)
    assert found.problems(names=["a", "b", "a", "a"]) == []
    assert len(found.files()) == 4
    return found


def test_what_was_done_to_a_report_is_named(evidence):
    first, second, third, other = evidence.files()
    assert json.loads(other.read_text())["previous"] is None, "each name is a chain of its own"
    text = second.read_text()
    second.write_text(text.replace('"ok"', '"OK"'))
    assert [each.split(":")[0] for each in evidence.problems("--check")] == [second.name, third.name]
    second.write_text(text)
    second.rename(second.with_suffix(".away"))
    (found,) = evidence.problems()
    assert found.startswith(third.name) and f"it follows {second.name}, and before it lies {first.name}" in found
    second.with_suffix(".away").rename(second)
    signature = first.with_name(f"{first.name}.sig")
    signature.rename(signature.with_suffix(".away"))
    assert evidence.problems() == [f"{first.name}: it is not signed"]
    signature.with_suffix(".away").rename(signature)
    assert evidence.problems() == []


def test_another_key_and_what_is_missing(evidence):
    other = evidence.directory / "other.key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    assert len(evidence.problems(public_key=f"{other}.pub")) == 4
    done = evidence.play(public_key="/nowhere.pub")
    assert done.returncode != 0 and "public_key: No such file or directory: /nowhere.pub" in done.stdout + done.stderr
    other.rename(evidence.directory / "signing.key")
    (evidence.directory / "signing.key").unlink()
    done = evidence.play(names=["a"])
    assert done.returncode != 0 and "signing_key: there is no file" in done.stdout + done.stderr
    assert len(evidence.files()) == 4, "nothing that is not signed is left"
