"""The client for C: its own tests and every vector, built with all warnings and sanitizers."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.tools import tool

ROOT: Final = Path(__file__).parents[2]
CLIENT: Final = ROOT / "client" / "c"
CASES: Final[list[dict[str, Any]]] = json.loads((ROOT / "client" / "vectors.json").read_text())[
    "cases"
]
TEXTS: Final = ("model", "operation", "error")

STRICT: Final = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
SANITIZED: Final = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

C: Final = ("cc", "-x", "c")
CXX: Final = ("c++", "-x", "c++", "-std=c++17")

BUILD_SECONDS: Final = 60
RUN_SECONDS: Final = 30


def compiled(folder: Path, source: Path, compiler: tuple[str, ...], *flags: str) -> Path:
    tool(compiler[0], "g++")
    program = folder / source.stem
    command = [*compiler, *flags, *STRICT, "-pthread", "-o", str(program), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="module")
def sanitizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The flags of the sanitizers, or none with a compiler that does not have them."""
    folder = tmp_path_factory.mktemp("sanitizers")
    source = folder / "nothing.c"
    source.write_text("int main(void) { return 0; }\n")
    tool("cc", "g++")
    command = ["cc", *SANITIZED, "-o", str(folder / "nothing"), str(source)]
    built = subprocess.run(command, capture_output=True, timeout=BUILD_SECONDS)
    return SANITIZED if built.returncode == 0 else ("-O1",)


def run(program: Path, given: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program],
        input=given,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        env={**os.environ, **variables},
    )


def plain(case: dict[str, Any]) -> Iterator[str]:
    """The lines that tests/vectors.c reads; it says what they mean."""
    if case.get("untyped"):
        yield f"skip {case['name']}"
        return
    yield f"case {case['name']}"
    for field, value in case["event"].items():
        if value is None or value is False:
            continue
        if value is True:
            yield f"on {field}"
        elif field in TEXTS:
            yield f"text {field} {value.encode(errors='surrogatepass').hex()}"
        else:
            yield f"number {field} {value}"
    yield f"refused {len(case.get('refused', ()))}"
    yield f"max_datagram_bytes {case.get('max_datagram_bytes', 1432)}"
    for datagram in case["datagrams"]:
        yield f"datagram {datagram.encode().hex()}"
    yield "end"


def given_vectors(cases: list[dict[str, Any]]) -> str:
    return "".join(f"{line}\n" for case in cases for line in plain(case))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory, sanitizers: tuple[str, ...]) -> Path:
    """The program that compares encode with the vectors, in strict C99."""
    folder = tmp_path_factory.mktemp("vectors")
    return compiled(folder, CLIENT / "tests" / "vectors.c", C, "-std=c99", *sanitizers)


def test_every_typed_vector_is_met_where_the_compiler_may_fuse(tmp_path: Path) -> None:
    flags = ("-O3", "-march=native", "-ffp-contract=fast")
    program = compiled(tmp_path, CLIENT / "tests" / "vectors.c", C, *flags)
    ran = run(program, given_vectors(CASES))
    assert ran.returncode == 0, ran.stdout


def test_every_typed_vector_is_met(vectors: Path) -> None:
    skipped = sum(1 for case in CASES if case.get("untyped"))
    ran = run(vectors, given_vectors(CASES))
    met = f"{len(CASES) - skipped} cases, 0 wrong, {skipped} skipped\n"
    assert (ran.returncode, ran.stdout) == (0, met), ran.stderr


def test_a_vector_that_is_not_met_is_seen(vectors: Path) -> None:
    case = {"name": "x", "event": {"model": "a"}, "datagrams": ["llm_request_total:1|c|#model:b"]}
    refusing = {"name": "y", "event": {}, "datagrams": ["llm_request_total:1|c"], "refused": ["n"]}
    ran = run(vectors, given_vectors([case, refusing]))
    assert ran.returncode == 1
    assert ran.stdout == (
        "x: other datagrams\ny: another number of refused fields\n2 cases, 2 wrong, 0 skipped\n"
    )


def test_the_clients_own_tests_pass(tmp_path: Path, sanitizers: tuple[str, ...]) -> None:
    program = compiled(tmp_path, CLIENT / "tests" / "client.c", C, *sanitizers)
    ran = run(program)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith("checks wrong\n")


def test_the_clients_own_tests_pass_as_cxx_17(tmp_path: Path) -> None:
    ran = run(compiled(tmp_path, CLIENT / "tests" / "client.c", CXX))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_two_files_share_one_implementation(tmp_path: Path) -> None:
    (tmp_path / "user.c").write_text(
        f'#include <stdio.h>\n#include "{CLIENT}/llmstatsd.h"\n'
        "int main(void) {\n"
        "    llmstatsd_client client;\n"
        "    llmstatsd_event event = LLMSTATSD_EVENT_INIT;\n"
        "    llmstatsd_init(&client, NULL);\n"
        "    llmstatsd_send(&client, &event);\n"
        '    printf("%d\\n", (int)llmstatsd_get_stats(&client).events);\n'
        "    llmstatsd_close(&client);\n"
        "    return 0;\n"
        "}\n"
    )
    implementation = tmp_path / "implementation.c"
    implementation.write_text(
        f'#define LLMSTATSD_IMPLEMENTATION\n#include "{CLIENT}/llmstatsd.h"\n'
    )
    program = compiled(
        tmp_path, tmp_path / "user.c", C, "-std=c99", "-Wno-pedantic", str(implementation)
    )
    assert run(program, LLMSTATSD_DISABLE="1").stdout == "1\n"


def test_the_example_is_one_command_and_its_call_arrives(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(RUN_SECONDS)
        program = compiled(tmp_path, CLIENT / "examples" / "call.c", ("cc",), "-O2")
        port = str(receiver.getsockname()[1])
        ran = run(program, LLMSTATSD_HOST="127.0.0.1", LLMSTATSD_PORT=port, LLMSTATSD_SOCKET="")
        lines = receiver.recv(2000).decode().split("\n")
    assert ran.stdout.endswith("1 sent, 0 not resolved\n")
    assert lines[0] == "llm_request_total:1|c|#model:gpt-4o,operation:chat"
    assert "llm_tokens_total:21|c|#model:gpt-4o" in lines
