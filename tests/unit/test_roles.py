"""The shape of the repository: what keeps roles, playbooks and modules alike without a reviewer."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections.auditdb.postgresql.plugins.modules"
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*"))
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
# They log in as another role than the modules beside them, or do not log in.
OUTSIDE_THE_GROUP = {"audit_evidence", "audit_evidence_info", "audit_journal", "postgresql_backup_info"}
SECRET = re.compile(r"password|passphrase|secret|token", re.IGNORECASE)
# Options that have such a word in their name and hold no secret.
NO_SECRET = {"no_password_changes", "password_encryption"}


class Loader(yaml.SafeLoader):
    """Reads Ansible's own tags, such as !vault, as what they hold."""


Loader.add_multi_constructor("!", lambda loader, _suffix, node: getattr(node, "value", None))


def tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


FILES = tracked()
YAML_FILES = [path for path in FILES if path.suffix in (".yml", ".yaml")]


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader) if path.exists() else None


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def task_files(*folders: str) -> list[Path]:
    return [path for role in ROLES for folder in folders for path in (ROOT / "roles" / role / folder).rglob("*.yml")]


def templated(value: Any) -> bool:
    return "{{" in str(value) or "{%" in str(value)


def options_of(role: str) -> dict[str, Any]:
    specs = load(ROOT / "roles" / role / "meta/argument_specs.yml")
    assert specs, "meta/argument_specs.yml is missing"
    return specs["argument_specs"]["main"].get("options") or {}


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_the_argument_specs(role):
    defaults = load(ROOT / "roles" / role / "defaults/main.yml") or {}
    options = options_of(role)
    required = {name for name, option in options.items() if option.get("required")}
    assert set(defaults) == set(options) - required
    for name, value in defaults.items():
        if templated(value):
            # Where it cannot be stated (an expression for a number or dictionary), the description says it.
            assert options[name].get("default") in (None, value), name
        else:
            assert options[name].get("default") == value, name


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_documented_and_tried_on_real_hosts(role):
    assert (ROOT / "roles" / role / "README.md").is_file()
    assert (ROOT / "molecule" / role / "molecule.yml").is_file()


def internal_names(node: Any) -> Iterator[str]:
    """Yield every variable that tasks make: registered, set, looped or local."""
    if isinstance(node, list):
        for item in node:
            yield from internal_names(item)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key == "register":
            yield value
        elif key == "loop_control" and isinstance(value, dict):
            yield from (value[name] for name in ("loop_var", "index_var") if name in value)
        elif key in ("vars", "ansible.builtin.set_fact") and isinstance(value, dict):
            yield from (name for name in value if name != "cacheable" and not name.startswith("ansible_"))
        else:
            yield from internal_names(value)


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_roles_name(role):
    base = ROOT / "roles" / role
    names = set(load(base / "defaults/main.yml") or {})
    assert [name for name in names if not name.startswith(f"{role}_")] == []
    for path in sorted((base / "vars").glob("*.yml")):
        assert [name for name in load(path) or {} if not name.startswith(f"__{role}_")] == [], path.name
    for folder in ("tasks", "handlers"):
        for path in sorted((base / folder).rglob("*.yml")):
            made = [name for name in internal_names(load(path)) if not re.match(f"(__)?{role}_", name)]
            assert made == [], name_of(path)


def test_task_files_are_one_screen():
    long = {name_of(path): len(path.read_text().splitlines()) for path in task_files("tasks", "handlers")}
    assert {name: lines for name, lines in long.items() if lines > 100} == {}
    assert {name: lines for name, lines in long.items() if name.endswith("tasks/main.yml") and lines > 40} == {}


def test_playbooks_are_short_and_can_be_called_by_name():
    assert PLAYBOOKS
    for path in PLAYBOOKS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*\.yml", path.name), path.name
        assert len(path.read_text().splitlines()) <= 40, path.name


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_errors_are_never_ignored():
    wrong = re.compile(r"ignore_errors|ignore_unreachable|\|\|\s*true\b")
    code = [path for path in FILES if path.suffix in (".yml", ".yaml", ".j2", ".sh") or path.name == "Makefile"]
    assert [name_of(path) for path in code if wrong.search(path.read_text())] == []


