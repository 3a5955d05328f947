"""Un hub de Hugging Face de mentira, en 127.0.0.1, con archivos de verdad.

Responde a lo que `huggingface_hub` pide al bajar archivos: HEAD y GET de
`/{repo}/resolve/{revision}/{archivo}`, con ETag, commit, rangos y 404.
"""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class LocalHub:
    """`with LocalHub({"dueño/repo": carpeta}, revision) as hub: hub.url`.

    `cut_after`: corta la primera descarga tras esos bytes, como una red que
    se cae. `requests`: lo que se ha pedido, como (método, ruta, rango).
    """

    def __init__(self, repos: dict[str, Path], revision: str, cut_after=None):
        self.repos, self.revision, self.cut_after = repos, revision, cut_after
        self.requests = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def file(self, path: str) -> Path | None:
        for repo, folder in self.repos.items():
            for revision in (self.revision, "main"):
                start = f"/{repo}/resolve/{revision}/"
                if path.startswith(start):
                    found = folder / path.removeprefix(start)
                    return found if found.is_file() else None
        return None

    def answer(self, handler, body: bool) -> None:
        span = handler.headers.get("Range")
        self.requests.append((handler.command, handler.path, span))
        path = self.file(handler.path)
        if path is None:
            handler.send_response(404)
            handler.send_header("X-Error-Code", "EntryNotFound")
            handler.send_header("X-Repo-Commit", self.revision)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        data = path.read_bytes()
        start = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
        handler.send_response(206 if span else 200)
        handler.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        handler.send_header("X-Repo-Commit", self.revision)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Length", str(len(data) - start))
        if span:
            total = len(data)
            handler.send_header(
                "Content-Range", f"bytes {start}-{total - 1}/{total}"
            )
        handler.end_headers()
        if not body:
            return
        if self.cut_after is not None:
            data, self.cut_after = data[: start + self.cut_after], None
            handler.close_connection = True
        handler.wfile.write(data[start:])
