"""A user's SQL can read, and nothing else: not write, not escape, not run for ever."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipelines.store.connection import connect, transaction
from pipelines.store.query import query
from pipelines.store.rounds import open_round
from pipelines.store.writer import Writer
from teachers.errors import QueryRefused, StoreError


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store with three rounds, which are still there afterwards, and no file beside it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "store.db"
    db = connect(path)
    with transaction(db):
        for number in range(3):
            open_round(db, f"r{number}", f"round {number}", number, "{}")
    db.close()
    yield path
    check = connect(path)
    assert check.execute("select count(*) from rounds").fetchone() == (3,)
    assert check.execute("pragma integrity_check").fetchone() == ("ok",)
    check.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store.db"]


def test_a_select_gives_columns_and_rows(store: Path) -> None:
    found = query(store, "select id, number from rounds where number >= :n order by 2", {"n": 1})
    assert found.columns == ["id", "number"]
    assert found.rows == [("r1", 1), ("r2", 2)]
    assert not found.truncated


@pytest.mark.parametrize(
    "sql",
    [
        "values (1)",
        "with a as (select 1 as x) select x from a",
        "with recursive c(x) as (select 1 union all select x + 1 from c limit 9) select x from c",
        "select json_extract('{\"a\": 1}', '$.a'), upper('x'), count(*) over () from rounds",
        "select name, sql from sqlite_master",
        "explain query plan select * from rounds",
        "select * from aliases;",
        "select 1 -- a comment",
    ],
)
def test_reading_in_every_way_works(store: Path, sql: str) -> None:
    assert query(store, sql).columns


HOSTILE = [
    "delete from rounds",
    "update rounds set name = 'x'",
    "insert into rounds values ('x', 'x', 1, '{}', 'done', 0, 0, '')",
    "replace into rounds values ('x', 'x', 1, '{}', 'done', 0, 0, '')",
    "with x as (select 1) delete from rounds where id in (select * from x)",
    "insert into rounds select * from rounds returning id",
    "drop table rounds",
    "alter table rounds add column x",
    "create table x (y)",
    "create temp table x (y)",
    "create view x as select 1",
    "create temp trigger t after insert on rounds begin delete from rounds; end",
    "create virtual table x using fts5(y)",
    "create index x on rounds (name)",
    "attach database 'escaped.db' as x",
    "detach database main",
    "vacuum",
    "vacuum into 'escaped.db'",
    "reindex",
    "analyze",
    "pragma query_only = off",
    "pragma writable_schema = on",
    "pragma journal_mode = delete",
    "pragma hard_heap_limit = 1",
    "select * from pragma_table_info('rounds')",
    "select * from pragma_journal_mode('delete')",
    "begin immediate",
    "commit",
    "savepoint x",
    "rollback",
    "select load_extension('/tmp/evil.so')",
    "select LOAD_EXTENSION('/tmp/evil.so', 'init')",
    "select readfile('/etc/passwd')",
    "select writefile('escaped', 'x')",
    "select zeroblob(1000000000)",
    "select hex(randomblob(500000000))",
    "select printf('%.*c', 1000000000, 'x')",
    "select format('%1000000000d', 1)",
    "select fts3_tokenizer('simple')",
    "select edit('x')",
    "select 1; delete from rounds",
    "select 1; select 2",
    "/* select */ delete from rounds",
    "explain delete from rounds",
    "select * from nothing_there",
    "selec 1",
    "",
    "-- only a comment",
    "select 1 \0 drop table rounds",
    "select '\ud800'",
    "select :missing",
    "select cast(x'ff' as text)",
    "select " + "(" * 5000 + "1" + ")" * 5000,
    "select 1 union all " * 2000 + "select 1",
    "select json('" + "[" * 5000 + "]" * 5000 + "')",
]


@pytest.mark.parametrize("sql", HOSTILE, ids=[ascii(sql)[:60] for sql in HOSTILE])
def test_anything_else_is_refused_with_a_reason(store: Path, sql: str) -> None:
    with pytest.raises(QueryRefused) as refused:
        query(store, sql)
    assert refused.value.message.strip(". ")


ENDLESS = [
    "with recursive c(x) as (select 1 union all select x + 1 from c) select count(*) from c",
    "with recursive c(x) as (select 1 union all select x + 1 from c) select x from c where x < 0",
    "with recursive c(x) as (select 1 union all select x + 1 from c limit 5000) "
    "select count(*) from c a, c b, c d",
    "with recursive c(x) as (select 1 union all select x + 1 from c) select x from c order by -x",
    "with recursive c(x) as (select 1 union all select x + 1 from c) select max(x) over () from c",
]


@pytest.mark.parametrize("sql", ENDLESS)
def test_a_query_that_never_ends_is_stopped(store: Path, sql: str) -> None:
    began = time.monotonic()
    with pytest.raises(QueryRefused, match=r"longer than 0\.3 s"):
        query(store, sql, seconds=0.3)
    assert time.monotonic() - began < 1.5


def test_rows_are_limited_and_it_is_said(store: Path) -> None:
    found = query(store, "select * from rounds", rows=2)
    assert (len(found.rows), found.truncated) == (2, True)
    assert not query(store, "select * from rounds", rows=3).truncated
    endless = "with recursive c(x) as (select 1 union all select x + 1 from c) select x from c"
    assert len(query(store, endless).rows) == 1000


def test_bytes_are_limited(store: Path) -> None:
    big = "with recursive c(x) as (select 'xxxxxxxx' union all select x || x from c limit 22) "
    found = query(store, big + "select x from c")
    assert found.truncated
    assert sum(len(row[0]) for row in found.rows) <= 16 * 1024 * 1024


def test_a_query_sees_a_store_that_is_being_written_and_does_not_stop_it(store: Path) -> None:
    async def write() -> list[int]:
        counts = []
        with Writer(store) as writer:
            for number in range(20):
                name = f"r{number % 3}"
                await writer.commit(
                    partial(open_round, round_id=name, name="", number=9, recipe="{}")
                )
                with pytest.raises(QueryRefused):
                    query(store, "delete from rounds")
                counts.append(len(query(store, "select * from rounds").rows))
        return counts

    assert asyncio.run(write()) == [3] * 20


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store"):
        query(tmp_path / "none.db", "select 1")
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("just text, " * 1000)
    with pytest.raises(StoreError, match=r"text\.db is not a sound store: .*not a database") as no:
        query(tmp_path / "text.db", "select 1 from sqlite_master")
    assert "Put a backup in its place" in no.value.hint
    assert "preceptor doctor" in no.value.hint
