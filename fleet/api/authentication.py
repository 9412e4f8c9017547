"""``Authorization: Token …``, checked against the hashed tokens."""

from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from fleet.models import ApiToken
from fleet.services.tokens import find_token


class ApiTokenAuthentication(BaseAuthentication):
    """A request with a valid token acts as the token's user."""

    def authenticate(self, request: Request) -> tuple[object, ApiToken] | None:
        """(user, token), None without the header. Raises AuthenticationFailed with one sentence."""
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != b"token":
            return None
        if len(words) != 2:
            raise AuthenticationFailed("Send one token: Authorization: Token <token>.")
        token = find_token(words[1].decode("latin-1"))
        if token is None:
            raise AuthenticationFailed("This API token is unknown or has expired: make a new one.")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """What a 401 asks for."""
        return "Token"
