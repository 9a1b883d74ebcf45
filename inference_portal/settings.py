"""The portal's settings, all from the environment; every variable is listed in .env.example."""

import gc
import secrets
from pathlib import Path
from typing import Any

import environ

from inference_portal import VERSION
from workers.config import broker_is_embedded, model_store_dir, run_dir, secret

# Of a process's start a tenth is looking for garbage among all that is just being loaded.
gc.set_threshold(10_000)

env = environ.Env()


def _embedded_secret_key() -> str:
    """Return this machine's own key for the embedded mode, made on first use (there is no default key)."""
    path = run_dir() / "secret_key"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(50))
    return path.read_text()


def _database() -> dict[str, Any]:
    url = secret("DATABASE_URL")
    embedded = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(run_dir() / "portal.sqlite3")}
    config: dict[str, Any] = env.db_url_config(url) if url else embedded
    if "sqlite" in config["ENGINE"]:
        config["OPTIONS"] = {
            # With Django's default (DEFERRED) 5 writers got 236,756 "database is locked" against 2,042 commits.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        }
        config["CONN_MAX_AGE"] = None
    else:
        # A server that vanished without a word (power, network) is noticed within half a minute, not after two hours.
        vanished = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
        config["OPTIONS"] = vanished | {"tcp_user_timeout": 25_000} | config.get("OPTIONS", {})
        if pool_size := env.int("DATABASE_POOL_SIZE", 0):
            # Set by wsgi.py: the portal has many more threads than connections.
            config["OPTIONS"]["pool"] = {"min_size": 1, "max_size": pool_size, "timeout": 5}
        else:
            # One long-lived connection for a process of one thread.
            config["CONN_MAX_AGE"] = None
            config["CONN_HEALTH_CHECKS"] = True
    return config


DATABASES = {"default": _database()}
EMBEDDED = "sqlite" in DATABASES["default"]["ENGINE"] and broker_is_embedded()

DEBUG = False
# Outside the embedded mode there is no default key: the check inference.E001 says what to set.
SECRET_KEY = secret("DJANGO_SECRET_KEY") or (_embedded_secret_key() if EMBEDDED else "unset")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Behind TLS, as it should be outside one's own machine: set SECURE_COOKIES=1 and terminate TLS in front of the portal.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("SECURE_COOKIES", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SESSION_COOKIE_SECURE else None
SESSION_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"

MODEL_STORE = model_store_dir()
RUN_DIR: Path = run_dir()

# How long a synchronous request waits unless it says so, and how long one may ask for.
SYNC_WAIT_SECONDS = env.float("SYNC_WAIT_SECONDS", 30.0)
MAX_WAIT_SECONDS = env.float("MAX_WAIT_SECONDS", 300.0)
# How many requests of one portal process may wait at once, and how many clients may follow jobs. The server has more
# threads than all of them together, for those that don't wait.
MAX_WAITERS = env.int("MAX_WAITERS", 512)
MAX_EVENT_STREAMS = env.int("MAX_EVENT_STREAMS", 64)
# How many requests of one portal process may be relayed to containers at once.
MAX_RELAYS = env.int("MAX_RELAYS", 32)
# Where /metrics is open without a key, as host:port; nowhere unless given.
METRICS_ADDRESS = env.str("METRICS_ADDRESS", "")
# Pools that have no worker until there is work, so that their models are ready all the same.
SCALE_FROM_ZERO = env.list("SCALE_FROM_ZERO", default=[])
# What one request may hold.
MAX_REQUEST_BYTES = env.int("MAX_REQUEST_BYTES", 8 * 1024 * 1024)
MAX_REQUEST_ROWS = env.int("MAX_REQUEST_ROWS", 10_000)
MAX_REQUEST_COLUMNS = env.int("MAX_REQUEST_COLUMNS", 10_000)
# The largest file for batches that may be uploaded.
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_BYTES", 2 * 1024 * 1024 * 1024)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_REQUEST_BYTES
# Django's own, behind the one that says how large a form may be.
FILE_UPLOAD_HANDLERS = [
    "inference_portal.console.upload_limit.UploadLimit",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]
# How many jobs of a team that has no quota of its own may be open at once, and how many in all.
TEAM_QUOTA = env.int("TEAM_QUOTA", 20_000)
MAX_OPEN_JOBS = env.int("MAX_OPEN_JOBS", 100_000)
# How many batches of a team may be open at once.
MAX_OPEN_BATCHES = env.int("MAX_OPEN_BATCHES", 100)
# How long after its end a job keeps its input and result, and how long there is a record of it; 0: for ever.
RESULT_RETENTION_HOURS = env.float("RESULT_RETENTION_HOURS", 168.0)
RECORD_RETENTION_DAYS = env.float("RECORD_RETENTION_DAYS", 90.0)
# How long a message may be under way before the sweep sends its job again; models' time-outs come on top
# (jobs.record: sent_lease, running_lease).
LEASE_SECONDS = env.float("LEASE_SECONDS", 60.0)
# How long a dispatcher may take from its claim to the broker's confirmation before another one may claim the job.
CLAIM_SECONDS = env.float("CLAIM_SECONDS", 20.0)
# Webhooks: how long a call may take in all, which networks beside the public ones may be called, up to which size a
# result is in the call itself, and how many calls one courier makes at once.
WEBHOOK_TIMEOUT_SECONDS = env.float("WEBHOOK_TIMEOUT_SECONDS", 10.0)
WEBHOOK_ALLOWED_NETWORKS = env.list("WEBHOOK_ALLOWED_NETWORKS", default=[])
WEBHOOK_RESULT_BYTES = env.int("WEBHOOK_RESULT_BYTES", 1024 * 1024)
COURIER_CALLS = env.int("COURIER_CALLS", 64)
# The file with the sinks; none without it.
SINKS_FILE = env.str("SINKS_FILE", "")
# Whether events also go to RabbitMQ's exchange inference.events, for subscribers. A portal without a broker must be
# told if there is one: it ends jobs too.
PUBLISH_EVENTS = env.bool("PUBLISH_EVENTS", default=not broker_is_embedded())
# How long a revoked API key may still work, and a changed one as before, in a portal process that has just seen it.
API_KEY_CACHE_SECONDS = env.float("API_KEY_CACHE_SECONDS", 5.0)
# After so many failed logins a user's name is locked for the address that they came from, and for how long.
LOGIN_FAILURES = env.int("LOGIN_FAILURES", 5)
LOGIN_LOCK_MINUTES = env.float("LOGIN_LOCK_MINUTES", 15.0)
# The proxies whose X-Forwarded-For is believed, as addresses or networks. None: the connection's own address counts.
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=[])

