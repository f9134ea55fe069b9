"""URLs of the chat page."""

from __future__ import annotations

from django.urls import path

from plumbline.gateway import chat_pages

urlpatterns = [
    path("", chat_pages.page, name="chat"),
    path("ask/", chat_pages.ask, name="chat-ask"),
    path("news/", chat_pages.news, name="chat-news"),
    path("stop/", chat_pages.stop, name="chat-stop"),
    path("say/", chat_pages.say, name="chat-say"),
]
