"""The README's claims that a program can check."""

import re
from pathlib import Path

from fluorosam_cli import cli
from fluorosam_cli.geometry.views import RANDOM, view_rows
from fluorosam_cli.tools.catalogue import catalogue

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree() -> set[str]:
    block = re.search(r"## Files\n+```\n(.*?)```", README, re.DOTALL)
    assert block is not None
    words = [(line.startswith("  "), line.split()[0]) for line in block[1].splitlines()]
    return {("fluorosam_cli/" if inside else "") + word for inside, word in words}


def test_the_file_tree_is_the_file_tree():
    named = tree()
    assert all((ROOT / path).exists() for path in named), named
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fluorosam_cli").rglob("*.py")}
    explained_together = re.compile(r"__|commands/|contracts/|ct/phantom_|tools/designs/")
    assert {path for path in modules - named if not explained_together.search(path)} == set()


def test_every_command_is_in_the_table_and_no_other():
    cli.run(["--version"])  # registers the commands
    commands = {command.name for command in cli.app.registered_commands}
    named = set(re.findall(r"^\| `([a-z-]+)` \|", README, re.MULTILINE)) & commands
    assert commands - named == {"phantom", "info"}
    assert "`phantom`" in README
    assert "`info`" in README


def test_the_counts_are_those_of_the_tables():
    standard = [name for name, *_ in view_rows() if name != RANDOM]
    designs = {tool.design for tool in catalogue()}
    assert f" {len(standard)} standard views" in README
    assert f" {len(catalogue())} tools of {len(designs)} designs" in README


def test_the_three_lines_stand_as_users_type_them():
    for line in (
        "fluoro render ct/ --views 100",
        "fluoro train shards/ --gpus 2",
        'fluoro predict img.png "left femur" --point 120,300',
    ):
        assert line in README
