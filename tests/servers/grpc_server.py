"""A gRPC server with all four kinds of call, behind TLS, that takes only tokens that it was told of.

Its orders come on standard input, a line each: `take TOKEN` and `revoke TOKEN`. It says on standard output where it
listens, and then each call: its method, whose token it had, and how it ended on this side.
"""
import sys
import threading
import time
from concurrent import futures

import grpc

taken = set()
certificate, key = (open(path, "rb").read() for path in sys.argv[1:3])


def tell(*words):
    print(*words, flush=True)


def judged(context):
    metadata = [value for name, value in context.invocation_metadata() if name == "authorization"]
    own = [name for name, value in context.invocation_metadata() if "forged" in str(value)]
    tokens = [value.removeprefix("Bearer ") for value in metadata]
    if len(tokens) != 1 or own:
        tell("wrong", metadata, own)
    if tokens[0] not in taken:
        tell("refused", tokens[0])
        # Before any message, so it is a trailers-only answer.
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "this token is not taken")
    context.set_trailing_metadata([("x-trailer", "at the end")])


def unary(request, context):
    judged(context)
    return request


def server_stream(request, context):
    judged(context)
    for index in range(int(request)):
        yield str(index).encode()


def client_stream(requests, context):
    judged(context)
    return str(sum(int(request) for request in requests)).encode()


def both_stream(requests, context):
    judged(context)
    for request in requests:
        yield request


def failing(request, context):
    judged(context)
    context.abort(grpc.StatusCode.NOT_FOUND, "no such order: \u00e4")


def endless(request, context):
    """Goes on until the other end has enough."""
    judged(context)
    ended = threading.Event()
    context.add_callback(ended.set)
    left = context.time_remaining()
    tell("endless begins", "without a deadline" if left is None or left > 1e6 else "with a deadline")
    yield b"first"
    ended.wait(60)
    tell("endless ended" if ended.is_set() else "endless was never cancelled")


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "BothStream": grpc.stream_stream_rpc_method_handler(both_stream),
    "Failing": grpc.unary_unary_rpc_method_handler(failing),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
}
server = grpc.server(futures.ThreadPoolExecutor(32))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("rig.Calls", handlers),))
port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
server.start()
tell("listening", port)
for line in sys.stdin:
    order, token = line.split()
    (taken.add if order == "take" else taken.discard)(token)
    tell("done", order)
server.stop(0)
