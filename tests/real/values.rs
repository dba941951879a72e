//! The numbers: what is served beside what the server itself answers, asked at the same time.

mod sessions;
mod settings;
mod sizes;
mod tables;
mod wal;
