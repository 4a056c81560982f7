#!/usr/bin/python
# Copyright: the auditdb.postgresql authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_grants
short_description: Make the rights in a database what they are declared to be, and nothing else
version_added: "0.1.0"
description:
  - Declares who may do what in one database. One query reads all rights there are, one transaction makes the rest.
  - The declaration is exact. On the database, the declared schemas and every table, view, column, sequence and
    function in them, a right that is not declared is revoked, whoever has it. Owners keep what owners have.
  - Partitions get no rights. They are reached through their partitioned table, so whatever was granted on them
    directly, by default rights for example, is revoked.
  - A grant option is revoked, and with it what was granted by it.
  - What belongs to an extension, and objects in schemas that are not declared, are left alone.
  - O(create_schemas) and O(database_settings) prepare the database for what is to come. Without O(grants), the module
    does only that, and looks at no rights.
options:
  schemas:
    description: The schemas whose objects are in the scope of the declaration.
    type: list
    elements: str
    required: true
  owner_role:
    description:
      - The role that creates the objects to come. Needed for O(grants[].default) and O(create_schemas).
      - With O(public=revoke), what it creates gives no rights to C(PUBLIC).
    type: str
  create_schemas:
    description: Whether missing O(schemas) are created, and all of them belong to O(owner_role).
    type: bool
    default: false
  database_settings:
    description:
      - Configuration parameters that every session in the database begins with.
      - A list is written as one, V(null) resets a parameter. Parameters that are not named stay as they are.
    type: dict
  grants:
    description:
      - The rights, role by role; several entries of one role add up. V([]) means that nobody but owners has any.
      - When not given, rights are not looked at.
      - V(ALL) stands for all privileges that the server's version has for the kind of object.
    type: list
    elements: dict
    suboptions:
      role:
        description: The role, or V(PUBLIC).
        type: str
        required: true
      database:
        description: Privileges on the database, C(CONNECT), C(TEMPORARY) and C(CREATE).
        type: list
        elements: str
      schema:
        description: Privileges by schema, C(USAGE) and C(CREATE).
        type: dict
      tables:
        description:
          - Privileges by C(schema.table); C(schema.*) means all tables and views but partitions.
          - A table that is named itself has what stands there and nothing of C(schema.*); V([]) makes it an exception.
        type: dict
      columns:
        description: Privileges by C(schema.table.column).
        type: dict
      sequences:
        description: Privileges by C(schema.sequence) or C(schema.*). Identity columns need none.
        type: dict
      functions:
        description: Privileges by C(schema.function(types)) or C(schema.*).
        type: dict
      default:
        description: Rights on what O(owner_role) creates from now on, in each of O(schemas).
        type: dict
        suboptions:
          tables:
            description: Privileges on tables and views to come.
            type: list
            elements: str
          sequences:
            description: Privileges on sequences to come.
            type: list
            elements: str
          functions:
            description: Privileges on functions to come.
            type: list
            elements: str
  public:
    description:
      - V(revoke) treats C(PUBLIC), that is everybody, as every other role. That takes C(CONNECT) and C(TEMPORARY) on
        the database, C(EXECUTE) on functions there are and to come, and also C(CREATE) on the schema C(public).
      - V(keep) leaves what C(PUBLIC) has.
    type: str
    choices: [revoke, keep]
    default: revoke
  missing_objects:
    description:
      - What happens when a declared schema, object or role is not there.
      - V(fail) changes nothing and names them all.
      - V(skip) goes on without them, and returns them in RV(missing).
    type: str
    choices: [fail, skip]
    default: fail
  missing_rights:
    description:
      - What happens when the login may not make some of the changes, for want of the rights of an object's owner.
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
- name: Nobody but the owner can change what is written
  auditdb.postgresql.postgresql_grants:
    login_db: audit_db
    owner_role: audit_owner
    schemas: [audit]
    grants:
      - role: audit_writer
        database: [CONNECT]
        schema: {audit: [USAGE]}
        tables: {audit.audit_log: [INSERT]}
        columns: {audit.audit_log.id: [SELECT]}
      - role: audit_reader
        database: [CONNECT]
        schema: {audit: [USAGE]}
        tables:
          audit.*: [SELECT]
          audit.ingest_cursor: []
        default: {tables: [SELECT]}
      - role: audit_partitioner
        database: [CONNECT]
        schema: {audit: [USAGE]}
        functions: {"audit.mark_archived(timestamptz, timestamptz)": [EXECUTE]}