INSTALLED_APPS = [
    # By its plain configuration: Unfold's default one would replace our site with its own.
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "inference_portal.console.apps.PortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "axes",
    "rest_framework",
    "rest_framework_api_key",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "inference_portal",
    "inference_portal.accounts",
    "inference_portal.jobs",
    "inference_portal.catalog",
    "inference_portal.batches",
    "inference_portal.deliveries",
    "inference_portal.console",
]
AUTH_USER_MODEL = "accounts.User"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "inference_portal.urls"
WSGI_APPLICATION = "inference_portal.wsgi.application"
# The V2 routes have no trailing slash and the others have one; a redirect would drop a POST's body.
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# Name and address together: a name alone would let anybody lock others out, an address everybody behind it.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = LOGIN_FAILURES
AXES_COOLOFF_TIME = "inference_portal.accounts.lockout.lock_time"
AXES_RESET_ON_SUCCESS = True
# Who goes on trying meanwhile neither prolongs the lock nor writes anything.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "inference_portal.accounts.client_address.client_address"
AXES_LOCKOUT_CALLABLE = "inference_portal.console.login.locked_answer"
# People type passwords where the name belongs: names aren't logged, addresses are.
AXES_SENSITIVE_PARAMETERS = ["username", "csrfmiddlewaretoken"]
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
CSRF_FAILURE_VIEW = "inference_portal.errors.csrf_failure"
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
STATIC_URL = "/static/"
# Static files are served from the packages that bring them: no collectstatic step.
WHITENOISE_USE_FINDERS = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "inference_portal.api.auth.KeyAuthentication",
        "inference_portal.api.auth.BrowserAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["inference_portal.api.auth.RolePermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "inference_portal.errors.exception_handler",
    "UNAUTHENTICATED_USER": None,
    # The type of an answer is Accept's business; ?format= would make a route 404.
    "URL_FORMAT_OVERRIDE": None,
    # ASCII, as everywhere else: a client's text may hold half a surrogate pair, which is no UTF-8.
    "UNICODE_JSON": False,
    # The OpenAPI document describes the routes; OPTIONS would describe them by guessing from serializers.
    "DEFAULT_METADATA_CLASS": "inference_portal.api.options.MethodsMetadata",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Inference portal",
    "DESCRIPTION": "Asynchronous inference: submit, wait or poll, fetch. Errors are RFC 9457 problems.",
    "VERSION": VERSION,
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": ["inference_portal.api.schemas.components.add_components"],
}
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Inference portal",
    "SITE_HEADER": "Inference portal",
    "SITE_SYMBOL": "bolt",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "/static/console/favicon.svg"}],
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
    "ENVIRONMENT": "inference_portal.console.navigation.badge",
    "SIDEBAR": {"navigation": "inference_portal.console.navigation.sidebar"},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO")},
    # A refused request is the client's affair, not the operator's.
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django.security.DisallowedHost": {"level": "CRITICAL"},
        "axes": {"level": "WARNING"},
    },
}
