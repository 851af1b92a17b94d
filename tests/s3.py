"""A server on this machine that speaks S3, and counts what it is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from obstore.store import S3Store

BUCKET = "bucket-of-tests"
CREDENTIALS = {"access_key_id": "of-tests", "secret_access_key": "of-tests"}


class Bucket:
    """A bucket of a server, and how it is reached."""

    def __init__(self, endpoint: str, asked: list[tuple[str, str, str | None]]) -> None:
        self.endpoint = endpoint
        self.asked = asked  # method, path and range of each request
        self.options: dict[str, Any] = CREDENTIALS | {"endpoint": endpoint, "region": "us-east-1"}
        requests.put(f"{endpoint}/{BUCKET}", timeout=10).raise_for_status()
        allowed: Any = {"allow_http": True}
        self._store = S3Store(BUCKET, **self.options, client_options=allowed)

    def put(self, name: str, content: bytes) -> None:
        """Put an object."""
        self._store.put(name, content)

    def delete(self, name: str) -> None:
        """Delete an object."""
        self._store.delete(name)

    def upload(self, folder: Path, name: str) -> str:
        """Put all files of a folder; gives its URL."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{name}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"s3://{BUCKET}/{name}"


@contextlib.contextmanager
def serving() -> Iterator[Bucket]:
    """The server, on a port that is free."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        asked: list[tuple[str, str, str | None]] = []
        app = server._server.app

        def counted(environ: dict[str, Any], start: Any) -> Any:
            asked.append(
                (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE"))
            )
            return app(environ, start)

        server._server.app = counted
        yield Bucket(f"http://{host}:{port}", asked)
    finally:
        server.stop()
