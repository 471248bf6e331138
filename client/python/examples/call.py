"""One call of a model, timed and counted; also when it fails.

Start the daemon (`llmstatsd serve`), run this, and look at http://127.0.0.1:2112/metrics.
"""

import time

import llmstatsd_client


def ask(question: str) -> dict[str, object]:
    """In place of a call of an SDK, whose response has its tokens in it."""
    time.sleep(0.05)
    if not question:
        raise TimeoutError("the model did not answer")
    return {"model": "demo-1", "usage": {"prompt_tokens": 12, "completion_tokens": 34}}


def main() -> None:
    """Ask twice, once in vain."""
    with llmstatsd_client.request(model="demo-1", operation="chat") as request:
        request.usage(ask("Why?"))

    try:
        with llmstatsd_client.request(model="demo-1", operation="chat") as request:
            request.usage(ask(""))
    except TimeoutError as error:
        print(f"counted and passed on: {error}")

    print(llmstatsd_client.stats())


if __name__ == "__main__":
    main()
