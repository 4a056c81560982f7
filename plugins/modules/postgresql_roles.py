#!/usr/bin/python
# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_roles
short_description: Make a whole set of roles what it is declared to be
version_added: "0.1.0"
description:
  - Creates, alters and drops all declared roles in one transaction, with attributes, passwords, memberships, settings
    and comments. Roles that are not declared are left alone.
  - The SCRAM-SHA-256 verifier of a password is computed by the module, so the clear password is never sent to the
    server. An unchanged password is recognized by the stored verifier or, when the login may not read C(pg_authid), by
    logging in as the role over the same connection parameters. A stored MD5 hash is replaced.
  - All that the login may not do is found before anything is changed, and reported at once, each with its remedy.
options:
  roles:
    description: The roles. What is not given is as C(CREATE ROLE) alone makes it, unless said otherwise.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the role, as it is; no quoting.
        type: str
        required: true
      state:
        description:
          - V(absent) drops the role. PostgreSQL refuses that while the role owns anything or holds rights.
        type: str
        choices: [present, absent]
        default: present
      login:
        description: Whether it may log in.
        type: bool
        default: false
      password:
        description:
          - Password in the clear, or a ready C(SCRAM-SHA-256$...) verifier. Needs O(roles[].login=true).
          - When not given, the password stays as it is.
        type: str
      superuser:
        description: Whether it passes every check of rights.
        type: bool
        default: false
      createdb:
        description: Whether it may create databases.
        type: bool
        default: false
      createrole:
        description: Whether it may create roles.
        type: bool
        default: false
      replication:
        description: Whether it may stream WAL and take base backups.
        type: bool
        default: false
      bypassrls:
        description: Whether row security does not apply to it.
        type: bool
        default: false
      inherit:
        description:
          - Whether it has the rights of the roles it is a member of without C(SET ROLE).
          - On PostgreSQL 16 and later, its declared memberships get the same C(INHERIT) option.
        type: bool
        default: true
      connection_limit:
        description: Most connections at a time; V(-1) means no limit.
        type: int
        default: -1
      valid_until:
        description:
          - Point in time after which the password is no longer accepted, with its zone; V(infinity) for ever.
          - When not given, it stays as it is.
        type: str
      member_of:
        description:
          - All the roles that this one is a member of; memberships in others are ended (see O(exact_memberships)).
          - When not given, they stay as they are.
        type: list
        elements: str
      members:
        description:
          - All the roles that are members of this one; memberships of others are ended (see O(exact_memberships)).
          - When not given, they stay as they are.
          - V(CURRENT_USER) is the login; a superuser, who needs no membership, is left out. Since PostgreSQL 16 the
            creator of a role may administer it but not act as it, so who is to create what the role owns must be named.
          - The C(ADMIN) option that PostgreSQL 16 and later give to a role's creator is no membership in this sense.
        type: list
        elements: str
      settings:
        description:
          - Configuration parameters that every session of the role begins with, in all databases.
          - A list is written as one, V(null) resets a parameter.
          - Parameters that are not named stay as they are.
        type: dict
      comment:
        description: Comment on the role; an empty one removes it. When not given, it stays as it is.
        type: str
  passwords:
    description:
      - Passwords by role, as an inventory's vault has them. Names that no role with a login has are ignored.
      - O(roles[].password) takes precedence.
    type: dict
  exact_memberships:
    description:
      - Whether memberships beyond a given O(roles[].member_of) or O(roles[].members) are ended.
      - With V(false) they stay, and are returned in RV(undeclared_memberships).
    type: bool
    default: true
  missing_rights:
    description:
      - What happens when the login may not make some of the changes.
      - V(fail) changes nothing and names them all.
      - V(skip) makes the others, and returns those in RV(skipped_rights).
    type: str
    choices: [fail, skip]
    default: fail
extends_documentation_fragment: auditdb.postgresql.connection
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author: The auditdb.postgresql authors (@auditdb)
"""

EXAMPLES = r"""
- name: An owner that nobody logs in as, and a migrator that must say SET ROLE
  auditdb.postgresql.postgresql_roles:
    passwords: "{{ audit_passwords }}"
    roles:
      - name: audit_owner
        members: [audit_migrator, CURRENT_USER]
      - name: audit_migrator
        login: true
        inherit: false
        settings: {lock_timeout: 5s}

- name: What a managed service allows; the rest is reported
  auditdb.postgresql.postgresql_roles:
    login_host: db.example.com
    login_user: provisioner
    login_password: "{{ provisioner_password }}"
    ssl_mode: verify-full
    ca_cert: /etc/ssl/certs/db.example.com.pem
    missing_rights: skip
    roles:
      - {name: audit_backup, login: true, replication: true, password: "{{ audit_passwords.audit_backup }}"}
  register: roles
"""

RETURN = r"""
queries:
  description: The statements that make the changes, run or (in check mode) to be run. Passwords are masked.
  returned: success
  type: list
  elements: str
  sample: ['CREATE ROLE "audit_owner"', 'ALTER ROLE "audit_writer" PASSWORD ''********''']
executed_queries:
  description: The statements that were run; empty in check mode. Passwords are masked.
  returned: always
  type: list
  elements: str
  sample: ['CREATE ROLE "audit_owner"']
skipped_rights:
  description: What was left out because the login may not do it, with O(missing_rights=skip).
  returned: success
  type: list
  elements: dict
  contains:
    what:
      description: The change.
      type: str
    reason:
      description: Why the login may not make it.
      type: str
    remedy:
      description: Who can, and how.
      type: str
  sample:
    - what: make role audit_backup REPLICATION
      reason: before PostgreSQL 16 only a superuser may
      remedy: 'as a superuser: ALTER ROLE audit_backup REPLICATION'
