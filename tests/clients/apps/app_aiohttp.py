import asyncio

import aiohttp
from common import BASE, FORGED, QUERY, chunks, run_async, sha256, upload
from yarl import URL


def url(path):
    return URL(BASE + path, encoded=True)


async def body():
    for chunk in chunks():
        yield chunk


async def main():
    # The variables are read only by who asks for it; and a cookie of an address is kept only by who asks, too.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(trust_env=True, cookie_jar=jar) as app:
        async def said(answer):
            async with answer:
                return f"{answer.status} {await answer.text()}"

        async def head():
            async with app.head(url("/get")) as answer:
                return f"{answer.status} {answer.headers['Content-Length']} {await answer.text()}"

        async def download():
            async with app.get(url("/download")) as answer:
                return f"{answer.status} {sha256(await answer.read())}"

        async def ranged():
            async with app.get(url("/range"), headers={"Range": "bytes=5-9"}) as answer:
                return f"{answer.status} {await answer.text()} {answer.headers['Content-Range']}"

        async def cookies():
            await said(await app.get(url("/set-cookie")))
            return await said(await app.get(url("/cookie")))

        async def events():
            async with app.get(url("/events")) as answer:
                first = (await answer.content.readline()).decode().strip()
                await said(await app.get(url("/acknowledge")))
                rest = (await answer.content.read()).decode().split("\n")
                return f"{answer.status} {first} " + " ".join(line for line in rest if line)

        async def many():
            async def one():
                async with app.get(url(QUERY)) as answer:
                    return answer.status == 200
            return sum(await asyncio.gather(*(one() for _ in range(50))))

        async def websocket():
            async with app.ws_connect(url("/socket")) as socket:
                await socket.send_str("hello")
                text = await socket.receive_str()
                await socket.send_bytes(bytes(70_000))
                return f"{text} {len(await socket.receive_bytes())}"

        async def asked(method, path, **more):
            return await said(await app.request(method, url(path), **more))

        await run_async({
            "get": lambda: asked("GET", QUERY),
            "own-credential": lambda: asked("GET", QUERY, headers=FORGED),
            "head": head,
            "no-content": lambda: asked("DELETE", "/thing"),
            "missing": lambda: asked("GET", "/missing"),
            "form": lambda: asked("POST", "/form", data={"a": "1", "b": "2"}),
            "upload": lambda: asked("PUT", "/upload", data=upload()),
            "chunked": lambda: asked("POST", "/upload", data=body()),
            "expect": lambda: asked("PUT", "/upload", data=upload(), expect100=True),
            "download": download,
            "gzip": lambda: asked("GET", "/gzip"),
            "redirect": lambda: asked("GET", "/redirect"),
            "redirect-absolute": lambda: asked("GET", "/redirect-absolute"),
            "range": ranged,
            "cookies": cookies,
            "events": events,
            "many": many,
            "websocket": websocket,
        })


asyncio.run(main())
