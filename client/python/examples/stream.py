"""A stream of chunks: the time to the first token, and the tokens that the last chunk tells."""

import time
from collections.abc import Iterator

import llmstatsd_client


def answer() -> Iterator[dict[str, object]]:
    """In place of the stream of an SDK."""
    for word in ("A", "word", "at", "a", "time"):
        time.sleep(0.02)
        yield {"model": "demo-1", "delta": word}
    yield {"model": "demo-1", "usage": {"prompt_tokens": 12, "completion_tokens": 5}}


def main() -> None:
    """Read one stream to its end and leave another after two chunks; each counts once."""
    for chunk in llmstatsd_client.request(model="demo-1", operation="chat").stream(answer()):
        print(chunk.get("delta", "."), end=" ", flush=True)
    print()

    stream = llmstatsd_client.request(model="demo-1", operation="chat").stream(answer())
    print(next(stream), next(stream))
    stream.close()

    print(llmstatsd_client.stats())


if __name__ == "__main__":
    main()
