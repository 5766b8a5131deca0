"""The table of orders."""

from django.db import migrations, models

import shop.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("phone", models.CharField(max_length=20)),
                ("code", models.CharField(default=shop.models.pickup_code, max_length=6)),
                ("sms_id", models.CharField(max_length=36)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
    ]
