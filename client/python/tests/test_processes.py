"""Fork, signals, threads, garbage and the end of the interpreter, each in a process of its own."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from llmstatsd_client import Client, default
from llmstatsd_client.encoding import TEMPLATES_LIMIT

PACKAGE = Path(__file__).parents[1]
LINE = "llm_request_total:1|c|#model:m"


def run(script: str, port: int, *arguments: str) -> str:
    """Run a script; `port` and `client` for it. Fails on any word on stderr."""
    head = f"from llmstatsd_client import Client, Stats\nport = {port}\n"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *arguments, "-c", head + script],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def received(receiver: Any) -> int:
    return sum(datagram.count(LINE) for datagram in receiver.waiting())


MODES = pytest.mark.parametrize("buffered", [False, True], ids=["at once", "buffered"])


@MODES
def test_a_child_goes_on_with_a_socket_and_counts_of_its_own(receiver: Any, buffered: bool) -> None:
    printed = run(
        f"""
import os
client = Client(port=port, buffered={buffered})
client.send(model="m")
parent = client._sender._socket
child = os.fork()
if child == 0:
    assert client.stats() == Stats()
    for _ in range(3):
        client.send(model="m")
    client.flush()
    assert client._sender._socket is not parent
    assert client.stats().events == 3
    client.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.send(model="m")
client.flush()
print(client.stats().events)
""",
        receiver.port,
    )
    assert printed == "2\n"
    assert received(receiver) == 5


def test_a_lock_held_at_the_fork_does_not_block_the_child(receiver: Any) -> None:
    run(
        """
import os, threading
client = Client(port=port, buffered=True)
held, done = threading.Event(), threading.Event()
def hold():
    with client._buffer._flushing:
        held.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    client.send(model="m")
    client.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
done.set()
thread.join()
""",
        receiver.port,
    )
    assert received(receiver) == 1


@MODES
def test_what_waits_goes_when_the_interpreter_ends(receiver: Any, buffered: bool) -> None:
    run(
        f"""
import atexit
client = Client(port=port, buffered={buffered})
atexit.register(client.send, model="m")
client.send(model="m")
import sys
sys.exit()
""",
        receiver.port,
    )
    assert received(receiver) == 2


def test_an_interpreter_that_ends_with_a_thread_just_started_does_not_crash(receiver: Any) -> None:
    times = 20
    for _ in range(times):
        run(
            """
import atexit, llmstatsd_client.client as module
atexit.unregister(module._flush_all)  # so that the thread has no time to begin
client = Client(port=port, buffered=True)
client.send(model="m")
""",
            receiver.port,
        )
    assert received(receiver) == times


def test_what_is_sent_after_the_flush_at_exit_does_not_wait(receiver: Any) -> None:
    run(
        """
import atexit
atexit.register(lambda: client.send(model="m"))  # the last to run
import importlib, llmstatsd_client.client as module
atexit.unregister(module._flush_all)
atexit.register(module._flush_all)
client = Client(port=port, buffered=True)
client.send(model="m")
""",
        receiver.port,
    )
    assert received(receiver) == 2


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_of_multiprocessing_flushes_at_its_end(
    receiver: Any, method: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import multiprocessing, sys
sys.path.insert(0, {str(PACKAGE)!r})
from llmstatsd_client import Client
def work():
    client = Client(port={receiver.port}, buffered=True)
    client.send(model="m")
if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 0
"""
    )
    subprocess.run([sys.executable, str(script)], timeout=60, check=True)
    assert received(receiver) == 1


def test_a_client_that_is_dropped_sends_what_waits_and_closes_quietly(receiver: Any) -> None:
    run(
        """
import gc, os
def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
before = descriptors()
for buffered in (False, True):
    client = Client(port=port, buffered=buffered)
    client.send(model="m")
    del client
    gc.collect()
assert descriptors() == before
import llmstatsd_client.client as module
assert module._clients == {}
""",
        receiver.port,
    )
    assert received(receiver) == 2


def test_a_client_in_a_cycle_ends_quietly_with_the_interpreter(receiver: Any) -> None:
    run(
        """
class Application: pass
application = Application()
application.self = application
application.client = Client(port=port, buffered=True)
application.request = application.client.request(model="m")
application.request.set(tokens=1)
application.client.send(model="m")
""",
        receiver.port,
    )
    assert received(receiver) >= 1


@MODES
def test_a_signal_handler_may_send_at_any_moment(receiver: Any, buffered: bool) -> None:
    printed = run(
        f"""
import signal, time
client = Client(port=port, buffered={buffered})
handled = 0
def handle(*_):
    global handled
    handled += 1
    client.send(model="m")
    client.flush()
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
sent = 0
until = time.monotonic() + 0.5
while time.monotonic() < until:
    client.send(model="m")
    sent += 1
    if sent % 50 == 0:
        client.flush()
signal.setitimer(signal.ITIMER_REAL, 0)
client.close()
stats = client.stats()
assert handled > 20
assert stats.events == sent + handled
if not {buffered}:
    assert stats.sent_datagrams == stats.events
assert stats[5:] == (0, 0, 0, 0)
print(stats.sent_bytes, stats.sent_datagrams, stats.events)
""",
        receiver.port,
    )
    sent_bytes, datagrams, events = map(int, printed.split())
    # A line end is between two events of a datagram.
    assert sent_bytes == events * (len(LINE) + 1) - datagrams


@MODES
def test_threads_lose_and_double_nothing(receiver: Any, buffered: bool) -> None:
    threads, calls = 8, 500

    def work(client: Client) -> None:
        for _ in range(calls):
            client.send(model="m")

    with Client(port=receiver.port, buffered=buffered) as client:
        workers = [threading.Thread(target=work, args=(client,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert received(receiver) == threads * calls
    stats = client.stats()
    assert stats.events == threads * calls
    assert stats.sent_bytes == threads * calls * (len(LINE) + 1) - stats.sent_datagrams


def test_a_flood_of_models_keeps_few_templates(client: Client) -> None:
    for number in range(3 * TEMPLATES_LIMIT):
        client.send(model=f"model-{number}")
    assert len(client._encoder._templates) == TEMPLATES_LIMIT
    client.send(model="😀" * 128, operation="😀" * 128, tokens=1, prompt_tokens=1, error="quota")
    kept = client._encoder._templates.values()
    assert sum(map(len, kept)) < 100 * TEMPLATES_LIMIT


def test_importing_reads_no_variable_and_starts_nothing(receiver: Any) -> None:
    printed = run(
        """
import sys, threading
print("asyncio" in sys.modules, "asyncio_dgram" in sys.modules, threading.active_count())
""",
        receiver.port,
    )
    assert printed == "False False 1\n"


def test_the_default_client_is_one_and_follows_the_variables(receiver: Any) -> None:
    run(
        f"""
import os
from llmstatsd_client import default, request, send, stats
os.environ["LLMSTATSD_PORT"] = "{receiver.port}"
send(model="m")
with request(model="m"):
    pass
assert default() is default()
assert stats().events == 2
import llmstatsd_client
assert llmstatsd_client.default() is default()
""",
        receiver.port,
    )
    assert received(receiver) == 2
    assert default() is default()
