"""Reading a recipe: every mistake is told with its place, and every field has a line of help."""

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from judges.marked_yaml import read
from pipelines.recipe import Recipe
from teachers.errors import ConfigError


def load(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: it is not there, no YAML, or says something it may not: where, and what is
            the nearest known name.
    """
    content = read(path).content
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds no recipe.", hint="recipes/demo.yaml is one to start from."
        )
    return _with_paths_from(path.parent, parsed(content, str(path)))


def parsed(content: object, name: str) -> Recipe:
    """A recipe that was read from somewhere.

    Args:
        name: what it is called in errors.

    Raises:
        ConfigError: it says something it may not: where, and what is the nearest known name.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as wrong:
        raise ConfigError(_explain(name, content, wrong), hint="preceptor recipe fields") from wrong


def _with_paths_from(folder: Path, recipe: Recipe) -> Recipe:
    """Relative paths in a recipe count from where the recipe lies."""
    files = tuple(
        file.model_copy(update={"path": (folder / file.path.expanduser()).absolute()})
        for file in recipe.supply.files
    )
    changed: dict[str, Any] = {"supply": recipe.supply.model_copy(update={"files": files})}
    if recipe.constitution:
        changed["constitution"] = _constitution_from(folder, recipe.constitution)
    more = tuple(_constitution_from(folder, name) for name in recipe.lessons.constitutions)
    changed["lessons"] = recipe.lessons.model_copy(update={"constitutions": more})
    return recipe.model_copy(update=changed)


def _constitution_from(folder: Path, name: str) -> str:
    """A constitution's name or version as it is; a path made absolute."""
    if not name.endswith((".yaml", ".yml")):
        return name
    return str((folder / Path(name).expanduser()).absolute())


def _explain(name: str, content: object, wrong: ValidationError) -> str:
    lines = [f"{name} is not a valid recipe:"]
    for error in wrong.errors(include_url=False):
        what = in_words(error)
        if error["type"] == "extra_forbidden":
            what = "unknown" + _nearest(tuple(error["loc"]))
        lines.append(f"  {_where(content, error['loc'])}: {what}")
    return "\n".join(lines)


# What pydantic says of these, in the words of somebody who writes YAML.
_SAID = {
    "missing": "is missing",
    "literal_error": "has to be {expected}",
    "string_type": "has to be text: it is empty, or YAML reads something else (then use quotes)",
    "string_too_short": "is empty",
    "int_type": "has to be a whole number",
    "int_parsing": "has to be a whole number",
    "int_from_float": "has to be a whole number",
    "float_type": "has to be a number",
    "float_parsing": "has to be a number",
    "bool_type": "has to be true or false",
    "bool_parsing": "has to be true or false",
    "path_type": "has to be a path",
    "tuple_type": "has to be a list",
    "dict_type": "has to be a table of keys and values",
    "model_type": "has to be a table of keys and values",
    "too_short": "needs at least {min_length}",
    "greater_than": "has to be above {gt}",
    "greater_than_equal": "has to be {ge} or more",
    "less_than": "has to be below {lt}",
    "less_than_equal": "has to be {le} or less",
}
# Of texts that have a form, by field.
_FORMS = {
    "url": "has to begin with http:// or https:// and a host",
    "name": "has to be of lower-case letters, digits, - and _, and begin with a letter or digit",
}


def in_words(error: ErrorDetails) -> str:
    """What is wrong with a value, to be read after the name of its field."""
    if error["type"] == "string_pattern_mismatch":
        return _FORMS.get(str(error["loc"][-1]), error["msg"])
    said = _SAID.get(error["type"])
    if said is None:
        return error["msg"].removeprefix("Value error, ")
    said = said.format(**error.get("ctx", {}))
    if error["type"] != "literal_error":
        return said
    known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    near = difflib.get_close_matches(str(error["input"]), known, n=1)
    return f"{said}; did you mean {near[0]!r}?" if near else said


def _where(content: object, place: tuple[int | str, ...]) -> str:
    """`supply.files[].path`, as the documents write it; and which one, if there are several."""
    said, number = "", ""
    for part in place:
        if isinstance(part, int):
            said += "[]"
            several = isinstance(content, list) and len(content) > 1
            number = f" (number {part + 1})" if several else number
        else:
            said += f".{part}"
        content = _inside(content, part)
    return said.removeprefix(".") + number or "recipe"


def _inside(content: object, part: int | str) -> object:
    if isinstance(content, list) and isinstance(part, int):
        return content[part]
    return content.get(part) if isinstance(content, dict) else None


def _nearest(place: tuple[int | str, ...]) -> str:
    """`; did you mean …?` for an unknown key, from the fields of the section it stands in."""
    known = _section_at(place[:-1]).model_fields
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _section_at(place: tuple[int | str, ...]) -> Any:
    """The section that a place in a recipe leads to, through lists and tables."""
    found: Any = Recipe
    for part in place:
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = found.model_fields[str(part)].annotation
        else:  # one of `tuple[Section, ...]`, or a value of `dict[str, ...]`
            found = [inside for inside in get_args(found) if inside is not Ellipsis][-1]
        found = _section_of(found) if isinstance(found, UnionType) else found
    return found


def _section_of(annotation: Any) -> Any:
    """The section inside `tuple[Section, ...]` or `Section | None`, or the annotation itself."""
    inside = getattr(annotation, "__args__", ())
    return next((arg for arg in inside if isinstance(arg, type)), annotation)


class FieldHelp(NamedTuple):
    """One line of help."""

    name: str
    kind: str
    default: str
    help: str


def fields(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[FieldHelp]:
    """Every field of a recipe, in order, with its default and its line of help."""
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        is_section = isinstance(inner, type) and issubclass(inner, BaseModel)
        kind = inner.__name__ if isinstance(inner, type) else str(field.annotation)
        default = "required" if field.is_required() else "" if is_section else _yaml(field.default)
        yield FieldHelp(prefix + name, kind, default, " ".join((field.description or "").split()))
        if is_section:
            is_list = get_origin(field.annotation) is tuple
            yield from fields(inner, f"{prefix}{name}{'[]' if is_list else ''}.")


def _yaml(value: object) -> str:
    """A default as one writes it in a recipe."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)
