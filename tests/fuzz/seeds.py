"""Writes the vectors of the wire as first inputs of the fuzzer: `python seeds.py FOLDER`."""

import json
import sys
from pathlib import Path

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "wire.json"


def main(folder: Path) -> None:
    """One input for each vector: its line, alone and behind a known one, with a sweep between."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, vector in enumerate(json.loads(VECTORS.read_bytes())):
        line = bytes.fromhex(vector["hex"]) if "hex" in vector else vector["line"].encode()
        datagrams = [each for each in (line, b"a:1|c\n" + line) if 0 < len(each) < 256]
        body = b"\0".join(bytes([len(each)]) + each for each in datagrams)
        (folder / f"{number:04d}").write_bytes(bytes([12]) + body)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
