"""What the Python programs share: where to ask, what to send, and one line a case on standard output."""
import hashlib
import os

BASE = os.environ["BASE"] + os.environ["PREFIX"]
UPLOAD = os.environ["UPLOAD"]
QUERY = "/get?q=a%2Fb%20c&x=%C3%BC"
FORGED = {"Authorization": "Bearer forged", "X-App": "mine"}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def chunks():
    """The upload in pieces, whose number nobody knows beforehand."""
    with open(UPLOAD, "rb") as file:
        while chunk := file.read(65536):
            yield chunk


def upload():
    with open(UPLOAD, "rb") as file:
        return file.read()


def told(name, outcome):
    print(name, outcome, sep="\t", flush=True)


def wanted(cases):
    for name in os.environ["CASES"].split(","):
        yield name, cases[name]


def run(cases):
    for name, case in wanted(cases):
        try:
            told(name, case())
        except Exception as error:  # whatever it is, the driver shows it
            told(name, f"failed: {type(error).__name__}: {error}")


async def run_async(cases):
    for name, case in wanted(cases):
        try:
            told(name, await case())
        except Exception as error:
            told(name, f"failed: {type(error).__name__}: {error}")
