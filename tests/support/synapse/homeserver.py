"""A real Synapse on a given PostgreSQL: its database, its configuration, its process."""

import base64
import json
import os
import secrets
import sys
import urllib.request
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from process import Failed, Process, free_port, give_to_nobody

SERVER_NAME = "demo.test"
ROLE = "synapse_user"

SECRETS = ("registration_shared_secret", "as_token", "hs_token", "macaroon_secret_key", "form_secret")

# What Synapse's log ends with when somebody else has its port; old and new ones.
PORT_TAKEN = ("Address already in use", "Failed to listen on TCP port")

# Nothing here is under attack: no limit may slow the traffic.
UNLIMITED = {"per_second": 1_000_000, "burst_count": 1_000_000}


@dataclass
class Postgres:
    """Where PostgreSQL is, and who may create databases there without a password."""

    host: str
    port: int
    superuser: str = "postgres"

    def run(self, database: str, sql: str):
        """Runs statements as superuser; one that stands alone is in no transaction."""
        try:
            with closing(
                psycopg2.connect(host=self.host, port=self.port, user=self.superuser, dbname=database)
            ) as connection:
                connection.autocommit = True
                connection.cursor().execute(sql)
        except psycopg2.Error as reason:
            raise Failed(f"PostgreSQL at {self.host}, port {self.port}, database {database}: {reason}") from None

    def answers(self) -> bool:
        """Whether it takes connections yet."""
        try:
            self.run("postgres", "SELECT 1")
        except Failed:
            return False
        return True


class Homeserver:
    """A running Synapse. Where the folder and the database are those of an earlier one, perhaps of
    another version, it goes on with them."""

    def __init__(
        self,
        postgres: Postgres,
        folder: Path,
        database: str = "synapse",
        state: str = "",
        bridge_url: str | None = None,
    ):
        self.folder = folder
        self.database = database
        # The database of the rooms' state, where that has one of its own.
        self._state = state
        self._bridge_url = bridge_url
        known = folder / "secrets.json"
        if known.exists():
            self._secrets = json.loads(known.read_text())
        else:
            self._secrets = {name: secrets.token_hex(16) for name in SECRETS}
            seed = base64.b64encode(os.urandom(32)).decode().rstrip("=")
            (folder / "signing.key").write_text(f"ed25519 a_demo {seed}\n")
            for name in filter(None, (database, state)):
                create_database(postgres, name)
            known.write_text(json.dumps(self._secrets))
        self.shared_secret = self._secrets["registration_shared_secret"]
        self.bridge_token = self._secrets["as_token"]
        for _ in range(3):
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            command = [sys.executable, "-m", "synapse.app.homeserver", "-c", self._configure(postgres, folder, port)]
            self.process = Process("Synapse", command, folder / "synapse.log")
            if self._is_up():
                return
        raise Failed("Synapse found no free port in three attempts")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Ends Synapse; its database stays."""
        self.process.__exit__()

    def _is_up(self) -> bool:
        """Waits for it; False if somebody else took the port between our choice and its use."""
        with ExitStack() as unless_up:
            unless_up.push(self.process)
            try:
                self.process.wait_until(self._answers)
            except Failed as reason:
                if any(words in str(reason) for words in PORT_TAKEN):
                    return False
                raise
            unless_up.pop_all()
            return True

    def _answers(self) -> bool:
        """Whether this Synapse, and no other on the same port, knows its bridge."""
        whoami = f"{self.url}/_matrix/client/v3/account/whoami"
        request = urllib.request.Request(whoami, headers={"Authorization": f"Bearer {self.bridge_token}"})
        try:
            return opener.open(request, timeout=5).status == 200
        except OSError:
            return False

    def _configure(self, postgres: Postgres, folder: Path, port: int) -> Path:
        """Writes what Synapse reads at its start, and returns the path of homeserver.yaml."""
        bridge = {
            "id": "bridge",
            "url": self._bridge_url,
            "as_token": self.bridge_token,
            "hs_token": self._secrets["hs_token"],
            "sender_localpart": "bridgebot",
            "namespaces": {"users": [{"exclusive": True, "regex": "@bridged_.*"}]},
        }
        (folder / "bridge.yaml").write_text(json.dumps(bridge))
        (folder / "log.yaml").write_text(json.dumps(LOGGING))
        configuration = {
            "server_name": SERVER_NAME,
            "public_baseurl": self.url,
            "listeners": [
                {
                    "port": port,
                    "type": "http",
                    "bind_addresses": ["127.0.0.1"],
                    "resources": [{"names": ["client"]}],
                }
            ],
            **self._databases(postgres),
            "log_config": str(folder / "log.yaml"),
            "media_store_path": str(folder / "media"),
            "signing_key_path": str(folder / "signing.key"),
            "app_service_config_files": [str(folder / "bridge.yaml")],
            "registration_shared_secret": self.shared_secret,
            "macaroon_secret_key": self._secrets["macaroon_secret_key"],
            "form_secret": self._secrets["form_secret"],
            "bcrypt_rounds": 4,
            "allow_guest_access": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "report_stats": False,
            "max_event_delay_duration": "24h",
            # Counts who is active by the month, without a limit.
            "mau_stats_only": True,
            # Needs no network, reaches none; the one server that is allowed does not exist.
            "trusted_key_servers": [],
            "federation_domain_whitelist": ["gone.invalid"],
            # A new database has background updates to do; without pauses they take seconds.
            "background_updates": {"sleep_enabled": False},
            "rc_message": UNLIMITED,
            "rc_registration": UNLIMITED,
            "rc_login": {"address": UNLIMITED, "account": UNLIMITED, "failed_attempts": UNLIMITED},
            "rc_joins": {"local": UNLIMITED, "remote": UNLIMITED},
            "rc_joins_per_room": UNLIMITED,
            "rc_invites": {"per_room": UNLIMITED, "per_user": UNLIMITED, "per_issuer": UNLIMITED},
            "rc_room_creation": UNLIMITED,
            "rc_presence": {"per_user": UNLIMITED},
            "rc_media_create": UNLIMITED,
        }
        # JSON is YAML.
        (folder / "homeserver.yaml").write_text(json.dumps(configuration, indent=2))
        (folder / "media").mkdir(exist_ok=True)
        give_to_nobody(folder, *folder.iterdir())
        return folder / "homeserver.yaml"

    def _databases(self, postgres: Postgres) -> dict:
        """One database, or two, as Synapse's configuration has them."""

        def connection(database: str) -> dict:
            arguments = {
                "host": postgres.host,
                "port": postgres.port,
                "user": ROLE,
                "dbname": database,
                "application_name": "synapse",
                "cp_min": 1,
                "cp_max": 5,
            }
            return {"name": "psycopg2", "args": arguments}

        if not self._state:
            return {"database": connection(self.database)}
        return {
            "databases": {
                "main": connection(self.database) | {"data_stores": ["main"]},
                "state": connection(self._state) | {"data_stores": ["state"]},
            }
        }


def create_database(postgres: Postgres, database: str):
    """Makes the role, where it is missing, and the database that Synapse wants."""
    postgres.run(
        "postgres",
        f"DO $$BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END$$",
    )
    postgres.run(
        "postgres",
        f'CREATE DATABASE "{database}" OWNER {ROLE} TEMPLATE template0'
        " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'",
    )


LOGGING = {
    "version": 1,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "disable_existing_loggers": False,
}

# A proxy in the environment is not for loopback.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
