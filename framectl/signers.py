"""Private keys by URI: a PEM file, a PKCS#11 token, or a key service. Tokens and services never give their key away.

``file:alice.pem`` (or just the path)              Ed25519 or ECDSA P-256, PKCS#8 PEM, encrypted or not
``pkcs11:token=Keys;id=%02`` / ``hsm:2?label=Keys``  ECDSA on a token; PKCS11LIB names the token's module
``awskms:<key id, ARN or alias>``                   and the other key services that securesystemslib knows
``alice.pub``                                       a public key file, which says where its private key is

Libraries for tokens and services are loaded when such a key is used, and only then.
"""

import getpass
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, AWSSigner, CryptoSigner, HSMSigner, Key, Signature, Signer

from framectl.errors import CommandFailed
from framectl.files import read_file, write_file
from framectl.publickeys import PublicKey, read_public

T = TypeVar("T")

PASSPHRASE = "FRAMEFLEET_KEY_PASSPHRASE"  # noqa: S105  a variable's name
PIN = "FRAMEFLEET_PKCS11_PIN"
MODULE = "PKCS11LIB"
MAX_KEY = 4096
_EXTRAS = {"hsm": "pkcs11", "awskms": "kms"}

# What the key services' own classes log is in the sentence that the command ends with.
logging.getLogger("securesystemslib").addHandler(logging.NullHandler())


def secret(what: str, variable: str) -> str:
    """A passphrase or PIN from the environment, else asked for at the terminal. Raises CommandFailed."""
    if (given := os.environ.get(variable)) is not None:
        return given
    if not sys.stdin.isatty():
        raise CommandFailed(f"{what} is needed: run this at a terminal, or set {variable}.")
    return getpass.getpass(f"{what}: ")


def load(uri: str) -> Signer:
    """The signer of this private key. Raises CommandFailed with one sentence that says what to do."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme == "file":
        return _from_file(Path(rest if colon else uri))
    if scheme == "pkcs11":
        return load(_hsm_uri(rest))
    return _of_library(uri, import_public(uri))


def import_public(uri: str) -> Key:
    """The public part of a private key, wherever that is. Raises CommandFailed."""
    scheme, _, rest = uri.partition(":")
    if scheme == "file":
        return _from_file(Path(rest)).public_key
    if scheme == "pkcs11":
        return import_public(_hsm_uri(rest))
    if scheme == "hsm":
        number, _, query = rest.partition("?")
        label = unquote_to_bytes(query.removeprefix("label=").replace("+", " ")).decode() or None
        _choose_module()
        return _imported(uri, lambda: HSMSigner.import_(int(number or 2), label, _pin_once()))
    if scheme == "awskms":
        return _imported(uri, lambda: AWSSigner.import_(rest))
    if scheme in SIGNER_FOR_URI_SCHEME:
        raise CommandFailed(f"{uri} does not tell its public key: give a public key file with this uri in it.")
    known = ", ".join(sorted({"file", "pkcs11", *SIGNER_FOR_URI_SCHEME}))
    raise CommandFailed(f"{uri} names no kind of key that is known here: use one of {known}.")


def sign(signer: Signer, uri_or_name: str, payload: bytes) -> Signature:
    """A signature. Raises CommandFailed with one sentence, whatever the key's library raises."""
    return _careful(uri_or_name, lambda: signer.sign(payload))


def new_file(path: Path, passphrase: str | None) -> Key:
    """Make an Ed25519 key in a PEM file of its own, mode 0600. Raises CommandFailed."""
    if path.exists():
        raise CommandFailed(f"{path} exists already and keys are never overwritten: choose another name.")
    private = Ed25519PrivateKey.generate()
    write_file(path, pem_of(private, passphrase), mode=0o600)
    return CryptoSigner(private).public_key


def pem_of(private: Ed25519PrivateKey, passphrase: str | None) -> bytes:
    """The key as PKCS#8 PEM, encrypted when there is a passphrase."""
    how: KeySerializationEncryption = NoEncryption()
    if passphrase:
        how = BestAvailableEncryption(passphrase.encode())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def new_on_token(token_label: str, number: int, name: str) -> str:
    """Make an ECDSA P-256 key on a token, where it stays; returns its URI. Raises CommandFailed."""
    if not 1 <= number <= 255:
        raise CommandFailed(f"A key's number on a token is 1 to 255, not {number}: choose another --id.")
    _choose_module()
    uri = f"pkcs11:token={token_label};id=%{number:02x}"
    _careful(uri, lambda: _generate(token_label, number, name))
    return uri