undeclared_memberships:
  description: Memberships beyond the declared ones that were left, with O(exact_memberships=false).
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: The role that has a member.
      type: str
    member:
      description: The member.
      type: str
    grantor:
      description: Who made it one.
      type: str
  sample: [{role: audit_owner, member: alice, grantor: postgres}]
unproven_passwords:
  description: Roles whose password could neither be read nor tried, so that it is set on every run, and why.
  returned: success
  type: dict
  sample: {}
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils import scram
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
    sql_diff,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_catalog import normalized_time, read_catalog
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_model import FLAGS, Plan, SetPassword, Wanted
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_password import check_passwords, unlogged
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_plan import check_names, make_plan, validate
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_setting import wanted_settings
from ansible_collections.auditdb.postgresql.plugins.module_utils.role_sql import statement

ROLE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "login": {"type": "bool", "default": False},
    "password": {"type": "str", "no_log": True},
    "superuser": {"type": "bool", "default": False},
    "createdb": {"type": "bool", "default": False},
    "createrole": {"type": "bool", "default": False},
    "replication": {"type": "bool", "default": False},
    "bypassrls": {"type": "bool", "default": False},
    "inherit": {"type": "bool", "default": True},
    "connection_limit": {"type": "int", "default": -1},
    "valid_until": {"type": "str"},
    "member_of": {"type": "list", "elements": "str"},
    "members": {"type": "list", "elements": "str"},
    "settings": {"type": "dict"},
    "comment": {"type": "str"},
}


def wanted_role(session: Session, option: dict[str, Any], passwords: dict[str, str]) -> Wanted:
    """Turn one element of the option into a declaration."""
    valid_until, member_of, members = option["valid_until"], option["member_of"], option["members"]
    password = option["password"]
    if password is None and option["login"] and passwords.get(option["name"]) is not None:
        password = str(passwords[option["name"]])
    return Wanted(
        name=option["name"],
        present=option["state"] == "present",
        flags={flag: option[flag] for flag in FLAGS},
        connection_limit=option["connection_limit"],
        password=password,
        valid_until=None if valid_until is None else normalized_time(session, valid_until),
        member_of=None if member_of is None else tuple(dict.fromkeys(member_of)),
        members=None if members is None else tuple(dict.fromkeys(members)),
        settings=wanted_settings(option["settings"]),
        comment=option["comment"],
    )


def name_login(session: Session, wanted: list[Wanted]) -> list[Wanted]:
    """Put the login's name in the place of CURRENT_USER, or nobody's if it is a superuser."""
    row = session.query("SELECT rolname, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")[0]
    itself = () if row["rolsuper"] else (str(row["rolname"]),)
    return [
        replace(role, members=tuple(dict.fromkeys(name for word in role.members for name in named(word, itself))))
        if role.members
        else role
        for role in wanted
    ]


def named(word: str, itself: tuple[str, ...]) -> tuple[str, ...]:
    """Return whom a word in a list of members stands for."""
    return itself if word.upper() == "CURRENT_USER" else (word,)


def apply(module: AnsibleModule, session: Session, plan: Plan, superuser: bool) -> None:
    """Make the changes, all or none."""
    iterations = int(
        session.query("SELECT pg_catalog.current_setting('scram_iterations', true) AS n")[0]["n"]
        or scram.DEFAULT_ITERATIONS
    )
    with session.transaction():
        for change in plan.changes:
            if not isinstance(change, SetPassword):
                session.execute(statement(change))
                continue
            verifier = scram.parse(change.password) or scram.compute(change.password, iterations=iterations)
            module.no_log_values.add(str(verifier))
            shown = session.render(statement(change))
            try:
                with unlogged(session, superuser):
                    session.query(statement(change, str(verifier)))
            except PostgresqlError as error:
                error.statement = shown
                raise
            session.executed.append(shown)


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    wanted = [wanted_role(session, option, module.params["passwords"] or {}) for option in module.params["roles"]]
    wanted = name_login(session, wanted)
    validate(wanted)
    catalog = read_catalog(session, wanted)
    check_names(wanted, catalog)
    passwords = check_passwords(session, module.params, wanted, catalog)
    plan = make_plan(wanted, catalog, passwords.wrong, exact_memberships=module.params["exact_memberships"])
    skipped = [vars(entry) for entry in plan.skipped]
    if skipped and module.params["missing_rights"] == "fail":
        raise PostgresqlError(
            f"{catalog.login.name} may not: "
            + "; ".join(f"{entry.what} ({entry.reason})" for entry in plan.skipped)
            + ". Nothing was changed",
            remedy="; ".join(dict.fromkeys(entry.remedy for entry in plan.skipped)) + "; or set missing_rights to skip",
            sqlstate="42501",
            skipped_rights=skipped,
        )
    for name, why in passwords.unproven.items():
        module.warn(f"Whether the password of role {name} is the declared one could not be proven: {why}")
    queries = [session.render(statement(change)) for change in plan.changes]
    if plan.changes and not module.check_mode:
        if session.in_recovery():
            raise PostgresqlError("the server is a standby", sqlstate="25006")
        apply(module, session, plan, catalog.login.superuser)
    return {
        "changed": bool(plan.changes),
        "queries": queries,
        "executed_queries": session.executed,
        "skipped_rights": skipped,
        "undeclared_memberships": [
            {"role": row.role, "member": row.member, "grantor": row.grantor} for row in plan.undeclared
        ],
        "unproven_passwords": passwords.unproven,
        "diff": sql_diff(queries, "roles"),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "roles": {"type": "list", "elements": "dict", "required": True, "options": ROLE_ARGUMENTS},
            "passwords": {"type": "dict", "no_log": True},
            "exact_memberships": {"type": "bool", "default": True},
            "missing_rights": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
