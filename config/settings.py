"""Django's settings: one file, everything that differs between machines from the environment.

``docs/architecture.md`` lists the variables. A missing or odd one stops the process with one sentence.
"""

import os
from pathlib import Path
from typing import Any

from django.utils.translation import gettext_lazy as _

from config import environment

BASE_DIR = Path(__file__).resolve().parent.parent

FRAMEFLEET_VAR = environment.folder(os.environ, "FRAMEFLEET_VAR", BASE_DIR / "var")
SECRET_KEY = environment.required(os.environ, "FRAMEFLEET_SECRET_KEY", "a-long-random-text")
DEBUG = environment.flag(os.environ, "FRAMEFLEET_DEBUG")
ALLOWED_HOSTS = environment.names(os.environ, "FRAMEFLEET_HOSTS", "127.0.0.1,localhost")
MQTT_URL = environment.mqtt_url(os.environ)
MQTT_CA = os.environ.get("MQTT_CA", "").strip() or str(FRAMEFLEET_VAR / "ca" / "ca.pem")
MQTT_CERT = os.environ.get("MQTT_CERT", "").strip() or str(FRAMEFLEET_VAR / "tls" / "bridge" / "cert.pem")
MQTT_KEY = os.environ.get("MQTT_KEY", "").strip() or str(FRAMEFLEET_VAR / "tls" / "bridge" / "key.pem")
FRAMEFLEET_AUDIT_HEADS = os.environ.get("FRAMEFLEET_AUDIT_HEADS", "").strip() or str(
    FRAMEFLEET_VAR / "audit" / "heads.jsonl"
)
FRAMEFLEET_TWO_PERSON = environment.flag(os.environ, "FRAMEFLEET_TWO_PERSON")
FRAMEFLEET_ARTIFACT_URL = environment.web_address(os.environ, "FRAMEFLEET_ARTIFACT_URL")
FRAMEFLEET_BIRTH_URL = environment.https_url(os.environ, "FRAMEFLEET_BIRTH_URL")
"""How frames reach the birth endpoint, for their labels."""
FRAMEFLEET_MQTT_FOR_FRAMES = environment.mqtt_url(os.environ, "FRAMEFLEET_MQTT_FOR_FRAMES") or MQTT_URL
"""How frames reach the broker, where that is not how the bridge does."""
CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "").strip() or "filesystem://"

DATABASES = {
    "default": environment.database(
        environment.required(os.environ, "DATABASE_URL", "postgresql://user:password@127.0.0.1:5432/framefleet")
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "fleet",
    "ota",
    "bridge",
    "dashboards",
    "rest_framework",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.refuse_nul",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- files ------------------------------------------------------------------------------------------------------------

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # no collectstatic step: the packages' own static folders are served as they are
STORAGES: dict[str, Any] = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": FRAMEFLEET_VAR / "media"},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "artifacts": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": FRAMEFLEET_VAR / "artifacts", "file_permissions_mode": 0o600},
    },
}

# --- people -----------------------------------------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
CSRF_FAILURE_VIEW = "config.errors.forbidden"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

# --- REST -------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["fleet.api.authentication.ApiTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["fleet.api.permissions.MayDo"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["fleet.api.parsers.JsonBody"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "fleet.api.negotiation.AlwaysJson",
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "fleet.api.errors.exception_handler",
}

# --- logs -------------------------------------------------------------------------------------------------------------

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"django.server": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
