"""Functions that are calls: plain, asynchronous and as generators."""

import asyncio
from collections.abc import AsyncIterator

import llmstatsd_client

client = llmstatsd_client.Client()


@client.request(model="demo-1", operation="embeddings")
def embed(text: str) -> dict[str, object]:
    """What is returned is asked for its tokens."""
    return {"usage": {"prompt_tokens": len(text.split()), "total_tokens": len(text.split())}}


@client.request(model="demo-1", operation="chat")
async def talk() -> AsyncIterator[str]:
    """The first word is the first token, and the last one ends the call."""
    for word in ("asynchronous", "words"):
        await asyncio.sleep(0.01)
        yield word


async def main() -> None:
    """Call both."""
    embed("some words")
    print([word async for word in talk()])


if __name__ == "__main__":
    asyncio.run(main())
    client.close()
    print(client.stats())