def test_no_task_calls_psql():
    calls = re.compile(r"^(?!\s*#).*\bpsql\b", re.MULTILINE)
    assert [
        name_of(path) for path in [*task_files("tasks", "handlers"), *PLAYBOOKS] if calls.search(path.read_text())
    ] == []


def test_nothing_is_open_to_the_world():
    world = re.compile(r"0\.0\.0\.0/0|(?<![0-9a-fA-F:])::/0|\btrust\b(?=\s*$|\s*})")
    code = [path for path in FILES if path.suffix in (".yml", ".j2", ".conf") and "tests" not in path.parts]
    # A preflight names what it refuses.
    assert [name_of(path) for path in code if path.name != "preflight.yml" and world.search(path.read_text())] == []


def test_no_private_key_is_in_the_repository():
    mark = b"-----BEGIN [A-Z ]*PRIVATE " + b"KEY-----"
    assert [name_of(path) for path in FILES if re.search(mark, path.read_bytes())] == []


def literal_secrets(node: Any, name: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from literal_secrets(value, f"{key}" if not SECRET.search(name) else f"{name}.{key}")
    elif isinstance(node, list):
        for item in node:
            yield from literal_secrets(item, name)
    elif isinstance(node, str) and node and SECRET.search(name) and not templated(node):
        yield name


def test_no_password_is_written_down():
    places = ("roles/*/defaults/*.yml", "roles/*/vars/*.yml", "playbooks/*.yml", "inventories/**/*.yml")
    files = {path for place in places for path in ROOT.glob(place)} & set(FILES)
    found = {name_of(path): [n for n in literal_secrets(load(path)) if n not in NO_SECRET] for path in sorted(files)}
    assert {name: secrets for name, secrets in found.items() if secrets} == {}


@pytest.mark.parametrize("role", ROLES)
def test_roles_hide_their_passwords(role):
    options = options_of(role)
    secret = {name for name in options if SECRET.search(name)} - NO_SECRET
    assert {name for name in secret if not options[name].get("no_log")} == set()


class Stop(Exception):
    """Ends a module's main once its arguments are known."""


@pytest.mark.parametrize("module", MODULES)
def test_modules(module, monkeypatch):
    seen: dict[str, Any] = {}

    def remember(_self: AnsibleModule, argument_spec: dict[str, Any], **others: Any) -> None:
        seen.update(others, argument_spec=argument_spec)
        raise Stop

    code = importlib.import_module(f"{PACKAGE}.{module}")
    monkeypatch.setattr(AnsibleModule, "__init__", remember)
    with pytest.raises(Stop):
        code.main()

    documentation = yaml.safe_load(code.DOCUMENTATION)
    assert documentation["module"] == module
    assert documentation["attributes"]["check_mode"]["support"] == "full"
    assert documentation["attributes"]["diff_mode"]["support"]
    assert seen["supports_check_mode"] is True
    secret = [name for name in seen["argument_spec"] if SECRET.search(name) and name not in NO_SECRET]
    assert {name for name in secret if not seen["argument_spec"][name].get("no_log")} == set()
    yaml.safe_load(code.EXAMPLES)
    yaml.safe_load(code.RETURN)

    assert (ROOT / f"tests/integration/test_{module}.py").is_file(), "no integration test"


def test_the_action_group_is_complete():
    group = load(ROOT / "meta/runtime.yml")["action_groups"]["postgresql"]
    assert {name for name in group if "." not in name} == set(MODULES) - OUTSIDE_THE_GROUP


def test_every_change_has_a_fragment():
    text = "".join(path.read_text() for path in (ROOT / "changelogs/fragments").glob("*.yml"))
    assert [name for name in [*ROLES, *MODULES] if f"- {name} - " not in text] == []
