import os
from urllib.parse import urlsplit

import grpc
from common import run

url = urlsplit(os.environ["BASE"])
if url.scheme == "https":
    channel = grpc.secure_channel(f"{url.hostname}:443", grpc.ssl_channel_credentials())
else:
    channel = grpc.insecure_channel(url.netloc)


def unary():
    call = channel.unary_unary("/echo.Echo/Unary")
    answer, state = call.with_call(b"hello", timeout=20, metadata=[("authorization", "Bearer forged")])
    return f"{state.code().name} {answer.decode()}"


def streams():
    call = channel.stream_stream("/echo.Echo/Streams")(iter([b"one", b"two", b"three"]), timeout=20)
    answers = b" ".join(call).decode()
    return f"{call.code().name} {answers}"


run({"grpc-unary": unary, "grpc-streams": streams})
