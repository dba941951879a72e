"""Real traffic through Synapse's client API, and a count of what it made.

Everything is counted here while it is made, then asked of Synapse's own admin API; where the two
disagree, that is a failure: the numbers are what the exporter is measured by.
"""

import hashlib
import hmac
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from homeserver import ROLE, SERVER_NAME, Homeserver, opener
from process import Failed

PEOPLE = 12
ROOMS = 6
MESSAGES_IN_EACH = 10
PASSWORD = "correct horse battery staple"
# In every message: whatever shows it has read what people write.
MARKER = "SECRET-MESSAGE-BODY"
EVERYBODY = "guests=true&deactivated=true&locked=true&limit=1000"


class Traffic:
    """Who and what has been made on a homeserver, so far. A file in its folder remembers it for
    the next start of the same homeserver."""

    def __init__(self, homeserver: Homeserver):
        self._homeserver = homeserver
        self._file = homeserver.folder / "traffic.json"
        self._hush = threading.Event()
        self._talker: threading.Thread | None = None
        self._devices: list[str] = []
        # What Synapse has seen of an earlier run it would take for a repetition.
        self._transactions = itertools.count(int(time.time() * 1000))
        if self._file.exists():
            self._recall()
        else:
            self._begin()

    def _begin(self):
        with ThreadPoolExecutor(4) as pool:
            self._people = list(pool.map(self._add_person, range(PEOPLE)))
            self._admin = self._people[0]
            self._add_unusual_users()
            self._rooms = list(pool.map(self._create_room, range(ROOMS)))
            list(pool.map(self._fill_room, range(ROOMS)))
        self._admin.post("/_matrix/media/v3/upload?filename=a.txt", b"some media", "text/plain")
        self._use_everything_else_once()
        # One room is encrypted.
        self._messages = (ROOMS - 1) * MESSAGES_IN_EACH
        self._media = 1

    def _recall(self):
        known = json.loads(self._file.read_text())
        self._people = [Client(self._homeserver, *login) for login in known["people"]]
        self._admin = self._people[0]
        self._rooms, self._devices, self._messages = known["rooms"], known["devices"], known["messages"]
        self._media = known["media"]

    def _remember_all(self):
        known = {
            "people": [(person.token, person.user) for person in self._people],
            "rooms": self._rooms,
            "devices": self._devices,
            "messages": self._messages,
            "media": self._media,
        }
        self._file.write_text(json.dumps(known))

    def summary(self) -> dict:
        """What was made; of users, rooms and devices Synapse itself says the same."""
        asked = {
            "users": {
                # The people, the one who has left, the guest and the one behind the bridge.
                "total": PEOPLE + 3,
                "guests": 1,
                "admins": 1,
                "deactivated": 1,
            },
            "rooms": {"total": len(self._rooms), "published": 1, "encrypted": 1},
            "devices": len(self._devices),
        }
        self._wait_until_synapse_says(asked)
        asked["users"]["bridged"] = 1
        self._remember_all()
        return asked | {
            "server_name": SERVER_NAME,
            "url": self._homeserver.url,
            "database": self._homeserver.database,
            "role": ROLE,
            "marker": MARKER,
            "messages": self._messages,
            "encrypted_messages": MESSAGES_IN_EACH,
            "media": self._media,
        }

    def talk(self):
        """Sends messages, one after the other, until `hush`; returns when the first is sent."""
        self._say_one()
        self._hush.clear()
        self._talker = threading.Thread(target=self._keep_talking, daemon=True)
        self._talker.start()

    def hush(self):
        """Ends what `talk` began."""
        self._hush.set()
        if self._talker:
            self._talker.join()
            self._talker = None

    def purge(self):
        """Deletes the room that was made last, with all that was written there."""
        room = self._rooms.pop()
        self._messages -= MESSAGES_IN_EACH
        path = "/_synapse/admin/v2/rooms/"
        purge = self._admin.call("DELETE", f"{path}{room}", {"purge": True})["delete_id"]
        self._wait_until_purged(f"{path}delete_status/{purge}")

    def _wait_until_purged(self, path: str, seconds: float = 30):
        deadline = time.monotonic() + seconds
        while (status := self._admin.get(path)["status"]) != "complete":
            if status == "failed" or time.monotonic() > deadline:
                raise Failed(f"the purge is {status}: {path}")
            time.sleep(0.1)

    def _keep_talking(self):
        while not self._hush.is_set():
            self._say_one()

    def _say_one(self):
        self._send(self._admin, self._rooms[0], "m.room.message", {"msgtype": "m.text", "body": MARKER})
        self._messages += 1

    def _add_person(self, number: int) -> "Client":
        """A person who is online, with one device, every third with two; the first is the admin."""
        person = self._register(f"person{number}", admin=number == 0)
        if number % 3 == 0:
            self._log_in(person)
        person.put(f"/_matrix/client/v3/presence/{person.user}/status", {"presence": "online"})
        return person

    def _add_unusual_users(self):
        """A guest, one behind a bridge, and one who has left: their device went with them."""
        anybody = Client(self._homeserver)
        self._remember(anybody.post("/_matrix/client/v3/register?kind=guest", {}))
        bridge = Client(self._homeserver, self._homeserver.bridge_token)
        bridge.post(
            "/_matrix/client/v3/register",
            {"type": "m.login.application_service", "username": "bridged_one", "inhibit_login": True},
        )
        leaver = self._register("leaver")
        self._admin.post(f"/_synapse/admin/v1/deactivate/{leaver.user}", {})
        self._devices.pop()

    def _register(self, name: str, admin: bool = False) -> "Client":
        path = "/_synapse/admin/v1/register"
        anybody = Client(self._homeserver)
        nonce = anybody.get(path)["nonce"]
        claim = "\0".join([nonce, name, PASSWORD, "admin" if admin else "notadmin"])
        mac = hmac.new(self._homeserver.shared_secret.encode(), claim.encode(), hashlib.sha1).hexdigest()
        wanted = {"nonce": nonce, "username": name, "password": PASSWORD, "admin": admin, "mac": mac}
        return self._remember(anybody.post(path, wanted))

    def _log_in(self, person: "Client"):
        identifier = {"type": "m.id.user", "user": person.user}
        wanted = {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
        self._remember(Client(self._homeserver).post("/_matrix/client/v3/login", wanted))

    def _remember(self, login: dict) -> "Client":
        """Who has just got a device."""
        self._devices.append(login["device_id"])
        return Client(self._homeserver, login["access_token"], login["user_id"])

    def _create_room(self, number: int) -> str:
        """A room of three; the first room is in the directory, the second is encrypted."""
        owner, *others = self._members(number)
        wanted = {"name": f"Room {number}", "invite": [other.user for other in others]}
        if number == 0:
            wanted |= {"visibility": "public", "preset": "public_chat"}
        if number == 1:
            content = {"algorithm": "m.megolm.v1.aes-sha2"}
            wanted["initial_state"] = [{"type": "m.room.encryption", "state_key": "", "content": content}]
        room = owner.post("/_matrix/client/v3/createRoom", wanted)["room_id"]
        for other in others:
            other.post(f"/_matrix/client/v3/join/{room}", {})
        return room

    def _fill_room(self, number: int):
        kind, content = "m.room.message", {"msgtype": "m.text", "body": MARKER}
        if number == 1:
            kind, content = "m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AAAA"}
        members = itertools.cycle(self._members(number))
        for member in itertools.islice(members, MESSAGES_IN_EACH):
            self._send(member, self._rooms[number], kind, content)

    def _use_everything_else_once(self):
        """One of each thing that is only counted; nothing is ever sent to the pusher, of one who is in
        no room."""
        person, loner, room = self._people[1], self._people[-1], self._rooms[0]
        reported = self._send(self._admin, room, "m.reaction", {})
        client, admin = "/_matrix/client/v3", "/_synapse/admin"
        person.post(f"{client}/rooms/{room}/report/{reported['event_id']}", {"reason": MARKER})
        person.post(f"{client}/rooms/{room}/report", {"reason": MARKER})
        person.post(f"{client}/user/{person.user}/openid/request_token", {})
        self._admin.post(f"{admin}/v1/registration_tokens/new", {"uses_allowed": 3})
        self._admin.post(f"{admin}/v1/users/{person.user}/login", {})
        others = {
            "threepids": [{"medium": "email", "address": "person1@demo.test"}],
            "external_ids": [{"auth_provider": "oidc-demo", "external_id": "person1"}],
        }
        self._admin.put(f"{admin}/v2/users/{person.user}", others)
        gateway = {"url": "https://push.demo.test/_matrix/push/v1/notify"}
        names = {name: "demo" for name in ("app_id", "app_display_name", "device_display_name", "pushkey", "lang")}
        loner.post(f"{client}/pushers/set", names | {"kind": "http", "data": gateway})
        self._upload_keys(person)

    def _upload_keys(self, person: "Client"):
        """Synapse believes what clients say of keys."""
        client = "/_matrix/client/v3"
        device = person.get(f"{client}/account/whoami")["device_id"]
        key = {"key": "AAAA", "signatures": {person.user: {f"ed25519:{device}": "AAAA"}}}
        keys = {
            "device_keys": {
                "user_id": person.user,
                "device_id": device,
                "algorithms": ["m.megolm.v1.aes-sha2"],
                "keys": {f"curve25519:{device}": "AAAA", f"ed25519:{device}": "AAAA"},
                "signatures": key["signatures"],
            },
            "one_time_keys": {f"signed_curve25519:AAA{number}": key for number in range(3)},
            "fallback_keys": {"signed_curve25519:AAAA": key | {"fallback": True}},
        }
        person.post(f"{client}/keys/upload", keys)
        backup = {"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": {"public_key": "AAAA"}}
        person.post(f"{client}/room_keys/version", backup)

    def _members(self, number: int) -> list["Client"]:
        return [self._people[(number + place) % PEOPLE] for place in range(3)]

    def _send(self, sender: "Client", room: str, kind: str, content: dict) -> dict:
        transaction = next(self._transactions)
        return sender.put(f"/_matrix/client/v3/rooms/{room}/send/{kind}/{transaction}", content)

    def _wait_until_synapse_says(self, wanted: dict, seconds: float = 30):
        """Its room statistics follow a moment behind the rooms."""
        deadline = time.monotonic() + seconds
        while (said := self._ask_synapse()) != wanted:
            if time.monotonic() > deadline:
                raise Failed(f"the traffic made {wanted}, but Synapse says {said}")
            time.sleep(0.1)

    def _ask_synapse(self) -> dict:
        users = self._admin.get(f"/_synapse/admin/v2/users?{EVERYBODY}")
        rooms = self._admin.get("/_synapse/admin/v1/rooms?limit=1000")
        devices = [self._admin.get(f"/_synapse/admin/v2/users/{user['name']}/devices") for user in users["users"]]
        return {
            "users": {
                "total": users["total"],
                "guests": sum(bool(user["is_guest"]) for user in users["users"]),
                "admins": sum(bool(user["admin"]) for user in users["users"]),
                "deactivated": sum(bool(user["deactivated"]) for user in users["users"]),
            },
            "rooms": {
                "total": rooms["total_rooms"],
                "published": sum(room["public"] for room in rooms["rooms"]),
                "encrypted": sum(room["encryption"] is not None for room in rooms["rooms"]),
            },
            "devices": sum(len(answer["devices"]) for answer in devices),
        }