- name: A schema, and where names are looked up
  auditdb.postgresql.postgresql_grants:
    login_db: audit_db
    owner_role: audit_owner
    schemas: [audit]
    create_schemas: true
    database_settings: {search_path: [audit, public]}
"""

RETURN = r"""
queries:
  description: The statements that make the changes, run or (in check mode) to be run.
  returned: success
  type: list
  elements: str
  sample: ['REVOKE CONNECT, TEMPORARY ON DATABASE "audit_db" FROM PUBLIC']
executed_queries:
  description: The statements that were run; empty in check mode.
  returned: always
  type: list
  elements: str
  sample: ['GRANT INSERT ON TABLE "audit"."audit_log" TO "audit_writer"']
missing:
  description: Declared schemas, objects and roles that are not there, with O(missing_objects=skip).
  returned: success
  type: list
  elements: str
  sample: [table audit.audit_logg]
foreign_grants:
  description: Rights that somebody other than the object's owner had granted. They are revoked with the grant option.
  returned: success
  type: list
  elements: str
  sample: [SELECT on table audit.audit_log to alice by audit_reader]
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
    - what: revoke CREATE on schema public from PUBLIC
      reason: it belongs to postgres, whose rights provisioner has not
      remedy: do it as postgres or as a superuser
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.auditdb.postgresql.plugins.module_utils.connection import (
    CONNECTION_ARGUMENTS,
    Session,
    run_module,
    sql_diff,
)
from ansible_collections.auditdb.postgresql.plugins.module_utils.errors import PostgresqlError
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_catalog import read_catalog
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_model import Catalog, Plan
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_parse import parse
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_plan import make_plan
from ansible_collections.auditdb.postgresql.plugins.module_utils.grant_sql import statement

LIST: dict[str, Any] = {"type": "list", "elements": "str"}
DICT: dict[str, Any] = {"type": "dict"}
GRANT_ARGUMENTS: dict[str, dict[str, Any]] = {
    "role": {"type": "str", "required": True},
    "database": LIST,
    "schema": DICT,
    "tables": DICT,
    "columns": DICT,
    "sequences": DICT,
    "functions": DICT,
    "default": {"type": "dict", "options": {"tables": LIST, "sequences": LIST, "functions": LIST}},
}


def refuse(module: AnsibleModule, catalog: Catalog, plan: Plan, skipped: list[dict[str, str]]) -> None:
    """Stop where the declaration cannot be reached, naming everything that stands in the way."""
    if plan.missing and module.params["missing_objects"] == "fail":
        raise PostgresqlError(
            f"not there: {', '.join(plan.missing)}. Nothing was changed",
            remedy="create them first (roles: postgresql_roles; tables: postgresql_migration), correct the names, "
            "or set missing_objects to skip",
            missing=list(plan.missing),
        )
    if skipped and module.params["missing_rights"] == "fail":
        raise PostgresqlError(
            f"{catalog.login} may not: "
            + "; ".join(f"{entry['what']} ({entry['reason']})" for entry in skipped)
            + ". Nothing was changed",
            remedy="; ".join(dict.fromkeys(entry["remedy"] for entry in skipped)) + "; or set missing_rights to skip",
            sqlstate="42501",
            skipped_rights=skipped,
        )


def run(module: AnsibleModule, session: Session) -> dict[str, Any]:
    declaration = parse(module.params, session.server_version)
    catalog = read_catalog(session, declaration)
    plan = make_plan(declaration, catalog)
    skipped = [dict(vars(entry)) for entry in plan.skipped]
    refuse(module, catalog, plan, skipped)
    queries = [session.render(statement(change)) for change in plan.changes]
    if plan.changes and not module.check_mode:
        if session.in_recovery():
            raise PostgresqlError("the server is a standby", sqlstate="25006")
        with session.transaction():
            for change in plan.changes:
                session.execute(statement(change))
    return {
        "changed": bool(plan.changes),
        "queries": queries,
        "executed_queries": session.executed,
        "missing": list(plan.missing),
        "foreign_grants": list(plan.foreign),
        "skipped_rights": skipped,
        "diff": sql_diff(queries, f"rights in {catalog.database.name}"),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "schemas": {"type": "list", "elements": "str", "required": True},
            "owner_role": {"type": "str"},
            "create_schemas": {"type": "bool", "default": False},
            "database_settings": {"type": "dict"},
            "grants": {"type": "list", "elements": "dict", "options": GRANT_ARGUMENTS},
            "public": {"type": "str", "choices": ["revoke", "keep"], "default": "revoke"},
            "missing_objects": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
            "missing_rights": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
        },
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == "__main__":
    main()
