"""Settings of roles and databases: values as text, lists, and how the catalog stores them."""

from __future__ import annotations

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils import role_setting


def test_values_become_text():
    option = {"Work_Mem": "4MB", "jit": False, "search_path": ["audit", "public"], "deadlock_timeout": 500, "x.y": None}
    assert role_setting.wanted_settings(option) == {
        "work_mem": "4MB",
        "jit": "off",
        "search_path": "audit, public",
        "deadlock_timeout": "500",
        "x.y": None,
    }
    assert role_setting.wanted_settings(None) == {}


@pytest.mark.parametrize(
    ("wanted", "stored", "equal"),
    [
        ("audit,public", "audit, public", True),
        ('"$user", public', '"$user", public', True),
        ("audit", "audit, public", False),
        ("", '""', True),
        ("audit", None, False),
        (None, None, True),
        (None, "audit", False),
    ],
)
def test_lists_are_compared_by_element(wanted, stored, equal):
    assert role_setting.same("search_path", wanted, stored) is equal


def test_other_values_are_compared_as_they_are():
    assert not role_setting.same("work_mem", "4 MB", "4MB")


@pytest.mark.parametrize("text", ["a", "a, b", '"a,b", c', '"a""b"', "", " a ,b "])
def test_elements_survive_quoting(text):
    names = role_setting.elements(text)
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert role_setting.elements(quoted) == names


def test_stored_settings():
    assert role_setting.parse_stored(["lock_timeout=5s", "a.b=c=d"]) == {"lock_timeout": "5s", "a.b": "c=d"}
    assert role_setting.parse_stored(None) == {}
