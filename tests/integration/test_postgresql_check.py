"""postgresql_check against real servers: it finds, it proves refusals, and it changes nothing."""

from __future__ import annotations

import re

import pytest


@pytest.fixture
def roles(database, role_prefix):
    writer = f"{role_prefix}writer"
    database.query("CREATE TABLE public.log (id bigint GENERATED ALWAYS AS IDENTITY, a text)")
    database.query(f"CREATE ROLE {writer} LOGIN PASSWORD 'of the test'; GRANT INSERT ON public.log TO {writer}")
    yield {"writer": writer, "passwords": {writer: "of the test"}}
    database.query(f"DROP OWNED BY {writer}")
    database.query(f"DROP ROLE {writer}")


def check(database, *checks, **options):
    named = [{"name": f"check {number}", **each} for number, each in enumerate(checks)]
    return database.module("postgresql_check", checks=named, **options)


def statuses(result):
    assert result["changed"] is False
    return [each["status"] for each in result["results"]]


def test_a_query_holds_when_it_returns_nothing(database):
    result = check(
        database,
        {"query": "SELECT 1 WHERE false"},
        {"query": "SELECT name, 'x' AS y FROM (VALUES ('a'), ('ไทย')) AS v (name)"},
        {"query": "SELECT %(a)s::text WHERE '%%' = '%%'", "parameters": {"a": "one"}},
    )
    assert statuses(result) == ["ok", "failed", "failed"]
    assert result["results"][1]["findings"] == ["name=a, y=x", "name=ไทย, y=x"]
    assert result["results"][2]["findings"] == ["one"]
    assert result["summary"] == {"ok": 1, "failed": 2, "unknown": 0}


def test_none_stops_the_others(database):
    result = check(database, {"query": "SELECT broken"}, {"query": "SELECT 1/0"}, {"query": "SELECT 1 WHERE false"})
    assert statuses(result) == ["failed", "failed", "ok"]
    assert "42703" in result["results"][0]["findings"][0]


def test_a_query_cannot_write(database):
    database.query("CREATE TABLE t (a int)")
    result = check(database, {"query": "INSERT INTO public.t VALUES (1) RETURNING a"})
    assert statuses(result) == ["failed"] and "25006" in result["results"][0]["findings"][0]


@pytest.mark.parametrize("login", [True, False])
def test_refusals_are_tried(database, roles, login):
    role = roles["writer"]
    options = {"role_logins": {"passwords": roles["passwords"], "login_host": database.server.host}} if login else {}
    result = check(
        database,
        {
            "statements": ["DELETE FROM public.log WHERE false", "TRUNCATE public.log"],
            "role": role,
            "refused": ["42501"],
        },
        {"statements": ["INSERT INTO public.log (a) VALUES ('x')"], "role": role, "refused": ["42501"]},
        {"statements": ["INSERT INTO public.log (a) VALUES ('x')"], "role": role, "accepted": True},
        {"statements": ["SELECT a FROM public.log"], "role": role, "accepted": True},
        {"statements": ["SELECT * FROM nowhere"], "role": role, "refused": ["42501"]},
        **options,
    )
    assert statuses(result) == ["ok", "failed", "ok", "failed", "failed"]
    assert "accepted, and must be refused" in result["results"][1]["findings"][0]
    assert "not proven" in result["results"][4]["findings"][0]
    assert database.value("SELECT count(*) FROM public.log") == 0


def test_a_wrong_password_is_found(database, roles):
    result = check(
        database,
        {"statements": ["SELECT 1"], "role": roles["writer"], "accepted": True},
        role_logins={"passwords": {roles["writer"]: "wrong"}, "login_host": database.server.host},
    )
    assert statuses(result) == ["failed"] and "28P01" in result["results"][0]["findings"][0]


def test_a_login_that_may_not_look_is_unknown_and_not_ok(database, roles):
    login = {"login_user": roles["writer"], "login_password": "of the test"}
    result = check(
        database,
        {"query": "SELECT rolname FROM pg_authid"},
        {"statements": ["SELECT 1"], "role": "postgres", "refused": ["42501"]},
        **login,
    )
    assert statuses(result) == ["unknown", "unknown"]


