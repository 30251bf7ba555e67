"""The pages of a run over HTTP on this machine alone, made anew for every request."""

import html
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from emocircuits.errors import EmocircuitsError, UserError
from emocircuits.export.exporter import file_stem

ADDRESS = "127.0.0.1"
INDEX = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Circuits</title><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
body {{ margin: 3rem auto; max-width: 40rem; padding: 0 1rem; }}
</style><h1>Circuits of this run</h1><ul>{links}</ul></html>"""


def page_server(pages: Callable[[], dict[str, bytes]], port: int = 0) -> ThreadingHTTPServer:
    """A server that is bound to 127.0.0.1 and not yet running.

    It answers "/" (the list of pages) and "/<behaviour>.html", nothing else; no path reaches the disk.
    Requests that name another host are refused, so that no foreign page can read this one through a name that
    points here.

    Args:
        pages: gives the pages by behaviour; called for every request.
        port: 0 takes a free one.

    Raises:
        UserError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").rsplit(":", 1)[0] not in (ADDRESS, "localhost"):
                return self.answer(
                    HTTPStatus.FORBIDDEN, b"this server answers to 127.0.0.1 and localhost only", "text/plain"
                )
            try:
                made = {file_stem(name): data for name, data in pages().items()}
            except EmocircuitsError as error:
                return self.answer(HTTPStatus.INTERNAL_SERVER_ERROR, str(error).encode(), "text/plain")
            path = unquote(urlsplit(self.path).path)
            if path == "/":
                links = "".join(
                    f'<li><a href="{html.escape(name)}.html">{html.escape(name.replace("_", " "))}</a></li>'
                    for name in made
                )
                return self.answer(HTTPStatus.OK, INDEX.format(links=links).encode(), "text/html")
            data = made.get(path.removeprefix("/").removesuffix(".html")) if path.endswith(".html") else None
            if data is None:
                return self.answer(HTTPStatus.NOT_FOUND, b"no such page", "text/plain")
            return self.answer(HTTPStatus.OK, data, "text/html")

        do_HEAD = do_GET

        def answer(self, status: HTTPStatus, data: bytes, kind: str) -> None:
            self.send_response(status)
            for name, value in (
                ("Content-Type", f"{kind}; charset=utf-8"),
                ("Content-Length", str(len(data))),
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
            ):
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Says nothing: stdout holds the address, stderr errors."""

    try:
        return ThreadingHTTPServer((ADDRESS, port), Handler)
    except OSError as error:
        raise UserError(
            f"port {port} cannot be used ({error.strerror or error})",
            cure="choose another --port, or 0 for a free one",
        ) from error
