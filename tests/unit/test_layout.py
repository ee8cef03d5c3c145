"""The layout's traps: `operator/` must never become a package."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("folder", ["operator", "api", "crds"])
def test_source_roots_hold_packages_and_are_none(folder: str) -> None:
    assert not list((ROOT / folder).glob("*.py"))


def test_the_standard_librarys_operator_is_not_shadowed() -> None:
    # Asked of the finder, since sys.modules would answer with what is loaded already.
    spec = PathFinder.find_spec("operator", [str(ROOT), *sys.path])
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).name == "operator.py"


def test_no_page_or_script_names_a_place_on_somebodys_machine() -> None:
    homes = ("/" + "root/", "/" + "home/")
    for path in (*ROOT.glob("*.md"), *(ROOT / "hack").rglob("*.yaml")):
        assert not any(home in path.read_text() for home in homes), path
