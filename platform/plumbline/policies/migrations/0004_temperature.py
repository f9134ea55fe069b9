from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('policies', '0003_loan'),
    ]

    operations = [
        migrations.AddField(
            model_name='rewardmodel',
            name='temperature',
            field=models.FloatField(default=1.0),
        ),
    ]
