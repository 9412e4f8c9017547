"""A TUF repository of any shape behind a real HTTP server on this machine, signed by python-tuf."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import quote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from tests.device_agent.repository import in_days

TOP = ("root", "targets", "snapshot", "timestamp")


Document = TypeVar("Document", bound=Signed)


def _unsigned(signed: Document) -> Document:
    signed.version = 0
    return signed


class Served:
    """``files`` by path below the server, ``asked`` for in this order. Nothing is served before ``publish``."""

    def __init__(self, *, consistent: bool = True, hashed: bool = False) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = ""
        self.hashed = hashed
        self.keys = {role: CryptoSigner.generate_ed25519() for role in TOP}
        self.forged: dict[str, CryptoSigner] = {}
        self.root = _unsigned(Root(expires=in_days(30), consistent_snapshot=consistent))
        self.targets: dict[str, Targets] = {"targets": _unsigned(Targets(expires=in_days(30)))}
        self.snapshot = _unsigned(Snapshot(expires=in_days(30), meta={}))
        self.timestamp = _unsigned(Timestamp(expires=in_days(30)))
        self.roots: list[bytes] = []
        for role in TOP:
            self.root.add_key(self.keys[role].public_key, role)
        self.publish("root")
        self.publish()

    # --- what it says -------------------------------------------------------------------------------------------------

    def add(self, role: str, path: str, content: bytes, hashes: tuple[str, ...] = ("sha256",)) -> TargetFile:
        """A file that ``role`` names in the next documents."""
        target = TargetFile.from_data(path, content, list(hashes))
        self.targets[role].targets[path] = target
        directory, slash, name = path.rpartition("/")
        for prefix in [f"{digest}." for digest in target.hashes.values()] if self.root.consistent_snapshot else [""]:
            self.files["/targets/" + quote(f"{directory}{slash}{prefix}{name}")] = content
        return target

    def delegate(self, by: str, role: DelegatedRole | SuccinctRoles, *names: str) -> None:
        """Let ``by`` delegate to ``role``; succinct ones are made for ``names``."""
        holder = self.targets[by]
        if holder.delegations is None:
            holder.delegations = Delegations({}, roles={})
        if isinstance(role, SuccinctRoles):
            holder.delegations.roles, holder.delegations.succinct_roles = None, role
        else:
            names = (role.name,)
            assert holder.delegations.roles is not None
            holder.delegations.roles[role.name] = role
        signer = self.keys.setdefault(names[0], CryptoSigner.generate_ed25519())
        for name in names:
            self.keys[name] = signer
            self.targets.setdefault(name, _unsigned(Targets(expires=in_days(30))))
        holder.delegations.keys[signer.public_key.keyid] = signer.public_key
        role.keyids.append(signer.public_key.keyid)

    def rotate(self, *roles: str) -> None:
        """New keys for these roles of the root, and the next root."""
        old = self.keys["root"]
        for role in roles:
            self.root.revoke_key(self.keys[role].public_key.keyid, role)
            self.keys[role] = CryptoSigner.generate_ed25519()
            self.root.add_key(self.keys[role].public_key, role)
        self.publish("root", also=(old,) if "root" in roles else ())

    def publish(self, *only: str, also: tuple[CryptoSigner, ...] = ()) -> None:
        """Sign ``only`` these roles anew, or everything but the root."""
        for role in only or (*self.targets, "snapshot", "timestamp"):
            signed = self._signed(role)
            signed.version += 1
            self.serve(role, self.sign(role, signed, *also))

    def sign(self, role: str, signed: Signed, *also: CryptoSigner) -> bytes:
        document: Metadata[Any] = Metadata(signed)
        document.sign(self.forged.get(role) or self.keys[role])
        for signer in also:
            document.sign(signer, append=True)
        return document.to_bytes()

    def serve(self, role: str, document: bytes, version: int | None = None) -> None:
        """Put a document where clients look for it, and into the list above it."""
        version = self._signed(role).version if version is None else version
        name = quote(role, "")
        prefix = f"{version}." if role == "root" or (self.root.consistent_snapshot and role != "timestamp") else ""
        self.files[f"/metadata/{prefix}{name}.json"] = document
        if role == "root":
            self.roots.append(document)
        meta = MetaFile.from_data(version, document, ["sha256"]) if self.hashed else MetaFile(version)
        if role == "snapshot":
            self.timestamp.snapshot_meta = meta
        elif role in self.targets:
            self.snapshot.meta[f"{role}.json"] = meta

    def _signed(self, role: str) -> Signed:
        named: dict[str, Signed] = {"root": self.root, "snapshot": self.snapshot, "timestamp": self.timestamp}
        return named.get(role) or self.targets[role]

    # --- the server ---------------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator["Served"]:
        """Answer on a free port of 127.0.0.1."""
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append(self.path)
                content = served.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def yesterday() -> dt.datetime:
    return in_days(-1)