def test_a_lock_does_not_hang_it(database):
    database.query("CREATE TABLE t (a int)")
    holder = database.server.connect(database.name)
    holder.autocommit = False
    holder.cursor().execute("LOCK TABLE t")
    result = check(
        database, {"query": "SELECT * FROM public.t"}, {"query": "SELECT 1 WHERE false"}, lock_timeout="100ms"
    )
    assert statuses(result) == ["failed", "ok"]
    assert "55P03" in result["results"][0]["findings"][0]
    holder.close()


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"query": "SELECT 1", "statements": ["SELECT 1"]},
        {"query": "SELECT 1", "accepted": True},
        {"statements": ["SELECT 1"]},
        {"statements": ["SELECT 1"], "accepted": True, "refused": ["42501"]},
    ],
)
def test_a_check_that_says_nothing_or_two_things_is_refused(database, bad):
    failed = database.failure("postgresql_check", checks=[{"name": "the bad one", **bad}])
    assert "the bad one" in failed["msg"] and failed["remedy"]


def test_the_certificate_that_clients_see_is_verified_and_lasts(database, roles, tmp_path):
    authority = tmp_path / "ca.crt"
    authority.write_text(database.server.certificate)  # of 30 days, for localhost
    address = {"connect_params": {"hostaddr": database.server.host}}
    good = {"login_host": "localhost", "ssl_mode": "verify-full", "ca_cert": str(authority), **address}

    def outcome(days, **login):
        passwords = {} if login.get("login_host") == "" else roles["passwords"]
        options = {"role_logins": {"passwords": passwords, **good, **login}}
        (result,) = check(database, {"role": roles["writer"], "certificate_days": days}, **options)["results"]
        return result["status"], "".join(result["findings"])

    assert outcome(1) == ("ok", "")
    status, finding = outcome(31)
    assert status == "failed" and "it ends 20" in finding
    assert outcome(1, login_host="elsewhere")[0] == "failed"
    assert outcome(1, login_host="elsewhere", ssl_mode="verify-ca") == ("ok", "")
    assert "self-signed certificate" in outcome(1, ca_cert=None)[1]
    assert "no trusted certificate" in outcome(1, login_port=1)[1]
    assert "no trusted certificate" in outcome(1, ca_cert=str(tmp_path / "none"))[1]


def test_what_only_informs_holds_and_is_said(database):
    result = check(database, {"query": "SELECT 'an operator changed it'", "advisory": True})
    assert statuses(result) == ["ok"]
    assert result["results"][0]["findings"] == ["an operator changed it"]


def test_a_broken_connection_is_made_again(database, roles):
    dies = "SELECT pg_terminate_backend(pg_backend_pid())"
    options = {"role_logins": {"passwords": roles["passwords"]}}
    works = {"statements": ["SELECT 1"], "accepted": True}
    role = {"role": roles["writer"]}
    result = check(database, {"query": dies}, works, {**works, "statements": [dies]} | role, works | role, **options)
    assert statuses(result) == ["failed", "ok", "failed", "ok"]
    assert re.search("57P01|08006", result["results"][0]["findings"][0])


def test_a_role_that_cannot_log_in_fails_once_and_leaves_the_rest_unknown(database, roles):
    works = {"statements": ["SELECT 1"], "accepted": True, "role": roles["writer"]}
    refused = {"statements": ["TRUNCATE public.log"], "refused": ["42501"], "role": roles["writer"]}
    result = check(database, works, refused, role_logins={"passwords": {roles["writer"]: "wrong"}})
    assert statuses(result) == ["failed", "unknown"]
    assert "not tried" in result["results"][1]["findings"][0]
    assert result["acted_as"] == {roles["writer"]: "the login failed"}


def test_how_it_acted_is_said(database, roles):
    works = {"statements": ["SELECT 1"], "accepted": True, "role": roles["writer"]}
    assert check(database, works)["acted_as"] == {roles["writer"]: "SET ROLE"}
    result = check(database, works, role_logins={"passwords": roles["passwords"]})
    assert result["acted_as"] == {roles["writer"]: "login"}
    assert result["server_version"].startswith(str(database.version))


def test_nobody_can_plant_a_function_that_it_calls(database):
    database.query("CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$")
    database.query(f"ALTER DATABASE {database.name} SET search_path = public, pg_catalog")
    result = check(database, {"query": "SELECT lower('A'::varchar) WHERE lower('A'::varchar) <> 'a'"})
    assert statuses(result) == ["ok"]


def test_a_role_that_does_not_exist_is_a_failure(database):
    result = check(database, {"statements": ["SELECT 1"], "refused": ["42501"], "role": "nobody_has_this_name"})
    assert statuses(result) == ["failed"]
    assert "nobody_has_this_name" in result["results"][0]["findings"][0]
