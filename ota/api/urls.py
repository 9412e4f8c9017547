"""Addresses of the repository, artifacts, releases and rollouts."""

from django.urls import path, re_path

from ota.api.artifacts import ArtifactBytes
from ota.api.explain import DriftList, Explain, Standing
from ota.api.lifecycle import FrameCommand
from ota.api.pins import FramePin, RolloutFreeze, RolloutLift
from ota.api.plans import Policies
from ota.api.previews import PreviewDraft, PreviewPlan
from ota.api.releases import ReleaseDetail, ReleaseList
from ota.api.repository import OnlineKeys, Repository, RepositoryDocument
from ota.api.rollouts import RolloutCommand, RolloutComment, RolloutList, RolloutView
from ota.api.segments import SegmentList
from ota.api.webhooks import WebhookDeliveries, WebhookDetail, WebhookList, WebhookTest

urlpatterns = [
    path("segments/", SegmentList.as_view()),
    re_path(r"^frames/(?P<frame_id>[^/]+)/(?P<command>claim|replace|retire|revoke)/$", FrameCommand.as_view()),
    path("frames/<str:frame_id>/pin/", FramePin.as_view()),
    path("frames/<str:frame_id>/standing/", Standing.as_view()),
    path("drift/", DriftList.as_view()),
    path("online-keys/", OnlineKeys.as_view()),
    path("repository/", Repository.as_view()),
    path("repository/<str:role>/<int:version>/", RepositoryDocument.as_view()),
    path("artifacts/<str:sha256>/", ArtifactBytes.as_view()),
    path("releases/", ReleaseList.as_view()),
    path("releases/<str:name>/<str:version>/", ReleaseDetail.as_view()),
    path("rollouts/", RolloutList.as_view()),
    path("rollouts/policies/", Policies.as_view()),
    path("rollouts/preview/", PreviewPlan.as_view()),
    path("rollouts/freeze/", RolloutFreeze.as_view()),
    path("rollouts/lift/", RolloutLift.as_view()),
    path("rollouts/<int:rollout_id>/", RolloutView.as_view()),
    path("rollouts/<int:rollout_id>/preview/", PreviewDraft.as_view()),
    path("rollouts/<int:rollout_id>/comment/", RolloutComment.as_view()),
    path("rollouts/<int:rollout_id>/explain/<str:frame_id>/", Explain.as_view()),
    path("rollouts/<int:rollout_id>/<str:kind>/", RolloutCommand.as_view()),
    path("webhooks/", WebhookList.as_view()),
    path("webhooks/<int:webhook_id>/", WebhookDetail.as_view()),
    path("webhooks/<int:webhook_id>/test/", WebhookTest.as_view()),
    path("webhooks/<int:webhook_id>/deliveries/", WebhookDeliveries.as_view()),
]
