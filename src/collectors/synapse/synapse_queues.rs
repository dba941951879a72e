//! How much is queued for devices, for other servers and for application services.

use crate::query::{ALL, Collector, Query};

/// From `device_inbox`, `device_federation_outbox`, `device_lists_outbound_pokes` and
/// `application_services_txns`. What is queued for a device, a server or a bridge that never comes
/// back stays.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_queues",
        "To-device messages, device list updates and transactions that Synapse has queued",
    )
    .ttl(3600)
    .query(inbox())
    .query(outbox())
    .query(pokes())
    .query(transactions())
}

/// What waits for whom stands in an index, far smaller than the table; so it does below. The subquery
/// has a LIMIT, so that each device costs one look into an index.
fn inbox() -> Query {
    Query::new()
        .reads("device_inbox", &["user_id", "device_id", "stream_id"])
        .reads("devices", &["user_id", "device_id"])
        .by_key(
            "user_id, device_id, stream_id",
            "SELECT user_id, device_id, stream_id FROM {schema}.device_inbox",
        )
        .sql(
            ALL,
            "SELECT coalesce(sum(i.messages), 0) AS device_inbox_messages,
                    coalesce(sum(i.messages) FILTER (WHERE i.device IS NULL), 0)
                        AS device_inbox_messages_orphaned
               FROM (SELECT messages,
                            (SELECT 1 FROM {schema}.devices AS d
                              WHERE d.user_id = w.user_id AND d.device_id = w.device_id LIMIT 1)
                                AS device
                       FROM (SELECT user_id, device_id, count(*) AS messages
                               FROM {piece} AS p
                              GROUP BY 1, 2) AS w
                     OFFSET 0) AS i",
        )
        .gauge(
            "device_inbox_messages",
            "To-device messages queued for local devices",
        )
        .gauge(
            "device_inbox_messages_orphaned",
            "To-device messages queued for deleted devices",
        )
}

fn outbox() -> Query {
    Query::new()
        .reads("device_federation_outbox", &["destination", "stream_id"])
        .by_key(
            "destination, stream_id",
            "SELECT destination, stream_id FROM {schema}.device_federation_outbox",
        )
        .sql(
            ALL,
            "SELECT count(*) AS device_outbox_messages,
                    count(DISTINCT destination) FILTER (WHERE {begins})
                        AS device_outbox_destinations
               FROM {piece} AS p",
        )
        .gauge(
            "device_outbox_messages",
            "Batches of to-device messages queued for remote homeservers",
        )
        .gauge(
            "device_outbox_destinations",
            "Remote homeservers with queued to-device messages",
        )
}

fn pokes() -> Query {
    Query::new()
        .reads(
            "device_lists_outbound_pokes",
            &["destination", "stream_id", "sent"],
        )
        .by_key(
            "destination, stream_id",
            "SELECT destination, stream_id FROM {schema}.device_lists_outbound_pokes
              WHERE NOT sent",
        )
        .sql(
            ALL,
            "SELECT count(*) AS device_list_pokes,
                    count(DISTINCT destination) FILTER (WHERE {begins})
                        AS device_list_pokes_destinations
               FROM {piece} AS p",
        )
        .gauge(
            "device_list_pokes",
            "Device list updates queued for remote homeservers, counted once for each homeserver",
        )
        .gauge(
            "device_list_pokes_destinations",
            "Remote homeservers with queued device list updates",
        )
}

/// The whole of what `synapse_appservices` counts up to a bound.
fn transactions() -> Query {
    Query::new()
        .reads("application_services_txns", &["as_id", "txn_id"])
        .by_key(
            "as_id, txn_id",
            "SELECT as_id, txn_id FROM {schema}.application_services_txns",
        )
        .sql(
            ALL,
            "SELECT as_id, count(*) AS appservice_transactions
               FROM {piece} AS p
              GROUP BY 1",
        )
        .label("as_id")
        .gauge(
            "appservice_transactions",
            "Transactions queued for the application service, all of them; no sample if there are \
             none",
        )
}
