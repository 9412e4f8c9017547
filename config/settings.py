"""Django's settings: one file, everything that differs between machines from the environment.

``docs/architecture.md`` lists the variables. A missing or odd one stops the process with one sentence.
"""

import os
from datetime import timedelta
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
FRAMEFLEET_PEOPLE_CLOCK = environment.people_clock(os.environ, "FRAMEFLEET_PEOPLE_CLOCK")
"""For demonstrations with simulated people alone: their days pass in seconds (see ``fleet.clock``)."""
FRAMEFLEET_WEBHOOKS_PRIVATE = environment.flag(os.environ, "FRAMEFLEET_WEBHOOKS_PRIVATE")
"""Whether webhooks may go to addresses that are not public, and by plain http to this machine."""
FRAMEFLEET_LOOK_EVERY_S = environment.seconds(os.environ, "FRAMEFLEET_LOOK_EVERY_S", 900, least=0.1, most=86_400)
"""How often the evidence on each rollout is looked at; real seconds."""
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
    "fleet.apps.FleetAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_totp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "config.middleware.permissions_policy",
    "config.middleware.refuse_nul",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "config.middleware.second_factor_first",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
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
                "dashboards.context.person",
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

AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # older ones are made anew with Argon2 at the next login
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
ROLES = ("viewer", "operator", "releaser", "admin")  # as in fleet.permissions, which needs the models to be loaded
FRAMEFLEET_REQUIRE_TOTP = environment.chosen(os.environ, "FRAMEFLEET_REQUIRE_TOTP", ROLES)
OTP_TOTP_ISSUER = "framefleet"

AXES_HANDLER = "fleet.throttle.Throttle"
AXES_FAILURE_LIMIT = 5  # of one name from one address; fleet.throttle says what holds for an address
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"], "ip_address"]
AXES_CLIENT_IP_CALLABLE = "fleet.throttle.client_address"
AXES_USERNAME_CALLABLE = "fleet.throttle.typed_name"
AXES_LOCKOUT_CALLABLE = "dashboards.views.login.locked"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True  # the audit log tells it
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "code"]

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"
CSRF_FAILURE_VIEW = "config.errors.forbidden"

# --- the browser ------------------------------------------------------------------------------------------------------

FRAMEFLEET_HTTP = environment.flag(os.environ, "FRAMEFLEET_HTTP")
"""Whether people open the console over plain http, as on 127.0.0.1 alone. Otherwise cookies travel over https only."""
FRAMEFLEET_PROXIES = environment.number(os.environ, "FRAMEFLEET_PROXIES", most=9)
"""How many proxies before us add to X-Forwarded-For; with any, X-Forwarded-Proto is believed too."""
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if FRAMEFLEET_PROXIES else None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = not FRAMEFLEET_HTTP
SESSION_COOKIE_AGE = 12 * 60 * 60
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = LANGUAGE_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 0 if FRAMEFLEET_HTTP else 365 * 24 * 60 * 60
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY: dict[str, Any] = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

# --- languages --------------------------------------------------------------------------------------------------------

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
