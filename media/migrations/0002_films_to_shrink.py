from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("media", "0001_initial"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="asset",
            name="asset_to_shrink",
        ),
        migrations.AddIndex(
            model_name="asset",
            index=models.Index(
                condition=models.Q(
                    ("kind__in", ["image", "video"]), ("thumbnail_key__isnull", True)
                ),
                fields=["id"],
                name="asset_without_thumbnail",
            ),
        ),
    ]
