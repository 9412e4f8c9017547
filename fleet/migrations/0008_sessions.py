import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0007_transfer"),
    ]

    operations = [
        migrations.CreateModel(
            name="FrameSessions",
            fields=[
                (
                    "frame",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="sessions",
                        serialize=False,
                        to="fleet.frame",
                    ),
                ),
                ("heard", models.JSONField(default=dict)),
                ("cloned_at", models.DateTimeField(blank=True, db_index=True, null=True)),
                ("noted_at", models.DateTimeField(blank=True, null=True)),
                ("changed_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
        ),
    ]
