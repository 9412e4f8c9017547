"""The roles' Groups. Superusers are admins; everybody else may look, until an admin gives them more."""

from django.db import migrations

ROLES = ("viewer", "operator", "releaser")


def make_roles(apps, schema_editor):
    Group, User = apps.get_model("auth", "Group"), apps.get_model("auth", "User")
    groups = {name: Group.objects.get_or_create(name=name)[0] for name in ROLES}
    for user in User.objects.filter(is_superuser=False).exclude(groups__name__in=ROLES):
        user.groups.add(groups["viewer"])
    # Only admins open Django's admin.
    User.objects.filter(is_superuser=False, is_staff=True).update(is_staff=False)


class Migration(migrations.Migration):
    dependencies = [
        ("fleet", "0005_access"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [migrations.RunPython(make_roles, migrations.RunPython.noop)]
