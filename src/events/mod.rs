//! How many events there are, exactly, at a cost that follows the new ones.
//!
//! No index tells how many events are messages, and reading a large table whole takes minutes. But
//! events arrive at the two ends of `stream_ordering` only, and what lies between changes only when
//! rows are deleted. So what lies between is counted once, in short statements behind the scrapes,
//! and remembered; a scrape counts the ends. Rows that were deleted show in a counter of the server;
//! then the number of rows of each remembered bucket is compared, which an index tells, and where it
//! differs, the bucket is counted anew. Each bucket is counted anew in turn besides, since rows may
//! also change, and no rule is trusted for ever.
//!
//! - [`buckets`]: what is counted, and what is to be counted next; no I/O
//! - [`survey`]: what is asked of the server
//! - [`count`]: the count of one database: when what is asked, and what is true of the answer
//! - [`served`]: what is served of it
//! - [`keep`]: the count in a file, from one run of the program to the next

pub mod buckets;
pub mod count;
pub mod keep;
pub mod served;
pub mod survey;

pub use count::Count;
