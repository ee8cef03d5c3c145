"""The index of attacks names tests that are there, and for each attack one that shows a guard at work."""

import ast
from functools import cache

import pytest
import yaml

from local.paths import ROOT

TESTS = ROOT / "tests"
ATTACKS = yaml.safe_load((TESTS / "attack/attacks.yaml").read_text())


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_has_tests_that_are_there(name: str) -> None:
    entry = ATTACKS[name]
    assert set(entry) == {"tries", "tests", "without"}
    for kind in ("tests", "without"):
        assert entry[kind], f"{name} has none"
        for test in entry[kind]:
            path, _, function = test.partition("::")
            assert function in functions(path), test
