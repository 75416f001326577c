"""The house rules that a reader relies on: who imports whom, what loads what, what lies where."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Each imports from those before it, never from those behind.
PACKAGES = ("teachers", "judges", "pipelines", "service")
# Too slow to load, or too easily broken, for a process that a person or a service waits for.
HEAVY = {"torch", "vllm", "trl", "transformers", "peft", "bitsandbytes", "accelerate", "datasets"}
# What runs in child processes only; nothing else imports it.
CHILDREN = {
    "teachers.convert",
    "pipelines.training.actor_critic",
    "pipelines.training.callbacks",
    "pipelines.training.child",
    "pipelines.training.clipped",
    "pipelines.training.collecting",
    "pipelines.training.dataset",
    "pipelines.training.experience",
    "pipelines.training.feeding",
    "pipelines.training.cores",
    "pipelines.training.decoding",
    "pipelines.training.first_pass",
    "pipelines.training.gae",
    "pipelines.training.grpo",
    "pipelines.training.heads",
    "pipelines.training.importance",
    "pipelines.training.judge",
    "pipelines.training.labelled",
    "pipelines.training.losses",
    "pipelines.training.merge",
    "pipelines.training.merged_policy",
    "pipelines.training.models",
    "pipelines.training.on_cpu.adapted",
    "pipelines.training.on_cpu.attention",
    "pipelines.training.on_cpu.label_scores",
    "pipelines.training.pairs",
    "pipelines.training.policy",
    "pipelines.training.policy_trainer",
    "pipelines.training.ppo",
    "pipelines.training.ppo_trainer",
    "pipelines.training.preference",
    "pipelines.training.ranks",
    "pipelines.training.rater",
    "pipelines.training.restored",
    "pipelines.training.reward",
    "pipelines.training.roles",
    "pipelines.training.rounding",
    "pipelines.training.sampling",
    "pipelines.training.score",
    "pipelines.training.scoring",
    "pipelines.training.served_adapter",
    "pipelines.training.served_merged",
    "pipelines.training.sft",
    "pipelines.training.shared_prompts",
    "pipelines.training.trainers",
}


def sources(*folders: str) -> list[Path]:
    """Every Python file under these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules that these nodes import; for `from a import b` both `a` and `a.b`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports say the whole name"
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def modules_loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running some code."""
    said = printed_by(f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))", ROOT)
    return set(json.loads(said.splitlines()[-1]))


def printed_by(code: str, folder: Path) -> str:
    """What a fresh interpreter prints, started in some folder."""
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    above = {*PACKAGES[PACKAGES.index(package) + 1 :], "tests", "benchmarks", "deploy"}
    for path in sources(package):
        found = {name.split(".")[0] for name in imported(ast.walk(tree_of(path)))}
        assert not found & above, f"{path.relative_to(ROOT)} imports {sorted(found & above)}"


def test_no_module_imports_itself_in_a_circle() -> None:
    modules = {module_of(path): path for path in sources(*PACKAGES)}
    graph = {
        module: modules.keys() & set(imported(tree_of(path).body)) - {module}
        for module, path in modules.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_only_children_import_what_is_heavy() -> None:
    for path in sources(*PACKAGES):
        found = set(imported(ast.walk(tree_of(path))))
        heavy = {name.split(".")[0] for name in found} & HEAVY
        if module_of(path) not in CHILDREN:
            assert not heavy, f"{path.relative_to(ROOT)} imports {sorted(heavy)}"
            assert not found & CHILDREN, f"{path.relative_to(ROOT)} imports a child"


def test_all_of_the_parents_modules_load_without_torch() -> None:
    parents = [module for path in sources(*PACKAGES) if (module := module_of(path)) not in CHILDREN]
    loaded = modules_loaded_by("\n".join(f"import {module}" for module in parents))
    assert set(parents) <= loaded
    assert not loaded & HEAVY


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_loaded_by(
        "import sys, service.cli\n"
        "sys.argv = ['preceptor', '--help']\n"
        "try: service.cli.main()\n"
        "except SystemExit as end: assert not end.code"
    )
    assert not loaded & (HEAVY | {"scipy", "matplotlib", "sympy", "reasoning_gym", "pandas"})


def test_packages_come_from_this_checkout_wherever_it_is_called_from(tmp_path: Path) -> None:
    for package in PACKAGES:
        said = printed_by(f"import {package}; print({package}.__file__)", tmp_path)
        assert said.strip() == str(ROOT / package / "__init__.py")


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    private = [f"/{folder}/" for folder in ("work", "root", "home")]
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.exists():  # deleted, and not committed yet
            continue
        text = path.read_text(errors="replace")
        assert not [prefix for prefix in private if prefix in text], name
