"""Versions of constitutions in the store: committed, in force, brought back, found."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from judges.constitution import Constitution, Principle
from judges.constitution_file import SHIPPED, dump
from pipelines.store import constitutions
from pipelines.store.connection import connect, transaction
from pipelines.store.constitutions import resolve
from pipelines.store.lookup import find
from teachers.errors import ConfigError


def saying(text: str, name: str = "mine") -> Constitution:
    return Constitution(name=name, principles=(Principle(id="only", text=text),))


FIRST, SECOND = saying("The answer is short."), saying("The answer is long.")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def db(store: Path) -> Iterator[Database]:
    with closing(connect(store)) as opened:
        yield opened


def commit(db: Database, constitution: Constitution, message: str = "why") -> bool:
    with transaction(db):
        return constitutions.commit(db, constitution, "Ada", message).new


def test_a_version_knows_where_it_came_from(db: Database) -> None:
    assert constitutions.head(db, "mine") is None
    assert commit(db, FIRST, "one")
    assert commit(db, SECOND, "two")
    second, first = constitutions.log(db, "mine")
    assert (first.id, first.parent, first.message) == (FIRST.id, None, "one")
    assert (second.id, second.parent, second.author) == (SECOND.id, FIRST.id, "Ada")
    assert constitutions.head(db, "mine") == second
    assert constitutions.log(db, "mine", limit=1) == [second]


def test_what_comes_with_preceptor_is_what_a_first_edit_was_made_of(db: Database) -> None:
    shipped = constitutions.resolve("concise-assistant", db)
    edited = shipped.model_copy(update={"description": "Ours."})
    assert commit(db, edited)
    (only,) = constitutions.log(db, "concise-assistant")
    assert only.parent == shipped.id
    assert constitutions.resolve(shipped.id[:12], db) == shipped
    assert constitutions.resolve("concise-assistant", db) == edited


def test_what_is_in_force_is_not_stored_again(db: Database) -> None:
    assert commit(db, FIRST)
    assert not commit(db, FIRST, "once more")
    assert [one.message for one in constitutions.log(db, "mine")] == ["why"]


def test_a_version_can_come_back(db: Database) -> None:
    for constitution in (FIRST, SECOND, FIRST):
        assert commit(db, constitution)
    assert [one.id for one in constitutions.log(db, "mine")] == [FIRST.id, SECOND.id, FIRST.id]
    assert constitutions.version(db, "mine") == FIRST


def test_names_do_not_mix(db: Database) -> None:
    commit(db, FIRST)
    other = saying("The answer is kind.", name="other")
    commit(db, other)
    assert constitutions.version(db, "mine") == FIRST
    assert constitutions.version(db, "other") == other
    (only,) = constitutions.log(db, "other")
    assert only.parent is None


def test_a_version_is_found_by_the_beginning_of_its_id(db: Database, store: Path) -> None:
    commit(db, FIRST)
    commit(db, SECOND)
    assert constitutions.version(db, FIRST.id) == FIRST
    assert constitutions.version(db, FIRST.id[:10]) == FIRST
    assert constitutions.version(db, "nobody") is None
    assert constitutions.version(db, "") is None, "every id begins with nothing"
    for number in range(17):  # two of these begin with the same digit
        commit(db, saying(f"Text {number}."))
    digits = [row[0][0] for row in db.execute("select id from constitutions")]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    with pytest.raises(ConfigError, match="More than one"):
        constitutions.version(db, twice)
    found = find(store, FIRST.id[:10])
    assert (found.table, found.row["name"]) == ("constitutions", "mine")
    assert len(found.related["commits"].rows) == 1


def test_a_stored_version_has_the_id_that_it_was_stored_under(db: Database) -> None:
    commit(db, FIRST)
    ((id, content),) = db.execute("select id, content from constitutions").fetchall()
    assert Constitution.model_validate_json(content).id == id == FIRST.id


def test_a_reference_is_a_path_a_version_or_what_is_shipped(db: Database, tmp_path: Path) -> None:
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "mine.yaml").write_text(dump(FIRST))
    edited = tmp_path / "edited.yaml"
    edited.write_text(dump(SECOND))
    assert resolve("mine", None, folder) == FIRST
    assert resolve("mine", db, folder) == FIRST
    assert resolve(str(edited), db, folder) == SECOND
    commit(db, SECOND)
    assert resolve("mine", db, folder) == SECOND
    assert resolve(SECOND.id[:8], db, folder) == SECOND
    with pytest.raises(ConfigError, match="There are: mine") as refused:
        resolve("yours", db, folder)
    assert "There is no constitution 'yours'" in refused.value.message
    with pytest.raises(ConfigError, match="There is no file"):
        resolve("mine.yaml", db, folder)


def test_the_committed_version_stays_in_force_when_a_file_breaks(
    db: Database, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(dump(FIRST))
    commit(db, resolve(str(file), db, tmp_path))
    for broken in ("name: [half", "name: mine\nprinciples: []\n", "", "\x00"):
        file.write_text(broken)
        with pytest.raises(ConfigError):
            resolve(str(file), db, tmp_path)
        assert resolve("mine", db, tmp_path) == FIRST
    file.unlink()
    assert resolve("mine", db, tmp_path) == FIRST


def test_what_comes_with_preceptor_is_found_by_name() -> None:
    for path in SHIPPED.glob("*.yaml"):
        assert resolve(path.stem, None).name == path.stem
