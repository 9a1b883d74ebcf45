"""What people see."""

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class ConsoleConfig(AppConfig):
    """Pages for web users and operators."""

    name = "inference_portal.console"
    verbose_name = "Inference"
    default = True


class PortalAdminConfig(admin_apps.AdminConfig):
    """Django's admin with our site instead of its own; listed in INSTALLED_APPS in place of django.contrib.admin."""

    default = False
    default_site = "inference_portal.console.site.PortalSite"
