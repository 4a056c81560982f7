"""What applications are told about how to connect."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.auditdb.postgresql.plugins.filter import connections

ROOT = Path(__file__).parents[2]
TLS = "sslmode=verify-full sslrootcert=ca.crt"
WRITER, READER = f"dbname=audit_db user=audit_writer {TLS}", f"dbname=audit_db user=audit_reader {TLS}"
MEMBERS = {f"pg{number}": {"ansible_host": f"pg{number}.example.com"} for number in (1, 2, 3)}
NAMES = "pg1.example.com,pg2.example.com,pg3.example.com"


def told(name, hosts, groups, **options):
    return connections.connection_strings(name, hosts, groups, dbname="audit_db", ca="ca.crt", **options)


@pytest.mark.parametrize(
    ("role", "variable", "value"),
    [
        ("postgresql_server", "postgresql_server_port", connections.SERVER_PORT),
        ("pgbouncer", "pgbouncer_listen_port", connections.POOL_PORT),
        ("haproxy", "haproxy_read_port", connections.READ_PORT),
    ],
)
def test_its_defaults_are_those_of_the_roles(role, variable, value):
    assert yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())[variable] == value


def test_one_server():
    assert told("db1", {"db1": {}}, {"database": ["db1"]}) == {"write": f"host=db1 port=5432 {WRITER}"}


def test_a_server_on_another_port_whose_database_has_a_name_with_a_space():
    hosts = {"db1": {"ansible_host": "db1.example.com", "postgresql_server_port": 5433}}
    found = connections.connection_strings("db1", hosts, {"database": ["db1"]}, dbname="it's one", ca="ca.crt")
    assert found["write"].startswith("host=db1.example.com port=5433 dbname='it\\'s one' ")


def test_servers_that_have_nothing_to_do_with_each_other():
    groups = {"database": ["db1", "db2"]}
    assert "db2" not in told("db1", {"db1": {}, "db2": {}}, groups)["write"]


def test_a_primary_and_its_standby():
    hosts = {"db1": {}, "db2": {"postgresql_standby_primary": "db1"}, "db3": {"postgresql_standby_primary": "db9"}}
    found = told("db1", hosts, {"database": ["db1"], "standby": ["db2", "db3"]})
    assert found == {
        "write": f"host=db1,db2 port=5432 {WRITER} target_session_attrs=read-write",
        "read": f"host=db1,db2 port=5432 {READER} target_session_attrs=prefer-standby",
    }


def test_members_that_elect_who_leads_and_no_balancer():
    found = told("pg2", MEMBERS, {"database": [*MEMBERS], "etcd": [*MEMBERS]})
    assert found["write"] == f"host={NAMES} port=5432 {WRITER} target_session_attrs=read-write"


def test_members_behind_two_balancers():
    hosts = {**MEMBERS, "lb1": {}, "lb2": {"pgbouncer_listen_port": 6433}}
    found = told("pg2", hosts, {"database": [*MEMBERS], "etcd": [*MEMBERS], "balancer": ["lb1", "lb2"]})
    assert found == {
        "write": f"host=lb1,lb2 port=6432,6433 {WRITER}",
        "read": f"host=lb1,lb2 port=5001 {READER}",
        "fallback": f"host={NAMES} port=5432 {WRITER} target_session_attrs=read-write",
    }


def test_balancers_that_share_an_address():
    shared = {"haproxy_virtual_address": "192.0.2.10/24"}
    hosts = {**MEMBERS, "lb1": shared, "lb2": shared}
    found = told("pg1", hosts, {"database": [*MEMBERS], "etcd": [*MEMBERS], "balancer": ["lb1", "lb2"]})
    assert found["write"].startswith("host=192.0.2.10 port=6432 ")


def test_a_pool_before_one_server_is_not_that_of_another():
    hosts = {"db1": {}, "db2": {}, "pool": {"pgbouncer_hosts": ["db1"]}}
    groups = {"database": ["db1", "db2"], "balancer": ["pool"]}
    assert told("db1", hosts, groups) == {
        "write": f"host=pool port=6432 {WRITER}",
        "fallback": f"host=db1 port=5432 {WRITER}",
    }
    assert told("db2", hosts, groups) == {"write": f"host=db2 port=5432 {WRITER}"}


def test_a_server_that_somebody_else_keeps():
    login = {"login_host": "db.example.com", "login_port": 5433}
    found = told(
        "managed", {"managed": {"ansible_connection": "local", "audit_login": login}}, {"database": ["managed"]}
    )
    assert found == {"write": f"host=db.example.com port=5433 {WRITER}"}


def test_addresses_of_names_that_do_not_resolve():
    found = told("db1", {"db1": {}}, {"database": ["db1"]}, addresses={"db1": "192.0.2.1"})
    assert found["write"].startswith("host=db1 hostaddr=192.0.2.1 port=5432 ")
