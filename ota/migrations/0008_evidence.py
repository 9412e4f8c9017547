from django.db import migrations, models

import fleet.clock


class Migration(migrations.Migration):
    dependencies = [("ota", "0007_offers")]

    operations = [
        # Without a default first: whoever is there already has been there from the start.
        migrations.AddField("deployment", "entered_at", models.DateTimeField(null=True, blank=True)),
        migrations.AlterField(
            "deployment", "entered_at", models.DateTimeField(null=True, blank=True, default=fleet.clock.now)
        ),
        migrations.AddField("deployment", "left_at", models.DateTimeField(null=True, blank=True)),
        migrations.AddField("deployment", "targeted", models.BooleanField(null=True, blank=True)),
    ]
