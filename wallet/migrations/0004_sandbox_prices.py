"""Prices of the built-in engine, so that a new installation can show what charging looks like."""

from django.db import migrations

PRICES = {
    "sandbox-text": ("call", "0.1"),
    "sandbox-image": ("image", "1"),
    "sandbox-video": ("second", "1"),
    "sandbox-audio": ("call", "0.5"),
    "sandbox-transcribe": ("call", "0.1"),
    "sandbox-embedding": ("call", "0.1"),
}


def seed(apps, schema_editor):
    rules = apps.get_model("wallet", "PriceRule").objects
    for model, (unit, price) in PRICES.items():
        rules.create(
            match_by="model", match_value=model, components=[{"unit": unit, "price": price}]
        )


class Migration(migrations.Migration):
    dependencies = [("wallet", "0003_ledger_functions")]
    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
