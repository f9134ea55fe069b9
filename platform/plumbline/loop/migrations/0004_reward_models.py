from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loop', '0003_processes'),
    ]

    operations = [
        migrations.AddField(
            model_name='experiment',
            name='reward_objective',
            field=models.CharField(default='bradley_terry', max_length=40),
        ),
        migrations.AddField(
            model_name='experiment',
            name='reward_knobs',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='experiment',
            name='reward_ensemble',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='experiment',
            name='reward_labels',
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name='experiment',
            name='agreement',
            field=models.CharField(choices=[('none', 'Keep every pair'), ('keep', 'Keep pairs that four in five agree on'), ('weight', 'Weigh pairs by how sure they are together')], default='none', max_length=6),
        ),
    ]
