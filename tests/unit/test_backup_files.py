"""What is written is there whole or not at all, and what was changed is known."""

from __future__ import annotations

import json

import pytest
from auditdb_backup import clock, durable
from auditdb_backup.backup import MANIFEST, load, load_all
from auditdb_backup.canonical import canonical, digest
from auditdb_backup.configuration import Configuration
from auditdb_backup.errors import BackupError
from auditdb_backup.job import read, recorded
from auditdb_backup.repository import Repository
from backups import BACKUP, CONTENT, backup
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=9,
)


@given(JSON)
def test_canonical_json_is_the_same_however_it_was_written(value):
    assert canonical(json.loads(json.dumps(value))) == canonical(value)
    assert json.loads(canonical(value)) == value


def test_a_file_is_never_overwritten(tmp_path):
    path = tmp_path / "file"
    with durable.create(path) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(FileExistsError), durable.create(path) as file:
        file.write(b"second")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


def test_what_fails_half_way_leaves_nothing(tmp_path):
    with pytest.raises(ValueError), durable.create(tmp_path / "file") as file:
        file.write(b"half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_overwritten_and_what_a_running_one_writes_is_not(tmp_path):
    path = tmp_path / "file"
    durable.partial(path).write_bytes(b"a long half of something")
    with durable.create(path) as file:
        file.write(b"whole")
        with pytest.raises(BackupError, match="another run writes"), durable.create(path):
            pass
    assert path.read_bytes() == b"whole"


def test_manifests_know_when_they_were_changed(tmp_path):
    place = tmp_path / BACKUP.id
    place.mkdir()
    BACKUP.write(place)
    assert load(place) == BACKUP
    text = (place / MANIFEST).read_text()
    for wrong in (text.replace('"bytes":5', '"bytes":6'), text[: len(text) // 2], "[]", "{}"):
        (place / MANIFEST).write_text(wrong)
        with pytest.raises(BackupError, match=BACKUP.id):
            load(place)
        assert isinstance(load_all(tmp_path)[BACKUP.id], BackupError)
    (place / MANIFEST).write_text(text)
    place.rename(tmp_path / "20260502T013000Z-full")
    with pytest.raises(BackupError, match="is that of"):
        load(tmp_path / "20260502T013000Z-full")


def test_manifests_from_before_backups_of_standbys_are_read(tmp_path):
    place = tmp_path / BACKUP.id
    place.mkdir()
    content = BACKUP.as_dict()
    del content["source"], content["notices"]
    (place / MANIFEST).write_bytes(canonical({**content, "manifest_sha256": digest(content)}) + b"\n")
    assert load(place) == BACKUP
    assert (BACKUP.source, BACKUP.notices) == ("", ())


def test_the_digest_is_that_of_the_content():
    assert digest(BACKUP.as_dict()) != digest(backup(BACKUP.id, timeline=2).as_dict())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"engine": None}, ""),
        ({"colour": "blue"}, "colour is unknown"),
        ({"retention": {"daily": 1}}, "missing"),
    ],
)
def test_configurations(tmp_path, change, said):
    content = {**CONTENT, **change}
    path = tmp_path / "main.json"
    path.write_text(json.dumps(content))
    if said:
        with pytest.raises(BackupError, match=said):
            Configuration.read(path)
    else:
        assert Configuration.read(path).retention.daily == 14
    del content["port"]
    path.write_text(json.dumps(content))
    with pytest.raises(BackupError, match="port is missing"):
        Configuration.read(path)


def test_moments_need_a_time_zone():
    assert clock.write(clock.read("2026-05-01T14:00:00+02:00")) == "2026-05-01T12:00:00.000000Z"
    for wrong in ("2026-05-01T12:00:00", "yesterday"):
        with pytest.raises(BackupError, match=wrong):
            clock.read(wrong)


def test_a_repository_that_is_gone_or_anothers_is_refused(tmp_path):
    repository = Repository(tmp_path / "main")
    with pytest.raises(BackupError, match="there is no repository"):
        repository.check()
    assert repository.create("main", "7") and not repository.create("main", "7")
    with pytest.raises(BackupError, match="system identifier 7"):
        repository.create("main", "8")


def test_two_at_once_are_refused(tmp_path):
    repository = Repository(tmp_path / "main")
    repository.create("main", "7")
    busy = pytest.raises(BackupError, match="another run is at work \\(backup full")
    with repository.lock("backup full"), busy, repository.lock("expire"):
        pass
    with repository.lock("expire"):
        pass


def test_jobs_say_how_they_ended(tmp_path):
    repository = Repository(tmp_path / "main")
    repository.create("main", "7")
    with recorded(repository, "full"):
        assert read(repository, "full").open
    good = read(repository, "full")
    assert good.succeeded_at and not good.failed_at and not good.open
    with pytest.raises(BackupError), recorded(repository, "full"):
        raise BackupError("disk full", "buy another")
    bad = read(repository, "full")
    assert bad.succeeded_at == good.succeeded_at and bad.failed_at and "disk full" in bad.error
