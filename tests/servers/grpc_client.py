"""The app: gRPC in clear to bearerd, by the base URL that it was given. One line a case on standard output."""
import os
import sys
import threading
from urllib.parse import urlsplit

import grpc

channel = grpc.insecure_channel(urlsplit(os.environ["BEARERD_URL"]).netloc)
FORGED = [("authorization", "Bearer forged")]
TIMEOUT = 20


def call(kind, name):
    return getattr(channel, kind)(f"/rig.Calls/{name}")


def unary():
    answer, state = call("unary_unary", "Unary").with_call(b"hello", timeout=TIMEOUT, metadata=FORGED)
    return f"{state.code().name} {answer.decode()} {dict(state.trailing_metadata())['x-trailer']}"


def large():
    body = os.urandom(3_000_000)
    return "the same" if call("unary_unary", "Unary")(body, timeout=TIMEOUT) == body else "another"


def server_stream():
    answers = call("unary_stream", "ServerStream")(b"1000", timeout=TIMEOUT)
    return sum(int(answer) for answer in answers)


def client_stream():
    numbers = (str(number).encode() for number in range(1000))
    return call("stream_unary", "ClientStream")(numbers, timeout=TIMEOUT).decode()


def both_streams():
    """Each message is sent when the one before has come back: nothing is held back in either direction."""
    back = threading.Semaphore(1)

    def messages():
        for index in range(100):
            if not back.acquire(timeout=TIMEOUT):
                return
            yield str(index).encode()

    total = 0
    answers = call("stream_stream", "BothStream")(messages(), timeout=TIMEOUT)
    for answer in answers:
        total += int(answer)
        back.release()
    return f"{answers.code().name} {total}"


def status():
    try:
        call("unary_unary", "Failing")(b"", timeout=TIMEOUT)
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"


def deadline():
    try:
        list(call("unary_stream", "Endless")(b"", timeout=0.5))
    except grpc.RpcError as error:
        return error.code().name


def cancel():
    answers = call("unary_stream", "Endless")(b"")
    first = next(answers)
    answers.cancel()
    return f"{first.decode()} {answers.code().name}"


def many():
    calls = [call("unary_unary", "Unary").future(str(index).encode(), timeout=TIMEOUT) for index in range(500)]
    return sum(int(one.result()) for one in calls)


def after_renewal():
    """Says that it is here, and calls when it is told to."""
    print("renewal\twaits", flush=True)
    sys.stdin.readline()
    return unary()


for case in [unary, large, server_stream, client_stream, both_streams, status, deadline, cancel, many, after_renewal]:
    try:
        outcome = case()
    except Exception as error:
        outcome = f"failed: {type(error).__name__}: {error}"
    print(case.__name__, " ".join(str(outcome).split()), sep="\t", flush=True)
