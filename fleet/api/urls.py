"""Addresses of frames and groups."""

from django.urls import path

from fleet.api.audit import AuditLog
from fleet.api.claims import ClaimList
from fleet.api.frames import FrameDetail, FrameList, FramePlaces
from fleet.api.groups import GroupList, GroupTransfer
from fleet.api.tokens import TokenDetail, TokenList

urlpatterns = [
    path("audit/", AuditLog.as_view()),
    path("claims/", ClaimList.as_view()),
    path("frames/", FrameList.as_view()),
    path("frames/<str:frame_id>/", FrameDetail.as_view()),
    path("groups/", GroupList.as_view()),
    path("places/", FramePlaces.as_view()),
    path("tokens/", TokenList.as_view()),
    path("tokens/<int:token_id>/", TokenDetail.as_view()),
    path("groups/transfer/", GroupTransfer.as_view()),
]