def _generate(token_label: str, number: int, name: str) -> None:
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    token = pkcs11.lib(os.environ["PYKCS11LIB"]).get_token(token_label=token_label)
    identifier = pkcs11.util.biginteger(number)
    with token.open(rw=True, user_pin=secret("The token's PIN", PIN)) as session:
        if list(session.get_objects({pkcs11.Attribute.ID: identifier})):
            raise CommandFailed(f"The token {token_label} has a key {number} already: choose another --id.")
        curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
        session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True).generate_keypair(
            store=True,
            id=identifier,
            label=name,
            private_template={pkcs11.Attribute.SENSITIVE: True, pkcs11.Attribute.EXTRACTABLE: False},
        )


def _from_file(path: Path) -> Signer:
    data = read_file(path, MAX_KEY)
    if data.lstrip().startswith(b"{"):
        return _of_public(path, read_public(path))
    try:
        private = _decrypted(path, data)
    except (ValueError, TypeError) as error:
        raise CommandFailed(f"{path} is not a private key in PEM: {error}.") from None
    if isinstance(private, Ed25519PrivateKey):
        return CryptoSigner(private)
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
        return CryptoSigner(private)
    raise CommandFailed(f"{path} is neither an Ed25519 nor an ECDSA P-256 key: make one with `framectl keys new`.")


def _decrypted(path: Path, data: bytes) -> object:
    try:
        return load_pem_private_key(data, password=None)
    except TypeError:
        given = secret(f"The passphrase of {path}", PASSPHRASE)
    try:
        return load_pem_private_key(data, password=given.encode())
    except ValueError:
        raise CommandFailed(f"This is not the passphrase of {path}.") from None


def _of_public(path: Path, public: PublicKey) -> Signer:
    """The private key that a public key file points at; it must be that key."""
    if public.uri is None:
        raise CommandFailed(f"{path} does not say where its private key is: give the private key itself.")
    scheme, colon, rest = public.uri.partition(":")
    if scheme == "file" and colon:
        signer = _from_file(path.parent / rest)
    elif scheme == "pkcs11":
        signer = _of_library(_hsm_uri(rest), public.key)
    else:
        signer = _of_library(public.uri, public.key)
    if signer.public_key.keyid != public.key.keyid:
        raise CommandFailed(f"{public.uri} is not the private key of {path}.")
    return signer


def _of_library(uri: str, public: Key) -> Signer:
    if uri.startswith("hsm:"):
        _choose_module()
    return _careful(uri, lambda: Signer.from_priv_key_uri(uri, public, _pin_once()))


def _imported(uri: str, call: Callable[[], tuple[str, Key]]) -> Key:
    return _careful(uri, call)[1]


def _pin_once() -> Callable[[str], str]:
    """A secrets handler that asks once, however many documents are signed."""
    known: list[str] = []

    def handler(what: str) -> str:
        if not known:
            known.append(secret(f"The token's {what.upper()}", PIN))
        return known[0]

    return handler


def _hsm_uri(attributes: str) -> str:
    """``token=Keys;id=%02`` of a PKCS#11 URI (RFC 7512) as securesystemslib writes it."""
    found = dict(pair.partition("=")[::2] for pair in attributes.partition("?")[0].split(";"))
    label, number = found.pop("token", ""), unquote_to_bytes(found.pop("id", ""))
    if found or not number or len(number) > 8:
        raise CommandFailed(f"pkcs11:{attributes} must be written as pkcs11:token=LABEL;id=%02, with nothing else.")
    return f"hsm:{int.from_bytes(number, 'big')}" + (f"?label={label}" if label else "")


def _choose_module() -> None:
    """PKCS11LIB says which library talks to the token; securesystemslib asks for it under another name."""
    path = os.environ.get(MODULE) or os.environ.get("PYKCS11LIB")
    if not path:
        raise CommandFailed(f"Set {MODULE} to the token's PKCS#11 module, for example its libsofthsm2.so.")
    os.environ["PYKCS11LIB"] = path


def _careful(uri: str, call: Callable[[], T]) -> T:
    """What ``call`` returns. Signers' libraries raise whatever they like: each becomes one sentence."""
    try:
        return call()
    except CommandFailed:
        raise
    except (UnsupportedLibraryError, ImportError):
        extra = _EXTRAS.get(uri.partition(":")[0].replace("pkcs11", "hsm"))
        what = f"framefleet[{extra}]" if extra else "securesystemslib's extra for it"
        raise CommandFailed(f"The library for {uri} is not installed: pip install '{what}'.") from None
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        raise CommandFailed(f"The key {uri} cannot be used: {words.rstrip('.')[:300]}.") from None
