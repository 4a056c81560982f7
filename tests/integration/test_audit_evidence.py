"""audit_evidence through ansible-playbook: what it writes, and that it never overwrites."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - auditdb.postgresql.audit_evidence:
        directory: "{{ directory }}"
        name: host
        content: {at: now, results: [{status: ok, name: ไทย}, {status: failed, name: x}]}
      register: kept
    - ansible.builtin.debug: {msg: "digest={{ kept.sha256 }}"}
"""


def play(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "play.yml").write_text(PLAY)
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", folder / "play.yml", *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_more_each_time_and_none_in_check_mode(tmp_path):
    directory = tmp_path / "deep/er"
    given = f"directory={directory}"
    assert play(tmp_path, "-e", given, "--check").returncode == 0
    assert not directory.exists()
    for count in (1, 2):
        done = play(tmp_path, "-e", given)
        assert done.returncode == 0, done.stdout + done.stderr
        files = sorted(directory.iterdir())
        assert len(files) == count
        assert f"digest={hashlib.sha256(files[-1].read_bytes()).hexdigest()}" in done.stdout
    text = files[0].read_text()
    content = json.loads(text)
    assert content["verdict"] == "failed" and content["summary"] == {"failed": 1, "ok": 1, "skipped": 0, "unknown": 0}
    assert text == json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert files[0].stat().st_mode & 0o777 == 0o640


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = play(tmp_path, "-e", f"directory={tmp_path}/file/below")
    assert done.returncode != 0
    assert "directory: the evidence cannot be written" in done.stdout + done.stderr
