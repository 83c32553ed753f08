"""Documents that name things name all of them."""

import re
import tomllib
from pathlib import Path

from pydantic import AliasChoices

from genpulse.config import Config

ROOT = Path(__file__).resolve().parents[2]


def names_in(document: str) -> set[str]:
    return set(re.findall(r"[\w.-]+", (ROOT / "docs" / document).read_text()))


def test_every_setting_is_documented():
    settings: set[str] = set()
    for name, field in Config.model_fields.items():
        alias = field.validation_alias
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name.upper()]
        settings.update(str(choice) for choice in choices)
    assert settings - names_in("configuration.md") == set()


def test_every_dependency_has_a_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    packages = {re.split(r"[\[=<>~;]", line)[0] for line in wanted}
    assert packages - names_in("dependencies.md") == set()


def test_nothing_documented_is_gone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = " ".join([*project["project"]["dependencies"], *project["dependency-groups"]["dev"]])
    rows = re.findall(
        r"^\| ([\w, -]+?)(?: \(.*?\))? \|",
        (ROOT / "docs/dependencies.md").read_text(),
        re.MULTILINE,
    )
    named = {name for row in rows for name in row.split(", ")} - {"Package", "---"}
    assert {name for name in named if name not in wanted} == set()
