"""Serves a small Hub on the loopback: the routes by which huggingface_hub finds and downloads a dataset, and no others.

Strict: a request that the real Hub would refuse is refused as it does (with its X-Error-Code), and one that this file
doesn't know is kept in `unknown`, for the test to see.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".parquet", ".jsonl")  # kept apart from the repository, as LFS files are: behind a redirect


class HubServer:
    """Repositories by id, each a list of commits (files by path); the last one is `main`."""

    def __init__(self) -> None:
        self.repositories: dict[str, list[dict[str, bytes]]] = {}
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.cdn = f"http://localhost:{self._server.server_port}/cdn"  # another host: the Hub's clients tell by it
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def commit(self, name: str, files: dict[str, bytes]) -> str:
        """Adds a commit to a repository and returns its hash."""
        self.repositories.setdefault(name, []).append(files)
        return self.hash_of(name, len(self.repositories[name]) - 1)

    def hash_of(self, name: str, number: int) -> str:
        return hashlib.sha1(f"{name} {number}".encode()).hexdigest()

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories[name]
        hashes = [self.hash_of(name, number) for number in range(len(commits))]
        if revision == "main":
            return hashes[-1], commits[-1]
        return (revision, commits[hashes.index(revision)]) if revision in hashes else None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.requests.append(f"{self.command} {path}")
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            if found := self._commit(match[1], match[2] or "main"):
                siblings = [{"rfilename": name} for name in found[1]]
                self._json({"_id": "0" * 24, "id": match[1], "sha": found[0], "siblings": siblings, "tags": []})
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/([^/]+)", path):
            if parse_qs(url.query).get("recursive", [""])[0].lower() != "true":
                self._refused(url)
            elif found := self._commit(match[1], match[2]):
                self._json([self._entry(name, data) for name, data in found[1].items()])
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if found := self._commit(match[1], match[2]):
                self._file(match[1], *found, match[3])
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path):
            self._send(200, self.hub.find(match[1], match[2])[1][match[3]])
        elif path == "/api/agent-harnesses":  # asked for by the client once a day, for its User-Agent alone
            self._json({})
        else:
            self._refused(url)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._refused(urlsplit(self.path))

    def _refused(self, url) -> None:
        self.hub.unknown.append(f"{self.command} {url.path}?{url.query}")
        self._send(404, b"")

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if name not in self.hub.repositories:  # the real one doesn't say whether there is a private one
            self._send(401, b'{"error": "Invalid username or password."}', {"X-Error-Code": "RepoNotFound"})
            return None
        found = self.hub.find(name, revision)
        if found is None:
            self._send(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        return found

    def _entry(self, name: str, data: bytes) -> dict:
        entry = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def _file(self, name: str, commit: str, files: dict[str, bytes], path: str) -> None:
        if path not in files:
            self._send(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
            return
        data, headers = files[path], {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not path.endswith(LARGE):
            self._send(200, data, headers | {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'})
            return
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"'}
        self._send(302, b"", headers | linked | {"Location": f"{self.hub.cdn}/{name}/{commit}/{path}"})

    def _json(self, value) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass
