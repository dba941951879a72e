"""What people do less often than they write, and what Synapse's admin API says of all that is there."""

from collections import Counter

from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key
from signedjson.sign import sign_json
from traffic import EVERYBODY, MARKER, MESSAGES_IN_EACH, Client, Traffic

CLIENT = "/_matrix/client/v3"
ADMIN = "/_synapse/admin"
# Those who have left a room that is empty now, its state does not tell.
MEMBERSHIPS = ("join", "invite", "knock", "ban")


class Thorough(Traffic):
    """Traffic that can do everything else, too."""

    _thorough = False

    def use_everything(self):
        """Purges, bans, quarantines, and whatever else leaves rows; once."""
        self.purge()
        self._purge_history(self._rooms[3])
        self._come_and_go(self._rooms[2])
        self._make_unusual_rooms()
        self._upload_media()
        self._sign_across_devices(self._people[2])
        self._send_to_devices(self._people[0], self._people[3])
        self._delay_an_event(self._people[0], self._rooms[0])
        self._ask_who_is_gone(self._people[0])
        self._admin.put(f"{ADMIN}/v2/users/{self._people[10].user}", {"locked": True})
        self._admin.post(f"{ADMIN}/v1/users/{self._people[9].user}/shadow_ban", {})
        self._thorough = True

    def summary(self) -> dict:
        """What was made, with the numbers that Synapse says."""
        made = super().summary()
        return made | {"numbers": self._numbers()} if self._thorough else made

    def _purge_history(self, room: str):
        """Of all that was written before the last message."""
        last = self._send(self._members(3)[0], room, "m.room.message", {"msgtype": "m.text", "body": MARKER})
        wanted = {"purge_up_to_event_id": last["event_id"], "delete_local_events": True}
        purge = self._admin.post(f"{ADMIN}/v1/purge_history/{room}", wanted)["purge_id"]
        self._wait_until_purged(f"{ADMIN}/v1/purge_history_status/{purge}")
        self._messages += 1 - MESSAGES_IN_EACH

    def _come_and_go(self, room: str):
        """One leaves and comes back, one leaves for good, one is asked in, one is kept out."""
        owner, back, gone = self._members(2)
        invited, banned = self._people[5], self._people[6]
        path = f"{CLIENT}/rooms/{room}"
        for person in (back, gone):
            person.post(f"{path}/leave", {})
        for person in (back, invited):
            owner.post(f"{path}/invite", {"user_id": person.user})
        back.post(f"{path}/join", {})
        owner.post(f"{path}/ban", {"user_id": banned.user})
        regretted = self._send(owner, room, "m.reaction", {})["event_id"]
        owner.put(f"{path}/redact/{regretted}/1", {})

    def _make_unusual_rooms(self):
        """A space, a room to knock on, an encrypted one that everybody has left, one of an old version."""
        owner, other = self._people[7], self._people[8]
        encryption = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        knock = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
        world = {
            "type": "m.room.history_visibility",
            "state_key": "",
            "content": {"history_visibility": "world_readable"},
        }
        space, door, left, old = [
            owner.post(f"{CLIENT}/createRoom", wanted)["room_id"]
            for wanted in (
                {"creation_content": {"type": "m.space"}},
                {"initial_state": [knock, world]},
                {"initial_state": [encryption]},
                {"room_version": "9"},
            )
        ]
        other.post(f"{CLIENT}/knock/{door}", {})
        owner.post(f"{CLIENT}/rooms/{left}/leave", {})
        self._rooms += [space, door, left, old]

    def _upload_media(self):
        for size in (1_000, 70_000):
            upload = f"{CLIENT.replace('client', 'media')}/upload?filename=a.txt"
            media = self._people[1].post(upload, b"x" * size, "text/plain")["content_uri"]
        self._admin.post(f"{ADMIN}/v1/media/quarantine/{media.removeprefix('mxc://')}", {})
        self._media += 2

    def _sign_across_devices(self, person: Client):
        """Synapse keeps a hidden device for each of these keys."""
        signing = generate_signing_key("master")
        keys = {}
        for usage in ("master", "self_signing", "user_signing"):
            public = encode_verify_key_base64(get_verify_key(signing if usage == "master" else generate_signing_key("x")))
            key = {"user_id": person.user, "usage": [usage], "keys": {f"ed25519:{public}": public}}
            if usage == "master":
                signing.version = public
            else:
                key = sign_json(key, person.user, signing)
            keys[f"{usage}_key"] = key
        person.post(f"{CLIENT}/keys/device_signing/upload", keys)

    def _send_to_devices(self, sender: Client, receiver: Client):
        messages = {receiver.user: {"*": {}}}
        sender.put(f"{CLIENT}/sendToDevice/m.dummy/1", {"messages": messages})

    def _delay_an_event(self, sender: Client, room: str):
        path = f"{CLIENT}/rooms/{room}/send/m.reaction/delayed"
        sender.put(f"{path}?org.matrix.msc4140.delay=3600000", {})

    def _ask_who_is_gone(self, person: Client):
        """Of a server that cannot be reached."""
        person.post(f"{CLIENT}/keys/query", {"device_keys": {"@somebody:gone.invalid": []}})
        destinations = f"{ADMIN}/v1/federation/destinations"
        self._homeserver.process.wait_until(lambda: self._admin.get(destinations)["total"])

    def _wait_for_statistics(self) -> Counter:
        """The memberships in the state of the rooms where somebody is, once Synapse's statistics have as much state."""

        def compare() -> Counter | None:
            rooms = self._admin.get(f"{ADMIN}/v1/rooms?limit=1000")["rooms"]
            rooms = [room for room in rooms if room["joined_members"] > 0]
            states = [self._admin.get(f"{ADMIN}/v1/rooms/{room['room_id']}/state")["state"] for room in rooms]
            same = [len(state) for state in states] == [room["state_events"] for room in rooms]
            members = (event for state in states for event in state if event["type"] == "m.room.member")
            return Counter(event["content"]["membership"] for event in members) if same else None

        return self._homeserver.process.wait_until(compare)

    def _numbers(self) -> list[dict]:
        """Metrics, without their prefix, with labels and values, as the admin API has them."""
        admin = self._admin
        memberships = self._wait_for_statistics()
        rooms = admin.get(f"{ADMIN}/v1/rooms?limit=1000")["rooms"]
        users = admin.get(f"{ADMIN}/v2/users?{EVERYBODY}")["users"]
        users = [admin.get(f"{ADMIN}/v2/users/{user['name']}") for user in users]
        media = admin.get(f"{ADMIN}/v1/statistics/users/media?limit=1000")["users"]
        tokens = f"{ADMIN}/v1/registration_tokens"
        destinations = admin.get(f"{ADMIN}/v1/federation/destinations")["destinations"]
        updates = admin.get(f"{ADMIN}/v1/background_updates/status")["current_updates"]
        pushers = [admin.get(f"{ADMIN}/v1/users/{user['name']}/pushers")["total"] for user in users]
        states = [room["state_events"] for room in rooms if room["joined_local_members"] > 0]
        numbers = [
            ("background_updates_pending", {}, len(updates)),
            ("federation_destinations", {}, len(destinations)),
            ("federation_destinations_failing", {}, sum(one["failure_ts"] is not None for one in destinations)),
            ("media_files", {"origin": "local"}, sum(user["media_count"] for user in media)),
            ("media_bytes", {"origin": "local"}, sum(user["media_length"] for user in media)),
            ("media_files_quarantined", {"origin": "local"}, 1),
            ("pushers", {"kind": "http"}, sum(pushers)),
            ("registration_tokens", {}, len(admin.get(tokens)["registration_tokens"])),
            ("registration_tokens_valid", {}, len(admin.get(f"{tokens}?valid=true")["registration_tokens"])),
            ("reports", {"kind": "event"}, admin.get(f"{ADMIN}/v1/event_reports")["total"]),
            ("room_local_users", {}, sum(room["joined_local_members"] for room in rooms)),
            ("room_state_events", {}, sum(states)),
            ("room_state_events_max", {}, max(states)),
            ("rooms_empty", {}, sum(room["joined_members"] == 0 for room in rooms)),
            ("spaces", {}, sum(room["room_type"] == "m.space" for room in rooms)),
            ("rooms_with_local_users", {}, sum(room["joined_local_members"] > 0 for room in rooms)),
            ("users_flagged", {"flag": "locked"}, sum(bool(user["locked"]) for user in users)),
            ("users_flagged", {"flag": "shadow_banned"}, sum(bool(user["shadow_banned"]) for user in users)),
            # What no API tells was counted.
            ("delayed_events", {}, 1),
            ("device_inbox_messages", {}, 2),
            ("devices_hidden", {}, 3),
            ("redactions_uncensored", {}, 1),
            ("users_cross_signing", {}, 1),
        ]
        numbers += [
            ("room_members", {"membership": membership}, memberships[membership]) for membership in MEMBERSHIPS
        ]
        for metric, label, key in (
            ("rooms", "room_version", "version"),
            ("rooms_by_join_rule", "join_rule", "join_rules"),
            ("rooms_by_history_visibility", "history_visibility", "history_visibility"),
        ):
            kinds = Counter(room[key] or "unset" for room in rooms)
            numbers += [(metric, {label: value}, count) for value, count in kinds.items()]
        return [{"metric": metric, "labels": labels, "value": value} for metric, labels, value in numbers]
