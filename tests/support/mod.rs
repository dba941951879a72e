//! Real parts to test on. Each stops, and removes what it wrote, when it goes out of scope.
//!
//! - [`alertmanager`]: a real Alertmanager, and the messages that it sends
//! - [`postgres`]: PostgreSQL of every supported version, standbys, frozen servers
//! - [`roles`]: roles for the exporter to log in with
//! - [`attack`]: how a role that may create becomes another one
//! - [`certificates`]: for TLS to PostgreSQL
//! - [`pgbouncer`]: PgBouncer in transaction mode
//! - [`exporter`]: the program itself
//! - [`answers`]: what the exporter says, beside what the server says
//! - [`exposition`]: a strict reader of the pages that are served
//! - [`crowd`]: clients that mean no good, and a scraper among them
//! - [`prometheus`]: a real Prometheus, and promtool
//! - [`footprint`]: what the exporter takes of the machine
//! - [`forger`]: stands before a real server, and changes its answers
//! - [`inside`]: the exporter within the test, with collectors of its own
//! - [`hostile`]: a server that speaks the protocol as badly as a test wants
//! - [`http`]: requests over HTTP, one or many
//! - [`process`]: programs that end with the test, scratch folders, waiting
//! - [`slow`]: a collector that takes as long as a test wants
//! - [`synapse`]: a real Synapse with traffic
//! - [`person`]: somebody who uses it
//! - [`large`]: a large Synapse without traffic
//! - [`look_alike`]: what looks like a Synapse to the exporter
//! - [`verdict`]: what a page says of the scrape that made it
//! - [`watch`]: what can be seen of a server from outside
//! - [`watchers`]: Prometheus and Alertmanager as shipped, in less time
//! - [`writers`]: writers of events, as Synapse's event persisters are

// Two test programs share this module, and neither uses all of it.
#![allow(dead_code)]

pub mod alertmanager;
pub mod answers;
pub mod attack;
pub mod certificates;
pub mod crowd;
pub mod exporter;
pub mod exposition;
pub mod footprint;
pub mod forger;
pub mod hostile;
pub mod http;
pub mod inside;
pub mod large;
pub mod look_alike;
pub mod person;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod roles;
pub mod slow;
pub mod synapse;
pub mod verdict;
pub mod watch;
pub mod watchers;
pub mod whole;
pub mod writers;
