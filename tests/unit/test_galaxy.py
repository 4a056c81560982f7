"""What is shipped: its versions agree, and the artifact installs, resolves by full names, and holds no secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import ansible_collections.community.general as community_general
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
GALAXY = yaml.safe_load((ROOT / "galaxy.yml").read_text())
NAME = f"{GALAXY['namespace']}.{GALAXY['name']}"
INSTALLED = Path(community_general.__path__[0]).parents[1]
TOOLS = Path(sys.executable).parent


def requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_and_installed(name):
    for requirement in requirements(name):
        (pin,) = requirement.specifier
        assert pin.operator == "==", requirement
        assert metadata.version(requirement.name) == pin.version, requirement


@pytest.mark.parametrize("collection", GALAXY["dependencies"])
def test_the_pinned_ansible_brings_what_the_collection_depends_on(collection):
    manifest = json.loads((INSTALLED / collection.replace(".", "/") / "MANIFEST.json").read_text())
    assert SpecifierSet(GALAXY["dependencies"][collection]).contains(manifest["collection_info"]["version"])


def test_every_collection_in_use_is_a_dependency():
    places = ("roles/**/*.yml", "playbooks/*.yml", "molecule/**/*.yml", "meta/*.yml", "roles/**/*.j2")
    text = "\n".join(path.read_text() for place in places for path in ROOT.glob(place) if path.is_file())
    used = set(re.findall(r"\b((?:community|ansible|containers)\.[a-z_]+)\.[a-z]", text)) - {"ansible.builtin"}
    assert used - set(GALAXY["dependencies"]) == set()


def test_the_ansible_version_is_the_same_everywhere():
    wanted = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"]
    assert SpecifierSet(wanted).contains(metadata.version("ansible-core"))
    for specs in ROOT.glob("roles/*/meta/main.yml"):
        assert wanted.endswith(str(yaml.safe_load(specs.read_text())["galaxy_info"]["min_ansible_version"]) + ".0")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    command = [TOOLS / "ansible-galaxy", "collection", "build", "--output-path", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob(f"{NAME.replace('.', '-')}-{GALAXY['version']}.tar.gz"))


def test_the_artifact_holds_no_secret_and_no_tool(artifact):
    with tarfile.open(artifact) as archive:
        members = archive.getmembers()
        names = [member.name for member in members]
        text = {m.name: archive.extractfile(m).read() for m in members if m.isfile()}
    unwanted = re.compile(
        r"(^|/)(\.git|\.venv|\.build|\.state|\.ansible|\.cache|\.\w+_cache|__pycache__|secrets\.yml)(/|$)"
    )
    assert [name for name in names if unwanted.search(name) and not name.startswith("molecule/shared/tasks/")] == []
    key = re.compile(b"-----BEGIN [A-Z ]*PRIVATE " + b"KEY-----")
    assert [name for name, content in text.items() if key.search(content)] == []
    assert sum(map(len, text.values())) < 5_000_000


def test_the_artifact_installs_and_resolves_by_full_names(artifact, tmp_path):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_COLLECTIONS_PATH": f"{tmp_path}:{INSTALLED.parent}",
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
    }

    def run(tool: str, *arguments: str) -> str:
        command = [str(TOOLS / tool), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    options = ("--offline", "--no-deps", "--force")  # force: the checkout, linked beside us, counts as installed
    run("ansible-galaxy", "collection", "install", str(artifact), "-p", str(tmp_path), *options)
    installed = tmp_path / "ansible_collections" / NAME.replace(".", "/")
    roles = json.loads(run("ansible-doc", "--type", "role", "--list", "--json", NAME))
    assert {name.removeprefix(f"{NAME}.") for name in roles} == {path.name for path in (ROOT / "roles").iterdir()}
    for playbook in sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml")):
        listed = run("ansible-playbook", "-i", "localhost,", "--syntax-check", f"{NAME}.{playbook}")
        assert str(installed / "playbooks" / f"{playbook}.yml") in listed
