//! Application services, such as bridges.

use super::services_waiting;
use crate::query::{ALL, Collector, Query};

/// From `application_services_state` and `application_services_txns`. The label is the id that
/// the service has in its registration; one to which nothing was ever sent has no sample, and one
/// that was taken out of the configuration keeps its last.
pub fn collector() -> Collector {
    Collector::synapse(
        "synapse_appservices",
        "Application services that Synapse has marked as down, and what is queued for them",
    )
    .query(
        Query::new()
            .reads("application_services_state", &["as_id", "state"])
            .sql(
                ALL,
                "SELECT as_id, state = 'down' AS appservice_down
                   FROM {schema}.application_services_state
                  WHERE state IS NOT NULL",
            )
            .label("as_id")
            .gauge(
                "appservice_down",
                "1 if Synapse has marked the application service as down and retries with growing \
                 delays; 0 if it is up",
            ),
    )
    .query(transactions())
    .query(streams())
}

/// Of each service up to a bound: as a range in the order of the index, whatever the planner knows of
/// the table it reads no more.
fn transactions() -> Query {
    Query::new()
        .reads("application_services_txns", &["as_id", "txn_id"])
        .sql(
            ALL,
            concat!(
                "SELECT w.as_id, w.appservice_transactions_waiting
                   FROM (",
                services_waiting!(),
                "        SELECT s.as_id,
                                (SELECT count(*)
                                   FROM (SELECT t.txn_id
                                           FROM {schema}.application_services_txns AS t
                                          WHERE (t.as_id, t.txn_id) >= (s.as_id, 0)
                                            AND t.as_id <= s.as_id
                                          ORDER BY t.as_id LIMIT 100000) AS waiting)
                                    AS appservice_transactions_waiting
                           FROM services AS s
                          WHERE s.as_id IS NOT NULL) AS w"
            ),
        )
        .label("as_id")
        .gauge(
            "appservice_transactions_waiting",
            "Transactions queued for the application service, counted up to 100000; no sample if \
             there are none",
        )
}

/// How far each service has read the streams that are not events; of a stream that it does not
/// receive it has no position.
fn streams() -> Query {
    Query::new()
        .reads(
            "application_services_state",
            &[
                "as_id",
                "read_receipt_stream_id",
                "presence_stream_id",
                "to_device_stream_id",
                "device_list_stream_id",
            ],
        )
        .reads("stream_positions", &["stream_name", "stream_id"])
        .sql(
            ALL,
            "SELECT s.as_id, r.stream_name,
                    p.newest - r.position AS appservice_stream_behind_positions,
                    greatest(r.position - p.newest, 0) AS appservice_stream_ahead_positions
               FROM {schema}.application_services_state AS s
              CROSS JOIN LATERAL (VALUES ('receipts', s.read_receipt_stream_id),
                                         ('presence_stream', s.presence_stream_id),
                                         ('to_device', s.to_device_stream_id),
                                         ('device_lists_stream', s.device_list_stream_id))
                                 AS r (stream_name, position)
               JOIN (SELECT stream_name, max(stream_id) AS newest
                       FROM {schema}.stream_positions
                      GROUP BY stream_name) AS p ON p.stream_name = r.stream_name
              WHERE r.position IS NOT NULL",
        )
        .label("as_id")
        .label("stream_name")
        .gauge(
            "appservice_stream_behind_positions",
            "Stream positions not yet sent to the application service, for streams other than \
             events; negative where it is ahead of the stream. The value does not change for a \
             stream that the application service does not receive",
        )
        .gauge(
            "appservice_stream_ahead_positions",
            "Stream positions that Synapse has recorded as sent to the application service and \
             that the stream has not reached: until it does, nothing of the stream is sent",
        )
}
