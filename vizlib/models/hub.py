"""Downloads of trained weights that give up in seconds, and say what to do instead."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from urllib.error import URLError
from urllib.request import Request, urlopen

from huggingface_hub import constants

SECONDS = 5  # without an answer
INSTEAD = "pass weights=FILE, pretrained=False for random weights, or take a model that comes along: zoo/…"


@contextmanager
def downloading(name: str, url: str = "", instead: str = INSTEAD) -> Iterator[None]:
    """Inside, weights that are in no cache are downloaded; from a hub that does not answer, none are.

    Left to themselves, Hugging Face's client tries for half a minute and PyTorch's waits for ever.

    Args:
        name: the classifier's name, for the message.
        url: what has to answer; default: the Hugging Face hub.
        instead: what else can be done, for the message.

    Raises:
        RuntimeError: the weights are in no cache and cannot be fetched.
    """
    before = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = before[0] or not answers(url or constants.ENDPOINT)
    socket.setdefaulttimeout(SECONDS)
    try:
        yield
    except OSError as error:  # every network error and every file that is missing on the hub
        raise RuntimeError(
            f"{name} needs its trained weights; they are in no cache and fetching them gave: "
            f"{str(error).strip().splitlines()[0]} Connect to the network, {instead}."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before[0]
        socket.setdefaulttimeout(before[1])


def answers(url: str) -> bool:
    """Whether there is any answer from `url` within seconds, be it an error.

    Asked in a thread of its own, because looking up a host's name knows no timeout.
    """
    answered = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=SECONDS):
                answered.append(True)
        except URLError as error:
            # An HTTP status is an answer, and so is a certificate that Python does not know.
            answered.append(hasattr(error, "code") or "CERTIFICATE" in str(error.reason))
        except OSError:
            answered.append(False)

    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS + 1)
    return any(answered)
