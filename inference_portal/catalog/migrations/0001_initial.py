from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='ReleaseEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('at', models.DateTimeField(auto_now_add=True)),
                ('who', models.CharField(max_length=200)),
                ('reason', models.TextField(default='')),
                ('action', models.CharField(choices=[('release', 'released'), ('rollback', 'rolled back'), ('retire', 'retired')], max_length=16)),
                ('model', models.CharField(max_length=64)),
                ('version', models.CharField(max_length=9)),
                ('sha256', models.CharField(max_length=64)),
                ('template', models.PositiveSmallIntegerField(null=True)),
                ('before', models.JSONField(default=list)),
                ('after', models.JSONField(default=list)),
                ('golden', models.JSONField(null=True)),
            ],
            options={
                'ordering': ['-id'],
                'indexes': [models.Index(fields=['model', '-id'], name='release_event_by_model')],
            },
        ),
        migrations.CreateModel(
            name='Traffic',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('model', models.CharField(max_length=64)),
                ('version', models.CharField(max_length=9)),
                ('sha256', models.CharField(max_length=64)),
                ('weight', models.FloatField(default=0.0)),
                ('retired', models.BooleanField(default=False)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('model', 'version'), name='traffic_of_a_version_once'), models.CheckConstraint(condition=models.Q(('weight__gte', 0), ('weight__lte', 100)), name='traffic_weight_is_a_percentage'), models.CheckConstraint(condition=models.Q(('retired', False), ('weight', 0), _connector='OR'), name='traffic_retired_takes_none')],
            },
        ),
    ]
