"""Addresses of the repository, artifacts, releases and rollouts."""

from django.urls import path

from ota.api.artifacts import ArtifactBytes
from ota.api.releases import ReleaseDetail, ReleaseList
from ota.api.repository import OnlineKeys, Repository
from ota.api.rollouts import RolloutCommand, RolloutList, RolloutView

urlpatterns = [
    path("online-keys/", OnlineKeys.as_view()),
    path("repository/", Repository.as_view()),
    path("artifacts/<str:sha256>/", ArtifactBytes.as_view()),
    path("releases/", ReleaseList.as_view()),
    path("releases/<str:name>/<str:version>/", ReleaseDetail.as_view()),
    path("rollouts/", RolloutList.as_view()),
    path("rollouts/<int:rollout_id>/", RolloutView.as_view()),
    path("rollouts/<int:rollout_id>/<str:kind>/", RolloutCommand.as_view()),
]
