"""The console's addresses."""

from django.urls import path

from dashboards.views.account import PasswordChange, account, make_token, revoke
from dashboards.views.audit import audit_log
from dashboards.views.comments import comment
from dashboards.views.explanations import explanation
from dashboards.views.frame_identity import frame_command
from dashboards.views.frames import frame_detail, frame_list
from dashboards.views.freezes import freeze, lift
from dashboards.views.login import Login, Logout, login_code
from dashboards.views.metrics import metrics
from dashboards.views.overview import overview
from dashboards.views.pins import pin, unpin
from dashboards.views.rollout_new import draft_preview, rollout_new
from dashboards.views.rollouts import command, rollout, rollout_list
from dashboards.views.segments import segment_list
from dashboards.views.two_factor import change, qr, two_factor

urlpatterns = [
    path("", overview, name="overview"),
    path("login/", Login.as_view(), name="login"),
    path("login/code/", login_code, name="login_code"),
    path("logout/", Logout.as_view(), name="logout"),
    path("account/", account, name="account"),
    path("account/password/", PasswordChange.as_view(), name="password"),
    path("account/tokens/", make_token, name="make_token"),
    path("account/tokens/<int:token_id>/revoke/", revoke, name="revoke_token"),
    path("account/two-factor/", two_factor, name="two_factor"),
    path("account/two-factor/qr.svg", qr, name="two_factor_qr"),
    path("account/two-factor/<slug:what>/", change, name="two_factor_change"),
    path("rollouts/", rollout_list, name="rollouts"),
    path("rollouts/new/", rollout_new, name="rollout_new"),
    path("rollouts/freeze/", freeze, name="freeze"),
    path("rollouts/lift/", lift, name="lift"),
    path("rollouts/<int:rollout_id>/", rollout, name="rollout"),
    path("rollouts/<int:rollout_id>/comment/", comment, name="rollout_comment"),
    path("rollouts/<int:rollout_id>/preview/", draft_preview, name="draft_preview"),
    path("rollouts/<int:rollout_id>/explain/", explanation, name="explanation"),
    path("rollouts/<int:rollout_id>/<slug:kind>/", command, name="rollout_command"),
    path("frames/", frame_list, name="frames"),
    path("frames/<slug:frame_id>/", frame_detail, name="frame"),
    path("frames/<slug:frame_id>/pin/", pin, name="frame_pin"),
    path("frames/<slug:frame_id>/unpin/", unpin, name="frame_unpin"),
    path("frames/<slug:frame_id>/<slug:kind>/", frame_command, name="frame_command"),
    path("segments/", segment_list, name="segments"),
    path("audit/", audit_log, name="audit"),
    path("metrics", metrics, name="metrics"),
]
