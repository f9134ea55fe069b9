from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('loop', '0005_disagreement'),
    ]

    operations = [
        migrations.AlterField(
            model_name='experiment',
            name='selection',
            field=models.CharField(default='random', max_length=40),
        ),
        migrations.AddField(
            model_name='experiment',
            name='stale_days',
            field=models.PositiveIntegerField(default=7),
        ),
    ]
