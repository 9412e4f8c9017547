import django.contrib.postgres.indexes
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0008_sessions'),
    ]

    operations = [
        migrations.CreateModel(
            name='ContextDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('context', models.CharField(max_length=200)),
                ('release', models.CharField(blank=True, max_length=64)),
                ('playbacks', models.IntegerField(default=0)),
                ('completed', models.IntegerField(default=0)),
                ('complaints', models.IntegerField(default=0)),
            ],
        ),
        migrations.AddField(
            model_name='frame',
            name='site',
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name='frame',
            name='timezone',
            field=models.CharField(default='UTC', max_length=64),
        ),
        migrations.AddField(
            model_name='frameday',
            name='fps_log_sum',
            field=models.FloatField(default=0),
        ),
        migrations.AddField(
            model_name='frameday',
            name='fps_samples',
            field=models.IntegerField(default=0),
        ),
        migrations.AddField(
            model_name='frameday',
            name='latency_log_sum',
            field=models.FloatField(default=0),
        ),
        migrations.AddField(
            model_name='frameday',
            name='latency_samples',
            field=models.IntegerField(default=0),
        ),
        migrations.AddField(
            model_name='playback',
            name='context',
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddIndex(
            model_name='complaint',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['at'], name='complaint_at'),
        ),
        migrations.AddIndex(
            model_name='healthevent',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['at'], name='healthevent_at'),
        ),
        migrations.AddIndex(
            model_name='playback',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['at'], name='playback_at'),
        ),
        migrations.AddIndex(
            model_name='powersample',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['at'], name='powersample_at'),
        ),
        migrations.AddField(
            model_name='contextday',
            name='frame',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.frame'),
        ),
        migrations.AddIndex(
            model_name='contextday',
            index=django.contrib.postgres.indexes.BrinIndex(autosummarize=True, fields=['day'], name='contextday_day'),
        ),
        migrations.AddConstraint(
            model_name='contextday',
            constraint=models.UniqueConstraint(fields=('frame', 'day', 'context', 'release'), name='contextday_once'),
        ),
    ]
