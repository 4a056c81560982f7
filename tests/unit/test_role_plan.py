"""From declared and actual roles to changes, and what a login may do on PostgreSQL 15 and 17."""

from __future__ import annotations

import pytest
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_model import (
    NEW_ROLE,
    Actual,
    AlterRole,
    Catalog,
    CreateRole,
    DropRole,
    Grant,
    Login,
    Membership,
    Revoke,
    SetPassword,
    Wanted,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_plan import make_plan

OFF = {**NEW_ROLE, "inherit": True}


def wanted(name, **options):
    flags = {**NEW_ROLE, **{flag: options.pop(flag) for flag in list(options) if flag in NEW_ROLE}}
    return Wanted(name, flags=flags, **options)


def catalog(version=17, *, login_flags=None, administers=(), roles=(), memberships=(), superusers=()):
    login = Login("me", version, {"superuser": True} if login_flags is None else login_flags, frozenset(administers))
    actual = {name: Actual(name, {**OFF, **flags}) for name, flags in dict(roles).items()}
    names = frozenset(actual) | {row.role for row in memberships} | {row.member for row in memberships}
    return Catalog(login, actual, tuple(memberships), names, frozenset(superusers))


def test_a_new_role_comes_before_what_needs_it():
    roles = [
        wanted("migrator", login=True, password="word", member_of=("owner",), inherit=False),
        wanted("owner"),
    ]
    plan = make_plan(roles, catalog(), {"migrator"})
    assert plan.changes == (
        CreateRole("migrator", {"login": True, "inherit": False}, -1, None),
        CreateRole("owner", {}, -1, None),
        SetPassword("migrator", "word"),
        Grant("owner", "migrator", False),
    )


def test_a_converged_set_needs_nothing():
    rows = [Membership("owner", "migrator", "postgres", inherit=False, set=True)]
    roles = [wanted("owner", members=("migrator",)), wanted("migrator", inherit=False, member_of=("owner",))]
    there = {"owner": {}, "migrator": {"inherit": False}}
    assert make_plan(roles, catalog(roles=there, memberships=rows), ()).changes == ()


def test_a_password_is_never_in_a_representation():
    plan = make_plan([wanted("w", login=True, password="canary")], catalog(), {"w"})
    assert "canary" not in repr(plan)


def test_the_creators_admin_option_is_no_membership():
    rows = [Membership("owner", "me", "postgres", admin=True, inherit=False, set=False)]
    state = catalog(roles={"owner": {}}, memberships=rows, login_flags={"createrole": True}, administers={"owner"})
    plan = make_plan([wanted("owner", members=())], state, ())
    assert (plan.changes, plan.skipped) == ((), ())
    assert make_plan([wanted("owner", members=("me",))], state, ()).changes == (Grant("owner", "me", True),)


def test_a_membership_that_inherits_too_much_is_given_again():
    rows = [Membership("owner", "migrator", "alice", inherit=True, set=True)]
    state = catalog(roles={"owner": {}, "migrator": {"inherit": False}}, memberships=rows)
    roles = [wanted("owner", members=("migrator",)), wanted("migrator", inherit=False)]
    assert make_plan(roles, state, ()).changes == (
        Revoke("owner", "migrator", "alice"),
        Grant("owner", "migrator", False),
    )


@pytest.mark.parametrize(("version", "grantor"), [(15, None), (17, "alice")])
def test_an_undeclared_membership_ends_only_where_the_list_is_given(version, grantor):
    rows = [Membership("owner", "bob", "alice", inherit=True if version > 15 else None, set=version > 15 or None)]
    state = catalog(version, roles={"owner": {}}, memberships=rows)
    assert make_plan([wanted("owner")], state, ()).changes == ()
    assert make_plan([wanted("owner", members=())], state, ()).changes == (Revoke("owner", "bob", grantor),)
    kept = make_plan([wanted("owner", members=())], state, (), exact_memberships=False)
    assert kept.changes == () and kept.undeclared == tuple(rows)


def test_absent_roles_are_dropped_last_and_only_if_there():
    roles = [wanted("gone", present=False), wanted("never", present=False), wanted("new")]
    plan = make_plan(roles, catalog(roles={"gone": {}}), ())
    assert plan.changes == (CreateRole("new", {}, -1, None), DropRole("gone"))


@pytest.mark.parametrize(
    ("version", "own", "flag", "may"),
    [
        (15, {}, "replication", False),
        (15, {"replication": True}, "replication", False),
        (17, {}, "replication", False),
        (17, {"replication": True}, "replication", True),
        (15, {}, "createdb", True),
        (17, {}, "createdb", False),
        (17, {"createdb": True}, "createdb", True),
        (17, {"bypassrls": True}, "bypassrls", True),
        (17, {}, "superuser", False),
        (17, {}, "login", True),
    ],
)
def test_attributes_that_a_login_may_give(version, own, flag, may):
    state = catalog(version, login_flags={"createrole": True, **own})
    plan = make_plan([wanted("r", **{flag: True})], state, ())
    assert plan.changes == (CreateRole("r", {flag: True} if may else {}, -1, None),)
    assert [entry.what for entry in plan.skipped] == ([] if may else [f"make role r {flag.upper()}"])


@pytest.mark.parametrize(("version", "administers", "may"), [(15, (), True), (17, (), False), (17, ("r",), True)])
def test_whose_roles_a_login_may_alter(version, administers, may):
    state = catalog(version, login_flags={"createrole": True}, administers=administers, roles={"r": {}})
    plan = make_plan([wanted("r", login=True)], state, ())
    assert plan.changes == ((AlterRole("r", {"login": True}),) if may else ())
    assert len(plan.skipped) == (not may)


@pytest.mark.parametrize(
    ("version", "administers", "may"), [(15, (), True), (17, (), False), (17, ("pg_monitor",), True)]
)
def test_what_a_login_may_make_members_of(version, administers, may):
    state = catalog(version, login_flags={"createrole": True}, administers=administers)
    plan = make_plan([wanted("m", member_of=("pg_monitor",))], state, ())
    assert (Grant("pg_monitor", "m", True if version > 15 else None) in plan.changes) == may
    assert [entry.what for entry in plan.skipped] == ([] if may else ["make m a member of pg_monitor"])


def test_a_role_that_cannot_be_made_is_named_once():
    state = catalog(login_flags={})
    plan = make_plan([wanted("w", login=True, password="x", comment="c", member_of=("o",)), wanted("o")], state, {"w"})
    assert plan.changes == ()
    assert [entry.what for entry in plan.skipped] == ["create role w", "create role o"]
