"""Every address of the web server."""

from importlib.util import find_spec

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from fleet.api.errors import not_found

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("api/v1/", include("fleet.api.urls")),
]
if find_spec("ota.api") and find_spec("ota.api.urls"):
    urlpatterns.append(path("api/v1/", include("ota.api.urls")))
urlpatterns.append(path("api/<path:rest>", not_found))
if find_spec("dashboards.urls"):
    urlpatterns.append(path("", include("dashboards.urls")))
