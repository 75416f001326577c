"""YAML of which every part knows its line, read so that no file can take much time or memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from teachers.errors import ConfigError

MOST_BYTES = 1_000_000
# A constitution is six levels deep, and has a few thousand values where it is long.
MOST_LEVELS = 16
MOST_EVENTS = 50_000
# A message may quote the file, but not all of it.
MOST_SAID = 400

# libyaml, where PyYAML was built with it: twenty times as fast.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
_TABLE, _LIST = "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"

Place = Sequence[str | int]
"""The keys and positions that lead to a part of a document."""


class Document(NamedTuple):
    """What a YAML file says, and where."""

    name: str
    """What it is called in errors: its path, if it has one."""
    content: Any
    root: Any

    def line_of(self, place: Place) -> int:
        """The line of a part of the document, or of the last thing on the way to it that is there.

        Counted from 1. A key's line is its own, not that of its value.
        """
        node, line = self.root, self.root.start_mark.line
        for part in place:
            inside = [pair for pair in _pairs(node) if pair[0] == part]
            if not inside:
                break
            _, line, node = inside[0]
        return int(line) + 1

    def refuse(self, place: Place, what: str) -> NoReturn:
        """Say what is wrong with a part of the document, and where it is.

        Raises:
            ConfigError: always.
        """
        _refuse(self.name, self.line_of(place) - 1, what)


def read(path: Path) -> Document:
    """Read a file of lists, tables, text, numbers and truth values.

    Raises:
        ConfigError: it is not there, too large, not UTF-8, or `parse` refuses it.
    """
    return parse(read_text(path), str(path))


def parse(text: str, name: str) -> Document:
    """The same of a text.

    Args:
        name: what it is called in errors.

    Raises:
        ConfigError: it is too large, no YAML, or uses what can hide a mistake or explode: a key
            given twice, an alias, a tag.
    """
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{name} is larger than {MOST_BYTES // 1_000_000} MB.")
    try:
        _check_size(name, text)
        loader = _Loader(text)
        root = loader.get_single_node()
        return Document(name, None if root is None else _plain(name, loader, root), root)
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        _refuse(name, mark.line if mark else 0, f"no YAML: {wrong.problem}", wrong)
    except yaml.reader.ReaderError as wrong:
        line = text.encode().count(b"\n", 0, wrong.position)
        _refuse(name, line, "a character that text cannot have", wrong)


def read_text(path: Path) -> str:
    """A file that somebody wrote: UTF-8, with or without a byte order mark, of a bounded size.

    Raises:
        ConfigError: it is not there, too large or not UTF-8.
    """
    if not path.is_file():
        raise ConfigError(f"There is no file {path}.")
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path} is larger than {MOST_BYTES // 1_000_000} MB.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        _refuse(str(path), data.count(b"\n", 0, wrong.start), "this is not UTF-8 text", wrong)


def _check_size(name: str, text: str) -> None:
    """Refuse what explodes later, while nothing of it is kept in memory."""
    level = 0
    events: Any = yaml.parse(text, Loader=_Loader)
    for number, event in enumerate(events):
        line = event.start_mark.line
        if getattr(event, "anchor", None) is not None:
            _refuse(name, line, "anchors and aliases (& and *) are not read; write it out")
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
        if level > MOST_LEVELS:
            _refuse(name, line, f"nested more than {MOST_LEVELS} levels deep")
        if number > MOST_EVENTS:
            _refuse(name, line, "too many values for one file")


def _plain(name: str, loader: Any, node: Any) -> Any:
    """A node as plain data."""
    if isinstance(node, yaml.MappingNode) and node.tag == _TABLE:
        table: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _SCALARS:
                _refuse(name, key.start_mark.line, "a key has to be a word")
            if key.value in table:
                _refuse(name, key.start_mark.line, f"the key {key.value!r} is given twice")
            table[key.value] = _plain(name, loader, value)
        return table
    if isinstance(node, yaml.SequenceNode) and node.tag == _LIST:
        return [_plain(name, loader, value) for value in node.value]
    line = node.start_mark.line
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
        kind = node.tag.rpartition(":")[2]
        _refuse(name, line, f"YAML reads a {kind!r} here; put text in quotes")
    try:
        return loader.construct_object(node)
    except (ValueError, LookupError) as wrong:  # of a tag that is written out: `!!int "x"`
        _refuse(name, line, f"{node.value[:40]!r} is not what its tag says", wrong)


def _pairs(node: Any) -> list[tuple[str | int, int, Any]]:
    """(key or position, line, node) of what is right inside a node."""
    if isinstance(node, yaml.MappingNode):
        return [(key.value, key.start_mark.line, value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(n, value.start_mark.line, value) for n, value in enumerate(node.value)]
    return []


def _refuse(name: str, line: int, what: str, cause: Exception | None = None) -> NoReturn:
    shown = what if len(what) <= MOST_SAID else what[: MOST_SAID - 1] + "…"
    raise ConfigError(f"{name}, line {line + 1}: {shown}") from cause
