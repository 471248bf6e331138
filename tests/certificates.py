"""An authority, and what it signs: made anew for a test, never kept."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import trustme

NOW: Final = datetime.now(UTC)
DAY: Final = timedelta(days=1)


class Pair(NamedTuple):
    """The paths of a certificate and its key, as httpx and curl take them."""

    certificate: str
    key: str


class Authority:
    """Signs certificates into `folder`; `certificate` is the path of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._authority = trustme.CA()
        self.certificate = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.certificate)

    def sign(
        self, name: str, begins: datetime = NOW - DAY, ends: datetime = NOW + 30 * DAY
    ) -> Pair:
        """A certificate for a DNS name or an address, valid from `begins` to `ends`."""
        made = self._authority.issue_cert(name, not_before=begins, not_after=ends)
        pair = Pair(str(self._folder / f"{name}.pem"), str(self._folder / f"{name}.key"))
        made.private_key_pem.write_to_path(pair.key)
        for number, part in enumerate(made.cert_chain_pems):
            part.write_to_path(pair.certificate, append=number > 0)
        return pair
