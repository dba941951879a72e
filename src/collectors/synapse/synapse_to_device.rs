//! Messages between devices, which carry the keys of encryption.

use super::oldest_age;
use crate::query::{ALL, Collector, Query};

/// From `device_inbox` and `device_federation_outbox`, where a message stays until its device or
/// server has fetched it. How many these are, `synapse_queues` says.
pub fn collector() -> Collector {
    Collector::synapse("synapse_to_device", "Age of queued to-device messages")
        .ttl(60)
        .query(inbox())
        .query(outbox())
}

/// The table knows no times.
fn inbox() -> Query {
    Query::new()
        .reads("stream_positions", &["stream_name", "stream_id"])
        .reads("device_inbox", &["stream_id"])
        .sql(
            ALL,
            "SELECT CASE WHEN i.oldest IS NULL THEN 0
                         ELSE p.newest - i.oldest + 1 END AS device_inbox_oldest_behind_positions
               FROM (SELECT min(stream_id) AS oldest FROM {schema}.device_inbox) AS i
              CROSS JOIN (SELECT max(stream_id) AS newest FROM {schema}.stream_positions
                           WHERE stream_name = 'to_device') AS p",
        )
        .gauge(
            "device_inbox_oldest_behind_positions",
            "Stream positions (to_device) from the oldest to-device message queued for a local \
             device to the newest position; 0 if none is queued",
        )
}

fn outbox() -> Query {
    Query::new()
        .reads("device_federation_outbox", &["stream_id", "queued_ts"])
        .sql(
            ALL,
            concat!(
                "SELECT ",
                oldest_age!("o.queued_ts"),
                "       AS device_outbox_oldest_age_seconds
                   FROM (SELECT queued_ts FROM {schema}.device_federation_outbox
                          ORDER BY stream_id LIMIT 1) AS o"
            ),
        )
        .gauge(
            "device_outbox_oldest_age_seconds",
            "Age of the oldest to-device message queued for a remote homeserver, in seconds; it \
             stays high while that homeserver is gone; 0 if none is queued",
        )
}
