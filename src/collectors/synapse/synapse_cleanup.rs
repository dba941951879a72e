//! Backlogs of Synapse's cleanup jobs.

use super::oldest_age;
use crate::query::{ALL, Collector, Query};

/// From `redactions`, `event_expiry`, `state_groups_pending_deletion` and
/// `received_transactions`. What grows here is work that Synapse does not get done, or is told not
/// to do.
pub fn collector() -> Collector {
    Collector::synapse("synapse_cleanup", "Backlogs of Synapse's cleanup jobs")
        .ttl(60)
        .query(redactions())
        .query(expiry())
        .query(state_groups())
        .query(transactions())
}

fn redactions() -> Query {
    Query::new()
        .reads("redactions", &["have_censored", "received_ts"])
        .sql(
            ALL,
            concat!(
                "SELECT count(*) AS redactions_uncensored,
                        ",
                oldest_age!("r.received_ts"),
                "       AS redactions_uncensored_oldest_age_seconds
                   FROM (SELECT received_ts FROM {schema}.redactions
                          WHERE NOT have_censored
                          ORDER BY received_ts LIMIT 100000) AS r"
            ),
        )
        .gauge(
            "redactions_uncensored",
            "Redactions whose event is still stored with its content (have_censored is false), \
             counted up to 100000",
        )
        .gauge(
            "redactions_uncensored_oldest_age_seconds",
            "Age of the oldest uncensored redaction, in seconds; Synapse waits for \
             redaction_retention_period (a week by default); 0 if there is none",
        )
}

fn expiry() -> Query {
    Query::new()
        .reads("event_expiry", &["expiry_ts"])
        .sql(
            ALL,
            "SELECT count(*) AS events_expiry_overdue
               FROM (SELECT expiry_ts FROM {schema}.event_expiry
                      WHERE expiry_ts < (extract(epoch FROM now())::bigint - 60) * 1000
                      ORDER BY expiry_ts LIMIT 100000) AS e",
        )
        .gauge(
            "events_expiry_overdue",
            "Events whose expiry time passed at least a minute ago and that are not deleted, \
             counted up to 100000",
        )
}

fn state_groups() -> Query {
    Query::new()
        .reads("state_groups_pending_deletion", &["insertion_ts"])
        .by_pages("state_groups_pending_deletion")
        .sql(
            ALL,
            concat!(
                "SELECT count(*) AS state_groups_pending_deletion,
                        ",
                oldest_age!("insertion_ts"),
                "       AS state_groups_pending_deletion_oldest_age_seconds
                   FROM {schema}.state_groups_pending_deletion
                  WHERE {pages}"
            ),
        )
        .gauge(
            "state_groups_pending_deletion",
            "Unreferenced state groups that are to be deleted",
        )
        .gauge(
            "state_groups_pending_deletion_oldest_age_seconds",
            "Time since the first of the state groups pending deletion was marked, in seconds; \
             Synapse waits for ten minutes; 0 if there is none",
        )
        .largest()
}

fn transactions() -> Query {
    Query::new()
        .reads("received_transactions", &["ts"])
        .sql(
            ALL,
            concat!(
                "SELECT ",
                oldest_age!("t.ts"),
                "       AS received_transactions_oldest_age_seconds
                   FROM (SELECT ts FROM {schema}.received_transactions
                          ORDER BY ts LIMIT 1) AS t"
            ),
        )
        .gauge(
            "received_transactions_oldest_age_seconds",
            "Age of the oldest row in received_transactions, in seconds; Synapse deletes rows \
             after a day; 0 if there is none",
        )
}
