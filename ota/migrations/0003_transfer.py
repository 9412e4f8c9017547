import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0007_transfer"),
        ("ota", "0002_proposals"),
    ]

    operations = [
        # Rollouts that are under way began when every frame might fetch everything, and end so.
        migrations.AddField(model_name="rollout", name="base_model", field=models.BooleanField(default=True)),
        migrations.AlterField(model_name="rollout", name="base_model", field=models.BooleanField(default=False)),
        migrations.AddField(model_name="desiredstate", name="base_model", field=models.BooleanField(default=True)),
        migrations.AddField(
            model_name="desiredstate", name="transfer_revision", field=models.BigIntegerField(default=0)
        ),
        migrations.AddField(
            model_name="desiredstate",
            name="group",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="fleet.framegroup",
            ),
        ),
    ]
