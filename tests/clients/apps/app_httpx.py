import os

import httpx
from common import BASE, FORGED, QUERY, chunks, run, sha256, upload

# `http2=True` is by ALPN alone, so it is with https:// that it matters; PRIOR is without TLS, by prior knowledge.
prior = os.environ.get("PRIOR") == "h2"
app = httpx.Client(http1=not prior, http2=True, follow_redirects=True, timeout=20)


def said(answer):
    return f"{answer.status_code} {answer.text}"


def events():
    with app.stream("GET", BASE + "/events") as answer:
        lines = answer.iter_lines()
        first = next(lines)
        app.get(BASE + "/acknowledge")
        return f"{answer.status_code} {first} " + " ".join(line for line in lines if line)


def ranged():
    answer = app.get(BASE + "/range", headers={"Range": "bytes=5-9"})
    return f"{said(answer)} {answer.headers['Content-Range']}"


def cookies():
    app.get(BASE + "/set-cookie")
    return said(app.get(BASE + "/cookie"))


def head():
    answer = app.head(BASE + "/get")
    return f"{answer.status_code} {answer.headers['Content-Length']} {answer.text}"


run({
    "get": lambda: said(app.get(BASE + QUERY)),
    "version": lambda: app.get(BASE + QUERY).http_version,
    "own-credential": lambda: said(app.get(BASE + QUERY, headers=FORGED)),
    "head": head,
    "no-content": lambda: said(app.delete(BASE + "/thing")),
    "missing": lambda: said(app.get(BASE + "/missing")),
    "form": lambda: said(app.post(BASE + "/form", data={"a": "1", "b": "2"})),
    "upload": lambda: said(app.put(BASE + "/upload", content=upload())),
    "chunked": lambda: said(app.post(BASE + "/upload", content=chunks())),
    "download": lambda: f"200 {sha256(app.get(BASE + '/download').content)}",
    "gzip": lambda: said(app.get(BASE + "/gzip")),
    "redirect": lambda: said(app.get(BASE + "/redirect")),
    "redirect-absolute": lambda: said(app.get(BASE + "/redirect-absolute")),
    "range": ranged,
    "cookies": cookies,
    "events": events,
    "many": lambda: sum(app.get(BASE + QUERY).status_code == 200 for _ in range(50)),
})
