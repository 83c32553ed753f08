"""Documents that name things name all of them."""

import re
import tomllib
from pathlib import Path

from django.apps import apps
from pydantic import AliasChoices

from genpulse.config import Config
from genpulse.schema import VIEWS

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


def test_every_column_of_the_short_names_is_listed():
    listed: dict[str, set[str]] = {}
    for part in (ROOT / "docs/tasks-schema.md").read_text().split("\n## ")[1:]:
        name, _, rest = part.partition("\n")
        listed[name] = set(re.findall(r"^\| `(\w+)` \|", rest, re.MULTILINE))
    tables = {model._meta.db_table: model for model in apps.get_models(include_auto_created=True)}
    assert listed == {
        view: {field.column for field in tables[table]._meta.local_fields if field.column}
        for view, table in VIEWS.items()
    }


def test_guides_name_only_settings_that_exist():
    """Names of the environment in the guides for newcomers are names of ours."""
    known = names_in("configuration.md")
    for guide in (ROOT / "docs").glob("migrate-from-*.md"):
        named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]*[A-Z0-9])`", guide.read_text()))
        words = {
            name
            for name in named
            if name.startswith(("WALLET_", "TASK_", "NO_", "ADMIN_ONLY", "EXECUTOR_"))
        }
        assert named - words <= known, guide.name
