import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("ota", "0003_transfer"),
    ]

    operations = [
        migrations.AlterField(
            model_name="desiredstate",
            name="expires_at",
            field=models.DateTimeField(),
        ),
        migrations.AddField(
            model_name="desiredstate",
            name="renew_at",
            field=models.DateTimeField(db_index=True, default=django.utils.timezone.now),
        ),
    ]
