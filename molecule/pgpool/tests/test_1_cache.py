"""What comes from the cache, to whom, and how old it may be."""

from __future__ import annotations

import time

import psycopg2
import pytest
from caching import TTL, wait
from throwaway import ask, keep_figure

READ = "SELECT v FROM public.reference WHERE id = 1"


@pytest.fixture
def fresh(cache):
    """Return a cache whose kept results have all ended."""
    time.sleep(TTL + 1)
    return cache


@pytest.fixture
def figures(scenario):
    return lambda name, value: keep_figure(scenario / "inventory/.state/pgpool.json", name, value)


def test_a_repeated_read_is_answered_from_the_cache(fresh, figures):
    session = fresh.login()
    before = fresh.hits
    assert {ask(session, READ) for _ in range(50)} == {"one"}
    assert fresh.hits == before + 49
    # In another session of the same role, too.
    assert ask(fresh.login(), READ) == "one" and fresh.hits == before + 50
    figures(f"{fresh.name}: hits of 51 reads, one after the other", fresh.hits - before)


def test_a_write_through_it_is_seen_at_once(fresh):
    reader, writer = fresh.login(), fresh.login()
    for value in ("through", "one"):
        ask(reader, READ)
        ask(reader, READ)
        ask(writer, f"UPDATE public.reference SET v = '{value}' WHERE id = 1")
        # A standby that lags would answer with what was.
        fresh.caught_up()
        assert ask(reader, READ) == value


def test_a_write_past_it_is_not_seen_for_the_ttl_and_no_longer(fresh, figures):
    reader, past = fresh.login(), fresh.login(at=fresh.base)
    begun = time.monotonic()
    assert ask(reader, READ) == "one"
    ask(past, "UPDATE public.reference SET v = 'past' WHERE id = 1")
    fresh.caught_up()
    try:
        assert ask(reader, READ) == "one", "nothing was kept: what follows would prove nothing"
        wait(lambda: ask(reader, READ) == "past", "it is never seen")
        age = time.monotonic() - begun
    finally:
        ask(past, "UPDATE public.reference SET v = 'one' WHERE id = 1")
    figures(f"{fresh.name}: a result was used until it was so old, s, of {TTL}", round(age, 2))
    # The answer to the last question is a part of the time.
    assert TTL - 2 < age < TTL + 1


def test_who_has_written_reads_past_the_cache(fresh):
    session, other = fresh.login(), fresh.login()
    assert [ask(other, READ) for _ in range(2)] == ["one"] * 2
    ask(session, "INSERT INTO public.ledger DEFAULT VALUES")
    before = fresh.hits
    assert [ask(session, READ) for _ in range(4)] == ["one"] * 4
    assert fresh.hits == before


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT v FROM public.other WHERE id = 1",
        "SELECT v FROM other WHERE id = 1",
        # As statements write it: this one is not listed without its schema.
        "SELECT v FROM reference WHERE id = 1",
        "SELECT r.v FROM public.reference AS r JOIN public.other AS o USING (id)",
        "SELECT v FROM public.reference WHERE id IN (SELECT id FROM public.other)",
        "WITH o AS (SELECT * FROM public.other) SELECT v FROM o",
        "SELECT v FROM public.reference UNION SELECT v FROM public.other",
        "SELECT v FROM public.reference, LATERAL (SELECT count(*) FROM public.other) AS counted",
        "/*FORCE QUERY CACHE*/SELECT v FROM public.other WHERE id = 1",
        "SELECT v || now() FROM public.reference",
    ],
)
def test_what_reads_a_table_that_is_not_listed_is_never_kept(caches, statement):
    for cache in caches.values():
        session, before = cache.login(), cache.hits
        for _ in range(4):
            assert str(ask(session, statement)).startswith("one")
        assert cache.hits == before


def test_nobody_sees_rows_that_were_kept_for_another_role(fresh):
    read = "SELECT string_agg(v, ',') FROM public.{}"
    alice, bob = fresh.login("alice"), fresh.login("bob")
    for table in ("tenants", "tenants_seen"):
        for _ in range(3):
            assert ask(alice, read.format(table)) == "hers"
            assert ask(bob, read.format(table)) == "his"
        # A member of bob's that takes his part, and leaves it.
        ask(alice, "SET ROLE bob")
        assert [ask(alice, read.format(table)) for _ in range(3)] == ["his"] * 3
        ask(alice, "RESET ROLE")
        assert ask(alice, read.format(table)) == "hers"
    other = fresh.login("alice")
    for _ in range(3):
        ask(other, "BEGIN")
        ask(other, "SET LOCAL ROLE bob")
        assert ask(other, read.format("tenants")) == "his"
        ask(other, "COMMIT")
        assert ask(other, read.format("tenants")) == "hers"


def test_what_one_role_may_read_is_kept_for_it_alone(fresh):
    fresh.base.sql("REVOKE ALL ON reference FROM bob")
    try:
        alice = fresh.login("alice")
        before = fresh.hits
        assert [ask(alice, READ) for _ in range(3)] == ["one"] * 3
        assert fresh.hits == before + 2
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            ask(fresh.login("bob"), READ)
    finally:
        fresh.base.sql("GRANT ALL ON reference TO bob")


def test_row_security_that_comes_later_ends_what_was_kept(fresh):
    session = fresh.login("bob")
    assert [ask(session, READ) for _ in range(3)] == ["one"] * 3
    fresh.base.sql("ALTER TABLE reference ENABLE ROW LEVEL SECURITY")
    try:
        # Twice: Pgpool keeps what a table is for as long as results.
        wait(lambda: ask(session, READ) is None, "rows are shown that are hidden", seconds=2 * TTL + 2)
        before = fresh.hits
        assert [ask(session, READ) for _ in range(3)] == [None] * 3
        time.sleep(2 * TTL)
        fresh.login("alice").close()
        before = fresh.hits
        assert [ask(session, READ) for _ in range(3)] == [None] * 3
        assert fresh.hits == before
    finally:
        fresh.base.sql("ALTER TABLE reference DISABLE ROW LEVEL SECURITY")
        time.sleep(2 * TTL)
