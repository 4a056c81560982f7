"""The plan that playbooks/disaster_plan.yml writes: the figures of the last evidence, and the documented commands."""

from __future__ import annotations

import re

import pytest
from backup_host import SCENARIO
from throwaway import ROOT

DOCUMENTED = (ROOT / "docs/disaster-recovery.md").read_text()
EVIDENCE = SCENARIO / "inventory/.state/evidence/restore_drill"
CASES = {"latest": "normal", "moment": "normal", "site_lost": "site lost"}


def cells(plan: str, host: str) -> dict[str, list[str]]:
    """Return the figures of the host by case."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in plan.splitlines() if line[:1] == "|"]
    return {row[1]: row[2:] for row in rows if row[0] == host and len(row) == 7}


def name_of(drill) -> str:
    return max(path.name for path in EVIDENCE.glob(f"{drill.name}-main-*.json"))


@pytest.mark.newest
def test_it_shows_what_the_last_drill_has_measured_and_the_documented_commands(rehearsed, commands):
    evidence, plan = rehearsed.evidence(), rehearsed.plan()
    measured = {each["name"]: each for each in evidence["cases"] if "rto_ms" in each}
    failed = {each["group"] for each in evidence["results"] if each["status"] != "ok"}
    shown = cells(plan, rehearsed.name)
    assert list(shown) == [f"{name} ({which})" for name, which in CASES.items()]
    for name, (rpo_wanted, rpo, rto_wanted, rto, outcome) in zip(CASES, shown.values(), strict=True):
        assert rto_wanted == "3600 s"
        assert rpo_wanted == {"latest": "180 s", "site_lost": "93600 s"}.get(name, "none: a chosen moment")
        if name in measured:
            case = measured[name]
            assert rto == f"{case['rto_ms'] / 1000:.1f} s" and outcome == ("failed" if name in failed else "ok")
            lost = "none: a chosen moment"
            if name != "moment":
                lost = f"{case['rpo_ms'] / 1000:.1f} s, {case['rows_lost']} rows"
            assert rpo == lost
        elif name not in {each["name"] for each in evidence["cases"]}:
            assert rto == outcome == "not measured yet"
    assert (
        f"{rehearsed.name}: drill of {evidence['at']}, verdict {evidence['verdict']}, evidence `{name_of(rehearsed)}`"
        in plan
    )
    assert "Do not rely on it" not in plan
    part, version = rehearsed.part(plan), rehearsed.database.version
    for kind in ("control", "host", "recovery"):
        documented = [
            command.replace("inventories/mine", str(SCENARIO / "inventory"))
            .replace(".yml", f".yml --limit {rehearsed.name}")
            .replace("17/main", f"{version}/main")
            for command in commands(DOCUMENTED, kind)
        ]
        assert documented and commands(part, kind) == documented


@pytest.mark.newest
def test_without_evidence_and_hosts_it_is_written_without_figures(rehearsed):
    # No host is connected to: there is none of this name.
    given = {"restore_drill_evidence_directory": "/nowhere", "postgresql_backup_offsite": "", "ansible_host": "none"}
    plan = rehearsed.plan(**given, restore_drill_contacts=[{"name": "Ada", "role": "decides", "phone": "+44 1"}])
    for _rpo_wanted, rpo, _rto_wanted, rto, outcome in cells(plan, rehearsed.name).values():
        assert rpo in ("not measured yet", "none: a chosen moment") and rto == outcome == "not measured yet"
    assert f"{rehearsed.name}: not measured yet" in plan and "| Ada | decides | +44 1 |" in plan
    assert "no second place" in plan and "site_recovery" not in plan


@pytest.mark.newest
def test_evidence_that_was_changed_is_not_to_be_relied_on(rehearsed):
    path = EVIDENCE / name_of(rehearsed)
    text = path.read_text()
    path.write_text(re.sub(r'"rto_ms":[0-9]+', '"rto_ms":1', text))
    try:
        plan = rehearsed.plan()
        assert "Nobody is named" in plan
    finally:
        path.write_text(text)
    assert f"**Do not rely on it:** {path.name}: its signature" in plan
