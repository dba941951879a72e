//! Application services, such as bridges.

use crate::query::{ALL, Collector, Query, Scope};

/// From `application_services_state` and `application_services_txns`. The label is the id that
/// the service has in its registration; one to which nothing was ever sent has no sample.
pub fn collector() -> Collector {
    Collector::new(
        "synapse_appservices",
        "Application services of Synapse that are down, and what waits for them",
    )
    .query(
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("application_services_state", &["as_id", "state"])
            .sql(
                ALL,
                "SELECT current_database() AS datname, as_id, state = 'down' AS appservice_down
                   FROM {schema}.application_services_state
                  WHERE state IS NOT NULL",
            )
            .label("datname")
            .label("as_id")
            .gauge(
                "appservice_down",
                "1 while Synapse has given up sending to the application service for now",
            ),
    )
    .query(
        Query::new("synapse_db")
            .scope(Scope::Synapse)
            .reads("application_services_txns", &["as_id"])
            .sql(
                ALL,
                "SELECT current_database() AS datname, as_id,
                        count(*) AS appservice_transactions_waiting
                   FROM {schema}.application_services_txns
                  GROUP BY 2",
            )
            .label("datname")
            .label("as_id")
            .gauge(
                "appservice_transactions_waiting",
                "Transactions that wait for the application service; no sample while none does",
            ),
    )
}
