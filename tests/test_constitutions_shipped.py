"""The constitutions that come with Preceptor keep to the rules that they teach."""

from pathlib import Path

import pytest

from judges.constitution_file import SHIPPED, dump, load
from judges.constitution_lint import BALANCED, ENOUGH_CASES, better_is_longer, lint

NAMES = ("careful-reasoner", "concise-assistant", "helpful-honest-harmless")
EVERY = pytest.mark.parametrize("name", NAMES)


def test_all_of_them_are_known_here() -> None:
    assert tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml"))) == NAMES


@EVERY
def test_nothing_is_weak_about_it(name: str) -> None:
    constitution = load(SHIPPED / f"{name}.yaml")
    assert constitution.name == name
    assert constitution.description
    assert lint(constitution) == []


@EVERY
def test_cases_are_enough_balanced_and_half_sealed(name: str) -> None:
    for principle in load(SHIPPED / f"{name}.yaml").principles:
        sealed = [case for case in principle.cases if case.sealed]
        opened = [case for case in principle.cases if not case.sealed]
        assert len(principle.cases) >= ENOUGH_CASES, principle.id
        assert len(sealed) == len(opened), principle.id
        for half in (sealed, opened):
            assert BALANCED[0] <= better_is_longer(half) <= BALANCED[1], principle.id
        assert all(case.why for case in principle.cases), principle.id


@EVERY
def test_an_export_of_it_is_the_same_version(name: str, tmp_path: Path) -> None:
    constitution = load(SHIPPED / f"{name}.yaml")
    exported = tmp_path / "exported.yaml"
    exported.write_text(dump(constitution))
    assert load(exported).id == constitution.id
