"""What is asked for, and what is told apart, when less than a cluster is restored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from auditdb_backup.alone import PREFIX, stop
from auditdb_backup.contents import dbname, differences, pattern, redefined
from auditdb_backup.errors import BackupError
from auditdb_backup.extract import Wanted, wanted
from auditdb_backup.logical_backup import file_name
from auditdb_backup.scratch import globals_for
from backups import SETTINGS


def test_names_that_are_not_given():
    assert wanted("shop", "", "", "") == Wanted("shop", "", "", "shop_restored", False)
    assert wanted("shop", "a.b.c", "", "shop:a.b.c") == Wanted("shop", "a", "b.c", "restored", True)


@pytest.mark.parametrize(
    ("database", "table", "name", "over", "said"),
    [
        ("shop", "sale", "", "", "SCHEMA.TABLE"),
        ("shop", ".sale", "", "", "SCHEMA.TABLE"),
        ("shop", "", "shop", "", "the live one"),
        ("shop", "public.sale", "public", "", "the live one"),
        ("shop", "", "", "other", "give 'shop'"),
        ("shop", "public.sale", "", "shop", "give 'shop:public.sale'"),
        ("shop", "public.sale", "pg_mine", "", "begins not with pg_"),
        ("ก" * 20, "", "", "", "at most 63 bytes"),
    ],
)
def test_what_cannot_be_is_refused_with_its_remedy(database, table, name, over, said):
    with pytest.raises(BackupError, match="Remedy") as error:
        wanted(database, table, name, over)
    assert said in str(error.value)


def test_differences_name_what_is_wrong_and_nothing_else():
    one = {"tables": {"a.b": {"rows": 1}, "a.c": {"rows": 2}}, "grants": 3}
    assert differences(one, one) == []
    other = {"tables": {"a.b": {"rows": 1}, "a.d": {"rows": 2}}, "grants": 2}
    assert differences(one, other) == [
        "grants: 3 expected, 2 found",
        "tables a.c: {'rows': 2} expected, None found",
        "tables a.d: None expected, {'rows': 2} found",
    ]


def test_a_definition_that_was_only_reshaped_is_the_same():
    one = ["-- Dumped by 17.1", "\\restrict abc", "CHECK (((n)::text = ANY ((ARRAY['a'::character varying])::text[])))"]
    other = ["-- Dumped by 17.2", "\\restrict xyz", "CHECK (((n)::text = ANY (ARRAY[('a'::character varying)::text])))"]
    assert redefined(one, other) == []
    assert redefined(["GRANT SELECT ON TABLE a TO b;"], []) == ["-GRANTSELECTONTABLEaTOb;"]


def test_globals_for_a_new_instance_have_no_tablespaces_and_not_its_own_user():
    text = "CREATE ROLE postgres;\nALTER ROLE postgres LOGIN;\nCREATE ROLE a;\nCREATE TABLESPACE t;\n"
    assert globals_for("postgres", text) == "ALTER ROLE postgres LOGIN;\nCREATE ROLE a;\n"


def test_names_with_any_character():
    assert file_name("../a b", "dump") == "%2E%2E%2Fa%20b.dump.zst.age"
    assert pattern('a"b') == '"a""b"'
    assert dbname("it's") == "--dbname=dbname='it\\'s'"


@pytest.mark.parametrize(("name", "stays"), [(f"{PREFIX}x", False), ("postgresql", True)])
def test_the_socket_of_a_killed_run_goes_and_no_other_directory(tmp_path, name, stays):
    (tmp_path / "pg_ctl").symlink_to(Path("/bin/true"))
    (tmp_path / name).mkdir()
    (tmp_path / "postmaster.pid").write_text(f"1\n/data\n2\n5432\n{tmp_path / name}\n\n")
    stop(replace(SETTINGS, bin=tmp_path), tmp_path)
    assert (tmp_path / name).exists() == stays and not (tmp_path / "postmaster.pid").exists()
