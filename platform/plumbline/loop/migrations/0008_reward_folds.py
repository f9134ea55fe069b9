"""Experiments that are there already go on as they were; new ones find a temperature by folds."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loop', '0007_upkeep'),
    ]

    operations = [
        migrations.AddField(
            model_name='experiment',
            name='reward_folds',
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='experiment',
            name='reward_folds',
            field=models.PositiveSmallIntegerField(default=3),
        ),
    ]
