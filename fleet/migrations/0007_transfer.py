from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0006_roles"),
    ]

    operations = [
        migrations.AddField(
            model_name="framegroup", name="quiet_from", field=models.SmallIntegerField(blank=True, null=True)
        ),
        migrations.AddField(
            model_name="framegroup", name="quiet_to", field=models.SmallIntegerField(blank=True, null=True)
        ),
        migrations.AddField(model_name="framegroup", name="daily_mb", field=models.IntegerField(blank=True, null=True)),
        migrations.AddField(model_name="framegroup", name="transfer_revision", field=models.BigIntegerField(default=1)),
    ]