class Client:
    """Requests in the name of one user, or of nobody yet."""

    def __init__(self, homeserver: Homeserver, token: str | None = None, user: str | None = None):
        self._homeserver = homeserver
        self.token = token
        self.user = user

    def get(self, path: str) -> dict:
        """The answer to a GET."""
        return self._call("GET", path, None, "application/json")

    def put(self, path: str, body: dict) -> dict:
        """The answer to a PUT."""
        return self._call("PUT", path, json.dumps(body).encode(), "application/json")

    def call(self, method: str, path: str, body: dict) -> dict:
        """The answer to another method."""
        return self._call(method, path, json.dumps(body).encode(), "application/json")

    def post(self, path: str, body: dict | bytes, content_type: str = "application/json") -> dict:
        """The answer to a POST."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._call("POST", path, data, content_type)

    def _call(self, method: str, path: str, data: bytes | None, content_type: str) -> dict:
        url = self._homeserver.url + path
        request = urllib.request.Request(url, data, {"Content-Type": content_type}, method=method)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with opener.open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            words = refusal.read().decode(errors="replace")
            raise Failed(f"Synapse refuses {method} {path}: {refusal.code} {words}") from None
        except OSError as reason:
            log = self._homeserver.process.tail()
            raise Failed(f"Synapse does not answer {method} {path}: {reason}; {log}") from None
