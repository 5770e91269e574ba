"""The one-shot job of compose.secured.yaml: a development CA, certificates and passwords, each in its process's volume.

The CA and the passwords are made once; each run renews the certificates, which live 30 days. Running processes take
new certificates without a restart.
"""

from __future__ import annotations

import os
from pathlib import Path

from groupbuy_settlement.__main__ import enter_runtime

enter_runtime()

from devstack.certificates.ca import HOSTS, KAFKA, Authority, Issued  # noqa: E402 - a part of the runtime
from devstack.certificates.credentials import Credentials  # noqa: E402
from devstack.kafka.secured import ADMIN  # noqa: E402

AUTHORITY, OUT = Path("/authority"), Path("/out")
#: User ids of the images.
GROUPBUY, BROKER = 65532, 1000
#: The identity of each folder; ops and admin are two Kafka users of one identity.
IDENTITIES = {
    "orders": "orders",
    "groups": "groups",
    "payments": "payments",
    "inventory": "inventory",
    "console": "console",
    "share": "share",
    "simulator": "provider",
    "ops": "operator",
    "admin": "operator",
}
#: Folders whose Kafka user has another name.
USERS = {"console": "ops"}


def write(path: Path, content: bytes, owner: int) -> None:
    """Replaces a file that only its owner reads. A reader sees the old or the new one."""
    beside = path.with_name(f".{path.name}")
    beside.unlink(missing_ok=True)
    beside.touch(mode=0o400)
    beside.write_bytes(content)
    os.chown(beside, owner, owner)
    beside.replace(path)


def certificate(folder: Path, issued: Issued, owner: int) -> None:
    """Writes the files of a certificate."""
    write(folder / "key.pem", issued.key.read_bytes(), owner)
    write(folder / "certificate.pem", issued.certificate.read_bytes(), owner)
    write(folder / "ca.pem", issued.ca.read_bytes(), owner)


def main() -> None:
    """Writes all volumes."""
    made = Credentials(AUTHORITY)
    passwords = made.kafka.passwords
    for name, identity in IDENTITIES.items():
        # The volumes of some are those of other layers.
        if not (OUT / name).is_dir():
            continue
        certificate(OUT / name, made.issued[identity], GROUPBUY)
        if (user := USERS.get(name, name)) in passwords:
            write(OUT / name / "kafka_password", passwords[user].encode(), GROUPBUY)
    # The containers connect to the broker by this name.
    broker = Authority(AUTHORITY).issue(KAFKA, made.identities[KAFKA], hosts=(*HOSTS, "kafka"))
    write(OUT / "kafka" / "keystore.pem", broker.key.read_bytes() + broker.certificate.read_bytes(), BROKER)
    write(OUT / "kafka" / "ca.pem", broker.ca.read_bytes(), BROKER)
    users = "".join(f"{name} {password}\n" for name, password in passwords.items())
    write(OUT / "kafka" / "users", users.encode(), BROKER)
    for name, spiffe in made.identities.items():
        if "/client/" in spiffe:
            (OUT / "callers" / name).mkdir(exist_ok=True)
            certificate(OUT / "callers" / name, made.issued[name], GROUPBUY)
    # The folders are of their process; the authority's own key stays root's.
    for folder in OUT.iterdir():
        os.chown(folder, *(BROKER, BROKER) if folder.name == "kafka" else (GROUPBUY, GROUPBUY))
    print(f"wrote the credentials of {', '.join(sorted(one.name for one in OUT.iterdir()))}; administrator: {ADMIN}")


if __name__ == "__main__":
    main()
