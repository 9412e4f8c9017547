"""The console's addresses."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from dashboards.views.frames import frame_detail, frame_list
from dashboards.views.metrics import metrics
from dashboards.views.overview import overview
from dashboards.views.rollouts import command, rollout, rollout_list

urlpatterns = [
    path("", overview, name="overview"),
    path("login/", LoginView.as_view(template_name="dashboards/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("rollouts/", rollout_list, name="rollouts"),
    path("rollouts/<int:rollout_id>/", rollout, name="rollout"),
    path("rollouts/<int:rollout_id>/<slug:kind>/", command, name="rollout_command"),
    path("frames/", frame_list, name="frames"),
    path("frames/<slug:frame_id>/", frame_detail, name="frame"),
    path("metrics", metrics, name="metrics"),
]
