"""Which server gets what, and what Pgpool does when they change. In the order of the file."""

from __future__ import annotations

import json
import time

import psycopg2
import pytest
from caching import wait
from throwaway import ask, keep_figure

WHO = "SELECT host(inet_server_addr()) FROM public.other"


@pytest.fixture
def figures(scenario):
    return lambda name, value: keep_figure(scenario / "inventory/.state/pgpool.json", name, round(value, 2))


def read_from(cache, times: int = 16) -> set[str]:
    """Return the addresses of the servers that a new session reads from; none where it is refused."""
    try:
        session = cache.login()
        found = {ask(session, WHO) for _ in range(times)}
        session.close()
    except psycopg2.Error:
        return set()
    return found


def test_reads_go_to_both_and_writes_to_the_primary(cache):
    both = {cache.base.address, cache.standby.address}
    before = {host.name: int(cache.node(host)["select_cnt"]) for host in (cache.base, cache.standby)}
    assert read_from(cache, 40) == both
    after = {host.name: int(cache.node(host)["select_cnt"]) for host in (cache.base, cache.standby)}
    assert all(after[name] >= before[name] + 5 for name in before), (before, after)
    session = cache.login()
    insert = "INSERT INTO public.ledger DEFAULT VALUES RETURNING host(inet_server_addr())"
    assert {ask(session, insert) for _ in range(10)} == {cache.base.address}
    # Who has written reads where it wrote.
    assert {ask(session, WHO) for _ in range(20)} == {cache.base.address}


def test_a_standby_that_lags_gets_no_reads(cache, figures):
    wait(lambda: cache.standby.address in read_from(cache), "the standby is not read from")
    with cache.standby.replay_held():
        # Twice what this inventory allows.
        cache.base.sql("SELECT pg_logical_emit_message(true, 'cache', repeat('x', 2097152))")
        took = wait(lambda: read_from(cache) == {cache.base.address}, "a standby that lags is read from")
        figures(f"{cache.name}: a standby is not read from, s after it lags", took)
        assert read_from(cache, 40) == {cache.base.address}
    wait(lambda: cache.standby.address in read_from(cache), "the standby is not read from again")


@pytest.mark.newest
def test_the_death_of_the_standby_costs_no_failover(cache, figures):
    cache.standby.container.kill()
    try:
        took = wait(lambda: cache.writes_reach(cache.base), "nobody gets in")
        figures(f"{cache.name}: new sessions, s after the standby's host was killed", took)
        assert read_from(cache) == {cache.base.address}
        assert cache.leads == cache.base.name
    finally:
        cache.standby.container.start()
    wait(lambda: cache.standby.address in read_from(cache), "the standby is not read from again", seconds=90)


@pytest.mark.newest
def test_a_primary_that_restarts_is_written_to_again(cache, figures):
    cache.base.run("systemctl", "kill", "--signal=SIGKILL", cache.unit)
    wait(lambda: not cache.writes_reach(cache.base), "it was not killed")
    cache.base.run("systemctl", "reset-failed", cache.unit)
    cache.base.run("systemctl", "start", cache.unit)
    figures(f"{cache.name}: writes, s after the primary is there again",
            wait(lambda: cache.writes_reach(cache.base), "it is not written to"))  # fmt: skip
    assert cache.standby.sql("SELECT pg_is_in_recovery()") == "t"
    wait(lambda: cache.standby.address in read_from(cache), "the standby is not read from again")


@pytest.mark.newest
def test_a_promotion_is_followed_and_never_made(cache, playbook, figures):
    cache.caught_up()
    cache.base.run("systemctl", "stop", cache.unit)
    time.sleep(10)
    assert cache.standby.sql("SELECT pg_is_in_recovery()") == "t", "Pgpool has it promoted"
    assert not cache.writes_reach(cache.standby)
    cache.standby.sql("SELECT pg_promote()")
    took = wait(lambda: cache.writes_reach(cache.standby), "the new primary is not written to")
    figures(f"{cache.name}: writes, s after a standby was promoted", took)
    # The old one comes back, and nobody has told it: with two, Pgpool stays with whom it has.
    cache.base.run("systemctl", "start", cache.unit)
    time.sleep(5)
    assert cache.leads == cache.standby.name
    rows = cache.base.sql("SELECT count(*) FROM ledger")
    for _ in range(5):
        assert cache.writes_reach(cache.standby)
    assert cache.base.sql("SELECT count(*) FROM ledger") == rows
    # As the inventory has it: the primary of before leads, and the other one is its standby again.
    rebuild = json.dumps({"postgresql_standby_rebuild": {cache.standby.name: "clone"}})
    run = playbook("auditdb.postgresql.standby", "--limit", f"{cache.base.name},{cache.standby.name}", "-e", rebuild)
    assert run.code == 0, run.output
    wait(lambda: cache.writes_reach(cache.base), "the primary is not written to")
    wait(lambda: cache.standby.address in read_from(cache), "the standby is not read from again")
    cache.standby.run("sh", "-c", "rm -r /var/lib/postgresql/*/main.before-*")
