import asyncio

from common import BASE, run_async
from websockets.asyncio.client import connect


async def websocket():
    async with connect("ws" + BASE.removeprefix("http") + "/socket") as socket:
        await socket.send("hello")
        text = await socket.recv()
        await socket.send(bytes(70_000))
        return f"{text} {len(await socket.recv())}"


asyncio.run(run_async({"websocket": websocket}))
