//! How much is queued for devices, for other servers and for application services.

use crate::query::{ALL, Collector, Query, Scope};

/// From `device_inbox`, `device_federation_outbox`, `device_lists_outbound_pokes` and
/// `application_services_txns`. What is queued for a device, a server or a bridge that never comes
/// back stays.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_queues",
        "How much Synapse has queued for devices, for other servers and for application services",
    )
    .ttl(3600)
    .query(inbox())
    .query(outbox())
    .query(pokes())
    .query(transactions())
}

fn inbox() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("device_inbox", &["user_id", "device_id"])
        .reads("devices", &["user_id", "device_id"])
        .in_pieces("device_inbox", "user_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    coalesce(sum(i.messages), 0) AS device_inbox_messages,
                    coalesce(sum(i.messages) FILTER (WHERE d.device_id IS NULL), 0)
                        AS device_inbox_messages_orphaned
               FROM (SELECT user_id, device_id, count(*) AS messages
                       FROM {schema}.device_inbox
                      WHERE {piece}
                      GROUP BY 1, 2) AS i
               LEFT JOIN (SELECT user_id, device_id
                            FROM {schema}.devices
                           WHERE {piece}) AS d
                      ON d.user_id = i.user_id AND d.device_id = i.device_id",
        )
        .label("datname")
        .gauge(
            "device_inbox_messages",
            "Messages that wait for a device of this server to fetch them",
        )
        .gauge(
            "device_inbox_messages_orphaned",
            "Messages that wait for a device that is no more",
        )
}

fn outbox() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("device_federation_outbox", &["destination"])
        .in_pieces("device_federation_outbox", "destination")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) AS device_outbox_messages,
                    count(DISTINCT destination) AS device_outbox_destinations
               FROM {schema}.device_federation_outbox
              WHERE {piece}",
        )
        .label("datname")
        .gauge(
            "device_outbox_messages",
            "Batches of messages to devices that wait for another server",
        )
        .gauge(
            "device_outbox_destinations",
            "Other servers for which such messages wait",
        )
}

fn pokes() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("device_lists_outbound_pokes", &["destination", "sent"])
        .in_pieces("device_lists_outbound_pokes", "destination")
        .sql(
            ALL,
            "SELECT current_database() AS datname,
                    count(*) AS device_list_pokes,
                    count(DISTINCT destination) AS device_list_pokes_destinations
               FROM {schema}.device_lists_outbound_pokes
              WHERE {piece} AND NOT sent",
        )
        .label("datname")
        .gauge(
            "device_list_pokes",
            "Changes of devices that wait for another server, once for each server",
        )
        .gauge(
            "device_list_pokes_destinations",
            "Other servers for which such changes wait",
        )
}

/// The whole of what `synapse_appservices` counts up to a bound.
fn transactions() -> Query {
    Query::new("synapse_db")
        .scope(Scope::Synapse)
        .reads("application_services_txns", &["as_id", "txn_id"])
        .in_pieces("application_services_txns", "as_id, txn_id")
        .sql(
            ALL,
            "SELECT current_database() AS datname, as_id, count(*) AS appservice_transactions
               FROM {schema}.application_services_txns
              WHERE {piece}
              GROUP BY 2",
        )
        .label("datname")
        .label("as_id")
        .gauge(
            "appservice_transactions",
            "Transactions that wait for the application service, all of them; no sample while none \
             does",
        )
}
