//! How many events there are, exactly, at a cost that follows the new ones.
//!
//! No index tells how many events are messages, and reading a large table whole takes minutes. But
//! events arrive at the two ends of `stream_ordering` only, and what lies between changes only when
//! rows are deleted. So what lies between is counted once, in short statements in the background,
//! and remembered; a scrape counts the ends. Rows that were deleted show in a counter of the server;
//! then the number of rows of each remembered bucket is compared, which an index tells, and where it
//! differs, the bucket is counted again. Each bucket is counted again in turn besides, since rows may
//! also change, and no rule is trusted without end.
//!
//! That counter is late, so that the number of this moment is known only some time after it. What is
//! served is the newest number that is known to be right, and its moment.
//!
//! - [`counts`]: what is counted: events of each kind, along both ends of the stream
//! - [`line`]: one end of the stream: buckets, gaps and the tail
//! - [`buckets`]: both, and what is to be counted next; no I/O
//! - [`proof`]: as of which moment the count is known to be right
//! - [`survey`]: what is asked of the server
//! - [`identity`]: whose count it is, and what an answer says of it
//! - [`state`]: what is known of a database, from scrape to scrape
//! - [`pace`]: how much of the time the work in the background takes
//! - [`count`]: the count of one database: when what is asked, and what is made of the answer
//! - [`served`]: what is served of it
//! - [`settings`]: what a user may set of it
//! - `source`: the count as the source of a collector

pub mod buckets;
pub mod count;
pub mod counts;
pub mod identity;
pub mod line;
pub mod pace;
pub mod proof;
pub mod served;
pub mod settings;
mod source;
pub mod state;
pub mod survey;

pub use settings::Settings;
