"""URLs of people: signing in, projects, members and keys."""

from __future__ import annotations

from allauth.account.views import login, logout
from django.urls import include, path

from plumbline.accounts import key_views, views

project_urls = [
    path("members/", views.members, name="members"),
    path("members/invite/", views.invite, name="invite"),
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
    path("health/", views.health, name="health"),
    path("p/<slug:project>/", include(project_urls)),
]
