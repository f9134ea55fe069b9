"""URLs of people: signing in, projects, members and keys."""

from __future__ import annotations

from allauth.account.views import login, logout
from allauth.mfa.base import views as codes
from django.urls import include, path
from django.views.decorators.cache import never_cache

from plumbline.accounts import key_views, security_views, views

project_urls = [
    path("members/", views.members, name="members"),
    path("members/invite/", views.invite, name="invite"),
    path("members/<int:user>/second-factor/", security_views.reset, name="member-factor-reset"),
    path("keys/", key_views.api_keys, name="keys"),
    path("keys/new/", key_views.create, name="key-create"),
    path("keys/<int:key>/", key_views.key_page, name="key"),
    path("keys/<int:key>/rotate/", key_views.rotate, name="key-rotate"),
    path("keys/<int:key>/revoke/", key_views.revoke, name="key-revoke"),
]

urlpatterns = [
    path("", views.home, name="home"),
    path("sign-in/", views.sign_in_link, name="sign-in-link"),
    path("invitation/<str:token>/", views.accept_invitation, name="accept-invitation"),
    path("accounts/login/", login, name="account_login"),
    path("accounts/logout/", logout, name="account_logout"),
    path("accounts/password/", views.change_password, name="account_change_password"),
    path("accounts/again/", security_views.again, name="account_reauthenticate"),
    path("accounts/security/", never_cache(security_views.security), name="mfa_index"),
    path("accounts/security/sessions/", security_views.end_session, name="session-end"),
    path("accounts/code/", codes.authenticate, name="mfa_authenticate"),
    path("accounts/code-again/", security_views.code_again, name="mfa_reauthenticate"),
    path(
        "accounts/second-factor/",
        never_cache(security_views.Activate.as_view()),
        name="mfa_activate_totp",
    ),
    path("accounts/second-factor/off/", security_views.turn_off, name="mfa_deactivate_totp"),
    path("accounts/recovery-codes/", security_views.recovery_codes, name="mfa_view_recovery_codes"),
    path(
        "accounts/recovery-codes/new/",
        security_views.NewRecoveryCodes.as_view(),
        name="mfa_generate_recovery_codes",
    ),
    path("health/", views.health, name="health"),
    path("p/<slug:project>/", include(project_urls)),
]
