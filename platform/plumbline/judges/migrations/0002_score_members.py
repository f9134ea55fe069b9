from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('judges', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='score',
            name='members',
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name='score',
            name='spread',
            field=models.FloatField(null=True),
        ),
    ]
