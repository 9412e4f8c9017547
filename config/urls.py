"""Every address of the web server."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from fleet.api.errors import not_found
from ota.serving import released

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),
    path("api/v1/", include("fleet.api.urls")),
    path("api/v1/", include("ota.api.urls")),
    path("api/<path:rest>", not_found),
    path("artifacts/<str:sha256>", released),
    path("", include("dashboards.urls")),
]

handler400 = "config.errors.bad_request"
handler500 = "config.errors.server_error"
