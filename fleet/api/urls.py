"""Addresses of frames and groups."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
